//! What the scripts return, read into types.

use std::sync::Arc;

use redis::{FromRedisValue, ParsingError, Value};

use crate::protocol::event::{ChatEntry, Group, Message};
use crate::protocol::ids::{MessageId, RoomId, UserId};

/// How far a room has come: every change has a number, `rev`; every message one of its own, `seq`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// Set when the room was made: another epoch is another history.
    pub epoch: Arc<str>,
    pub rev: u64,
    pub seq: u64,
    /// The newest message, [`MessageId::NONE`] if there is none.
    pub last_id: MessageId,
}

/// How far each member has read, in rooms of at most 100 members.
#[derive(Debug, Clone, Default)]
pub struct Marks(pub Vec<(UserId, u64)>);

impl Marks {
    fn read_by(&self, seq: u64) -> Vec<String> {
        self.0
            .iter()
            .filter(|(_, read_seq)| *read_seq >= seq)
            .map(|(user, _)| user.to_string())
            .collect()
    }
}

/// Messages of a room, oldest first, with the position at which they were read.
#[derive(Debug, Clone)]
pub struct Page {
    pub position: Position,
    pub has_more: bool,
    pub messages: Vec<Message>,
    /// The room has at most 100 members: their markers are listed.
    pub small: bool,
    pub marks: Marks,
}

type RawMessage = (String, String, String, String, u64);

/// The fields that `enter_chat`, `get_history` and `sync_room` share.
pub(super) struct RawPage {
    pub epoch: String,
    pub rev: u64,
    pub seq: u64,
    pub last_id: String,
    pub small: bool,
    pub has_more: bool,
    pub messages: Vec<RawMessage>,
    pub marks: Vec<String>,
}

impl RawPage {
    pub(super) fn into_page(self, room: RoomId) -> Result<Page, ParsingError> {
        let marks = marks(&self.marks)?;
        let messages = self
            .messages
            .into_iter()
            .map(|raw| message(room, raw, if self.small { Some(&marks) } else { None }))
            .collect::<Result<_, _>>()?;
        let last_id = message_id(&self.last_id)?;
        let position = Position {
            epoch: self.epoch.into(),
            rev: self.rev,
            seq: self.seq,
            last_id,
        };
        Ok(Page {
            position,
            has_more: self.has_more,
            messages,
            small: self.small,
            marks,
        })
    }
}

fn marks(flat: &[String]) -> Result<Marks, ParsingError> {
    let pair = |pair: &[String]| match pair {
        [user, seq] => Some((UserId::parse(user)?, seq.parse().ok()?)),
        _ => None,
    };
    let pairs: Option<Vec<_>> = flat.chunks(2).map(pair).collect();
    pairs
        .map(Marks)
        .ok_or_else(|| "read markers are not pairs of a user and a number".into())
}

pub(super) fn message_id(text: &str) -> Result<MessageId, ParsingError> {
    MessageId::parse(text).ok_or_else(|| "a message id is not of the form ms-seq".into())
}

fn message(room: RoomId, raw: RawMessage, marks: Option<&Marks>) -> Result<Message, ParsingError> {
    let (id, sender_id, content, client_id, read_count) = raw;
    let id = message_id(&id)?;
    let read_by = marks.map(|marks| marks.read_by(id.seq)).unwrap_or_default();
    let read_count = if marks.is_some() {
        read_by.len() as u64
    } else {
        read_count
    };
    Ok(Message {
        id,
        room_id: room,
        seq: id.seq,
        sender_id,
        content,
        timestamp: id.timestamp(),
        read_by,
        read_count,
        client_message_id: Some(client_id).filter(|id| !id.is_empty()),
        truncated: false,
    })
}

/// A chat list entry with the position at which it was read.
#[derive(Debug, Clone)]
pub struct PositionedEntry {
    pub entry: ChatEntry,
    pub position: Position,
}

/// What a room is, apart from what happens in it.
#[derive(Debug, Clone)]
pub struct RoomFacts {
    pub is_group: bool,
    pub name: String,
    pub member_count: u64,
    /// Everyone, in rooms of at most 100 members; else none.
    pub members: Vec<String>,
}

impl RoomFacts {
    /// How `user` sees the room at a position, with nothing said about its messages yet.
    pub fn entry_for(
        &self,
        user: &str,
        room: RoomId,
        position: &Position,
        created_at_ms: u64,
    ) -> ChatEntry {
        let others: Vec<String> = self
            .members
            .iter()
            .filter(|member| *member != user)
            .cloned()
            .collect();
        let group_name = || match self.name.as_str() {
            "" => format!("Group ({})", self.member_count),
            name => name.to_owned(),
        };
        let friend_id = (!self.is_group).then(|| others.first().cloned()).flatten();
        let group = self.is_group.then(|| Group {
            group_name: group_name(),
            member_count: self.member_count,
            members: others,
        });
        ChatEntry {
            room_id: room,
            is_group_chat: self.is_group,
            available: self.member_count > 1,
            last_message: None,
            unread_cnt: position.seq,
            seq: position.seq,
            read_seq: 0,
            friend_id,
            group,
            active_at_ms: position.last_id.ms.max(created_at_ms),
        }
    }
}

/// One entry as `get_chat_list` and `initialize_chat` return it; `None` where the user is no member.
pub(super) fn chat_entry(
    user: &UserId,
    room: RoomId,
    value: &Value,
) -> Result<Option<PositionedEntry>, ParsingError> {
    let Value::Array(fields) = value else {
        return Err("a chat list entry is not an array".into());
    };
    if fields.is_empty() {
        return Ok(None);
    }
    let [
        kind,
        name,
        epoch,
        rev,
        seq,
        last_id,
        created_at,
        read_seq,
        available,
        member_count,
        members,
        last,
    ] = fields.as_slice()
    else {
        return Err("a chat list entry has not twelve fields".into());
    };
    let position = Position {
        epoch: String::from_redis_value_ref(epoch)?.into(),
        rev: u64::from_redis_value_ref(rev)?,
        seq: u64::from_redis_value_ref(seq)?,
        last_id: message_id(&String::from_redis_value_ref(last_id)?)?,
    };
    let facts = RoomFacts {
        is_group: String::from_redis_value_ref(kind)? == "group",
        name: String::from_redis_value_ref(name)?,
        member_count: u64::from_redis_value_ref(member_count)?,
        members: Vec::from_redis_value_ref(members)?,
    };
    let read_seq = u64::from_redis_value_ref(read_seq)?;
    let base = facts.entry_for(
        user.as_str(),
        room,
        &position,
        u64::from_redis_value_ref(created_at)?,
    );
    let entry = ChatEntry {
        available: bool::from_redis_value_ref(available)?,
        last_message: last_message(room, last)?,
        unread_cnt: position.seq.saturating_sub(read_seq),
        read_seq,
        ..base
    };
    Ok(Some(PositionedEntry { entry, position }))
}

fn last_message(room: RoomId, value: &Value) -> Result<Option<Message>, ParsingError> {
    let Value::Array(fields) = value else {
        return Err("a last message is not an array".into());
    };
    if fields.is_empty() {
        return Ok(None);
    }
    let (id, sender, content, truncated, client_id, read_count, read_by): (
        String,
        String,
        String,
        bool,
        String,
        u64,
        Vec<String>,
    ) = FromRedisValue::from_redis_value_ref(value)?;
    let base = message(room, (id, sender, content, client_id, read_count), None)?;
    Ok(Some(Message {
        read_by,
        truncated,
        ..base
    }))
}
