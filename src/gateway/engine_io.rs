//! Socket.IO clients that speak WebSocket from their first request on.
//!
//! Such a connection is served like a native one, with the same reader and writer: all that Engine.IO adds is an opening
//! packet, its own pings and one character before each message ([`Dialect::SocketIo`]). So an event is laid out once for
//! all of them, type and all. Clients that begin with polling, and may upgrade later, come through `engineioxide`
//! (`socket_io.rs`), which costs a copy of each event and about 10 KiB for each connection.

use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use http::HeaderMap;
use hyper::Request;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;
use warp::reply::Response;

use super::Gateway;
use super::admission::{Admitted, query_value};
use super::dialect::Dialect;
use super::joining::{
    Auth, DISCONNECT, JOIN_TIMEOUT, Transports, admit, invalid_namespace, joined,
};
use super::socket::{self, End, GOODBYE, Socket, broken};
use super::upgrade::{switch, websocket_key};
use crate::error::{ChatError, ErrorCode};
use crate::protocol::frame::Frame;
use crate::protocol::socket_io::{NAMESPACE, Packet};

/// The client's first request: who it says it is, and where the WebSocket comes from.
struct Arrival {
    headers: HeaderMap,
    query: String,
    on_upgrade: OnUpgrade,
}

/// Switches to WebSocket, if this is the first request of a client that asks for one.
pub(super) fn upgrade(
    gateway: &Arc<Gateway>,
    transports: &Transports,
    request: &mut Request<Incoming>,
) -> Option<Response> {
    let query = request.uri().query().unwrap_or_default();
    let begins_with_websocket = query_value(query, "EIO") == Some("4")
        && query_value(query, "transport") == Some("websocket")
        && query_value(query, "sid").is_none();
    if !begins_with_websocket {
        return None;
    }
    let accept = websocket_key(request.headers())?;
    let arrival = Arrival {
        query: query.to_owned(),
        headers: request.headers().clone(),
        on_upgrade: hyper::upgrade::on(request),
    };
    let (gateway, transports) = (gateway.clone(), transports.clone());
    gateway.clone().tasks.spawn(async move {
        transports.enter();
        serve(gateway, arrival).await;
        transports.leave();
    });
    Some(switch(accept, false))
}

async fn serve(gateway: Arc<Gateway>, arrival: Arrival) {
    // Boxed: what only the beginning needs is given back before the long part.
    let Some((socket, admitted)) = Box::pin(arrive(&gateway, arrival)).await else {
        return;
    };
    socket::serve(gateway, admitted, socket, Dialect::SocketIo).await;
}

/// Opens the transport and lets the client in, or turns it away.
async fn arrive(gateway: &Arc<Gateway>, arrival: Arrival) -> Option<(Socket, Admitted)> {
    let mut socket = socket::open(gateway, arrival.on_upgrade).await?;
    let auth = tokio::select! {
        () = gateway.stopping.cancelled() => return None,
        auth = tokio::time::timeout(JOIN_TIMEOUT, join(gateway, &mut socket)) => auth.ok()?,
    };
    let auth = match auth {
        Ok(auth) => auth,
        Err(end) => {
            socket::turn_away_broken(socket, &end).await;
            return None;
        }
    };
    match admit(gateway, &arrival.headers, &arrival.query, &auth) {
        Ok(admitted) => Some((socket, admitted)),
        Err(error) => {
            // Whoever does not read it in time goes without.
            let _ = tokio::time::timeout(GOODBYE, turn_away(socket, &error)).await;
            None
        }
    }
}

/// Opens Engine.IO and waits until the client has joined the namespace; the end if it does something else.
async fn join(gateway: &Gateway, socket: &mut Socket) -> Result<Auth, End> {
    let sid = Uuid::new_v4().simple();
    let open = json!({
        "sid": sid.to_string(),
        "upgrades": [],
        "pingInterval": gateway.timing.ping_interval.as_millis(),
        "pingTimeout": gateway.timing.ping_timeout.as_millis(),
        "maxPayload": gateway.limits.max_frame_bytes,
    });
    send(socket, format!("0{open}")).await?;
    loop {
        let message = socket.next().await.ok_or(End::Gone)?;
        let Message::Text(text) = message.map_err(|error| broken(&error))? else {
            continue;
        };
        match text.strip_prefix('4').map(Packet::parse).ok_or(End::Gone)? {
            Packet::Connect {
                namespace: NAMESPACE,
                auth,
            } => {
                let auth = Auth::parse(auth);
                // A classic client listens for events only once it has joined: also for the error that turns it away.
                send(socket, format!("4{}", joined(&sid))).await?;
                return Ok(auth);
            }
            Packet::Connect { namespace, .. } => {
                send(socket, format!("4{}", invalid_namespace(namespace))).await?;
            }
            _ => return Err(End::Gone),
        }
    }
}

/// Tells the client why, then disconnects it. One that is to come again is not told to stay away.
async fn turn_away(mut socket: Socket, error: &ChatError) -> Option<()> {
    let told = Frame::error(None, error).socket_io()?;
    socket
        .feed(Message::text(told.as_str().into_owned()))
        .await
        .ok()?;
    if error.code != ErrorCode::Unavailable {
        send(&mut socket, format!("4{DISCONNECT}")).await.ok()?;
        // It hangs up itself.
        while let Some(Ok(_)) = socket.next().await {}
    }
    socket.close(None).await.ok()
}

async fn send(socket: &mut Socket, text: String) -> Result<(), End> {
    let sent = socket.send(Message::Text(text.into())).await;
    sent.map_err(|_| End::Gone)
}
