//! One native WebSocket: reads requests, writes what the device's queue holds, finds peers that are gone.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::Gateway;
use super::admission::Admitted;
use super::conversation::Conversation;
use super::heartbeat::{Beat, Heartbeat};
use crate::config::Timing;
use crate::hub::device::{Close, Device};
use crate::protocol::frame::Frame;
use crate::protocol::request::parse_frame;

/// Thousands of idle sockets must not keep large buffers.
const BUFFER_BYTES: usize = 4 * 1024;
/// How long a peer may take to read its close frame and to hang up.
const GOODBYE: Duration = Duration::from_secs(1);

type Socket = WebSocketStream<TcpStream>;

/// How a connection ended.
#[derive(Debug)]
enum End {
    /// The peer closed, or is gone.
    Gone,
    /// The server ends it: a close code and its reason.
    Close(u16, &'static str),
}

impl From<Close> for End {
    fn from(close: Close) -> Self {
        Self::Close(close.code(), close.reason())
    }
}

/// Serves one device from the switch of protocols to its end.
pub async fn serve(gateway: Arc<Gateway>, admitted: Admitted, on_upgrade: OnUpgrade) {
    let mut conversation = Conversation::new(admitted.session, &gateway.limits);
    let device = conversation.device();
    let user = device.user.as_str().escape_debug();
    if let Some(socket) = open(&gateway, on_upgrade).await {
        log::debug!("user {user} connected, device {}", device.id);
        let end = Box::pin(run(&gateway, socket, &device, &mut conversation)).await;
        log::debug!("user {user} disconnected, device {}: {end:?}", device.id);
    }
    conversation.end().await;
    drop(admitted.seat);
}

async fn open(gateway: &Gateway, on_upgrade: OnUpgrade) -> Option<Socket> {
    let parts = on_upgrade
        .await
        .ok()?
        .downcast::<TokioIo<TcpStream>>()
        .ok()?;
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
        .max_message_size(Some(gateway.limits.max_frame_bytes))
        .max_frame_size(Some(gateway.limits.max_frame_bytes));
    let (stream, read) = (parts.io.into_inner(), parts.read_buf.into());
    Some(WebSocketStream::from_partially_read(stream, read, Role::Server, Some(config)).await)
}

async fn run(
    gateway: &Gateway,
    socket: Socket,
    device: &Device,
    conversation: &mut Conversation,
) -> End {
    let (mut sink, mut stream) = socket.split();
    let heard = AtomicBool::new(true);
    let end = tokio::select! {
        end = read(&mut stream, conversation, &heard) => end,
        end = write(&gateway.timing, &mut sink, device, &heard) => end,
    };
    if let (End::Close(code, reason), Ok(socket)) = (&end, sink.reunite(stream)) {
        // Whoever does not read the goodbye in time goes without.
        let _ = tokio::time::timeout(GOODBYE, say_goodbye(socket, device, *code, reason)).await;
    }
    end
}

async fn read(
    stream: &mut SplitStream<Socket>,
    conversation: &mut Conversation,
    heard: &AtomicBool,
) -> End {
    conversation.start().await;
    loop {
        let message = conversation.next(stream.next()).await;
        heard.store(true, Ordering::Relaxed);
        match message {
            Some(Ok(Message::Text(text))) => {
                conversation.answer(parse_frame(&text)).await;
            }
            Some(Ok(Message::Binary(_))) => {
                return End::Close(1003, "only text frames are accepted");
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => return broken(&error),
            None => return End::Gone,
        }
    }
}

fn broken(error: &Error) -> End {
    match error {
        Error::Capacity(CapacityError::MessageTooLong { .. }) => {
            End::Close(1009, "the frame is too large")
        }
        Error::Utf8(_) => End::Close(1007, "the text is not UTF-8"),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => End::Gone,
        Error::Protocol(_) => End::Close(1002, "the frame is broken"),
        _ => End::Gone,
    }
}

async fn write(
    timing: &Timing,
    sink: &mut SplitSink<Socket, Message>,
    device: &Device,
    heard: &AtomicBool,
) -> End {
    let mut batch = VecDeque::new();
    let mut heartbeat = Heartbeat::new(timing);
    // A peer that takes nothing for so long is as dead as one that answers no ping.
    let patience = timing.ping_interval + timing.ping_timeout;
    loop {
        let close = device.take(&mut batch);
        if close == Some(Close::TooSlow) {
            return Close::TooSlow.into();
        }
        if let Err(end) = guarded(device, patience, write_batch(sink, &mut batch)).await {
            return end;
        }
        if let Some(close) = close {
            return close.into();
        }
        tokio::select! {
            () = device.woken() => {}
            () = tokio::time::sleep_until(heartbeat.due) => match heartbeat.beat(heard) {
                Beat::Ping => {
                    let ping = sink.send(Message::Ping(bytes::Bytes::new()));
                    if let Err(end) = guarded(device, patience, ping).await {
                        return end;
                    }
                }
                Beat::Wait => {}
                Beat::Dead => return End::Gone,
            },
        }
    }
}

/// Writes what was queued and flushes once.
async fn write_batch(
    sink: &mut SplitSink<Socket, Message>,
    batch: &mut VecDeque<Frame>,
) -> Result<(), Error> {
    while let Some(frame) = batch.pop_front() {
        if let Some(text) = frame.native() {
            sink.feed(Message::Text(text)).await?;
        }
    }
    sink.flush().await
}

/// Bounds a write in time, and ends it if the device's queue overflows meanwhile.
async fn guarded(
    device: &Device,
    patience: Duration,
    write: impl Future<Output = Result<(), Error>>,
) -> Result<(), End> {
    tokio::select! {
        biased;
        written = tokio::time::timeout(patience, write) => match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(End::Gone),
        },
        () = device.overflowed() => Err(Close::TooSlow.into()),
    }
}

/// Sends what still waits and the close frame, then waits for the peer's: closing at once would discard what it has
/// not read yet.
async fn say_goodbye(
    mut socket: Socket,
    device: &Device,
    code: u16,
    reason: &'static str,
) -> Result<(), Error> {
    let mut batch = VecDeque::new();
    device.take(&mut batch);
    for text in batch.iter().filter_map(Frame::native) {
        socket.feed(Message::Text(text)).await?;
    }
    let frame = CloseFrame {
        code: code.into(),
        reason: reason.into(),
    };
    socket.close(Some(frame)).await?;
    loop {
        match socket.next().await {
            Some(Ok(_)) => {}
            None | Some(Err(Error::ConnectionClosed)) => return Ok(()),
            // What comes after a broken frame cannot be read as frames.
            Some(Err(_)) => break,
        }
    }
    let mut stream = socket.into_inner();
    let mut scrap = [0; 1024];
    while stream.read(&mut scrap).await? > 0 {}
    Ok(())
}
