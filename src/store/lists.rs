//! The typed call of `get_chat_list`: a part of one user's list, and what others wait for in the same rooms.

use redis::{FromRedisValue, ParsingError, Value};

use super::keys::LIST_KEYS;
use super::lenient::number;
use super::reply::listed_room;
use super::{Invocation, Store, exchange::Repeat};
use crate::error::ChatError;
use crate::protocol::ids::{RoomId, UserId};
use crate::room::flaws::Flaws;
use crate::room::{ListedRoom, PositionedEntry};
use crate::scripts::Script;

/// Rooms in one call, at most.
pub const LIST_CHUNK: usize = 128;
/// Further readers in one call, at most.
pub const READERS_MAX: usize = 1024;

/// Part of a user's chat list.
#[derive(Debug, Clone)]
pub struct ListChunk {
    /// All rooms of the user, if they were asked for.
    pub index: Vec<RoomId>,
    /// For each room asked for; `None` where the user is no member, or the room cannot be read.
    pub entries: Vec<Option<PositionedEntry>>,
}

/// A part of a user's chat list to read, together with what others wait for in the same rooms.
#[derive(Debug, Clone)]
pub struct ListCall {
    pub user: UserId,
    /// At most [`LIST_CHUNK`].
    pub rooms: Vec<RoomId>,
    /// Whether the ids of all rooms of the user are asked for too.
    pub want_index: bool,
    /// At most [`READERS_MAX`].
    pub readers: Vec<Reader>,
}

/// A further user who waits for the entry of one of the rooms.
#[derive(Debug, Clone)]
pub struct Reader {
    /// Which of the call's rooms, from 0.
    pub place: usize,
    pub user: UserId,
}

/// What a [`ListCall`] found.
pub struct ListAnswer {
    pub chunk: ListChunk,
    /// For each further reader; `None` where the reader is no member, or the caller has no entry.
    pub for_readers: Vec<Option<PositionedEntry>>,
}

impl Store {
    /// Entries of at most [`LIST_CHUNK`] rooms, and with `want_index` the ids of all rooms of the user.
    pub async fn get_chat_list(
        &self,
        user: &UserId,
        rooms: &[RoomId],
        want_index: bool,
    ) -> Result<ListChunk, ChatError> {
        let call = ListCall {
            user: user.clone(),
            rooms: rooms.to_vec(),
            want_index,
            readers: Vec::new(),
        };
        Ok(self.get_chat_lists(&call).await?.chunk)
    }

    /// The same, and the entries of further readers: each room is read once.
    pub async fn get_chat_lists(&self, call: &ListCall) -> Result<ListAnswer, ChatError> {
        let mut invocation = Invocation::new();
        invocation.key(&self.keys.user(&call.user, "rooms"));
        for room in &call.rooms {
            self.keys
                .room_parts(*room, &LIST_KEYS, |key| invocation.key(key));
        }
        let mut invocation = invocation
            .arg(call.user.as_str())
            .arg(u8::from(call.want_index));
        for reader in &call.readers {
            invocation = invocation.arg(reader.place + 1).arg(reader.user.as_str());
        }
        let script = Script::GetChatList;
        let decode = |value: Value, flaws: &mut Flaws| answer(call, value, flaws);
        self.decoded(script, Repeat::Harmless, invocation, decode)
            .await
    }
}

fn answer(call: &ListCall, value: Value, flaws: &mut Flaws) -> Result<ListAnswer, ParsingError> {
    let (index, rooms, read_seqs): (Vec<Value>, Vec<Value>, Vec<Value>) =
        FromRedisValue::from_redis_value(value)?;
    let room = |(room, value): (&RoomId, Value)| {
        listed_room(*room, value, flaws).unwrap_or_else(|error| {
            flaws.add(*room, None, format!("it cannot be listed: {error}"));
            None
        })
    };
    let rooms: Vec<Option<(ListedRoom, u64)>> = call.rooms.iter().zip(rooms).map(room).collect();
    let for_reader = |(reader, read_seq): (&Reader, &Value)| {
        let (room, _) = rooms.get(reader.place)?.as_ref()?;
        let read_seq = number(read_seq)?;
        Some(room.clone().entry_for(reader.user.as_str(), read_seq))
    };
    let for_readers = call.readers.iter().zip(&read_seqs).map(for_reader);
    let for_readers = for_readers.collect();
    let entry = |room: Option<(ListedRoom, u64)>| {
        room.map(|(room, read_seq)| room.entry_for(call.user.as_str(), read_seq))
    };
    let chunk = ListChunk {
        index: index.iter().filter_map(room_id).collect(),
        entries: rooms.into_iter().map(entry).collect(),
    };
    Ok(ListAnswer { chunk, for_readers })
}

/// A value that is not a room id costs nobody the rest of the list.
fn room_id(value: &Value) -> Option<RoomId> {
    match value {
        Value::BulkString(bytes) => RoomId::parse(std::str::from_utf8(bytes).ok()?),
        _ => None,
    }
}
