//! The sets that were applied to an installation: one hash in Redis, `chat:scripts`.
//!
//! | field | holds |
//! | --- | --- |
//! | `current` | the number of the set that servers run; no such field: their own |
//! | `last` | the highest number that was ever given |
//! | `set:<number>` | a set as JSON: who, when, note, contract, and each script's text and SHA1 |

use std::collections::HashMap;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, RedisError};
use serde::{Deserialize, Serialize};

use super::registry::{CONTRACT, Script};
use super::set::{Origin, ScriptSet, ScriptText, Source};
use crate::store::keys::Keys;

/// Sets that are kept.
const KEPT: usize = 10;
/// What the fields of sets begin with.
const SET: &str = "set:";

/// A set as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AppliedSet {
    /// From 1, in the order in which sets were applied.
    pub number: u64,
    /// Who applied it.
    pub by: String,
    /// When, by Redis's clock: Unix time in milliseconds.
    pub at_ms: u64,
    pub note: String,
    /// What it was checked against: [`CONTRACT`].
    pub contract: u32,
    /// By name.
    pub scripts: HashMap<String, StoredScript>,
}

/// A script as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StoredScript {
    pub sha1: String,
    pub text: String,
}

/// Why a stored set is not run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    #[error(
        "set {number} is for contract {theirs}, this server has contract {CONTRACT}: \
         apply a set with a chat-server of this version"
    )]
    Contract { number: u64, theirs: u32 },
    #[error("set {number} has no {script}.lua")]
    Incomplete { number: u64, script: &'static str },
    #[error("set {number} was changed after it was applied: {script}.lua has not its SHA1")]
    Changed { number: u64, script: &'static str },
    #[error("set {0} is not kept any more")]
    Gone(u64),
}

/// Why a set cannot be read or stored.
#[derive(Debug, thiserror::Error)]
pub enum AppliedError {
    #[error(transparent)]
    Redis(#[from] RedisError),
    #[error("field {field} of {key} is not what chat-server wrote there: {source}")]
    Unreadable {
        key: String,
        field: String,
        source: serde_json::Error,
    },
    #[error(transparent)]
    Unfit(#[from] Unfit),
    #[error(
        "the set before the current one is not kept any more; `scripts rollback embedded` goes back to the binary's own"
    )]
    NothingBefore,
    #[error("the servers run their own scripts: there is no applied set to go back from")]
    NoneApplied,
}

impl AppliedSet {
    /// The set to run.
    ///
    /// # Errors
    /// Another contract, a missing script, or a text that is not the one that was applied.
    pub fn to_set(&self, embedded: &ScriptSet) -> Result<ScriptSet, Unfit> {
        let number = self.number;
        if self.contract != CONTRACT {
            let theirs = self.contract;
            return Err(Unfit::Contract { number, theirs });
        }
        let mut set = embedded.clone().from_origin(Origin::Applied(number));
        for script in Script::ALL {
            let name = script.name();
            let Some(stored) = self.scripts.get(name) else {
                let script = name;
                return Err(Unfit::Incomplete { number, script });
            };
            let text = ScriptText::new(stored.text.clone(), Source::Applied(number));
            if text.sha1 != stored.sha1 {
                let script = name;
                return Err(Unfit::Changed { number, script });
            }
            set = set.with(script, text);
        }
        Ok(set)
    }
}

/// All that is kept.
#[derive(Debug)]
pub struct History {
    pub current: Option<u64>,
    /// By number.
    pub sets: Vec<AppliedSet>,
}

/// The numbers of the sets that are kept, in order.
async fn numbers(
    connection: &mut MultiplexedConnection,
    keys: &Keys,
) -> Result<Vec<u64>, RedisError> {
    let mut fields = redis::cmd("HKEYS");
    fields.arg(keys.scripts());
    let fields: Vec<String> = fields.query_async(connection).await?;
    let number = |field: &String| field.strip_prefix(SET)?.parse().ok();
    let mut numbers: Vec<u64> = fields.iter().filter_map(number).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// The number of the set that servers are to run; `None` for their own.
pub async fn current(
    connection: &mut MultiplexedConnection,
    keys: &Keys,
) -> Result<Option<u64>, RedisError> {
    let mut get = redis::cmd("HGET");
    get.arg(keys.scripts()).arg("current");
    get.query_async(connection).await
}

/// One set.
///
/// # Errors
/// It is not kept any more, or is not readable.
pub async fn read(
    connection: &mut MultiplexedConnection,
    keys: &Keys,
    number: u64,
) -> Result<AppliedSet, AppliedError> {
    let field = field_of(number);
    let mut get = redis::cmd("HGET");
    get.arg(keys.scripts()).arg(&field);
    let json: Option<String> = get.query_async(connection).await?;
    parse(keys, &field, &json.ok_or(Unfit::Gone(number))?)
}

/// The current set and all that are kept.
pub async fn history(
    connection: &mut MultiplexedConnection,
    keys: &Keys,
) -> Result<History, AppliedError> {
    let mut all = redis::cmd("HGETALL");
    all.arg(keys.scripts());
    let fields: HashMap<String, String> = all.query_async(connection).await?;
    let current = fields.get("current").and_then(|number| number.parse().ok());
    let mut sets = fields
        .iter()
        .filter(|(field, _)| field.starts_with(SET))
        .map(|(field, json)| parse(keys, field, json))
        .collect::<Result<Vec<_>, _>>()?;
    sets.sort_by_key(|set| set.number);
    Ok(History { current, sets })
}

/// Stores a checked set, makes it the current one, and returns its number.
pub async fn apply(
    connection: &mut MultiplexedConnection,
    keys: &Keys,
    set: &ScriptSet,
    by: &str,
    note: &str,
) -> Result<u64, AppliedError> {
    let (secs, micros): (u64, u64) = redis::cmd("TIME").query_async(connection).await?;
    let scripts = set.iter().map(|(script, text)| {
        let (sha1, text) = (text.sha1.clone(), text.text.clone());
        (script.name().to_owned(), StoredScript { sha1, text })
    });
    let mut stored = AppliedSet {
        number: 0,
        by: by.to_owned(),
        at_ms: secs * 1000 + micros / 1000,
        note: note.to_owned(),
        contract: CONTRACT,
        scripts: scripts.collect(),
    };
    exchange(connection, keys, async |connection| {
        let mut last = redis::cmd("HGET");
        last.arg(keys.scripts()).arg("last");
        let last: Option<u64> = last.query_async(connection).await?;
        let kept = numbers(connection, keys).await?;
        stored.number = last.unwrap_or_default() + 1;
        let number = stored.number;
        let json = serde_json::to_string(&stored).map_err(|source| AppliedError::Unreadable {
            key: keys.scripts(),
            field: field_of(number),
            source,
        })?;
        let mut set = redis::cmd("HSET");
        set.arg(keys.scripts())
            .arg(&[("last", number), ("current", number)])
            .arg(field_of(number))
            .arg(json);
        let surplus = (kept.len() + 1).saturating_sub(KEPT);
        let old = kept.iter().take(surplus).map(|old| delete(keys, *old));
        Ok((number, std::iter::once(set).chain(old).collect()))
    })
    .await
}

/// Where to go back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The set before the current one; before the first one there were the binary's own scripts.
    Previous,
    /// The set of this number.
    Set(u64),
    /// The binary's own scripts.
    Embedded,
}

/// Makes an earlier set the current one and returns its number, `None` for the embedded scripts.
///
/// # Errors
/// There is no such set, or it belongs to another contract than this binary's.
pub async fn roll_back(
    connection: &mut MultiplexedConnection,
    keys: &Keys,
    embedded: &ScriptSet,
    target: Target,
) -> Result<Option<u64>, AppliedError> {
    exchange(connection, keys, async |connection| {
        let number = match target {
            Target::Embedded => None,
            Target::Set(number) => Some(number),
            Target::Previous => previous(connection, keys).await?,
        };
        let Some(number) = number else {
            let mut delete = redis::cmd("HDEL");
            delete.arg(keys.scripts()).arg("current");
            return Ok((None, vec![delete]));
        };
        read(connection, keys, number).await?.to_set(embedded)?;
        let mut set = redis::cmd("HSET");
        set.arg(keys.scripts()).arg("current").arg(number);
        Ok((Some(number), vec![set]))
    })
    .await
}

async fn previous(
    connection: &mut MultiplexedConnection,
    keys: &Keys,
) -> Result<Option<u64>, AppliedError> {
    let current = current(connection, keys).await?;
    let current = current.ok_or(AppliedError::NoneApplied)?;
    let kept = numbers(connection, keys).await?;
    match kept.into_iter().rfind(|number| *number < current) {
        None if current > 1 => Err(AppliedError::NothingBefore),
        before => Ok(before),
    }
}

/// Reads, then writes what `plan` says, as if nobody else did meanwhile: else it plans again.
///
/// The connection must be this caller's alone, for WATCH belongs to a connection.
async fn exchange<T>(
    connection: &mut MultiplexedConnection,
    keys: &Keys,
    mut plan: impl AsyncFnMut(&mut MultiplexedConnection) -> Result<(T, Vec<Cmd>), AppliedError>,
) -> Result<T, AppliedError> {
    loop {
        let mut watch = redis::cmd("WATCH");
        watch.arg(keys.scripts()).exec_async(connection).await?;
        let (result, commands) = plan(connection).await?;
        let mut transaction = redis::pipe();
        transaction.atomic();
        for command in commands {
            transaction.add_command(command);
        }
        let done: Option<redis::Value> = transaction.query_async(connection).await?;
        if done.is_some() {
            return Ok(result);
        }
    }
}

fn delete(keys: &Keys, number: u64) -> Cmd {
    let mut delete = redis::cmd("HDEL");
    delete.arg(keys.scripts()).arg(field_of(number));
    delete
}

fn field_of(number: u64) -> String {
    format!("{SET}{number}")
}

fn parse(keys: &Keys, field: &str, json: &str) -> Result<AppliedSet, AppliedError> {
    serde_json::from_str(json).map_err(|source| AppliedError::Unreadable {
        key: keys.scripts(),
        field: field.to_owned(),
        source,
    })
}
