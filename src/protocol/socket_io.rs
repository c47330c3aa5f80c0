//! Packets of the Socket.IO protocol, revision 5, as far as chat clients need it: no binary, the default namespace.
//!
//! <https://github.com/socketio/socket.io-protocol>: `<type>[<namespace>,][<ack id>][<JSON>]`

use std::num::ParseIntError;

use serde_json::value::RawValue;

use super::frame::RequestId;
use super::request::{Request, parse_event};
use crate::error::{ChatError, ErrorCode};

/// What a client sends.
#[derive(Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// Joins a namespace, with the client's `auth` as JSON if it sent one.
    Connect {
        namespace: &'a str,
        auth: Option<&'a str>,
    },
    Disconnect,
    /// An event with its arguments, a JSON array; with an ack id if an answer is wanted.
    Event {
        id: Option<u64>,
        args: &'a str,
    },
    /// An event with binary attachments, which none of our events has.
    Binary {
        id: Option<u64>,
    },
    /// An event whose ack id is above 2^64 - 1, so that it cannot be answered.
    IdTooLarge,
    /// An answer to something that was never asked.
    Ack,
    /// None of these.
    Broken,
}

/// The default namespace: the only one.
pub const NAMESPACE: &str = "/";

impl<'a> Packet<'a> {
    /// Reads one Engine.IO message.
    pub fn parse(text: &'a str) -> Self {
        let mut chars = text.chars();
        let Some(kind) = chars.next() else {
            return Self::Broken;
        };
        let (namespace, rest) = split_namespace(chars.as_str());
        match kind {
            '0' => Self::Connect {
                namespace,
                auth: (!rest.is_empty()).then_some(rest),
            },
            '1' => Self::Disconnect,
            '2' => match split_id(rest) {
                Ok((id, args)) => Self::Event { id, args },
                Err(_) => Self::IdTooLarge,
            },
            '5' => {
                let after_count = rest.split_once('-').map_or(rest, |(_, rest)| rest);
                match split_id(split_namespace(after_count).1) {
                    Ok((id, _)) => Self::Binary { id },
                    Err(_) => Self::IdTooLarge,
                }
            }
            '3' | '6' => Self::Ack,
            _ => Self::Broken,
        }
    }
}

fn split_namespace(text: &str) -> (&str, &str) {
    if !text.starts_with('/') {
        return (NAMESPACE, text);
    }
    text.split_once(',').unwrap_or((text, ""))
}

/// Splits off the ack id, if there is one.
fn split_id(text: &str) -> Result<(Option<u64>, &str), ParseIntError> {
    let end = text
        .bytes()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let id = (!digits.is_empty()).then(|| digits.parse()).transpose()?;
    Ok((id, rest))
}

/// The answer to an event whose ack id is too large: an `error`, as no ack could reach anyone.
pub fn id_too_large() -> Request {
    let text = format!("the ack id must not be larger than {}", u64::MAX);
    Request {
        id: None,
        event: None,
        body: Err(ChatError::invalid_payload(text)),
    }
}

/// Reads an event's arguments, `[name, data?]`, as a request. Further arguments are ignored.
pub fn request(id: Option<u64>, args: &str) -> Request {
    let id = id.map(RequestId::SocketIo);
    let wrong = |code, text: &str| Err(ChatError::new(code, text));
    let Ok(args) = serde_json::from_str::<Vec<&RawValue>>(args) else {
        return Request {
            id,
            event: None,
            body: wrong(ErrorCode::InvalidJson, "the packet is not a JSON array"),
        };
    };
    let name = args
        .first()
        .and_then(|name| serde_json::from_str::<String>(name.get()).ok());
    let Some(event) = name else {
        let body = wrong(
            ErrorCode::InvalidPayload,
            "the name of the event must be a string",
        );
        return Request {
            id,
            event: None,
            body,
        };
    };
    let data = args.get(1).copied().filter(|data| data.get() != "null");
    let body = parse_event(&event, data);
    Request {
        id,
        event: Some(event),
        body,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_read() {
        let connect = |auth| Packet::Connect {
            namespace: "/",
            auth,
        };
        assert_eq!(Packet::parse("0"), connect(None));
        assert_eq!(
            Packet::parse(r#"0{"token":"t"}"#),
            connect(Some(r#"{"token":"t"}"#))
        );
        assert_eq!(
            Packet::parse("0/admin,"),
            Packet::Connect {
                namespace: "/admin",
                auth: None
            }
        );
        assert_eq!(
            Packet::parse(r#"2["a"]"#),
            Packet::Event {
                id: None,
                args: r#"["a"]"#
            }
        );
        assert_eq!(
            Packet::parse(r#"212["a",1]"#),
            Packet::Event {
                id: Some(12),
                args: r#"["a",1]"#
            }
        );
        assert_eq!(
            Packet::parse(r#"51-/,7["a",{"_placeholder":true,"num":0}]"#),
            Packet::Binary { id: Some(7) }
        );
        assert_eq!(Packet::parse("1"), Packet::Disconnect);
        assert_eq!(Packet::parse("37[]"), Packet::Ack);
        for broken in ["", "9", "x", "é"] {
            assert_eq!(Packet::parse(broken), Packet::Broken, "{broken:?}");
        }
        assert_eq!(
            Packet::parse("218446744073709551615[]"),
            Packet::Event {
                id: Some(u64::MAX),
                args: "[]"
            }
        );
        for too_large in [
            "218446744073709551616[]",
            "2/,99999999999999999999[]",
            "51-99999999999999999999[]",
        ] {
            assert_eq!(Packet::parse(too_large), Packet::IdTooLarge, "{too_large}");
        }
    }
}
