//! The sets that were applied to an installation: one hash in Redis, `chat:scripts`.
//!
//! | field | holds |
//! | --- | --- |
//! | `current` | the number of the set that servers run; if absent, they run their own |
//! | `last` | the highest number ever given |
//! | `set:<number>` | a set as JSON: who applied it, when, a note, its contract, and each script's text and SHA1 |
//! | `effect` | as JSON: what was in effect before, and how long each set was; versions before 0.2.0 do not write it |
//! | `server:<host> <address>` | as JSON: a server that has run an applied set, or was asked to |

mod effect;

use std::collections::HashMap;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, RedisError};
use serde::{Deserialize, Serialize};

pub use self::effect::Effect;
use super::registry::{CONTRACT, Script};
use super::set::{Origin, ScriptSet, ScriptText, Source};
use super::wire::ServerFacts;
use crate::store::keys::Keys;

/// How many sets are kept, besides those that were in effect for a day.
const KEPT: usize = 10;
/// The prefix of servers' fields.
const SERVER: &str = "server:";
/// The field that records what was in effect.
const EFFECT: &str = "effect";
/// The prefix of sets' fields.
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
    /// The contract it was checked against: [`CONTRACT`].
    pub contract: u32,
    /// By the script's name.
    pub scripts: HashMap<String, StoredScript>,
}

/// A script as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    #[error("set {number} was changed after it was applied: {script}.lua does not match its SHA1")]
    Changed { number: u64, script: &'static str },
    #[error("set {0} is not kept, or no longer kept: `scripts history` shows those that are")]
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
        "there is nothing to go back to: `scripts history` shows the sets, `scripts rollback N` goes to one"
    )]
    NothingBefore,
    #[error("the servers run their own scripts: there is no applied set to go back from")]
    NoneApplied,
    #[error(
        "somebody else changed the scripts just now: look at `scripts history`, then try again"
    )]
    Overtaken,
}

impl AppliedSet {
    /// The set, ready to run.
    ///
    /// # Errors
    /// The set has another contract, lacks a script, or has a text that differs from the one applied.
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

/// Everything that is kept.
#[derive(Debug)]
pub struct History {
    pub current: Option<u64>,
    /// Sorted by number.
    pub sets: Vec<AppliedSet>,
    /// What was in effect before.
    pub effect: Effect,
    /// Servers that have run an applied set, or were asked to.
    pub servers: Vec<ServerFacts>,
}

impl History {
    /// The set with this number, if it is kept.
    pub fn set(&self, number: u64) -> Option<&AppliedSet> {
        self.sets.iter().find(|set| set.number == number)
    }
}

/// The number of the set that servers should run; `None` for their own.
pub async fn current(
    connection: &mut MultiplexedConnection,
    keys: &Keys,
) -> Result<Option<u64>, RedisError> {
    let mut get = redis::cmd("HGET");
    get.arg(keys.scripts()).arg("current");
    get.query_async(connection).await
}

/// Whether a set was ever applied, as far as Redis knows.
pub async fn any(connection: &mut MultiplexedConnection, keys: &Keys) -> Result<bool, RedisError> {
    let mut exists = redis::cmd("HEXISTS");
    exists.arg(keys.scripts()).arg("last");
    exists.query_async(connection).await
}

/// Reads one set.
///
/// # Errors
/// The set is no longer kept, or cannot be read.
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

/// Reads the current set and all sets that are kept.
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
    let stored = fields
        .get(EFFECT)
        .and_then(|json| serde_json::from_str(json).ok());
    let effect = Effect::known(stored, current, &sets, now_ms(connection).await?);
    let mut servers: Vec<ServerFacts> = fields
        .iter()
        .filter(|(field, _)| field.starts_with(SERVER))
        .filter_map(|(_, json)| serde_json::from_str(json).ok())
        .collect();
    servers.sort_by_key(ToString::to_string);
    Ok(History {
        current,
        sets,
        effect,
        servers,
    })
}

