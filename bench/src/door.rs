//! The protocols: how each is opened, and what its texts look like.

use std::fmt::{self, Display, Formatter};
use std::io::Write;

use clap::ValueEnum;
use memchr::memmem;
use serde::Serialize;

/// A protocol, and the kind of server that speaks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Door {
    /// `/ws`
    Native,
    /// `/socket.io/`, over WebSocket from the start
    Socketio,
    /// The bare Node relay of `benches/peer`
    Relay,
}

impl Display for Door {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Socketio => "Socket.IO",
            Self::Relay => "relay",
        })
    }
}

/// How a device learns of changes in its chat list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ListMode {
    Delta,
    Full,
}

impl Display for ListMode {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Delta => "delta",
            Self::Full => "full",
        })
    }
}

/// The meaning of the server's text for the load.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Incoming<'a> {
    /// Engine.IO has opened: join the namespace.
    Opened,
    /// The device is served: it has its chat list, or the relay's confirmation.
    Served,
    /// A message, as JSON.
    Delivery(&'a [u8]),
    /// The answer to a request. What follows the id, as text.
    Ack {
        id: u64,
        ok: bool,
        body: &'a [u8],
    },
    /// Engine.IO's ping.
    Ping,
    /// An error that no request asked for, as text.
    Error(&'a [u8]),
    Other,
}

const NATIVE_DELIVERY: &[u8] = br#"{"event":"newMessage","data":"#;
const NATIVE_ACK: &[u8] = br#"{"event":"ack","id":"#;
const NATIVE_ERROR: &[u8] = br#"{"event":"error","#;
const NATIVE_LIST: &[u8] = br#"{"event":"chatList","#;
const DELIVERY: &[u8] = br#"42["newMessage","#;
const LIST: &[u8] = br#"42["chatList","#;
const ERROR: &[u8] = br#"42["error","#;

impl Door {
    /// The request that opens the WebSocket.
    pub(crate) fn upgrade(self, list: ListMode, token: &str) -> String {
        let (path, authorization) = match self {
            Self::Native => (
                format!("/ws?chatList={list}"),
                format!("Authorization: Bearer {token}\r\n"),
            ),
            Self::Socketio | Self::Relay => (
                format!("/socket.io/?EIO=4&transport=websocket&chatList={list}"),
                String::new(),
            ),
        };
        format!(
            "GET {path} HTTP/1.1\r\nHost: chat\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n{authorization}\r\n"
        )
    }

    /// The packet that joins the namespace, after [`Incoming::Opened`]. The relay needs no token: it takes a name.
    pub(crate) fn join(self, user: &str, token: &str) -> String {
        match self {
            Self::Relay => format!(r#"40{{"user":"{user}"}}"#),
            _ => format!(r#"40{{"token":"{token}"}}"#),
        }
    }

    /// Writes the text of a request: `data` is JSON.
    pub(crate) fn put_request(self, text: &mut Vec<u8>, name: &str, id: u64, data: &[&[u8]]) {
        let parts = match self {
            Self::Native => write!(text, r#"{{"event":"{name}","id":{id},"data":"#),
            _ => write!(text, r#"42{id}["{name}","#),
        };
        // Writing to memory cannot fail.
        debug_assert!(parts.is_ok());
        for part in data {
            text.extend_from_slice(part);
        }
        text.push(if self == Self::Native { b'}' } else { b']' });
    }

    /// Reads a text. Only its beginning is parsed: parsing all of it would measure the load.
    pub(crate) fn read(self, text: &[u8]) -> Incoming<'_> {
        match self {
            Self::Native => read_native(text),
            Self::Socketio | Self::Relay => self.read_packet(text),
        }
    }

    fn read_packet(self, text: &[u8]) -> Incoming<'_> {
        if let Some(data) = text.strip_prefix(DELIVERY) {
            return Incoming::Delivery(data);
        }
        match text {
            b"2" => Incoming::Ping,
            [b'0', ..] => Incoming::Opened,
            [b'4', b'0', ..] if self == Self::Relay => Incoming::Served,
            [b'4', b'3', rest @ ..] => {
                let (id, body) = number(rest);
                let ok = body.starts_with(br#"[{"ok":true"#);
                Incoming::Ack { id, ok, body }
            }
            [b'4', b'4' | b'1', ..] | [b'1', ..] => Incoming::Error(text),
            _ if text.starts_with(LIST) => Incoming::Served,
            _ if text.starts_with(ERROR) => Incoming::Error(text),
            _ => Incoming::Other,
        }
    }
}

fn read_native(text: &[u8]) -> Incoming<'_> {
    if let Some(data) = text.strip_prefix(NATIVE_DELIVERY) {
        return Incoming::Delivery(data);
    }
    if let Some(rest) = text.strip_prefix(NATIVE_ACK) {
        let (id, body) = number(rest);
        return Incoming::Ack { id, ok: true, body };
    }
    if let Some(rest) = text.strip_prefix(NATIVE_ERROR) {
        return match rest.strip_prefix(br#""id":"#) {
            Some(rest) => {
                let (id, body) = number(rest);
                Incoming::Ack {
                    id,
                    ok: false,
                    body,
                }
            }
            None => Incoming::Error(text),
        };
    }
    if text.starts_with(NATIVE_LIST) {
        return Incoming::Served;
    }
    Incoming::Other
}

/// The leading digits of `text`, and the rest.
fn number(text: &[u8]) -> (u64, &[u8]) {
    let end = text
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let value = digits.iter().fold(0, |value: u64, digit| {
        value.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'))
    });
    (value, rest)
}

/// A stamp that the load puts at the beginning of each message it sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// The sender's index.
    pub(crate) sender: usize,
    /// The sender's messages are numbered 1, 2, 3, …
    pub(crate) number: u64,
    /// When it was sent or, in an open run, was due: ns since the load began.
    pub(crate) sent_ns: u64,
}

impl Stamp {
    /// Writes content of `bytes` bytes, or more if the stamp does not fit.
    pub(crate) fn put(self, content: &mut Vec<u8>, bytes: usize) {
        let begin = content.len();
        let Self {
            sender,
            number,
            sent_ns,
        } = self;
        let written = write!(content, "~{sender}.{number}.{sent_ns}~");
        debug_assert!(written.is_ok());
        if content.len() < begin + bytes {
            content.resize(begin + bytes, b'x');
        }
    }

    /// Finds the stamp in a delivery; `None` if it is not a message of this load.
    pub(crate) fn find(delivery: &[u8]) -> Option<Self> {
        let (sender, rest) = number(after(delivery, br#""content":"~"#)?);
        let (number_of, rest) = number(rest.strip_prefix(b".")?);
        let (sent_ns, rest) = number(rest.strip_prefix(b".")?);
        rest.starts_with(b"~").then_some(Self {
            sender: usize::try_from(sender).ok()?,
            number: number_of,
            sent_ns,
        })
    }
}

/// The room's sequence number of a delivery; the relay has none.
pub(crate) fn seq(delivery: &[u8]) -> Option<u64> {
    after(delivery, br#""seq":"#).map(|rest| number(rest).0)
}

/// The room id in an answer.
pub(crate) fn room_id(body: &[u8]) -> Option<String> {
    let rest = after(body, br#""roomId":""#)?;
    let end = memchr::memchr(b'"', rest)?;
    String::from_utf8(rest[..end].to_vec()).ok()
}

fn after<'a>(text: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    memmem::find(text, wanted).map(|at| &text[at + wanted.len()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_doors_read_the_same() {
        let ok = |body| Incoming::Ack {
            id: 12,
            ok: true,
            body,
        };
        assert_eq!(
            Door::Native.read(br#"{"event":"ack","id":12,"data":{}}"#),
            ok(br#","data":{}}"#)
        );
        assert_eq!(
            Door::Socketio.read(br#"4312[{"ok":true,"data":{}}]"#),
            ok(br#"[{"ok":true,"data":{}}]"#)
        );
        for (door, text) in [
            (Door::Native, &br#"{"event":"error","id":12,"data":{}}"#[..]),
            (Door::Socketio, br#"4312[{"ok":false,"error":{}}]"#),
        ] {
            assert!(matches!(
                door.read(text),
                Incoming::Ack {
                    id: 12,
                    ok: false,
                    ..
                }
            ));
        }
        assert_eq!(
            Door::Native.read(br#"{"event":"newMessage","data":{}}"#),
            Incoming::Delivery(b"{}}")
        );
        assert_eq!(
            Door::Socketio.read(br#"42["newMessage",{}]"#),
            Incoming::Delivery(b"{}]")
        );
        for (door, text) in [
            (Door::Native, &br#"{"event":"error","data":{}}"#[..]),
            (Door::Socketio, br#"42["error",{}]"#),
            (Door::Socketio, br#"44{"message":"no"}"#),
        ] {
            assert_eq!(door.read(text), Incoming::Error(text));
        }
    }

    #[test]
    fn a_stamp_comes_back_from_a_delivery() {
        let stamp = Stamp {
            sender: 7,
            number: 41,
            sent_ns: 1_234_567,
        };
        let mut content = Vec::new();
        stamp.put(&mut content, 100);
        assert_eq!(content.len(), 100);
        let mut delivery =
            br#"{"id":"1-9","roomId":"r","seq":9,"senderId":"u","content":""#.to_vec();
        delivery.extend(content);
        delivery.extend(br#"","readBy":[]}"#);
        assert_eq!(Stamp::find(&delivery), Some(stamp));
        assert_eq!(seq(&delivery), Some(9));
        assert_eq!(room_id(&delivery).as_deref(), Some("r"));
        assert_eq!(Stamp::find(br#"{"content":"hello"}"#), None);
    }

    #[test]
    fn a_request_is_written_for_its_door() {
        let mut text = Vec::new();
        Door::Native.put_request(&mut text, "leaveChat", 3, &[b"{", b"}"]);
        assert_eq!(text, br#"{"event":"leaveChat","id":3,"data":{}}"#);
        text.clear();
        Door::Relay.put_request(&mut text, "join", 3, &[b"{}"]);
        assert_eq!(text, br#"423["join",{}]"#);
    }
}
