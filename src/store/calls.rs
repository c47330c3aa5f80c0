//! One typed call for each script. The scripts' headers say what each does, takes and returns.

use redis::{FromRedisValue, ParsingError, Value};

use super::exchange::Repeat;
use super::keys::ROOM_KEYS;
use super::reply::{RawPage, listed_room, message_id};
use super::{CallError, Invocation, Store};
use crate::error::ChatError;
use crate::protocol::content::{Parts, TEXT};
use crate::protocol::ids::{DeviceId, MessageId, RoomId, UserId, sent_digest};
use crate::protocol::request::Cursor;
use crate::room::flaws::Flaws;
use crate::room::{Missed, Page, Position, PositionedEntry, Topic};
use crate::scripts::Script;

/// Bytes of content in a page of history, at most.
pub const PAGE_MAX_BYTES: usize = 256 * 1024;
/// Messages in one page of a repair.
const SYNC_PAGE: u32 = 100;
/// Rooms in one call of `compare_rooms`, at most.
pub const COMPARE_CHUNK: usize = 128;

/// Devices in one call of `renew_viewers`, at most.
const RENEW_CHUNK: usize = 128;

/// What `initialize_chat` did.
pub struct Initialized {
    pub created: bool,
    /// The event that was published to the users who gained the room, if any did.
    pub event: Option<String>,
    /// The caller's entry, unless the event alone describes it: the room is new and nothing has happened in it.
    pub entry: Option<PositionedEntry>,
}

/// A room to create.
pub struct NewRoom<'a> {
    pub room: RoomId,
    pub is_group: bool,
    pub name: &'a str,
    /// All members, each once, the caller first.
    pub members: &'a [UserId],
}

/// A message to store.
#[derive(Debug, Clone, Copy)]
pub struct NewMessage<'a> {
    pub room: RoomId,
    /// Its type.
    pub kind: &'a str,
    pub content: &'a str,
    /// The strings that the content was sent as; `None` for a single string.
    pub parts: Option<&'a Parts>,
    pub client_message_id: Option<&'a str>,
}

/// A message that was stored.
pub struct Sent {
    pub id: MessageId,
    pub duplicate: bool,
}

/// What `enter_chat` found and did.
pub struct Entered {
    /// The latest messages, at the position before the marker moved.
    pub page: Page,
    /// `rev` with the marker's move.
    pub rev_after: u64,
}

/// The current position of a marker.
pub struct Marked {
    pub position: Position,
    pub read_seq: u64,
}

impl Store {
    /// Creates a room, or finds the existing one.
    pub async fn initialize_chat(&self, new: NewRoom<'_>) -> Result<Initialized, ChatError> {
        let [caller, ..] = new.members else {
            return Err(self.failed(Script::InitializeChat, &CallError::NoMembers));
        };
        let mut invocation = self.in_room(new.room);
        for member in new.members {
            invocation.key(&self.keys.user(member, "rooms"));
            invocation.key(&self.keys.channel(&Topic::User(member.clone())));
        }
        let nonce = self.names.next();
        let kind = if new.is_group { "group" } else { "direct" };
        let mut invocation = invocation
            .arg(new.room.to_string())
            .arg(kind)
            .arg(new.name)
            .arg(&nonce)
            .arg(self.rules.participants_max)
            .arg(self.rules.rooms_max);
        for member in new.members {
            invocation = invocation.arg(member.as_str());
        }
        self.decoded(
            Script::InitializeChat,
            Repeat::Harmless,
            invocation,
            |value, flaws| {
                let (created, event, entry): (bool, String, Value) =
                    FromRedisValue::from_redis_value(value)?;
                let event = Some(event).filter(|event| !event.is_empty());
                let listed = listed_room(new.room, entry, flaws)?;
                let entry = listed.map(|(room, read)| room.entry_for(caller.as_str(), read));
                // A repeated call finds the room that it has created itself.
                let is_own = |read: &PositionedEntry| read.position.epoch.ends_with(&nonce);
                Ok(Initialized {
                    created: created || entry.as_ref().is_some_and(is_own),
                    event,
                    entry,
                })
            },
        )
        .await
    }