/// The time by Redis's clock: Unix time in milliseconds.
async fn now_ms(connection: &mut MultiplexedConnection) -> Result<u64, RedisError> {
    let (secs, micros): (u64, u64) = redis::cmd("TIME").query_async(connection).await?;
    Ok(secs * 1000 + micros / 1000)
}

/// Records that this server exists, so that it can be named when it does not answer.
pub async fn note_server(
    connection: &mut MultiplexedConnection,
    keys: &Keys,
    server: &ServerFacts,
) -> Result<(), RedisError> {
    let json = serde_json::to_string(server).unwrap_or_default();
    let mut note = redis::cmd("HSET");
    note.arg(keys.scripts())
        .arg(format!("{SERVER}{} {}", server.host, server.address))
        .arg(json);
    note.exec_async(connection).await
}

/// The result of applying a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// It is stored under this number, and is now current.
    New(u64),
    /// The set with this number has the same texts. It is current again.
    Again(u64),
    /// The current set, with this number, has the same texts.
    Already(u64),
}

impl Applied {
    pub fn number(self) -> u64 {
        let (Self::New(number) | Self::Again(number) | Self::Already(number)) = self;
        number
    }
}

/// Makes a checked set the current one in place of `expected`, and stores it unless one with the same texts is stored.
///
/// # Errors
/// A set other than `expected` is current.
pub async fn apply(
    connection: &mut MultiplexedConnection,
    keys: &Keys,
    set: &ScriptSet,
    by: &str,
    note: &str,
    expected: Option<u64>,
) -> Result<Applied, AppliedError> {
    let scripts = set.iter().map(|(script, text)| {
        let (sha1, text) = (text.sha1.clone(), text.text.clone());
        (script.name().to_owned(), StoredScript { sha1, text })
    });
    let scripts: HashMap<String, StoredScript> = scripts.collect();
    exchange(connection, keys, async |connection| {
        let history = history(connection, keys).await?;
        if history.current != expected {
            return Err(AppliedError::Overtaken);
        }
        let is_same =
            |stored: &&AppliedSet| stored.contract == CONTRACT && stored.scripts == scripts;
        let same = history.sets.iter().rev().find(is_same);
        let same = same.map(|stored| stored.number);
        match same {
            Some(number) if history.current == same => Ok((Applied::Already(number), Vec::new())),
            Some(number) => {
                let commands = enter(connection, keys, history.effect, Some(number)).await?;
                Ok((Applied::Again(number), commands))
            }
            None => {
                let stored = AppliedSet {
                    number: next_number(connection, keys).await?,
                    by: by.to_owned(),
                    at_ms: now_ms(connection).await?,
                    note: note.to_owned(),
                    contract: CONTRACT,
                    scripts: scripts.clone(),
                };
                store(keys, stored, history)
            }
        }
    })
    .await
}

async fn next_number(
    connection: &mut MultiplexedConnection,
    keys: &Keys,
) -> Result<u64, RedisError> {
    let mut last = redis::cmd("HGET");
    last.arg(keys.scripts()).arg("last");
    let last: Option<u64> = last.query_async(connection).await?;
    Ok(last.unwrap_or_default() + 1)
}

/// The commands that store a new set, make it current, and drop sets that are no longer kept.
fn store(
    keys: &Keys,
    stored: AppliedSet,
    history: History,
) -> Result<(Applied, Vec<Cmd>), AppliedError> {
    let (number, now_ms) = (stored.number, stored.at_ms);
    let json = serde_json::to_string(&stored).map_err(|source| AppliedError::Unreadable {
        key: keys.scripts(),
        field: field_of(number),
        source,
    })?;
    let (mut effect, mut sets) = (history.effect, history.sets);
    effect.enter(Some(number), now_ms);
    sets.push(stored);
    let dropped = effect.surplus(&sets, KEPT, now_ms);
    effect.forget(&dropped);
    let mut set = redis::cmd("HSET");
    set.arg(keys.scripts())
        .arg(&[("last", number), ("current", number)])
        .arg(field_of(number))
        .arg(json)
        .arg(EFFECT)
        .arg(json_of(&effect));
    let dropped = dropped.iter().map(|old| delete(keys, field_of(*old)));
    Ok((
        Applied::New(number),
        std::iter::once(set).chain(dropped).collect(),
    ))
}

