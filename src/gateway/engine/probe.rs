//! A WebSocket that is to replace long-polling, until it has done so.

use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::OnUpgrade;
use tokio_tungstenite::tungstenite::Message;

use crate::gateway::Gateway;
use crate::gateway::socket::{self, Socket};
use crate::protocol::engine_io::{PROBE, PROBE_ANSWER, UPGRADE};

/// Opens the WebSocket, and verifies that it carries packets in both directions.
pub(super) async fn open(gateway: Arc<Gateway>, on_upgrade: OnUpgrade) -> Option<Box<Socket>> {
    let mut socket = Box::new(socket::open(&gateway, on_upgrade).await?);
    hear(&mut socket, PROBE).await?;
    socket.send(Message::text(PROBE_ANSWER)).await.ok()?;
    Some(socket)
}

/// Waits until the client announces that it moves.
pub(super) async fn wait(mut socket: Box<Socket>) -> Option<Box<Socket>> {
    hear(&mut socket, UPGRADE).await?;
    Some(socket)
}

/// Reads this packet. `None` if another one arrives, or none.
async fn hear(socket: &mut Socket, word: &str) -> Option<()> {
    loop {
        match socket.next().await?.ok()? {
            Message::Text(text) => return (text == word).then_some(()),
            // WebSocket's own frames, which are answered automatically.
            Message::Ping(_) | Message::Pong(_) => {}
            _ => return None,
        }
    }
}
