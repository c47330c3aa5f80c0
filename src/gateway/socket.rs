//! One device's WebSocket: reads requests, writes what only its own task can (`outlet`), detects dead peers.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::{FutureExt, SinkExt, StreamExt};
use hyper::upgrade::OnUpgrade;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::Gateway;
use super::admission::Admitted;
use super::connection::Stream;
use super::conversation::Conversation;
use super::dialect::{Asked, Dialect};
use super::heartbeat::{Beat, Heartbeat};
use super::outlet::{Flushed, Outlet};
use super::pipe::Line;
use crate::hub::device::{Close, Device};
use crate::metrics::Ending;
use crate::protocol::frame::Frame;
use crate::protocol::request::Request;

/// The size of the read buffer. Thousands of idle sockets must not keep large buffers; and each read from the socket
/// clears this much. Longer messages get a buffer of their own length.
const READ_BYTES: usize = 512;
/// How much of the WebSocket stream's own output (pongs, the close, what joining takes) may wait before it is written.
const WRITE_BYTES: usize = 16 * 1024;
/// Messages of one device that are stored in one round trip, at most: Redis does nothing else meanwhile.
const IN_A_ROW: usize = 16;
/// How long a peer may take to read its close frame and close the connection.
pub(super) const GOODBYE: Duration = Duration::from_secs(1);

pub(super) type Socket = WebSocketStream<Line>;

/// How a connection ended.
#[derive(Debug)]
pub(super) enum End {
    /// The peer closed the connection, or is dead.
    Gone,
    /// The peer sent a close frame, which is to be answered.
    Closed,
    /// The server ends it.
    Device(Close),
    /// The peer violated the WebSocket protocol: a close code and its reason.
    Broken(u16, &'static str),
}

impl End {
    pub(super) fn ending(&self) -> Ending {
        match self {
            Self::Gone | Self::Closed => Ending::Client,
            Self::Device(close) => Ending::Server(*close),
            Self::Broken(..) => Ending::Broken,
        }
    }
}

/// Serves a device of `/ws` from the protocol switch until it leaves.
pub(super) async fn serve_upgraded(
    gateway: Arc<Gateway>,
    admitted: Admitted,
    on_upgrade: OnUpgrade,
) {
    // Boxed, like everything that only a part of a connection's life needs: the task of an idle one must be small.
    match Box::pin(open(&gateway, on_upgrade)).await {
        Some(socket) => serve(gateway, admitted, socket, Dialect::Native).await,
        None => Box::pin(admitted.session.end()).await,
    }
}

/// Serves an admitted device until it leaves.
pub(super) async fn serve(
    gateway: Arc<Gateway>,
    admitted: Admitted,
    socket: Socket,
    dialect: Dialect,
) {
    let mut conversation = Conversation::new(admitted.session, &gateway.limits);
    let device = conversation.device();
    let user = device.user.as_str();
    log::debug!(
        "user {} connected, device {}, {dialect:?}",
        user.escape_debug(),
        device.id
    );
    let presence = gateway.metrics.enter(dialect.door());
    let begun = begin(&mut conversation);
    let end = run(&gateway, socket, &device, begun, dialect).await;
    presence.leave(end.ending());
    log::debug!(
        "user {} disconnected, device {}: {end:?}",
        user.escape_debug(),
        device.id
    );
    Box::pin(conversation.end()).await;
    drop(admitted.seat);
}

pub(super) async fn open(gateway: &Gateway, on_upgrade: OnUpgrade) -> Option<Socket> {
    let parts = on_upgrade.await.ok()?.downcast::<Stream>().ok()?;
    let config = web_socket_config(gateway.limits.max_frame_bytes);
    // Copied: the HTTP server's buffer of 8 KiB would live as long as the connection.
    let (line, read) = (
        Line::new(parts.io.into_inner().into_inner()),
        parts.read_buf.to_vec(),
    );
    Some(WebSocketStream::from_partially_read(line, read, Role::Server, Some(config)).await)
}

fn web_socket_config(max_frame_bytes: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BYTES)
        .write_buffer_size(WRITE_BYTES)
        // The largest answer repeats a part of the frame that it answers. `Line` stops reading long before this is
        // full.
        .max_write_buffer_size(WRITE_BYTES + max_frame_bytes)
        .max_message_size(Some(max_frame_bytes))
        .max_frame_size(Some(max_frame_bytes))
}

