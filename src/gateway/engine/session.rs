//! A Socket.IO client that begins with long-polling, from its first request to its end.

use std::sync::Arc;

use http::HeaderMap;
use tokio::time::{Instant, timeout, timeout_at};

use super::inbox::Requests;
use super::polling::{Polling, Turn};
use super::websocket;
use crate::gateway::Gateway;
use crate::gateway::admission::Admitted;
use crate::gateway::conversation::Conversation;
use crate::gateway::dialect::{Dialect, is_final};
use crate::gateway::guests::Guest;
use crate::gateway::joining::{DISCONNECT, JOIN_TIMEOUT, Refused, admit};
use crate::gateway::socket::{self, GOODBYE, Socket};
use crate::hub::device::{Close, Device};
use crate::hub::lane::Taken;
use crate::metrics::{DoorLabel, Ending};
use crate::protocol::engine_io::{CLOSE, NOOP};
use crate::protocol::text::Text;

/// What the client's first request contains.
pub(super) struct Arrival {
    pub(super) sid: String,
    pub(super) headers: HeaderMap,
    pub(super) query: String,
    /// Its place among the guests, until it has joined.
    pub(super) guest: Arc<Guest>,
}

/// How a client that had joined leaves.
enum Parting {
    /// It was on its WebSocket.
    Socket(socket::End),
    /// It polled.
    Polling(Box<Polling>, Turn),
}

impl Parting {
    fn ending(&self) -> Ending {
        match self {
            Self::Socket(end) => end.ending(),
            Self::Polling(_, Turn::Closing(close)) => Ending::Server(*close),
            Self::Polling(_, Turn::Broken) => Ending::Broken,
            Self::Polling(..) => Ending::Client,
        }
    }
}

/// Serves the client until it leaves.
pub(super) async fn serve(gateway: Arc<Gateway>, arrival: Arrival, mut polling: Box<Polling>) {
    let late = Instant::now() + JOIN_TIMEOUT;
    let turn = tokio::select! {
        biased;
        turn = timeout_at(late, polling.turn(None)) => turn.unwrap_or(Turn::Broken),
        () = arrival.guest.turned_out() => return polling.end(NOOP),
        () = gateway.stopping.cancelled() => return polling.end(NOOP),
    };
    match turn {
        Turn::Joined(auth, requests) => {
            match admit(&gateway, &arrival.headers, &arrival.query, &auth) {
                Ok(admitted) => {
                    drop((arrival, auth));
                    converse(&gateway, polling, admitted, requests).await;
                }
                // Boxed, like everything that is needed for only a part of a session's life.
                Err(refused) => Box::pin(turn_away(polling, &refused)).await,
            }
        }
        Turn::Moved(mut socket) => {
            put(&mut socket, *polling);
            websocket::serve(gateway, arrival, socket, late, MOVED).await;
        }
        Turn::Gone => polling.end(NOOP),
        Turn::Broken | Turn::Closing(_) | Turn::Said => polling.end(CLOSE),
    }
}

/// The dialect of a client that has moved to WebSocket.
const MOVED: Dialect = Dialect::SocketIo { has_polled: true };

/// Sends the client the reason for its refusal. A client that should come back gets no `disconnect`, which would keep
/// it away.
async fn turn_away(polling: Box<Polling>, refused: &Refused) {
    let is_final = refused.is_final();
    let mut last = refused.events();
    last.push(if is_final {
        disconnect()
    } else {
        Text::of(CLOSE)
    });
    say_last(polling, last, is_final, CLOSE).await;
}