    /// The device begins to view the room, and all of the room is marked as read.
    pub async fn enter_chat(
        &self,
        room: RoomId,
        user: &UserId,
        device: DeviceId,
        limit: u32,
    ) -> Result<Entered, ChatError> {
        let mut invocation = self.in_room(room);
        invocation.key(&self.keys.room(room, "viewers"));
        let invocation = invocation
            .arg(user.as_str())
            .arg(device.to_string())
            .arg(millis(self.rules.viewer_lease))
            .arg(limit)
            .arg(PAGE_MAX_BYTES);
        self.decoded(
            Script::EnterChat,
            Repeat::Harmless,
            invocation,
            |value, flaws| {
                let (epoch, rev, rev_after, seq, last_id, small, has_more, messages, marks) =
                    FromRedisValue::from_redis_value(value)?;
                let page = RawPage {
                    epoch,
                    rev,
                    seq,
                    last_id,
                    small,
                    has_more,
                    messages,
                    marks,
                }
                .into_page(room, flaws)?;
                Ok(Entered { page, rev_after })
            },
        )
        .await
    }

    /// The device no longer views the room.
    pub async fn leave_chat(
        &self,
        room: RoomId,
        user: &UserId,
        device: DeviceId,
    ) -> Result<(), ChatError> {
        let invocation = self
            .in_room(room)
            .arg(user.as_str())
            .arg(device.to_string());
        self.decoded(Script::LeaveChat, Repeat::Harmless, invocation, |_, _| {
            Ok(())
        })
        .await
    }

    /// Appends a message that is a single text string, as [`Self::send`] does.
    pub async fn send_message(
        &self,
        room: RoomId,
        user: &UserId,
        content: &str,
        client_message_id: Option<&str>,
    ) -> Result<Sent, ChatError> {
        let message = NewMessage {
            room,
            kind: TEXT,
            content,
            parts: None,
            client_message_id,
        };
        self.send(user, &message).await
    }

    /// Appends a message; if its `client_message_id` was seen before, finds the first message instead.
    pub async fn send(&self, user: &UserId, message: &NewMessage<'_>) -> Result<Sent, ChatError> {
        let (repeat, invocation) = self.sending(user, message);
        self.decoded(Script::SendMessage, repeat, invocation, read_sent)
            .await
    }

