//! What scripts publish, read from its JSON.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value as Json;

use crate::protocol::content::{self, Parts};
use crate::protocol::event::Message;
use crate::protocol::ids::{MessageId, RoomId, UserId};
use crate::room::flaws::{Flaws, Reading};
use crate::room::{Position, Positioned, RoomFacts};

/// Something that happened in a room.
#[derive(Debug, Clone)]
pub struct RoomEvent {
    /// The room's position with this event.
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
        /// Sent to everyone in the room, not only to the user's own devices.
        to_members: bool,
    },
    /// A kind that this server does not know: only its number counts.
    Unknown,
}

/// A room that a user gained.
#[derive(Debug, Clone)]
pub struct RoomGained {
    pub room: RoomId,
    pub position: Position,
    pub facts: RoomFacts,
    /// The room was created with this event and nothing has happened in it yet: the event holds all there is to show.
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
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(borrow)]
    parts: Option<Cow<'a, str>>,
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

impl Positioned for RoomEvent {
    fn position(&self) -> &Position {
        &self.position
    }

    fn bytes(&self) -> usize {
        let content = match &self.change {
            Change::Message(message) => message.content.len(),
            _ => 0,
        };
        size_of::<Self>() + content
    }
}

impl RoomEvent {
    /// Reads an event of a room's channel as far as possible: a flawed field affects nothing but itself. `None` if not
    /// even the room's position can be read.
    pub fn read(room: RoomId, payload: &[u8], flaws: &mut Flaws) -> Option<Self> {
        Self::parse(room, payload).or_else(|| Self::read_flawed(room, payload, flaws))
    }

    fn read_flawed(room: RoomId, payload: &[u8], flaws: &mut Flaws) -> Option<Self> {
        let text = String::from_utf8_lossy(payload);
        let wire: Json = serde_json::from_str(&text).ok()?;
        let id = |name| MessageId::parse(wire.get(name)?.as_str()?);
        let last_id = id("id").or_else(|| id("lastId"))?;
        let position = Position {
            epoch: wire.get("epoch")?.as_str()?.into(),
            rev: number(&wire, "rev")?,
            seq: number(&wire, "seq")?,
            last_id,
        };
        if matches!(text, Cow::Owned(_)) {
            flaws.add(room, Some(last_id), "its event is not UTF-8");
        }
        let change = match wire.get("event").and_then(Json::as_str) {
            Some("message") => Change::Message(flawed_message(room, last_id, &wire, flaws)),
            Some("read") => flawed_read(room, &wire, flaws),
            _ => Change::Unknown,
        };
        Some(Self { position, change })
    }

    /// Reads an event of a room's channel; `None` if it does not match the scripts' headers.
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
                kind: content::kind(wire.kind),
                content: wire.content?,
                parts: wire
                    .parts
                    .map(|parts| Parts::parse(&parts).ok_or(()))
                    .transpose()
                    .ok()?,
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

fn flawed_message(room: RoomId, id: MessageId, wire: &Json, flaws: &mut Flaws) -> Message {
    let mut reading = flaws.of(room, Some(id));
    let sender_id = text(&mut reading, "sender", wire.get("sender"));
    let content = text(&mut reading, "content", wire.get("content"));
    let mut optional = |name: &str| {
        let value = wire.get(name).filter(|value| !value.is_null())?;
        Some(text(&mut reading, name, Some(value)))
    };
    let kind = content::kind(optional("type"));
    let client_message_id = optional("clientMessageId");
    let parts = optional("parts").and_then(|parts| reading.parts(&parts));
    let readers = wire.get("readBy").and_then(Json::as_array);
    let read_by: Vec<String> = readers
        .into_iter()
        .flatten()
        .map(|user| text(&mut reading, "readBy", Some(user)))
        .collect();
    Message {
        id,
        room_id: room,
        seq: id.seq,
        sender_id,
        kind,
        content,
        parts,
        timestamp: id.timestamp(),
        read_count: number(wire, "readCount").unwrap_or(read_by.len() as u64),
        read_by,
        client_message_id,
        truncated: false,
    }
}

fn text(reading: &mut Reading<'_>, name: &str, value: Option<&Json>) -> String {
    match value {
        Some(Json::String(text)) => text.clone(),
        Some(Json::Number(number)) => {
            reading.note(name, "is a number, not a text");
            number.to_string()
        }
        _ => {
            reading.note(name, "is missing, or no text");
            String::new()
        }
    }
}

fn number(wire: &Json, name: &str) -> Option<u64> {
    match wire.get(name)? {
        Json::String(text) => text.parse().ok(),
        number => number.as_u64(),
    }
}

/// A marker without a user: only its number counts.
fn flawed_read(room: RoomId, wire: &Json, flaws: &mut Flaws) -> Change {
    let text = |name| wire.get(name).and_then(Json::as_str);
    let user = text("user").and_then(UserId::parse);
    match (user, number(wire, "readSeq")) {
        (Some(user), Some(read_seq)) => Change::Read {
            user,
            read_seq,
            message_id: text("messageId").and_then(MessageId::parse),
            to_members: text("to") == Some("members"),
        },
        _ => {
            flaws.add(
                room,
                None,
                "an event's read marker is no user with a number",
            );
            Change::Unknown
        }
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

/// The room that a user has left, if an event of a user's channel says so. Such events are published by hand.
pub fn room_left(payload: &[u8]) -> Option<RoomId> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct LeftWire<'a> {
        event: &'a str,
        room_id: &'a str,
    }
    let wire: LeftWire = serde_json::from_slice(payload).ok()?;
    let room = RoomId::parse(wire.room_id)?;
    (wire.event == "left").then_some(room)
}

impl RoomGained {
    /// Reads an event of a user's channel as far as possible: texts lose what is not UTF-8.
    pub fn read(payload: &[u8]) -> Option<Self> {
        Self::parse(payload).or_else(|| Self::parse(String::from_utf8_lossy(payload).as_bytes()))
    }

