//! The I/O of one long-polling session: its requests arrive here, and are answered by the rules of [`Transport`].
//!
//! Only the session's task takes from its device's queue. So packets are sent once, and in order.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hyper::upgrade::OnUpgrade;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::answer::Answer;
use super::inbox::{Full, Inbox, Requests};
use super::probe;
use super::transport::{Late, Refused, Transport, Wanted};
use crate::error::{ChatError, ErrorCode};
use crate::gateway::Gateway;
use crate::gateway::dialect::{Asked, read_packet};
use crate::gateway::heartbeat::{Beat, Heartbeat};
use crate::gateway::joining::{Auth, invalid_namespace, joined};
use crate::gateway::socket::Socket;
use crate::hub::device::{Close, Device};
use crate::metrics::DoorLabel;
use crate::protocol::engine_io::{self, packets};
use crate::protocol::frame::Frame;
use crate::protocol::socket_io::{NAMESPACE, Packet};
use crate::protocol::text::Text;

/// Packets that may wait for a client which has not joined: its requests meanwhile are answered, but not without limit.
const OUTBOX_MAX: usize = 16;

/// A request of the client.
pub(super) enum Event {
    Poll(oneshot::Sender<Result<Answer, Refused>>),
    /// A complete body. The answer is whether it could be read.
    Post(String, oneshot::Sender<Result<bool, Refused>>),
    /// A body that is too large or not text.
    BadPost,
    /// A WebSocket that is to take over.
    Upgrade(OnUpgrade, oneshot::Sender<Result<(), Refused>>),
}

/// Why the session's task has to do something other than serve requests.
pub(super) enum Turn {
    /// The client has joined, with this `auth`. Its requests are taken from here.
    Joined(Auth, Requests),
    /// The client uses this WebSocket from now on.
    Moved(Box<Socket>),
    /// The device is to be closed.
    Closing(Close),
    /// Everything was sent and received, after [`Polling::say`].
    Said,
    /// The client has said goodbye, or has disconnected.
    Gone,
    /// The client violated a rule of the transport.
    Broken,
}

type Probing = Pin<Box<dyn Future<Output = Option<Box<Socket>>> + Send>>;

pub(super) struct Polling {
    gateway: Arc<Gateway>,
    sid: String,
    transport: Transport,
    heartbeat: Heartbeat,
    /// Something has arrived since the last ping.
    heard: AtomicBool,
    requests: mpsc::Receiver<Event>,
    /// The pending poll.
    poll: Option<oneshot::Sender<Result<Answer, Refused>>>,
    /// Whether the connection took the last answer.
    taken: Option<oneshot::Receiver<()>>,
    /// The WebSocket that may take over, until its next step.
    probe: Option<Probing>,
    /// The WebSocket that takes over as soon as no request is in progress.
    moving: Option<Box<Socket>>,
    /// What is sent before everything that is queued for the device.
    outbox: VecDeque<Text>,
    /// Where the client's requests go, once it has joined.
    inbox: Option<Inbox>,
    joined: Option<(Auth, Requests)>,
    /// Nothing is sent after what the outbox holds.
    is_last: bool,
}

impl Polling {
    pub(super) fn new(gateway: Arc<Gateway>, sid: String, requests: mpsc::Receiver<Event>) -> Self {
        let now = Instant::now();
        let timing = &gateway.timing;
        Self {
            transport: Transport::new(timing.ping_interval + timing.ping_timeout, now),
            heartbeat: Heartbeat::new(timing, now),
            heard: AtomicBool::new(true),
            gateway,
            sid,
            requests,
            poll: None,
            taken: None,
            probe: None,
            moving: None,
            outbox: VecDeque::new(),
            inbox: None,
            joined: None,
            is_last: false,
        }
    }

    /// Serves requests until there is something else to do. Can be cancelled and called again.
    pub(super) async fn turn(&mut self, device: Option<&Device>) -> Turn {
        loop {
            if let Some(turn) = self.due(device) {
                return turn;
            }
            let deadline = self.deadline();
            let turn = tokio::select! {
                // A client polls again as soon as it has an answer: whether the answer was taken has to be known first.
                biased;
                taken = pending_unless(&mut self.taken) => self.end_answer(taken.is_ok()),
                () = tokio::time::sleep_until(deadline) => self.pass(Instant::now()),
                socket = pending_unless(&mut self.probe) => self.step_upgrade(socket),
                () = closed(&mut self.poll) => Some(Turn::Gone),
                Some(event) = self.requests.recv() => self.serve(event, device),
                () = woken(device) => None,
            };
            if let Some(turn) = turn {
                return turn;
            }
        }
    }

