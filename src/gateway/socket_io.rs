//! Socket.IO clients that begin with long-polling, whether or not they upgrade to WebSocket later.
//!
//! They stand on `engineioxide`, the transport under the `socketioxide` crate; the few Socket.IO packets are read here
//! (`protocol::socket_io`). With `socketioxide` each event would be serialised again for each socket, each handler would
//! run in a task of its own, which loses the order of a device's requests, and a socket whose queue is full could not be
//! closed. Here an event is laid out once for all; below, for each socket, the transport copies it once to put its packet
//! type in front. Clients that begin with WebSocket do without all this (`engine_io.rs`).

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use engineioxide::config::EngineIoConfig;
use engineioxide::handler::EngineIoHandler;
use engineioxide::{DisconnectReason, Socket, Str};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio_util::sync::CancellationToken;

use super::Gateway;
use super::admission::Admitted;
use super::conversation::Conversation;
use super::joining::{
    Auth, DISCONNECT, JOIN_TIMEOUT, Transports, admit, binary, invalid_namespace, joined,
};
use crate::error::{ChatError, ErrorCode};
use crate::hub::device::{Close, Device};
use crate::hub::lane::Taken;
use crate::metrics::{DoorLabel, Ending};
use crate::protocol::frame::{Frame, RequestId};
use crate::protocol::socket_io::{NAMESPACE, Packet, id_too_large, request};

/// Where Socket.IO clients connect.
pub const PATH: &str = "/socket.io";
/// How long a client may take to hang up after it was told to.
const GOODBYE: Duration = Duration::from_secs(1);
/// How long the transport may take for its last packets when the server ends.
const LAST_WRITES: Duration = Duration::from_millis(50);
/// Packets that the transport keeps for a socket, beside what waits in the device's own queue. It counts packets, not
/// bytes, so they are few.
const TRANSPORT_PACKETS: usize = 15;
/// Pause while the transport is full: it tells nobody when it has room again.
const FULL_PAUSE: Duration = Duration::from_millis(1);
/// Why the server closes a transport without a word: the client comes back by itself.
const HANG_UP: DisconnectReason = DisconnectReason::TransportClose;

type Peer = Arc<Socket<Connection>>;

/// Takes Socket.IO clients.
pub struct Door {
    gateway: Arc<Gateway>,
    transports: Transports,
}

/// What is known of one transport.
#[derive(Default)]
pub struct Connection {
    /// Where its packets go, once it has joined.
    inbox: OnceLock<Inbox>,
    /// Its device, once it was admitted.
    device: OnceLock<Arc<Device>>,
    /// The transport is closed.
    gone: CancellationToken,
}

/// Packets of one client, waiting for their turn; bounded like the queue in the other direction.
struct Inbox {
    sender: mpsc::Sender<Str>,
    bytes: Arc<AtomicUsize>,
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Door")
    }
}

impl Door {
    pub(super) fn new(gateway: Arc<Gateway>, transports: Transports) -> Self {
        Self {
            gateway,
            transports,
        }
    }

    /// The settings of the transport: the native door's, where it has them too.
    pub fn config(&self) -> EngineIoConfig {
        let max = self.gateway.limits.max_frame_bytes;
        EngineIoConfig::builder()
            .req_path(PATH)
            .ping_interval(self.gateway.timing.ping_interval)
            .ping_timeout(self.gateway.timing.ping_timeout)
            .max_payload(max as u64)
            .ws_max_message_size(max)
            .ws_max_frame_size(max)
            .ws_read_buffer_size(4 * 1024)
            .max_buffer_size(TRANSPORT_PACKETS)
            .build()
    }

    /// Whether there is room for one more transport.
    pub fn has_room(&self) -> bool {
        self.transports.open() < self.gateway.limits.max_connections
    }
}

impl EngineIoHandler for Door {
    type Data = Connection;

    fn on_connect(self: Arc<Self>, socket: Peer) {
        self.transports.enter();
        self.gateway.clone().tasks.spawn(async move {
            tokio::select! {
                () = socket.data.gone.cancelled() => return,
                () = self.gateway.stopping.cancelled() => return,
                () = tokio::time::sleep(JOIN_TIMEOUT) => {}
            }
            if socket.data.inbox.get().is_none() {
                socket.close(HANG_UP);
            }
        });
    }

