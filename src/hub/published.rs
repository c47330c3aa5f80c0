//! What scripts publish, read from its JSON.

use std::borrow::Cow;

use serde::Deserialize;

use crate::protocol::event::Message;
use crate::protocol::ids::{MessageId, RoomId, UserId};
use crate::room::{Position, RoomFacts};

/// Something that happened in a room.
#[derive(Debug, Clone)]
pub struct RoomEvent {
    /// Where the room is with this event.
    pub position: Position,
    pub change: Change,
}

#[derive(Debug, Clone)]
pub enum Change {
    Message(Message),
    Read {
        user: UserId,
        read_seq: u64,
        message_id: Option<MessageId>,
        /// Told to everyone in the room, not to the user's own devices only.
        to_members: bool,
    },
    /// A kind that this server does not know: it only counts.
    Unknown,
}

/// A room that a user gained.
#[derive(Debug, Clone)]
pub struct RoomGained {
    pub room: RoomId,
    pub position: Position,
    pub facts: RoomFacts,
    /// The room was made with this event and nothing has happened in it yet: all there is to tell is here.
    pub fresh: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RoomWire<'a> {
    event: &'a str,
    #[serde(borrow)]
    epoch: Cow<'a, str>,
    rev: u64,
    seq: u64,
    id: Option<&'a str>,
    last_id: Option<&'a str>,
    sender: Option<String>,
    content: Option<String>,
    client_message_id: Option<String>,
    #[serde(default)]
    read_by: Vec<String>,
    #[serde(default)]
    read_count: u64,
    #[serde(borrow)]
    user: Option<Cow<'a, str>>,
    #[serde(default)]
    read_seq: u64,
    message_id: Option<&'a str>,
    to: Option<&'a str>,
}

impl RoomEvent {
    /// Reads an event of a room's channel; `None` if it is not what the scripts' headers say.
    pub fn parse(room: RoomId, payload: &[u8]) -> Option<Self> {
        let wire: RoomWire = serde_json::from_slice(payload).ok()?;
        let last_id = MessageId::parse(wire.id.or(wire.last_id)?)?;
        let position = Position {
            epoch: wire.epoch.into(),
            rev: wire.rev,
            seq: wire.seq,
            last_id,
        };
        let change = match wire.event {
            "message" => Change::Message(Message {
                id: last_id,
                room_id: room,
                seq: wire.seq,
                sender_id: wire.sender?,
                content: wire.content?,
                timestamp: last_id.timestamp(),
                read_by: wire.read_by,
                read_count: wire.read_count,
                client_message_id: wire.client_message_id,
                truncated: false,
            }),
            "read" => Change::Read {
                user: UserId::parse(&wire.user?)?,
                read_seq: wire.read_seq,
                message_id: wire.message_id.and_then(MessageId::parse),
                to_members: wire.to == Some("members"),
            },
            _ => Change::Unknown,
        };
        Some(Self { position, change })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GainedWire {
    room_id: String,
    epoch: String,
    rev: u64,
    seq: u64,
    last_id: String,
    #[serde(rename = "type")]
    kind: String,
    name: String,
    member_count: u64,
    #[serde(default)]
    members: Vec<String>,
    fresh: bool,
}

impl RoomGained {
    /// Reads an event of a user's channel; `None` if it is another kind or not what the scripts' headers say.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let wire: GainedWire = serde_json::from_slice(payload).ok()?;
        Some(Self {
            room: RoomId::parse(&wire.room_id)?,
            position: Position {
                epoch: wire.epoch.into(),
                rev: wire.rev,
                seq: wire.seq,
                last_id: MessageId::parse(&wire.last_id)?,
            },
            facts: RoomFacts {
                is_group: wire.kind == "group",
                name: wire.name,
                member_count: wire.member_count,
                members: wire.members,
            },
            fresh: wire.fresh,
        })
    }

    /// When the room was made, Unix time in milliseconds: the epoch begins with it.
    pub fn created_at_ms(&self) -> u64 {
        self.position
            .epoch
            .split('-')
            .next()
            .and_then(|ms| ms.parse().ok())
            .unwrap_or_default()
    }
}
