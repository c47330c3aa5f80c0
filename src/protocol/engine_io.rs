//! Packets of the Engine.IO protocol, revision 4, as clients send them.
//!
//! <https://github.com/socketio/engine.io-protocol>: one character gives the type. A long-polling payload is packets
//! with a separator between them.

/// Separates two packets of a long-polling payload.
pub const SEPARATOR: u8 = 0x1e;

/// Packets that the server sends on its own behalf.
pub const CLOSE: &str = "1";
pub const PING: &str = "2";
pub const NOOP: &str = "6";

/// The three words with which a client moves to another transport: it asks, the server agrees, the client moves.
pub const PROBE: &str = "2probe";
pub const PROBE_ANSWER: &str = "3probe";
pub const UPGRADE: &str = "5";

/// What a client sends.
#[derive(Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// A Socket.IO packet.
    Message(&'a str),
    /// A ping, a pong or a noop. It requires nothing, whenever it arrives: some clients send one before they join.
    Alive,
    /// Binary data as base64. It belongs to a Socket.IO packet, which is answered with an error.
    Binary,
    Close,
    /// None of these, or one that only the server sends.
    Broken,
}

impl<'a> Packet<'a> {
    pub fn parse(text: &'a str) -> Self {
        match text.as_bytes().first() {
            Some(b'4') => Self::Message(&text[1..]),
            Some(b'2' | b'3' | b'6') => Self::Alive,
            Some(b'b') => Self::Binary,
            Some(b'1') => Self::Close,
            _ => Self::Broken,
        }
    }
}

/// The packets of a payload, in order.
pub fn packets(payload: &str) -> impl Iterator<Item = Packet<'_>> {
    payload.split(char::from(SEPARATOR)).map(Packet::parse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_read_packet_by_packet() {
        let read: Vec<_> = packets("40{}\u{1e}3\u{1e}2\u{1e}6\u{1e}bAQID\u{1e}4\u{1e}1").collect();
        let expected = [
            Packet::Message("0{}"),
            Packet::Alive,
            Packet::Alive,
            Packet::Alive,
            Packet::Binary,
            Packet::Message(""),
            Packet::Close,
        ];
        assert_eq!(read, expected);
    }

    #[test]
    fn what_only_a_server_sends_and_what_nobody_does_is_broken() {
        for text in ["", "0{}", "5", "7", "x", "é", "\u{0}"] {
            assert_eq!(Packet::parse(text), Packet::Broken, "{text:?}");
        }
        assert_eq!(
            packets("4a\u{1e}").collect::<Vec<_>>(),
            [Packet::Message("a"), Packet::Broken]
        );
    }
}
