//! The Redis of the replaced server. Nothing here writes: each command is one that reads.

use redis::aio::MultiplexedConnection;
use redis::{Cmd, FromRedisValue, RedisError, cmd};

use super::ImportError;
use super::members::Members;
use super::message::{self, OldMessage};
use super::report::{Report, What, Why};
use crate::protocol::ids::UserId;
use crate::store::keys::replaced::{self, Part};

/// Keys of one step of a SCAN, about.
const SCAN_COUNT: usize = 1000;
/// Messages that are read at a time: an image may have megabytes.
const LIST_CHUNK: i64 = 20;
/// Messages of a list that are taken, at most; the replaced server kept 100.
const LIST_MAX: i64 = 10_000;
/// Bytes of their contents.
const LIST_MAX_BYTES: usize = 64 * 1024 * 1024;

/// A connection that is only read from.
pub(super) struct OldServer {
    pub(super) connection: MultiplexedConnection,
    pub(super) address: String,
}

/// An end of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Head,
    Tail,
}

impl OldServer {
    /// `None` where the key is of another type.
    async fn ask<T: FromRedisValue>(&mut self, command: &Cmd) -> Result<Option<T>, ImportError> {
        match command.query_async(&mut self.connection).await {
            Ok(value) => Ok(Some(value)),
            Err(error) if is_wrong_type(&error) => Ok(None),
            Err(source) => Err(ImportError::Broken {
                address: self.address.clone(),
                source,
            }),
        }
    }

    /// One step through the keys of this pattern: the next cursor, 0 after the last step, and some keys.
    pub(super) async fn scan(
        &mut self,
        cursor: u64,
        pattern: &str,
    ) -> Result<(u64, Vec<Vec<u8>>), ImportError> {
        let mut scan = cmd("SCAN");
        scan.arg(cursor).arg("MATCH").arg(pattern);
        scan.arg("COUNT").arg(SCAN_COUNT);
        Ok(self.ask(&scan).await?.unwrap_or_default())
    }

    /// How many users a room has; `None` where its key is of another type.
    pub(super) async fn count_users(&mut self, room: &str) -> Result<Option<u64>, ImportError> {
        self.ask(cmd("SCARD").arg(replaced::room(room, Part::Users)))
            .await
    }

    /// The members of a room; users who can be none are listed.
    pub(super) async fn members(
        &mut self,
        room: &str,
        report: &mut Report,
    ) -> Result<Members, ImportError> {
        let users: Option<Vec<Vec<u8>>> = self
            .ask(cmd("SMEMBERS").arg(replaced::room(room, Part::Users)))
            .await?;
        let users = users.unwrap_or_default();
        let mut members = Vec::with_capacity(users.len());
        for user in users {
            let user = String::from_utf8_lossy(&user);
            match UserId::parse(&user).filter(|_| !user.contains('\u{fffd}')) {
                Some(user) => members.push(user),
                None => {
                    let what = What::Member { room, user: &user };
                    report.refuse(what, &Why::MemberId);
                }
            }
        }
        Ok(Members::new(members))
    }

    pub(super) async fn is_user(&mut self, room: &str, user: &str) -> Result<bool, ImportError> {
        let mut ask = cmd("SISMEMBER");
        ask.arg(replaced::room(room, Part::Users)).arg(user);
        Ok(self.ask(&ask).await?.unwrap_or(false))
    }

    /// The name of a room; a wrong type or text is the error.
    pub(super) async fn name(
        &mut self,
        room: &str,
    ) -> Result<Result<Option<String>, Why>, ImportError> {
        let name: Option<Option<Vec<u8>>> = self
            .ask(cmd("GET").arg(replaced::room(room, Part::Name)))
            .await?;
        Ok(match name {
            None => Err(Why::WrongType),
            Some(None) => Ok(None),
            Some(Some(name)) => String::from_utf8(name).map(Some).map_err(|_| Why::NotUtf8),
        })
    }

    /// One step through the rooms that a user's list has; `None` where its key is of another type.
    pub(super) async fn scan_chats(
        &mut self,
        key: &str,
        cursor: u64,
    ) -> Result<Option<(u64, Vec<Vec<u8>>)>, ImportError> {
        let mut scan = cmd("SSCAN");
        scan.arg(key).arg(cursor).arg("COUNT").arg(SCAN_COUNT);
        self.ask(&scan).await
    }

    /// The messages of a room, as the list has them: all that have a place among the others, or the newest of very many.
    pub(super) async fn messages(
        &mut self,
        room: &str,
        members: &Members,
        content_max_bytes: usize,
        report: &mut Report,
    ) -> Result<Vec<OldMessage>, ImportError> {
        let key = replaced::room(room, Part::Messages);
        let Some(length) = self.ask::<i64>(cmd("LLEN").arg(&key)).await? else {
            report.refuse(What::Key(&key), &Why::WrongType);
            return Ok(Vec::new());
        };
        let end = self.newest_end(&key).await?;
        let (mut read, mut taken, mut bytes) = (0, Vec::new(), 0);
        while read < length.min(LIST_MAX) && bytes < LIST_MAX_BYTES {
            let last = (read + LIST_CHUNK).min(length.min(LIST_MAX)) - 1;
            let mut chunk = cmd("LRANGE");
            match end {
                End::Head => chunk.arg(&key).arg(read).arg(last),
                End::Tail => chunk.arg(&key).arg(-1 - last).arg(-1 - read),
            };
            let mut found: Vec<Vec<u8>> = self.ask(&chunk).await?.unwrap_or_default();
            if end == End::Tail {
                found.reverse();
            }
            for (from_end, json) in (read..).zip(found) {
                match message::parse(&json, members, content_max_bytes) {
                    Ok(message) => {
                        bytes += message.said.as_ref().map_or(0, |said| said.content.len());
                        taken.push(message);
                    }
                    Err((id, why)) => {
                        let at = match end {
                            End::Head => from_end,
                            End::Tail => length - 1 - from_end,
                        };
                        let at = u64::try_from(at).unwrap_or_default();
                        let id = id.as_deref();
                        report.refuse(What::Message { room, id, at }, &why);
                    }
                }
            }
            read = last + 1;
        }
        if read < length {
            let messages = u64::try_from(length - read).unwrap_or_default();
            let at_most = u64::try_from(read).unwrap_or_default();
            report.refuse(What::Room(room), &Why::TooMany { messages, at_most });
        }
        if end == End::Tail {
            taken.reverse();
        }
        Ok(taken)
    }

    /// Where a list has its newest messages; its tail where its times do not tell.
    async fn newest_end(&mut self, key: &str) -> Result<End, ImportError> {
        let mut time = async |index: i64| {
            let json: Option<Option<Vec<u8>>> = self.ask(cmd("LINDEX").arg(key).arg(index)).await?;
            Ok::<_, ImportError>(json.flatten().and_then(|json| message::time_of(&json)))
        };
        let (head, tail) = (time(0).await?, time(-1).await?);
        Ok(match (head, tail) {
            (Some(head), Some(tail)) if head > tail => End::Head,
            _ => End::Tail,
        })
    }
}

fn is_wrong_type(error: &RedisError) -> bool {
    error.code() == Some("WRONGTYPE")
}
