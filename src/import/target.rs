//! The Redis that the chats are imported into.

use std::collections::HashMap;

use redis::aio::MultiplexedConnection;
use redis::{FromRedisValue, RedisError, Script, Value, cmd};
use uuid::Uuid;

use super::ImportError;
use super::message::OldMessage;
use super::report::Why;
use crate::config::Limits;
use crate::protocol::content::Parts;
use crate::protocol::ids::{MessageId, RoomId, UserId};
use crate::room::Topic;
use crate::store::keys::{Keys, ROOM_KEYS};

/// How many stream entries are read at a time.
const ENTRIES_CHUNK: usize = 100;

/// Error codes that concern a single room.
const OF_ONE_ROOM: [&str; 4] = [
    "WRONGTYPE",
    "TOO_MANY_PARTICIPANTS",
    "TOO_MANY_ROOMS",
    "ERR",
];

/// The Redis that chats are written to.
pub(super) struct Target {
    pub(super) connection: MultiplexedConnection,
    pub(super) address: String,
    pub(super) keys: Keys,
    pub(super) limits: Limits,
    pub(super) dry_run: bool,
    script: Script,
}

/// What a room already has; empty if it does not exist.
#[derive(Debug, Default)]
pub(super) struct Stored {
    pub(super) last: MessageId,
    /// The ids of its messages in the replaced server, with their numbers.
    pub(super) known: HashMap<String, u64>,
}

/// A room's identity, name and members.
pub(super) struct RoomHead<'a> {
    pub(super) room: RoomId,
    pub(super) is_group: bool,
    pub(super) name: &'a str,
    pub(super) members: &'a [UserId],
}

/// The outcome of `import_room`.
pub(super) enum Written {
    Done {
        created: bool,
        moved: u64,
        last: MessageId,
    },
    /// The room has messages but no meta, so nobody knows whose they are.
    Used,
    /// The room has changed since it was read.
    Changed,
}

impl Target {
    pub(super) fn new(
        connection: MultiplexedConnection,
        address: String,
        keys: Keys,
        limits: Limits,
        dry_run: bool,
    ) -> Self {
        Self {
            connection,
            address,
            keys,
            limits,
            dry_run,
            script: Script::new(include_str!("import_room.lua")),
        }
    }

    /// What the room has.
    pub(super) async fn read(&mut self, room: RoomId) -> Result<Result<Stored, Why>, ImportError> {
        let mut head = cmd("HMGET");
        head.arg(self.keys.room(room, "meta"));
        head.arg("last_id").arg("imported_id");
        let head = head.query_async(&mut self.connection).await;
        let (last, imported): (Option<String>, Option<String>) = match self.of_one_room(head)? {
            Ok(head) => head,
            Err(why) => return Ok(Err(why)),
        };
        let last = last.unwrap_or_default();
        let last = MessageId::parse(&last).unwrap_or(MessageId::NONE);
        if last == MessageId::NONE {
            return Ok(Ok(Stored::default()));
        }
        if imported != Some(last.to_string()) {
            return Ok(Err(Why::Used));
        }
        let known = self.known(room).await?;
        Ok(known.map(|known| Stored { last, known }))
    }

    /// The known ids of a room whose messages were all imported.
    async fn known(
        &mut self,
        room: RoomId,
    ) -> Result<Result<HashMap<String, u64>, Why>, ImportError> {
        let mut known = HashMap::new();
        let mut from = "-".to_owned();
        loop {
            let mut page = cmd("XRANGE");
            page.arg(self.keys.room(room, "messages"));
            page.arg(&from).arg("+").arg("COUNT").arg(ENTRIES_CHUNK);
            let page = page.query_async(&mut self.connection).await;
            let page: Vec<(String, HashMap<String, Value>)> = match self.of_one_room(page)? {
                Ok(page) => page,
                Err(why) => return Ok(Err(why)),
            };
            let Some((last, _)) = page.last() else {
                return Ok(Ok(known));
            };
            from = format!("({last}");
            for (id, mut fields) in page {
                let old_id = fields.remove("client_id").map(String::from_redis_value);
                if let (Some(Ok(old_id)), Some(id)) = (old_id, MessageId::parse(&id)) {
                    known.insert(old_id, id.seq);
                }
            }
        }
    }

    /// Adds messages to a room and moves markers; creates the room if it does not exist.
    pub(super) async fn write(
        &mut self,
        head: &RoomHead<'_>,
        after: MessageId,
        messages: &[&OldMessage],
        markers: &[(&UserId, u64)],
    ) -> Result<Result<Written, Why>, ImportError> {
        let mut call = self.script.prepare_invoke();
        self.keys.room_parts(head.room, &ROOM_KEYS, |key| {
            call.key(key);
        });
        for member in head.members {
            call.key(self.keys.user(member, "rooms"));
            call.key(self.keys.channel(&Topic::User(member.clone())));
        }
        let nonce = Uuid::new_v4().simple().to_string();
        call.arg(head.room.to_string())
            .arg(if head.is_group { "group" } else { "direct" })
            .arg(head.name)
            .arg(nonce.get(..8).unwrap_or_default())
            .arg(self.limits.max_participants)
            .arg(self.limits.max_rooms_per_user)
            .arg(after.to_string())
            .arg(u8::from(self.dry_run))
            .arg(markers.len());
        for member in head.members {
            call.arg(member.as_str());
        }
        for (reader, seq) in markers {
            call.arg(reader.as_str()).arg(*seq);
        }
        for message in messages {
            if let Ok(said) = &message.said {
                let parts = said.content.parts.as_ref();
                call.arg(message.at_ms)
                    .arg(said.sender.as_str())
                    .arg(&said.content.text)
                    .arg(&message.id)
                    .arg(&*said.kind)
                    .arg(parts.map(Parts::to_string).unwrap_or_default());
            }
        }
        let reply = call.invoke_async(&mut self.connection).await;
        let reply: (String, bool, u64, String) = match self.of_one_room(reply)? {
            Ok(reply) => reply,
            Err(why) => return Ok(Err(why)),
        };
        let (outcome, created, moved, last) = reply;
        Ok(Ok(match &*outcome {
            "done" => Written::Done {
                created,
                moved,
                last: MessageId::parse(&last).unwrap_or(after),
            },
            "used" => Written::Used,
            _ => Written::Changed,
        }))
    }

    /// An error that concerns only this room is returned as the reason to refuse it; any other ends the import.
    fn of_one_room<T>(&self, reply: Result<T, RedisError>) -> Result<Result<T, Why>, ImportError> {
        match reply {
            Ok(value) => Ok(Ok(value)),
            Err(error) if error.code().is_some_and(|code| OF_ONE_ROOM.contains(&code)) => {
                Ok(Err(Why::Store(error.to_string())))
            }
            Err(source) => Err(ImportError::Broken {
                address: self.address.clone(),
                source,
            }),
        }
    }
}
