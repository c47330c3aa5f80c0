//! What the scripts return, parsed into types.

use redis::{FromRedisValue, ParsingError, Value};

use super::lenient::{Lenient, number};
use crate::protocol::content::{self, Parts, TEXT};
use crate::protocol::event::Message;
use crate::protocol::ids::{MessageId, RoomId, UserId};
use crate::room::flaws::{Flaws, Reading};
use crate::room::{ListedRoom, Marks, Page, Position, RoomFacts};

/// The fields that `enter_chat`, `get_history` and `sync_room` share.
pub(super) struct RawPage {
    pub epoch: String,
    pub rev: u64,
    pub seq: u64,
    pub last_id: String,
    pub small: bool,
    pub has_more: bool,
    pub messages: Vec<Value>,
    pub marks: Vec<Value>,
}

impl RawPage {
    pub(super) fn into_page(self, room: RoomId, flaws: &mut Flaws) -> Result<Page, ParsingError> {
        let marks = marks(room, self.marks, flaws);
        let messages: Vec<Message> = self
            .messages
            .into_iter()
            .filter_map(|raw| message(room, raw, self.small.then_some(&marks), flaws))
            .collect();
        if self.has_more && messages.is_empty() {
            // A client that asked for the next page would get this page again.
            return Err("a page announces more and has no message that can be read".into());
        }
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

/// Pairs of a user and a number; those that cannot be read are left out.
fn marks(room: RoomId, flat: Vec<Value>, flaws: &mut Flaws) -> Marks {
    let pair = |pair: &[Value]| match pair {
        [Value::BulkString(user), seq] => {
            let user = std::str::from_utf8(user).ok();
            Some((UserId::parse(user?)?, number(seq)?))
        }
        _ => None,
    };
    let mut marks = Marks::default();
    for read in flat.chunks(2).map(pair) {
        match read {
            Some(mark) => marks.0.push(mark),
            None => flaws.add(room, None, "a read marker is no user with a number"),
        }
    }
    marks
}

pub(super) fn message_id(text: &str) -> Result<MessageId, ParsingError> {
    MessageId::parse(text).ok_or_else(|| "a message id is not of the form ms-seq".into())
}

/// A message of a page: `{id, sender, content, client_id, read_count, type, parts}`. `None` if it has no id to identify
/// it.
fn message(room: RoomId, raw: Value, marks: Option<&Marks>, flaws: &mut Flaws) -> Option<Message> {
    let mut fields = fields_of(raw).into_iter();
    let base = identified(room, &mut fields, flaws)?;
    let mut reading = flaws.of(room, Some(base.id));
    reading.counted(1 + fields.len(), 7);
    let mut next = || fields.next().unwrap_or_default();
    let sender_id = reading.text("sender", next());
    let content = reading.text("content", next());
    let client_id = reading.text("client_id", next());
    let read_count = reading.number("read count", &next());
    let kind = reading.text("type", next());
    let parts = reading.text("parts", next());
    let read_by = marks.map(|marks| marks.read_by(base.seq));
    Some(Message {
        sender_id,
        kind: content::kind(Some(kind)),
        content,
        parts: some_parts(&mut reading, &parts),
        client_message_id: Some(client_id).filter(|id| !id.is_empty()),
        read_count: read_by
            .as_ref()
            .map_or(read_count, |users| users.len() as u64),
        read_by: read_by.unwrap_or_default(),
        ..base
    })
}

/// The last message of an entry: `{id, sender, content, truncated, client_id, read_count, {reader…}, type, parts}`, or
/// `{}`.
fn last_message(room: RoomId, raw: Value, flaws: &mut Flaws) -> Option<Message> {
    if matches!(&raw, Value::Array(fields) if fields.is_empty()) {
        return None;
    }
    let mut fields = fields_of(raw).into_iter();
    let base = identified(room, &mut fields, flaws)?;
    let mut reading = flaws.of(room, Some(base.id));
    reading.counted(1 + fields.len(), 9);
    let mut next = || fields.next().unwrap_or_default();
    let sender_id = reading.text("sender", next());
    let content = reading.text("content", next());
    let truncated = reading.number("cut", &next()) == 1;
    let client_id = reading.text("client_id", next());
    let read_count = reading.number("read count", &next());
    let read_by = reading.texts("readers", next());
    let kind = reading.text("type", next());
    let parts = reading.text("parts", next());
    Some(Message {
        sender_id,
        kind: content::kind(Some(kind)),
        content,
        parts: some_parts(&mut reading, &parts),
        truncated,
        client_message_id: Some(client_id).filter(|id| !id.is_empty()),
        read_count,
        read_by,
        ..base
    })
}

/// How a content is divided into strings, if it has several.
fn some_parts(reading: &mut Reading<'_>, text: &str) -> Option<Parts> {
    (!text.is_empty()).then(|| reading.parts(text)).flatten()
}

/// A message of which only the id, the first of its fields, is known yet.
fn identified(
    room: RoomId,
    fields: &mut impl Iterator<Item = Value>,
    flaws: &mut Flaws,
) -> Option<Message> {
    let text = flaws
        .of(room, None)
        .text("message's id", fields.next().unwrap_or_default());
    let Some(id) = MessageId::parse(&text) else {
        flaws.add(
            room,
            None,
            "it has a message without an id, which is left out",
        );
        return None;
    };
    Some(Message {
        id,
        room_id: room,
        seq: id.seq,
        sender_id: String::new(),
        kind: TEXT.into(),
        content: String::new(),
        parts: None,
        timestamp: id.timestamp(),
        read_by: Vec::new(),
        read_count: 0,
        client_message_id: None,
        truncated: false,
    })
}

fn fields_of(value: Value) -> Vec<Value> {
    match value {
        Value::Array(fields) => fields,
        _ => Vec::new(),
    }
}

/// One entry as `get_chat_list` and `initialize_chat` return it: the room, and how far the caller has read it. `None`
/// if the user is no member.
///
/// The result is also `None` if the script could not read the room; it then gives the reason.
///
/// # Errors
/// The room's position cannot be read.
pub(super) fn listed_room(
    room: RoomId,
    value: Value,
    flaws: &mut Flaws,
) -> Result<Option<(ListedRoom, u64)>, ParsingError> {
    let Value::Array(fields) = value else {
        return Err("a chat list entry is not an array".into());
    };
    let fields = match fields.as_slice() {
        [] => return Ok(None),
        [failure] => {
            let failure = String::from_redis_value_ref(failure)?;
            flaws.add(room, None, format!("it cannot be listed: {failure}"));
            return Ok(None);
        }
        _ => <[Value; 12]>::try_from(fields),
    };
    let Ok(
        [
            kind,
            name,
            epoch,
            rev,
            seq,
            last_id,
            active_at,
            read_seq,
            available,
            member_count,
            members,
            last,
        ],
    ) = fields
    else {
        return Err("a chat list entry has not twelve fields".into());
    };
    let position = Position {
        epoch: String::from_redis_value(epoch)?.into(),
        rev: u64::from_redis_value(rev)?,
        seq: u64::from_redis_value(seq)?,
        last_id: message_id(&String::from_redis_value(last_id)?)?,
    };
    let mut reading = flaws.of(room, None);
    let facts = RoomFacts {
        is_group: reading.text("type", kind) == "group",
        name: reading.text("name", name),
        member_count: reading.number("number of members", &member_count),
        members: reading.texts("members", members),
    };
    let read_seq = reading.number("read marker", &read_seq);
    let active_at_ms = reading.number("time of activity", &active_at);
    let available = reading.number("availability", &available) == 1;
    let listed = ListedRoom {
        id: room,
        facts,
        position,
        available,
        last_message: last_message(room, last, flaws),
        active_at_ms,
    };
    Ok(Some((listed, read_seq)))
}