    fn on_disconnect(&self, socket: Peer, _: DisconnectReason) {
        self.transports.leave();
        socket.data.gone.cancel();
    }

    fn on_message(self: &Arc<Self>, message: Str, socket: Peer) {
        match Packet::parse(&message) {
            Packet::Connect {
                namespace: NAMESPACE,
                auth,
            } => self.join(auth, socket),
            Packet::Connect { namespace, .. } => {
                // The client is told; if even that finds no room, it will time out.
                let _ = socket.emit(invalid_namespace(namespace));
            }
            Packet::Event { id, .. } => self.enqueue(id, message, &socket),
            Packet::Binary { id } => self.enqueue(id, message, &socket),
            Packet::IdTooLarge => self.enqueue(None, message, &socket),
            Packet::Disconnect | Packet::Broken => socket.close(HANG_UP),
            Packet::Ack => {}
        }
    }

    fn on_binary(self: &Arc<Self>, _: Bytes, _: Peer) {
        // It belongs to a packet that is answered with an error.
    }
}

impl Door {
    fn join(&self, auth: Option<&str>, socket: Peer) {
        let (sender, packets) = mpsc::channel(self.gateway.limits.max_requests_waiting);
        let bytes = Arc::new(AtomicUsize::new(0));
        let inbox = Inbox {
            sender,
            bytes: bytes.clone(),
        };
        if socket.data.inbox.set(inbox).is_err() {
            // It has joined before.
            return socket.close(HANG_UP);
        }
        let auth = Auth::parse(auth);
        self.gateway.tasks.spawn(serve(
            self.gateway.clone(),
            socket,
            auth,
            Packets { packets, bytes },
        ));
    }

    /// Puts a packet where its device's requests wait, in their order.
    fn enqueue(&self, id: Option<u64>, packet: Str, socket: &Peer) {
        let Some(inbox) = socket.data.inbox.get() else {
            return socket.close(HANG_UP);
        };
        let len = packet.len();
        let waiting = inbox.bytes.fetch_add(len, Ordering::Relaxed);
        let fits = waiting == 0 || waiting + len <= self.gateway.limits.queue_max_bytes;
        if fits && !matches!(inbox.sender.try_send(packet), Err(TrySendError::Full(_))) {
            return;
        }
        inbox.bytes.fetch_sub(len, Ordering::Relaxed);
        let text = "too many requests wait for their answers: send more slowly";
        let error = ChatError::new(ErrorCode::RateLimited, text);
        self.gateway.chat.requests.refused(None, error.code);
        match socket.data.device.get() {
            // A client that goes on without reading its errors overflows its queue, which ends it.
            Some(device) => device.push(Frame::error(id.map(RequestId::SocketIo).as_ref(), &error)),
            // So much before it was even admitted.
            None => socket.close(HANG_UP),
        }
    }
}

/// The receiving end of an [`Inbox`].
struct Packets {
    packets: mpsc::Receiver<Str>,
    bytes: Arc<AtomicUsize>,
}

impl Packets {
    async fn next(&mut self) -> Option<Str> {
        let packet = self.packets.recv().await?;
        self.bytes.fetch_sub(packet.len(), Ordering::Relaxed);
        Some(packet)
    }
}

/// Serves one device from its joining to its end.
async fn serve(gateway: Arc<Gateway>, socket: Peer, auth: Auth, packets: Packets) {
    // A classic client listens for events only once it has joined: also for the error that turns it away.
    if socket.emit(joined(&socket.id)).is_err() {
        return socket.close(HANG_UP);
    }
    let request = &socket.req_parts;
    let query = request.uri.query().unwrap_or_default();
    match admit(&gateway, &request.headers, query, &auth) {
        Ok(admitted) => converse(&gateway, &socket, admitted, packets).await,
        Err(error) => turn_away(&socket, &error).await,
    }
}

/// Tells the client why, then disconnects it. One that is to come again is not told to stay away.
async fn turn_away(socket: &Peer, error: &ChatError) {
    if let Some(packet) = Frame::error(None, error).packet() {
        let _ = socket.emit(packet);
    }
    if error.code != ErrorCode::Unavailable {
        let _ = socket.emit(DISCONNECT);
        wait_until_gone(socket).await;
    }
    socket.close(HANG_UP);
}

/// Gives a client that was told to disconnect the time to hang up.
async fn wait_until_gone(socket: &Peer) {
    let _ = tokio::time::timeout(GOODBYE, socket.data.gone.cancelled()).await;
}