    /// Sends this before anything else; then [`Turn::Said`] follows.
    pub(super) fn say(&mut self, last: impl IntoIterator<Item = Text>) {
        self.outbox.extend(last);
        self.is_last = true;
    }

    /// Ends the session. The pending poll is answered with `word`.
    pub(super) fn end(mut self, word: &'static str) {
        if let Some(poll) = self.poll.take() {
            let (answer, _) = Answer::new(&[Text::of(word)]);
            // The client that asked may have disconnected.
            let _ = poll.send(Ok(answer));
        }
    }

    /// What is to be sent over the WebSocket first. No more requests arrive over long-polling.
    pub(super) fn move_out(self) -> VecDeque<Text> {
        self.outbox
    }

    /// What is to be done before the next request; answers the pending poll.
    fn due(&mut self, device: Option<&Device>) -> Option<Turn> {
        if let Some((auth, requests)) = self.joined.take() {
            return Some(Turn::Joined(auth, requests));
        }
        if let Some(close) = device.and_then(Device::closing) {
            return Some(Turn::Closing(close));
        }
        self.answer(device);
        if self.transport.has_moved()
            && let Some(socket) = self.moving.take()
        {
            return Some(Turn::Moved(socket));
        }
        let is_said = self.is_last && self.outbox.is_empty() && !self.transport.is_answering();
        // The reason is returned once.
        self.is_last &= !is_said;
        is_said.then_some(Turn::Said)
    }

    /// Answers the pending poll, if there is something for it.
    fn answer(&mut self, device: Option<&Device>) {
        let packets = match self.transport.wanted() {
            Wanted::Nothing => return,
            Wanted::Noop => vec![Text::of(engine_io::NOOP)],
            wanted => match self.take(device) {
                packets if !packets.is_empty() => packets,
                _ if wanted == Wanted::Packets => return,
                _ => vec![Text::of(engine_io::NOOP)],
            },
        };
        let (answer, taken) = Answer::new(&packets);
        self.transport.answered(Instant::now());
        self.taken = Some(taken);
        if let Some(poll) = self.poll.take() {
            // An answer that nobody waits for any more is dropped, and its receiver notices that.
            let _ = poll.send(Ok(answer));
        }
    }

    /// What is queued, or a part of it. What was taken before has been written.
    fn take(&mut self, device: Option<&Device>) -> Vec<Text> {
        let mut packets: Vec<Text> = self.outbox.drain(..).collect();
        let Some(device) = device else { return packets };
        let mut frames = 0;
        // The reason for closing the device, if any, is read beforehand.
        let _ = device.take(|frame| {
            frames += 1;
            packets.extend(frame.socket_io());
        });
        let metrics = &self.gateway.metrics;
        metrics.sent(DoorLabel::SocketIoPolling, frames);
        packets
    }

    /// Serves a request, or refuses it. The client that asked may have disconnected; then nobody reads the answer.
    fn serve(&mut self, event: Event, device: Option<&Device>) -> Option<Turn> {
        match event {
            Event::Poll(reply) => match self.transport.poll() {
                Ok(()) => {
                    self.poll = Some(reply);
                    None
                }
                Err(refused) => {
                    let _ = reply.send(Err(refused));
                    (refused == Refused::Overlap).then_some(Turn::Broken)
                }
            },
            Event::Post(payload, reply) => {
                let posted = self.transport.stays();
                let turn = posted
                    .ok()
                    .and_then(|()| self.read_payload(&payload, device));
                let is_read = !matches!(turn, Some(Turn::Broken));
                let _ = reply.send(posted.map(|()| is_read));
                turn
            }
            Event::BadPost => Some(Turn::Broken),
            Event::Upgrade(on_upgrade, reply) => {
                let begun = self.transport.open_upgrade(Instant::now());
                if begun.is_ok() {
                    self.probe = Some(Box::pin(probe::open(self.gateway.clone(), on_upgrade)));
                }
                let _ = reply.send(begun);
                None
            }
        }
    }

    fn end_answer(&mut self, is_taken: bool) -> Option<Turn> {
        self.taken = None;
        self.transport.taken(Instant::now());
        // The client will not ask again for what it did not get.
        (!is_taken).then_some(Turn::Gone)
    }