    /// Reads an event of a user's channel; `None` if it is of another kind or does not match the scripts' headers.
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

    /// When the room was created, Unix time in milliseconds: the epoch begins with it.
    pub fn created_at_ms(&self) -> u64 {
        self.position
            .epoch
            .split('-')
            .next()
            .and_then(|ms| ms.parse().ok())
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn event(fields: &[u8]) -> Vec<u8> {
        let head = br#"{"event":"message","epoch":"1-x","rev":2,"seq":1,"id":"7-1","#;
        [&head[..], fields, b"}"].concat()
    }

    /// The readable part of a message event, and what was wrong with it.
    fn read(fields: &[u8]) -> (Message, Vec<String>) {
        let mut flaws = Flaws::default();
        let read = RoomEvent::read(RoomId::random(), &event(fields), &mut flaws).unwrap();
        assert_eq!((read.position.rev, read.position.seq), (2, 1));
        let Change::Message(message) = read.change else {
            panic!("no message");
        };
        (message, flaws.0.into_iter().map(|flaw| flaw.what).collect())
    }

    #[test]
    fn one_flawed_field_costs_itself() {
        let (message, flaws) = read(br#""sender":"alice","content":"hi","more":[1],"readCount":1"#);
        assert_eq!((&*message.content, flaws.len()), ("hi", 0));

        let (message, flaws) =
            read(b"\"sender\":\"alice\",\"content\":\"cut \xc3\",\"readCount\":1");
        assert_eq!(message.content, "cut \u{fffd}");
        assert_eq!(flaws, ["its event is not UTF-8"]);

        let (message, flaws) = read(br#""sender":"alice","content":{"a":1},"readBy":["alice"]"#);
        assert_eq!((&*message.sender_id, &*message.content), ("alice", ""));
        assert_eq!(
            (message.read_by, message.read_count),
            (vec!["alice".to_owned()], 1)
        );
        assert_eq!(flaws, ["its content is missing, or no text"]);

        let (message, flaws) = read(br#""content":"hi","readBy":7,"clientMessageId":7"#);
        assert_eq!((&*message.sender_id, &*message.content), ("", "hi"));
        assert_eq!(message.client_message_id.as_deref(), Some("7"));
        assert_eq!(
            flaws,
            [
                "its sender is missing, or no text",
                "its clientMessageId is a number, not a text"
            ]
        );
    }

    #[test]
    fn an_event_without_a_place_is_none() {
        for payload in [
            &b"cut \xc3"[..],
            b"{}",
            br#"{"event":"message","rev":1,"seq":1}"#,
        ] {
            let mut flaws = Flaws::default();
            assert!(RoomEvent::read(RoomId::random(), payload, &mut flaws).is_none());
        }
    }

    #[test]
    fn a_marker_of_nobody_only_counts() {
        let payload = br#"{"event":"read","epoch":"1-x","rev":2,"seq":1,"lastId":"7-1","user":7}"#;
        let mut flaws = Flaws::default();
        let read = RoomEvent::read(RoomId::random(), payload, &mut flaws).unwrap();
        assert!(matches!(read.change, Change::Unknown));
        assert_eq!(flaws.0.len(), 1);
    }
}