async fn converse(gateway: &Gateway, socket: &Peer, admitted: Admitted, packets: Packets) {
    let mut conversation = Conversation::new(admitted.session, &gateway.limits);
    let device = conversation.device();
    // Set once: a transport joins once.
    let _ = socket.data.device.set(device.clone());
    let user = device.user.as_str().escape_debug();
    log::debug!("user {user} connected over Socket.IO, device {}", device.id);
    let presence = gateway.metrics.enter(DoorLabel::SocketIoPolling);
    let close = tokio::select! {
        () = socket.data.gone.cancelled() => None,
        never = read(&mut conversation, packets) => match never {},
        close = write(gateway, socket, &device) => close,
    };
    presence.leave(close.map_or(Ending::Client, Ending::Server));
    log::debug!("user {user} disconnected, device {}: {close:?}", device.id);
    conversation.end().await;
    drop(admitted.seat);
    if let Some(close) = close.filter(|close| *close != Close::TooSlow) {
        // Whoever does not read the goodbye in time goes without.
        let _ = tokio::time::timeout(GOODBYE, say_goodbye(socket, &device, close)).await;
    }
    if close != Some(Close::ShuttingDown) {
        socket.close(HANG_UP);
    }
}

/// Sends what still waits. A client that is not to come back by itself is told to disconnect.
async fn say_goodbye(socket: &Peer, device: &Device, close: Close) -> Result<(), Option<Close>> {
    let mut batch = Vec::new();
    while device.take(|frame| batch.push(frame)) == Taken::Frames {
        for packet in batch.drain(..).filter_map(|frame| frame.packet()) {
            emit(socket, device, packet).await?;
        }
    }
    match close {
        Close::TokenExpired | Close::TooManyBadRequests => {
            emit(socket, device, Str::from(DISCONNECT)).await?;
            wait_until_gone(socket).await;
        }
        // The transport's own word for an end would keep Python's clients away for good: with the process the
        // connection ends, and all clients come back. The transport tells nobody when it has sent what it has.
        Close::ShuttingDown => tokio::time::sleep(LAST_WRITES).await,
        Close::TooSlow | Close::StoreUnavailable => {}
    }
    Ok(())
}

/// Never ends: whatever ends the session closes its device, which the writer sees.
async fn read(conversation: &mut Conversation, mut packets: Packets) -> Infallible {
    conversation.start().await;
    loop {
        let Some(packet) = conversation.next(packets.next()).await else {
            return std::future::pending().await;
        };
        let request = match Packet::parse(&packet) {
            Packet::Event { id, args } => request(id, args),
            Packet::Binary { id } => binary(id),
            Packet::IdTooLarge => id_too_large(),
            _ => continue,
        };
        conversation.answer(vec![request]).await;
    }
}

/// Hands the device's queue to the transport. `None` if the transport is closed.
async fn write(gateway: &Gateway, socket: &Peer, device: &Device) -> Option<Close> {
    let mut batch = Vec::new();
    loop {
        match device.take(|frame| batch.push(frame)) {
            Taken::Frames => {}
            Taken::Nothing(None) => {
                device.woken().await;
                continue;
            }
            Taken::Nothing(close) => return close,
        }
        gateway
            .metrics
            .sent(DoorLabel::SocketIoPolling, batch.len());
        for packet in batch.drain(..).filter_map(|frame| frame.packet()) {
            if let Err(end) = emit(socket, device, packet).await {
                return end;
            }
        }
    }
}

/// Waits until the transport has room, or the device's queue overflows meanwhile.
async fn emit(socket: &Peer, device: &Device, packet: Str) -> Result<(), Option<Close>> {
    loop {
        // One place is left free: the transport ends a socket whose ping finds none.
        match (socket.reserve(), socket.reserve()) {
            (Ok(place), Ok(_spare)) => {
                place.emit(packet);
                return Ok(());
            }
            (Err(TrySendError::Closed(())), _) | (_, Err(TrySendError::Closed(()))) => {
                return Err(None);
            }
            (Err(TrySendError::Full(())), _) | (_, Err(TrySendError::Full(()))) => {}
        }
        tokio::select! {
            () = tokio::time::sleep(FULL_PAUSE) => {}
            () = device.overflowed() => return Err(Some(Close::TooSlow)),
        }
    }
}