/// The commands that make a stored set, or none, the current one.
async fn enter(
    connection: &mut MultiplexedConnection,
    keys: &Keys,
    mut effect: Effect,
    number: Option<u64>,
) -> Result<Vec<Cmd>, RedisError> {
    effect.enter(number, now_ms(connection).await?);
    Ok(make_current(keys, &effect))
}

fn make_current(keys: &Keys, effect: &Effect) -> Vec<Cmd> {
    let mut set = redis::cmd("HSET");
    set.arg(keys.scripts()).arg(EFFECT).arg(json_of(effect));
    match effect.current {
        Some(number) => {
            set.arg("current").arg(number);
            vec![set]
        }
        None => vec![set, delete(keys, "current".to_owned())],
    }
}

fn json_of(effect: &Effect) -> String {
    serde_json::to_string(effect).unwrap_or_default()
}

/// The target of a rollback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// What was in effect before.
    Previous,
    /// The set with this number.
    Set(u64),
    /// The binary's own scripts.
    Embedded,
}

/// Makes an earlier set the current one and returns its number, `None` for the embedded scripts.
///
/// # Errors
/// There is no such set, or it was made for a contract other than this binary's.
pub async fn roll_back(
    connection: &mut MultiplexedConnection,
    keys: &Keys,
    embedded: &ScriptSet,
    target: Target,
) -> Result<Option<u64>, AppliedError> {
    exchange(connection, keys, async |connection| {
        let history = history(connection, keys).await?;
        let mut effect = history.effect.clone();
        let now_ms = now_ms(connection).await?;
        match target {
            Target::Previous => {
                let stepped = effect.step_back(now_ms);
                stepped.ok_or(match history.current {
                    None => AppliedError::NoneApplied,
                    Some(_) => AppliedError::NothingBefore,
                })?;
            }
            Target::Embedded => effect.enter(None, now_ms),
            Target::Set(number) => effect.enter(Some(number), now_ms),
        }
        if let Some(number) = effect.current {
            let set = history.set(number).ok_or(Unfit::Gone(number))?;
            set.to_set(embedded)?;
        }
        // It is in effect already.
        if effect.current == history.current {
            return Ok((effect.current, Vec::new()));
        }
        Ok((effect.current, make_current(keys, &effect)))
    })
    .await
}

/// Reads, then writes what `plan` returns, as one transaction: if another client writes meanwhile, it plans again.
///
/// The connection must be exclusive to this caller, because WATCH belongs to a connection.
async fn exchange<T>(
    connection: &mut MultiplexedConnection,
    keys: &Keys,
    mut plan: impl AsyncFnMut(&mut MultiplexedConnection) -> Result<(T, Vec<Cmd>), AppliedError>,
) -> Result<T, AppliedError> {
    loop {
        let mut watch = redis::cmd("WATCH");
        watch.arg(keys.scripts()).exec_async(connection).await?;
        let (result, commands) = match plan(connection).await {
            Ok((result, commands)) if !commands.is_empty() => (result, commands),
            nothing_to_do => {
                redis::cmd("UNWATCH").exec_async(connection).await?;
                return nothing_to_do.map(|(result, _)| result);
            }
        };
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

fn delete(keys: &Keys, field: String) -> Cmd {
    let mut delete = redis::cmd("HDEL");
    delete.arg(keys.scripts()).arg(field);
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
