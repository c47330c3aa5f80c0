//! One connection over either protocol, as requests, answers and events.
//!
//! Unlike the client of the integration tests, it treats a broken connection as something that happens.

use std::{net::SocketAddr, time::Duration};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest},
};

use crate::support::token;

/// A server that does not accept a device by then is given up in favour of the other one.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);

/// The protocol with which a device connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    Native,
    SocketIo,
}

/// What arrived.
#[derive(Debug)]
pub(crate) enum Incoming {
    Event(String, Value),
    /// The answer to the request of this id: the ack's data, or the error's.
    Answer(u64, Result<Value, Value>),
    /// To be answered by [`Wire::pong`].
    Ping,
    /// The connection is over.
    Ended,
}

/// An open connection.
pub(crate) struct Wire {
    door: Door,
    socket: WebSocketStream<TcpStream>,
    /// When connecting began.
    pub(crate) since: Instant,
}

impl Wire {
    /// Connects a delta device, or one that gets whole lists; `None` where the server does not accept it.
    pub(crate) async fn connect(
        address: SocketAddr,
        door: Door,
        user: &str,
        full: bool,
    ) -> Option<Self> {
        let opening = Self::open(address, door, user, if full { "full" } else { "delta" });
        timeout(CONNECT_LIMIT, opening).await.ok()?
    }

    async fn open(address: SocketAddr, door: Door, user: &str, list: &str) -> Option<Self> {
        let since = Instant::now();
        let path = match door {
            Door::Native => format!("/ws?chatList={list}"),
            Door::SocketIo => "/socket.io/?EIO=4&transport=websocket".to_owned(),
        };
        let url = format!("ws://{address}{path}");
        let mut request = url.into_client_request().expect("a request");
        let token = token::of(user);
        if door == Door::Native {
            let value = token.parse().expect("a header value");
            request.headers_mut().insert("token", value);
        }
        let stream = TcpStream::connect(address).await.ok()?;
        stream.set_nodelay(true).ok()?;
        let (socket, _) = client_async(request, stream).await.ok()?;
        let mut wire = Self {
            door,
            socket,
            since,
        };
        if door == Door::SocketIo {
            wire.join(&json!({ "token": token, "chatList": list }))
                .await?;
        }
        Some(wire)
    }

    /// Joins the namespace, once Engine.IO has opened the transport.
    async fn join(&mut self, auth: &Value) -> Option<()> {
        let opened = self.text().await?;
        assert!(opened.starts_with("0{"), "not an open packet: {opened}");
        self.write(format!("40{auth}")).await;
        loop {
            let packet = self.text().await?;
            match packet.as_bytes() {
                [b'4', b'0', ..] => return Some(()),
                // The first ping may come at once.
                [b'2', ..] => self.pong().await,
                _ => panic!("did not join: {packet}"),
            }
        }
    }

    /// Sends an event that needs an answer. A connection that has broken reports it on the next read.
    pub(crate) async fn ask(&mut self, id: u64, event: &str, data: &Value) {
        let text = match self.door {
            Door::Native => json!({ "event": event, "id": id, "data": data }).to_string(),
            Door::SocketIo => format!("42{id}{}", json!([event, data])),
        };
        self.write(text).await;
    }

    /// Answers a ping of Engine.IO; the library answers those of WebSocket.
    pub(crate) async fn pong(&mut self) {
        self.write("3".into()).await;
    }

    /// Closes the connection with a goodbye.
    pub(crate) async fn close(mut self) {
        self.socket.close(None).await.ok();
    }

    async fn write(&mut self, text: String) {
        self.socket.send(Message::text(text)).await.ok();
    }

    /// The next thing that arrives. Nothing is lost if this is cancelled while it waits.
    pub(crate) async fn next(&mut self) -> Incoming {
        loop {
            let Some(text) = self.text().await else {
                return Incoming::Ended;
            };
            let incoming = match self.door {
                Door::Native => read_frame(&text),
                Door::SocketIo => read_packet(&text),
            };
            if let Some(incoming) = incoming {
                return incoming;
            }
        }
    }

    async fn text(&mut self) -> Option<String> {
        loop {
            match self.socket.next().await?.ok()? {
                Message::Text(text) => return Some(text.to_string()),
                Message::Close(_) => return None,
                _ => {}
            }
        }
    }
}

fn read_frame(text: &str) -> Option<Incoming> {
    let mut frame: Value = serde_json::from_str(text).expect("a frame is JSON");
    let data = frame["data"].take();
    let event = frame["event"].as_str().expect("a frame names its event");
    Some(match (frame["id"].as_u64(), event) {
        (Some(id), "ack") => Incoming::Answer(id, Ok(data)),
        (Some(id), _) => Incoming::Answer(id, Err(data)),
        (None, event) => Incoming::Event(event.to_owned(), data),
    })
}

/// Reads a packet of Engine.IO that contains one of Socket.IO; `None` for those of no interest.
fn read_packet(text: &str) -> Option<Incoming> {
    match text.as_bytes() {
        [b'2', ..] => Some(Incoming::Ping),
        [b'1', ..] | [b'4', b'1', ..] => Some(Incoming::Ended),
        [b'4', b'2', ..] => {
            let mut args: Value = serde_json::from_str(&text[2..]).expect("an event is JSON");
            let event = args[0].as_str().expect("an event has a name").to_owned();
            Some(Incoming::Event(event, args[1].take()))
        }
        [b'4', b'3', ..] => {
            let json = text.find('[').expect("an ack has arguments");
            let id = text[2..json].parse().expect("an ack has an id");
            let mut args: Value = serde_json::from_str(&text[json..]).expect("an ack is JSON");
            let mut answer = args[0].take();
            Some(Incoming::Answer(
                id,
                if answer["ok"] == true {
                    Ok(answer["data"].take())
                } else {
                    Err(answer["error"].take())
                },
            ))
        }
        _ => None,
    }
}