    /// Reads the packets of a post, up to one that ends the session.
    fn read_payload(&mut self, payload: &str, device: Option<&Device>) -> Option<Turn> {
        self.heard.store(true, Ordering::Relaxed);
        packets(payload).find_map(|packet| match packet {
            engine_io::Packet::Message(packet) => match &self.inbox {
                Some(inbox) => self.read(inbox, packet, device),
                None => self.join(packet),
            },
            engine_io::Packet::Alive | engine_io::Packet::Binary => None,
            engine_io::Packet::Close => Some(Turn::Gone),
            engine_io::Packet::Broken => Some(Turn::Broken),
        })
    }

    /// Handles a packet of a client that has not joined.
    fn join(&mut self, packet: &str) -> Option<Turn> {
        let answer = match Packet::parse(packet) {
            Packet::Connect {
                namespace: NAMESPACE,
                auth,
            } => {
                let (inbox, requests) = Inbox::new(&self.gateway.limits);
                self.inbox = Some(inbox);
                self.joined = Some((Auth::parse(auth), requests));
                joined(&self.sid)
            }
            Packet::Connect { namespace, .. } if self.outbox.len() < OUTBOX_MAX => {
                invalid_namespace(namespace)
            }
            _ => return Some(Turn::Broken),
        };
        let answer = Frame::socket_io_packet(&answer);
        self.outbox.extend(answer.socket_io());
        None
    }

    /// Handles a packet of a client that has joined: a request is added to its device's requests, in order.
    fn read(&self, inbox: &Inbox, packet: &str, device: Option<&Device>) -> Option<Turn> {
        let answer = match read_packet(packet) {
            Asked::Request(request) => {
                let Err(Full(id)) = inbox.push(request, packet.len()) else {
                    return None;
                };
                let text = "too many requests wait for their answers: send more slowly";
                let error = ChatError::new(ErrorCode::RateLimited, text);
                self.gateway.chat.requests.refused(None, error.code);
                match device {
                    Some(device) => device.error_frame(id.as_ref(), &error),
                    None => Frame::error(id.as_ref(), &error),
                }
            }
            Asked::Answer(frame) => frame,
            Asked::Nothing => return None,
            Asked::HangUp => return Some(Turn::Gone),
        };
        // A client that has not been admitted yet has no queue.
        let Some(device) = device else {
            return Some(Turn::Broken);
        };
        // Counted as if it had not been asked for: a client that continues without reading these overflows its queue,
        // which ends it.
        device.push(answer);
        None
    }

    /// The WebSocket that may take over has advanced one step, or has failed.
    fn step_upgrade(&mut self, socket: Option<Box<Socket>>) -> Option<Turn> {
        self.probe = None;
        match socket {
            None => self.transport.give_up_upgrade(),
            Some(socket) if self.transport.is_agreed() => {
                self.transport.begin_move();
                self.moving = Some(socket);
            }
            Some(socket) => {
                self.transport.agree();
                self.probe = Some(Box::pin(probe::wait(socket)));
            }
        }
        None
    }

    fn deadline(&self) -> Instant {
        let due = self.heartbeat.due;
        self.transport.deadline().map_or(due, |end| end.min(due))
    }

    fn pass(&mut self, now: Instant) -> Option<Turn> {
        match self.transport.pass(now) {
            Late::Nothing => {}
            Late::Probe => self.probe = None,
            Late::Session => return Some(Turn::Gone),
        }
        if now < self.heartbeat.due {
            return None;
        }
        match self.heartbeat.beat(now, &self.heard) {
            Beat::Ping => self.outbox.push_back(Text::of(engine_io::PING)),
            Beat::Wait => {}
            Beat::Dead => return Some(Turn::Gone),
        }
        None
    }
}

/// Resolves with the future's output; never resolves if there is no future.
async fn pending_unless<F: Future + Unpin>(future: &mut Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// Resolves when the client no longer waits for the answer to its poll.
async fn closed<T>(poll: &mut Option<oneshot::Sender<T>>) {
    match poll {
        Some(poll) => poll.closed().await,
        None => std::future::pending().await,
    }
}

/// Resolves when there may be something to take; one turn later if the answer that belongs to it is about to follow.
async fn woken(device: Option<&Device>) {
    let Some(device) = device else {
        return std::future::pending().await;
    };
    device.woken().await;
    if device.is_answering() {
        tokio::task::yield_now().await;
    }
}
