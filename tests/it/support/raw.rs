//! A WebSocket client that may break every rule: it sends any bytes, and reads only when asked to.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use super::{PATIENCE, Server, Value, http, token};

pub(crate) const TEXT: u8 = 0x1;
pub(crate) const BINARY: u8 = 0x2;
pub(crate) const CLOSE: u8 = 0x8;
pub(crate) const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xA;
/// Set on the last frame of a message.
pub(crate) const FIN: u8 = 0x80;

/// A connection on `/ws` without a WebSocket library.
pub(crate) struct RawSocket {
    stream: TcpStream,
}

impl RawSocket {
    /// Connects a delta device of `user` and does not read a single frame.
    pub(crate) async fn connect(server: &Server, user: &str) -> Self {
        Self::connect_with_buffer(server, user, None).await
    }

    /// The same with a receive buffer of about `bytes` in the kernel.
    pub(crate) async fn connect_with_buffer(
        server: &Server,
        user: &str,
        bytes: Option<u32>,
    ) -> Self {
        let headers = format!("token: {}\r\n", token::of(user));
        Self::open(server, "/ws?chatList=delta", &headers, bytes).await
    }

    /// Connects a full device of `user`, with a receive buffer of about `bytes`, and does not read a single frame.
    pub(crate) async fn connect_full(server: &Server, user: &str, bytes: u32) -> Self {
        let headers = format!("token: {}\r\n", token::of(user));
        Self::open(server, "/ws", &headers, Some(bytes)).await
    }

    /// Connects to `/socket.io/` and does not join.
    pub(crate) async fn unjoined(server: &Server) -> Self {
        Self::socket_io(server, "transport=websocket").await
    }

    /// Connects to `/socket.io/` with this query.
    pub(crate) async fn socket_io(server: &Server, query: &str) -> Self {
        let path = format!("/socket.io/?EIO=4&{query}");
        Self::open(server, &path, "", None).await
    }

    async fn open(server: &Server, path: &str, headers: &str, bytes: Option<u32>) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        if let Some(bytes) = bytes {
            socket.set_recv_buffer_size(bytes).expect("a small buffer");
        }
        let mut stream = socket.connect(server.address).await.expect("connect");
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n",
            server.address,
        );
        stream
            .write_all(request.as_bytes())
            .await
            .expect("write the request");
        let answer = timeout(PATIENCE, http::read(&mut stream))
            .await
            .expect("an answer in time");
        assert_eq!(answer.status, 101, "{answer:?}");
        assert_eq!(
            answer
                .headers
                .get("sec-websocket-accept")
                .map(String::as_str),
            Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        );
        Self { stream }
    }

    /// Sends bytes as they are.
    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("write");
    }

    /// Sends `bytes` this many times without reading anything, unless the server ends the connection first.
    pub(crate) async fn flood(&mut self, bytes: &[u8], times: usize) {
        let flood = async {
            for _ in 0..times {
                if self.stream.write_all(bytes).await.is_err() {
                    return;
                }
            }
        };
        timeout(PATIENCE, flood)
            .await
            .expect("the server takes all, or ends it");
    }

    /// Sends one masked frame; `first` is its first byte (FIN, reserved bits, opcode).
    pub(crate) async fn send_frame(&mut self, first: u8, payload: &[u8]) {
        self.send_bytes(&frame(first, payload)).await;
    }

    /// Reads one frame: opcode and payload. `None` where the stream has ended.
    pub(crate) async fn read_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        timeout(PATIENCE, self.read_frame_unbounded())
            .await
            .expect("a frame in time")
    }

    async fn read_frame_unbounded(&mut self) -> Option<(u8, Vec<u8>)> {
        let first = self.stream.read_u8().await.ok()?;
        let second = self.stream.read_u8().await.ok()?;
        assert_eq!(second & 0x80, 0, "a server does not mask");
        let length = match second {
            126 => u64::from(self.stream.read_u16().await.ok()?),
            127 => self.stream.read_u64().await.ok()?,
            short => u64::from(short),
        };
        let mut payload = vec![0; usize::try_from(length).expect("a sane length")];
        self.stream.read_exact(&mut payload).await.ok()?;
        Some((first & 0x0F, payload))
    }

    /// Reads events until one named `event`, and returns its data.
    pub(crate) async fn read_until(&mut self, event: &str) -> Value {
        loop {
            let (opcode, payload) = self.read_frame().await.expect("the connection goes on");
            if opcode == TEXT {
                let frame: Value = serde_json::from_slice(&payload).expect("a JSON frame");
                if frame["event"] == event {
                    return frame["data"].clone();
                }
            }
        }
    }

    /// Reads texts until one that contains `part`.
    pub(crate) async fn read_until_text(&mut self, part: &str) {
        loop {
            let (opcode, payload) = self.read_frame().await.expect("the connection goes on");
            if opcode == TEXT && String::from_utf8_lossy(&payload).contains(part) {
                return;
            }
        }
    }

    /// Reads to the end, and returns the code of the close frame if one came.
    pub(crate) async fn close_code(&mut self) -> Option<u16> {
        while let Some((opcode, payload)) = self.read_frame().await {
            if opcode == CLOSE {
                return close_code(&payload);
            }
        }
        None
    }
}

/// The code in a close frame's payload.
pub(crate) fn close_code(payload: &[u8]) -> Option<u16> {
    let code = payload.get(..2)?;
    Some(u16::from_be_bytes([code[0], code[1]]))
}

/// One masked frame.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x1F, 0x2E, 0x3D, 0x4C];
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..126 => bytes.push(0x80 | length as u8),
        length @ 126..65536 => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            bytes.push(0x80 | 127);
            bytes.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(&MASK);
    bytes.extend(
        payload
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    bytes
}