async fn begin(conversation: &mut Conversation) -> &mut Conversation {
    Box::pin(conversation.start()).await;
    conversation
}

/// Serves a device until its connection has ended. Its socket is read once the conversation has `begun`, and written
/// from now on.
pub(super) async fn run(
    gateway: &Gateway,
    mut socket: Socket,
    device: &Arc<Device>,
    begun: impl Future<Output = &mut Conversation>,
    dialect: Dialect,
) -> End {
    let pipe = socket.get_ref().pipe.clone();
    let outlet = Outlet::open(pipe, device.clone(), dialect, gateway.metrics.clone());
    let heard = AtomicBool::new(true);
    let end = tokio::select! {
        end = read(&mut socket, begun, dialect, &outlet, &heard) => end,
        end = write(gateway, device, dialect, &outlet, &heard) => end,
    };
    if !matches!(end, End::Gone) {
        // A client that does not read the close frame in time does not get it.
        let goodbye = Box::pin(say_goodbye(socket, outlet, dialect, &end));
        let _ = tokio::time::timeout(GOODBYE, goodbye).await;
    }
    end
}

async fn read(
    stream: &mut Socket,
    begun: impl Future<Output = &mut Conversation>,
    dialect: Dialect,
    outlet: &Outlet,
    heard: &AtomicBool,
) -> End {
    let conversation = begun.await;
    loop {
        let first = conversation.next(stream.next()).await;
        heard.store(true, Ordering::Relaxed);
        let mut requests = Vec::new();
        let mut next = understand(dialect, first);
        // Messages sent in a row are stored in one round trip, as far as they have arrived already.
        let end = loop {
            match next {
                Step::Request(request) => {
                    let goes_on = request.is_message() && requests.len() + 1 < IN_A_ROW;
                    requests.push(request);
                    if !goes_on {
                        break None;
                    }
                }
                Step::Answer(frame) => {
                    conversation.device().answer(frame);
                    break None;
                }
                Step::Nothing => {}
                Step::End(end) => break Some(end),
            }
            match stream.next().now_or_never() {
                Some(message) => next = understand(dialect, message),
                None => break None,
            }
        };
        if !requests.is_empty() {
            outlet.answering(conversation.answer(requests)).await;
        }
        if let Some(end) = end {
            return end;
        }
    }
}

/// The meaning of what was read from the socket.
enum Step {
    Request(Request),
    /// A matter of the transport, answered with this frame.
    Answer(Frame),
    Nothing,
    End(End),
}

fn understand(dialect: Dialect, message: Option<Result<Message, Error>>) -> Step {
    match message {
        Some(Ok(Message::Text(text))) => match dialect.read(&text) {
            Asked::Request(request) => Step::Request(request),
            Asked::Answer(frame) => Step::Answer(frame),
            Asked::Nothing => Step::Nothing,
            Asked::HangUp => Step::End(End::Gone),
        },
        Some(Ok(Message::Close(_))) => Step::End(End::Closed),
        Some(Ok(Message::Binary(_))) if dialect.refuses_binary() => {
            Step::End(End::Broken(1003, "only text frames are accepted"))
        }
        Some(Ok(_)) => Step::Nothing,
        Some(Err(error)) => Step::End(broken(&error)),
        None => Step::End(End::Gone),
    }
}

pub(super) fn broken(error: &Error) -> End {
    match error {
        Error::Capacity(CapacityError::MessageTooLong { .. }) => {
            End::Broken(1009, "the frame is too large")
        }
        Error::Utf8(_) => End::Broken(1007, "the text is not UTF-8"),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => End::Gone,
        Error::Protocol(_) => End::Broken(1002, "the frame is broken"),
        _ => End::Gone,
    }
}