async fn converse(
    gateway: &Arc<Gateway>,
    polling: Box<Polling>,
    admitted: Admitted,
    requests: Requests,
) {
    let mut conversation = Conversation::new(admitted.session, &gateway.limits);
    let device = conversation.device();
    let user = device.user.as_str().escape_debug();
    log::debug!("user {user} connected, device {}, polling", device.id);
    let presence = gateway.metrics.enter(DoorLabel::SocketIoPolling);
    let parting = talk(gateway, polling, &device, &mut conversation, requests).await;
    let ending = parting.ending();
    presence.leave(ending);
    log::debug!("user {user} disconnected, device {}: {ending:?}", device.id);
    Box::pin(conversation.end()).await;
    drop(admitted.seat);
    match parting {
        Parting::Socket(_) => {}
        Parting::Polling(polling, Turn::Closing(close)) => {
            Box::pin(say_goodbye(polling, &device, close)).await;
        }
        Parting::Polling(polling, Turn::Gone) => polling.end(NOOP),
        Parting::Polling(polling, _) => polling.end(CLOSE),
    }
}

/// Serves a device that has joined: over long-polling and, once it moves, over its WebSocket.
async fn talk(
    gateway: &Gateway,
    mut polling: Box<Polling>,
    device: &Arc<Device>,
    conversation: &mut Conversation,
    requests: Requests,
) -> Parting {
    let mut work = Box::pin(work_off(conversation, requests));
    let turn = tokio::select! {
        turn = polling.turn(Some(device)) => turn,
        // This ends only if the polling has ended.
        _ = &mut work => Turn::Gone,
    };
    let Turn::Moved(mut socket) = turn else {
        return Parting::Polling(polling, turn);
    };
    put(&mut socket, *polling);
    // The request in progress continues, and those that wait precede what arrives over the WebSocket.
    let run = socket::run(gateway, *socket, device, work, MOVED);
    Parting::Socket(Box::pin(run).await)
}

/// Answers the requests that arrived over long-polling, to the last.
async fn work_off(conversation: &mut Conversation, mut requests: Requests) -> &mut Conversation {
    conversation.start().await;
    let device = conversation.device();
    while let Some(request) = conversation.next(requests.next()).await {
        device.set_answering(true);
        conversation.answer(vec![request]).await;
        // What Redis published with the answer arrives over another connection, often a moment later: one poll carries
        // both.
        tokio::task::yield_now().await;
        device.set_answering(false);
        device.wake_task();
    }
    conversation
}

/// Puts what polling has not delivered ahead of everything else on the WebSocket.
fn put(socket: &mut Socket, polling: Polling) {
    let texts = polling.move_out();
    let mut rest = socket.get_ref().pipe.lock();
    rest.extend(texts.iter().flat_map(Text::frame));
}

/// Sends what is still queued. A client that must not reconnect automatically gets a `disconnect`.
async fn say_goodbye(polling: Box<Polling>, device: &Device, close: Close) {
    let mut last = Vec::new();
    while device.take(|frame| last.extend(frame.socket_io())) == Taken::Frames {}
    // The transport's own close packet would keep Python clients away for good, so a server that is stopping does not
    // send it: all clients come back.
    let word = if close == Close::ShuttingDown {
        NOOP
    } else {
        CLOSE
    };
    match close {
        _ if is_final(close) => last.push(disconnect()),
        Close::ShuttingDown => {}
        _ => last.push(Text::of(CLOSE)),
    }
    say_last(polling, last, is_final(close), word).await;
}

/// Sends this, then ends the session, even if the client does not fetch it in time.
///
/// A client that got a `disconnect` has the same time to close the connection itself.
async fn say_last(mut polling: Box<Polling>, last: Vec<Text>, is_final: bool, word: &'static str) {
    polling.say(last);
    let saying = async {
        loop {
            match polling.turn(None).await {
                Turn::Said if is_final => {}
                turn => return turn,
            }
        }
    };
    let turn = timeout(GOODBYE, saying).await;
    match turn {
        Ok(Turn::Moved(mut socket)) => {
            put(&mut socket, *polling);
            let _ = timeout(GOODBYE, (*socket).close(None)).await;
        }
        _ => polling.end(word),
    }
}

fn disconnect() -> Text {
    Text::of(&format!("4{DISCONNECT}"))
}
