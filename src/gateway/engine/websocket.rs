//! Socket.IO clients on a WebSocket that have not joined yet: those that begin with one, and those that moved to it
//! before joining.
//!
//! Once it has joined, such a connection is served like a native one, with the same reader and writer: all that
//! Engine.IO adds is an opening packet, its own pings and one character before each message ([`Dialect::SocketIo`]). So
//! an event is encoded once for all of them, including its type.

use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::OnUpgrade;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::tungstenite::Message;

use super::session::Arrival;
use crate::gateway::Gateway;
use crate::gateway::admission::Admitted;
use crate::gateway::dialect::Dialect;
use crate::gateway::joining::{
    Auth, DISCONNECT, JOIN_TIMEOUT, Refused, admit, invalid_namespace, joined, opening,
};
use crate::gateway::socket::{self, End, GOODBYE, Socket, broken};
use crate::protocol::engine_io::Packet as Engine;
use crate::protocol::socket_io::{NAMESPACE, Packet};

/// Serves a client that begins with WebSocket until it leaves.
pub(super) async fn begin(gateway: Arc<Gateway>, arrival: Arrival, on_upgrade: OnUpgrade) {
    let late = Instant::now() + JOIN_TIMEOUT;
    let opened = {
        let opened = timeout_at(late, open(&gateway, &arrival.sid, on_upgrade));
        tokio::select! {
            biased;
            // Boxed, like everything that only the beginning needs.
            opened = Box::pin(opened) => opened,
            () = arrival.guest.turned_out() => return,
            () = gateway.stopping.cancelled() => return,
        }
    };
    if let Ok(Some(socket)) = opened {
        let dialect = Dialect::SocketIo { has_polled: false };
        serve(gateway, arrival, socket, late, dialect).await;
    }
}

async fn open(gateway: &Gateway, sid: &str, on_upgrade: OnUpgrade) -> Option<Box<Socket>> {
    let mut socket = Box::new(socket::open(gateway, on_upgrade).await?);
    let opening = opening(gateway, sid, &[]);
    send(&mut socket, opening).await.ok()?;
    Some(socket)
}

/// Serves a client that has not joined until it leaves; it has until `late` to join.
pub(super) async fn serve(
    gateway: Arc<Gateway>,
    arrival: Arrival,
    socket: Box<Socket>,
    late: Instant,
    dialect: Dialect,
) {
    let arrived = Box::pin(arrive(&gateway, arrival, socket, late)).await;
    if let Some((socket, admitted)) = arrived {
        socket::serve(gateway, admitted, *socket, dialect).await;
    }
}

/// Admits the client, or turns it away.
async fn arrive(
    gateway: &Arc<Gateway>,
    arrival: Arrival,
    mut socket: Box<Socket>,
    late: Instant,
) -> Option<(Box<Socket>, Admitted)> {
    let auth = tokio::select! {
        biased;
        auth = timeout_at(late, join(&mut socket, &arrival.sid)) => auth.ok()?,
        () = arrival.guest.turned_out() => return None,
        () = gateway.stopping.cancelled() => return None,
    };
    let auth = match auth {
        Ok(auth) => auth,
        Err(end) => {
            socket::turn_away_broken(*socket, &end).await;
            return None;
        }
    };
    match admit(gateway, &arrival.headers, &arrival.query, &auth) {
        Ok(admitted) => Some((socket, admitted)),
        Err(refused) => {
            // A client that does not read it in time does not get it.
            let _ = timeout(GOODBYE, turn_away(socket, &refused)).await;
            None
        }
    }
}

/// Waits until the client has joined the namespace; returns how it ended if the client does something else.
async fn join(socket: &mut Socket, sid: &str) -> Result<Auth, End> {
    // Packets left over from polling.
    socket.flush().await.map_err(|_| End::Gone)?;
    loop {
        let message = socket.next().await.ok_or(End::Gone)?;
        let Message::Text(text) = message.map_err(|error| broken(&error))? else {
            continue;
        };
        let packet = match Engine::parse(&text) {
            Engine::Message(packet) => Packet::parse(packet),
            Engine::Alive | Engine::Binary => continue,
            Engine::Close | Engine::Broken => return Err(End::Gone),
        };
        match packet {
            Packet::Connect {
                namespace: NAMESPACE,
                auth,
            } => {
                let auth = Auth::parse(auth);
                // A classic client only listens for events once it has joined: this also applies to the error that
                // turns it away.
                send(socket, format!("4{}", joined(sid))).await?;
                return Ok(auth);
            }
            Packet::Connect { namespace, .. } => {
                send(socket, format!("4{}", invalid_namespace(namespace))).await?;
            }
            _ => return Err(End::Gone),
        }
    }
}

/// Sends the client the reason, then disconnects it. A client that should come back gets no `disconnect`, which would
/// keep it away.
async fn turn_away(mut socket: Box<Socket>, refused: &Refused) -> Option<()> {
    for event in refused.events() {
        let event = Message::text(event.as_str().into_owned());
        socket.feed(event).await.ok()?;
    }
    if refused.is_final() {
        send(&mut socket, format!("4{DISCONNECT}")).await.ok()?;
        // The client closes the connection itself.
        while let Some(Ok(_)) = socket.next().await {}
    }
    (*socket).close(None).await.ok()
}

async fn send(socket: &mut Socket, text: String) -> Result<(), End> {
    let sent = socket.send(Message::Text(text.into())).await;
    sent.map_err(|_| End::Gone)
}
