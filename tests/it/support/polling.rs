//! A Socket.IO client that begins with long-polling and does nothing by itself.

use std::net::SocketAddr;

use tokio::{
    io::AsyncWriteExt,
    net::{TcpSocket, TcpStream},
};

use super::{
    RawSocket, Server, Value, http, json,
    raw::{FIN, TEXT},
    token,
};

/// The path that Socket.IO clients poll.
const PATH: &str = "/socket.io/?EIO=4&transport=polling";

/// One session.
pub(crate) struct Polling {
    address: SocketAddr,
    sid: String,
    pub(crate) path: String,
}

impl Polling {
    /// Opens a session and does not join.
    pub(crate) async fn open(server: &Server) -> Self {
        Self::try_open(server).await.expect("there is room")
    }

    /// The same; `None` where the server accepts no more.
    pub(crate) async fn try_open(server: &Server) -> Option<Self> {
        let answer = http::get(server.address, PATH).await;
        if answer.status == 503 {
            return None;
        }
        assert_eq!(answer.status, 200, "{answer:?}");
        let opened: Value = serde_json::from_str(&answer.body[1..]).expect("an open packet");
        let sid = opened["sid"].as_str().expect("an id").to_owned();
        Some(Self {
            address: server.address,
            path: format!("{PATH}&sid={sid}"),
            sid,
        })
    }

    /// A delta device of `user` that has joined and not polled since.
    pub(crate) async fn joined(server: &Server, user: &str) -> Self {
        let polling = Self::open(server).await;
        polling.join(user).await;
        polling
    }

    pub(crate) async fn join(&self, user: &str) {
        let auth = json!({ "token": token::of(user), "chatList": "delta" });
        self.send(&format!("40{auth}")).await;
    }

    /// Sends packets, which the server must accept.
    pub(crate) async fn send(&self, payload: &str) {
        let answer = self.post(payload).await;
        assert_eq!((answer.status, &*answer.body), (200, "ok"));
    }

    pub(crate) async fn post(&self, payload: &str) -> http::Answer {
        let host = self.address.to_string();
        http::post(self.address, &self.path, &[("Host", &host)], payload).await
    }

    /// Polls once.
    pub(crate) async fn poll(&self) -> Vec<String> {
        let answer = http::get(self.address, &self.path).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body.split('\u{1e}').map(str::to_owned).collect()
    }

    /// Polls until a packet begins like this; returns all that arrived.
    pub(crate) async fn poll_until(&self, beginning: &str) -> Vec<String> {
        let mut packets = Vec::new();
        let is_there = |packets: &[String]| packets.iter().any(|it| it.starts_with(beginning));
        while !is_there(&packets) {
            packets.extend(self.poll().await);
        }
        packets
    }

    /// Polls and reads nothing, with a small buffer in the kernel.
    pub(crate) async fn poll_unread(&self) -> TcpStream {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a small buffer");
        let mut stream = socket.connect(self.address).await.expect("connect");
        let request = format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", self.path);
        stream.write_all(request.as_bytes()).await.expect("sent");
        stream
    }

    /// Opens a WebSocket for this session, and sends nothing.
    pub(crate) async fn open_websocket(&self, server: &Server) -> RawSocket {
        let sid = &self.sid;
        RawSocket::socket_io(server, &format!("transport=websocket&sid={sid}")).await
    }

    /// The same, and checks by a probe that it carries packets. From now on, the session's polls are answered at once.
    pub(crate) async fn probe(&self, server: &Server) -> RawSocket {
        let mut socket = self.open_websocket(server).await;
        socket.send_frame(FIN | TEXT, b"2probe").await;
        let (opcode, payload) = socket.read_frame().await.expect("the probe's answer");
        assert_eq!((opcode, &*payload), (TEXT, &b"3probe"[..]));
        socket
    }

    /// Moves to the WebSocket.
    pub(crate) async fn upgrade(self, server: &Server) -> RawSocket {
        let mut socket = self.probe(server).await;
        socket.send_frame(FIN | TEXT, b"5").await;
        socket
    }
}