    /// Appends a user's messages in order, as [`Self::send`] does with one, in one round trip.
    pub async fn send_messages(
        &self,
        user: &UserId,
        messages: &[NewMessage<'_>],
    ) -> Vec<Result<Sent, ChatError>> {
        let script = Script::SendMessage;
        let calls = messages.iter().map(|message| self.sending(user, message));
        let (repeats, invocations): (Vec<Repeat>, Vec<Invocation>) = calls.unzip();
        let repeat = match repeats.contains(&Repeat::Never) {
            true => Repeat::Never,
            false => Repeat::Harmless,
        };
        match self.call_each(script, repeat, invocations).await {
            Ok(replies) => replies
                .into_iter()
                .map(|reply| self.decode(script, reply, read_sent))
                .collect(),
            Err(error) => {
                let error = self.failed(script, &error);
                messages.iter().map(|_| Err(error.clone())).collect()
            }
        }
    }

    fn sending(&self, user: &UserId, message: &NewMessage<'_>) -> (Repeat, Invocation) {
        let client_id = message.client_message_id.unwrap_or_default();
        // Sent again with its own id, it is found and not stored twice.
        let repeat = match message.client_message_id {
            Some(_) => Repeat::Harmless,
            None => Repeat::Never,
        };
        let mut invocation = self.in_room(message.room);
        if let Some(id) = message.client_message_id {
            invocation.key(&self.keys.sent_before(message.room, user, id));
        }
        let digest = message.client_message_id.map(|id| sent_digest(user, id));
        let invocation = invocation
            .arg(user.as_str())
            .arg(message.content)
            .arg(client_id)
            .arg(digest.as_ref().map_or(&[][..], |digest| &digest[..]))
            .arg(self.rules.history_max_messages)
            .arg(millis(self.rules.dedupe_ttl))
            .arg(self.rules.content_max_bytes)
            .arg(self.rules.room_max_bytes)
            .arg(self.names.next())
            .arg(message.kind)
            .arg(message.parts.map(Parts::to_string).unwrap_or_default());
        (repeat, invocation)
    }

    /// Moves the user's read marker up to the message, never back.
    pub async fn mark_as_read(
        &self,
        room: RoomId,
        user: &UserId,
        message: MessageId,
    ) -> Result<Marked, ChatError> {
        let invocation = self
            .in_room(room)
            .arg(user.as_str())
            .arg(message.to_string());
        self.decoded(
            Script::MarkAsRead,
            Repeat::Harmless,
            invocation,
            |value, _| {
                let (epoch, rev, seq, last_id, read_seq, _moved): (
                    String,
                    u64,
                    u64,
                    String,
                    u64,
                    bool,
                ) = FromRedisValue::from_redis_value(value)?;
                let position = Position {
                    epoch: epoch.into(),
                    rev,
                    seq,
                    last_id: message_id(&last_id)?,
                };
                Ok(Marked { position, read_seq })
            },
        )
        .await
    }

    /// A page of messages; marks nothing as read.
    pub async fn get_history(
        &self,
        room: RoomId,
        user: &UserId,
        cursor: Cursor,
        limit: u32,
    ) -> Result<Page, ChatError> {
        let (before, after) = match cursor {
            Cursor::Latest => (String::new(), String::new()),
            Cursor::Before(id) => (id.to_string(), String::new()),
            Cursor::After(id) => (String::new(), id.to_string()),
        };
        let invocation = self
            .in_room(room)
            .arg(user.as_str())
            .arg(before)
            .arg(after)
            .arg(limit)
            .arg(PAGE_MAX_BYTES);
        self.decoded(
            Script::GetHistory,
            Repeat::Harmless,
            invocation,
            |value, flaws| {
                let (epoch, rev, seq, last_id, small, has_more, messages, marks) =
                    FromRedisValue::from_redis_value(value)?;
                RawPage {
                    epoch,
                    rev,
                    seq,
                    last_id,
                    small,
                    has_more,
                    messages,
                    marks,
                }
                .into_page(room, flaws)
            },
        )
        .await
    }

    /// These devices continue to view the room; [`RENEW_CHUNK`] of them in each call. The first call that fails ends
    /// it.
    pub async fn renew_viewers(
        &self,
        room: RoomId,
        viewers: &[(DeviceId, UserId)],
    ) -> Result<(), ChatError> {
        for viewers in viewers.chunks(RENEW_CHUNK) {
            let mut invocation = self.in_room(room).arg(millis(self.rules.viewer_lease));
            for (device, user) in viewers {
                invocation = invocation.arg(device.to_string()).arg(user.as_str());
            }
            let renewed = |_, _: &mut Flaws| Ok(());
            self.decoded(Script::RenewViewers, Repeat::Harmless, invocation, renewed)
                .await?;
        }
        Ok(())
    }

    /// What happened in the room after `from`.
    pub async fn sync_room(&self, room: RoomId, from: &Position) -> Result<Missed, ChatError> {
        let invocation = self
            .in_room(room)
            .arg(&*from.epoch)
            .arg(from.rev)
            .arg(from.last_id.to_string())
            .arg(SYNC_PAGE)
            .arg(PAGE_MAX_BYTES);
        self.decoded(
            Script::SyncRoom,
            Repeat::Harmless,
            invocation,
            |value, flaws| {
                if matches!(&value, Value::Array(fields) if fields.is_empty()) {
                    return Ok(Missed::Gone);
                }
                let (epoch, rev, seq, last_id, small, has_more, messages, marks, reset) =
                    FromRedisValue::from_redis_value(value)?;
                let page = RawPage {
                    epoch,
                    rev,
                    seq,
                    last_id,
                    small,
                    has_more,
                    messages,
                    marks,
                }
                .into_page(room, flaws)?;
                Ok(if reset {
                    Missed::Reset(page.position)
                } else {
                    Missed::Page(page)
                })
            },
        )
        .await
    }

    /// Returns those of at most [`COMPARE_CHUNK`] rooms whose epoch or rev differs from these positions.
    pub async fn compare_rooms(
        &self,
        rooms: &[(RoomId, Position)],
    ) -> Result<Vec<RoomId>, ChatError> {
        let mut invocation = Invocation::new();
        for (room, _) in rooms {
            invocation.key(&self.keys.room(*room, "meta"));
        }
        for (_, at) in rooms {
            invocation = invocation
                .arg(&*at.epoch)
                .arg(at.rev)
                .arg(at.last_id.to_string());
        }
        self.decoded(
            Script::CompareRooms,
            Repeat::Harmless,
            invocation,
            |value, _| {
                let places: Vec<usize> = FromRedisValue::from_redis_value(value)?;
                let room = |place: usize| {
                    let asked = place.checked_sub(1).and_then(|index| rooms.get(index));
                    let (room, _) =
                        asked.ok_or("a place is not that of a room that was asked for")?;
                    Ok(*room)
                };
                places.into_iter().map(room).collect()
            },
        )
        .await
    }

    /// Deletes this installation's chat keys and nothing else; notifies every server.
    pub async fn reset(&self) -> Result<(), ChatError> {
        let mut invocation = Invocation::new();
        invocation.key(&self.keys.channel(&Topic::Control));
        let invocation = invocation.arg(self.keys.all_keys_pattern());
        self.decoded(
            Script::ResetRedisForDevelopment,
            Repeat::Harmless,
            invocation,
            |_, _| Ok(()),
        )
        .await
    }

    pub(super) async fn decoded<T>(
        &self,
        script: Script,
        repeat: Repeat,
        invocation: Invocation,
        decode: impl FnOnce(Value, &mut Flaws) -> Result<T, ParsingError>,
    ) -> Result<T, ChatError> {
        let reply = self.call(script, repeat, invocation).await;
        self.decode(script, reply, decode)
    }

    fn decode<T>(
        &self,
        script: Script,
        reply: Result<Value, CallError>,
        decode: impl FnOnce(Value, &mut Flaws) -> Result<T, ParsingError>,
    ) -> Result<T, ChatError> {
        let mut flaws = Flaws::default();
        reply
            .and_then(|value| decode(value, &mut flaws).map_err(CallError::Unreadable))
            .and_then(|read| self.tolerated(&flaws).map(|()| read))
            .map_err(|error| self.failed(script, &error))
    }

    /// Flaws in a reply are logged; in a trial they are what the call is made to find.
    fn tolerated(&self, flaws: &Flaws) -> Result<(), CallError> {
        match (&self.flaw_log, flaws.0.first()) {
            (None, Some(flaw)) => Err(CallError::Unreadable(flaw.to_string().into())),
            (Some(log), Some(_)) => {
                log.tell(flaws);
                Ok(())
            }
            (_, None) => Ok(()),
        }
    }

    fn failed(&self, script: Script, error: &CallError) -> ChatError {
        (self.on_failure)(script, error);
        self.tallies.failed(script, error.into());
        error.into()
    }

    /// A call with the keys that every room script gets, in order.
    fn in_room(&self, room: RoomId) -> Invocation {
        let mut invocation = Invocation::new();
        self.keys
            .room_parts(room, &ROOM_KEYS, |key| invocation.key(key));
        invocation
    }
}

fn read_sent(value: Value, _: &mut Flaws) -> Result<Sent, ParsingError> {
    let (id, _seq, duplicate): (String, u64, bool) = FromRedisValue::from_redis_value(value)?;
    Ok(Sent {
        id: message_id(&id)?,
        duplicate,
    })
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