/// Writes what is queued where nothing else does, and pings.
async fn write(
    gateway: &Gateway,
    device: &Device,
    dialect: Dialect,
    outlet: &Outlet,
    heard: &AtomicBool,
) -> End {
    let timing = &gateway.timing;
    let mut heartbeat = Heartbeat::new(timing, Instant::now());
    // One timer for the connection's life: most turns of the loop are for something else.
    let mut beat = pin!(tokio::time::sleep_until(heartbeat.due));
    // A peer that takes nothing for this long is as dead as one that answers no ping.
    let patience = timing.ping_interval + timing.ping_timeout;
    loop {
        match outlet.flush() {
            Flushed::All => {}
            Flushed::Last(close) => return End::Device(close),
            Flushed::Broken => return End::Gone,
            Flushed::Stuck => match guarded(device, patience, outlet.pipe.writable()).await {
                Ok(()) => {
                    // It takes what is written, so it is alive. Its pongs are not read while it has too many answers to
                    // take.
                    heard.store(true, Ordering::Relaxed);
                    continue;
                }
                Err(end) => return end,
            },
        }
        tokio::select! {
            () = device.woken() => if device.is_answering() {
                // The answer follows directly after the event that it belongs to: both go out in one write.
                tokio::task::yield_now().await;
            },
            () = &mut beat => {
                if device.is_answering() {
                    // Its pongs are not read meanwhile.
                    heard.store(true, Ordering::Relaxed);
                }
                match heartbeat.beat(Instant::now(), heard) {
                    Beat::Ping => outlet.put(dialect.ping()),
                    Beat::Wait => {}
                    Beat::Dead => return End::Gone,
                }
                beat.as_mut().reset(heartbeat.due);
            }
        }
    }
}

/// Limits the time of a write, and ends it if the device's queue overflows meanwhile.
async fn guarded(
    device: &Device,
    patience: Duration,
    write: impl Future<Output = io::Result<()>>,
) -> Result<(), End> {
    tokio::select! {
        biased;
        written = tokio::time::timeout(patience, write) => match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(End::Gone),
        },
        () = device.overflowed() => Err(End::Device(Close::TooSlow)),
    }
}

/// Sends what is still queued and the close frame.
async fn say_goodbye(
    mut socket: Socket,
    outlet: Arc<Outlet>,
    dialect: Dialect,
    end: &End,
) -> Result<(), Error> {
    while matches!(outlet.flush(), Flushed::Stuck) {
        outlet.pipe.writable().await?;
    }
    // Nothing is written after a close frame (RFC 6455, 5.5.1).
    drop(outlet);
    let (code, reason) = match end {
        End::Gone => return Ok(()),
        End::Closed => return answer_close(socket).await,
        End::Device(close) => {
            if let Some(word) = dialect.last_word(*close) {
                socket.feed(word).await?;
            }
            (close.code(), close.reason())
        }
        End::Broken(code, reason) => (*code, *reason),
    };
    close(socket, code, reason).await
}

/// Sends a peer that violated the protocol before it had a device the code and the reason.
pub(super) async fn turn_away_broken(socket: Socket, end: &End) {
    if let End::Broken(code, reason) = end {
        // A client that does not read it in time does not get it.
        let _ = tokio::time::timeout(GOODBYE, close(socket, *code, reason)).await;
    }
}

/// The WebSocket stream prepares the answer when it has read a close frame, and sends it on the next read.
async fn answer_close(mut socket: Socket) -> Result<(), Error> {
    while socket.next().await.is_some() {}
    Ok(socket.get_mut().flush().await?)
}

/// Sends a close frame, waits for the peer's, and closes the connection.
async fn close(mut socket: Socket, code: u16, reason: &'static str) -> Result<(), Error> {
    let frame = CloseFrame {
        code: code.into(),
        reason: reason.into(),
    };
    socket.close(Some(frame)).await?;
    // What follows a broken frame cannot be parsed as frames: the stream ends at once.
    while let Some(Ok(_)) = socket.next().await {}
    Ok(socket.into_inner().hang_up().await?)
}
