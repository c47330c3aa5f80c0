//! The differences between the protocols once a WebSocket is open: how texts are read, what a ping is, how a client is
//! disconnected.

use bytes::Bytes;
use tokio_tungstenite::tungstenite::Message;

use super::joining::{DISCONNECT, binary, invalid_namespace};
use crate::hub::device::Close;
use crate::metrics::DoorLabel;
use crate::protocol::engine_io;
use crate::protocol::frame::Frame;
use crate::protocol::request::{Request, parse_frame};
use crate::protocol::socket_io::{NAMESPACE, Packet, id_too_large, request};
use crate::protocol::text::Text;

/// What a device speaks over its WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `/ws`: JSON frames, WebSocket's own pings.
    Native,
    /// `/socket.io/`: Socket.IO packets in Engine.IO messages, revision 4.
    SocketIo {
        /// The device began with long-polling.
        has_polled: bool,
    },
}

/// The meaning of a text from the client.
pub(super) enum Asked {
    Request(Request),
    /// A matter of the transport, answered with this frame.
    Answer(Frame),
    Nothing,
    /// The client says goodbye, or the text is malformed.
    HangUp,
}

impl Dialect {
    pub(super) fn door(self) -> DoorLabel {
        match self {
            Self::Native => DoorLabel::Native,
            Self::SocketIo { has_polled: true } => DoorLabel::SocketIoPolling,
            Self::SocketIo { has_polled: false } => DoorLabel::SocketIoWebsocket,
        }
    }

    /// The text of a frame; `None` if it is for the other protocol.
    pub(super) fn text(self, frame: &Frame) -> Option<Text> {
        match self {
            Self::Native => frame.native(),
            Self::SocketIo { .. } => frame.socket_io(),
        }
    }

    /// The WebSocket frame that checks whether the peer is alive.
    pub(super) fn ping(self) -> Bytes {
        match self {
            // Without a payload.
            Self::Native => Bytes::from_static(&[0x89, 0]),
            // A text.
            Self::SocketIo { .. } => Bytes::from_static(&[0x81, 1, b'2']),
        }
    }

    /// Whether binary frames end the connection. In Socket.IO they belong to a packet that is answered with an error.
    pub(super) fn refuses_binary(self) -> bool {
        self == Self::Native
    }

    /// What is sent before the connection is closed, to a client that must not reconnect automatically.
    pub(super) fn last_word(self, close: Close) -> Option<Message> {
        let is_told = self != Self::Native && is_final(close);
        is_told.then(|| Message::text(format!("4{DISCONNECT}")))
    }

    pub(super) fn read(self, text: &str) -> Asked {
        match self {
            Self::Native => Asked::Request(parse_frame(text)),
            Self::SocketIo { .. } => match engine_io::Packet::parse(text) {
                engine_io::Packet::Message(packet) => read_packet(packet),
                engine_io::Packet::Alive | engine_io::Packet::Binary => Asked::Nothing,
                engine_io::Packet::Close | engine_io::Packet::Broken => Asked::HangUp,
            },
        }
    }
}

/// Whether the client must not reconnect automatically.
pub(super) fn is_final(close: Close) -> bool {
    matches!(close, Close::TokenExpired | Close::TooManyBadRequests)
}

/// Reads a Socket.IO packet of a client that has joined.
pub(super) fn read_packet(packet: &str) -> Asked {
    match Packet::parse(packet) {
        Packet::Event { id, args } => Asked::Request(request(id, args)),
        Packet::Binary { id } => Asked::Request(binary(id)),
        Packet::IdTooLarge => Asked::Request(id_too_large()),
        Packet::Connect { namespace, .. } if namespace != NAMESPACE => {
            Asked::Answer(Frame::socket_io_packet(&invalid_namespace(namespace)))
        }
        Packet::Ack => Asked::Nothing,
        Packet::Connect { .. } | Packet::Disconnect | Packet::Broken => Asked::HangUp,
    }
}
