//! What the scripts return, read into types.

use redis::{FromRedisValue, ParsingError, Value};

use crate::protocol::event::{ChatEntry, Message};
use crate::protocol::ids::{MessageId, RoomId, UserId};
use crate::room::{Marks, Page, Position, PositionedEntry, RoomFacts};

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
