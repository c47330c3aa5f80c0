//! The Redis of the replaced server. All commands here are read-only.

use redis::aio::MultiplexedConnection;
use redis::{Cmd, FromRedisValue, RedisError, cmd};

use super::ImportError;
use super::members::Members;
use super::report::{Report, What, Why};
use crate::protocol::ids::UserId;
use crate::store::keys::replaced::{self, Part};

/// Roughly how many keys one step of a SCAN visits.
const SCAN_COUNT: usize = 1000;
/// A connection that is only read from.
pub(super) struct OldServer {
    pub(super) connection: MultiplexedConnection,
    pub(super) address: String,
}

impl OldServer {
    /// `None` if the key is of another type.
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

    /// One step of a scan for keys that match this pattern: the next cursor, 0 after the last step, and some keys.
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

    /// How many users a room has; `None` if its key is of another type.
    pub(super) async fn count_users(&mut self, room: &str) -> Result<Option<u64>, ImportError> {
        self.ask(cmd("SCARD").arg(replaced::room(room, Part::Users)))
            .await
    }

    /// The members of a room; users that cannot be members are listed in the report.
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

    /// The name of a room; the error says that its type or text is wrong.
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

    /// One step of a scan of the rooms in a user's list; `None` if its key is of another type.
    pub(super) async fn scan_chats(
        &mut self,
        key: &str,
        cursor: u64,
    ) -> Result<Option<(u64, Vec<Vec<u8>>)>, ImportError> {
        let mut scan = cmd("SSCAN");
        scan.arg(key).arg(cursor).arg("COUNT").arg(SCAN_COUNT);
        self.ask(&scan).await
    }

    /// How many messages a room has; `None` if its key is of another type.
    pub(super) async fn count_messages(&mut self, room: &str) -> Result<Option<i64>, ImportError> {
        self.ask(cmd("LLEN").arg(replaced::room(room, Part::Messages)))
            .await
    }

    /// The messages from one index to another, inclusive; negative indices count from the tail.
    pub(super) async fn messages(
        &mut self,
        room: &str,
        first: i64,
        last: i64,
    ) -> Result<Vec<Vec<u8>>, ImportError> {
        let mut range = cmd("LRANGE");
        range.arg(replaced::room(room, Part::Messages));
        range.arg(first).arg(last);
        Ok(self.ask(&range).await?.unwrap_or_default())
    }
}

fn is_wrong_type(error: &RedisError) -> bool {
    error.code() == Some("WRONGTYPE")
}
