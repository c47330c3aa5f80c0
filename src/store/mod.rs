//! Redis: connections, key names, scripts, typed calls, subscriptions, and the embedded server.

mod call_error;
pub mod calls;
pub mod clock;
pub mod confirm;
pub mod connection;
pub mod embedded;
mod exchange;
pub mod flaw_log;
pub mod former;
pub mod keys;
mod lenient;
pub mod lists;
pub mod policy_watch;
pub mod reply;
pub mod rights;
pub mod server_check;
pub mod subscriber;
pub mod tally;
pub mod term;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Arg, Cmd};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

pub(crate) use self::call_error::CallError;
use self::confirm::Confirmations;
use self::connection::{ConnectError, Current};
use self::flaw_log::FlawLog;
use self::keys::Keys;
use self::tally::Tallies;
use self::term::Master;
use crate::config::{ChatConfig, Limits};
use crate::room::Topic;
use crate::scripts::set::InEffect;
use crate::scripts::{Script, ScriptSet};

/// The settings that the scripts get with each call.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Messages a room keeps, at least; 0 keeps all.
    pub history_max_messages: u64,
    /// How long a `clientMessageId` is remembered.
    pub dedupe_ttl: Duration,
    /// How long a device counts as a viewer without renewal.
    pub viewer_lease: Duration,
    /// Bytes of a message's content, at most.
    pub content_max_bytes: usize,
    /// People in a room, at most, including its creator.
    pub participants_max: usize,
    /// Rooms of a user, at most.
    pub rooms_max: usize,
    /// Approximate bytes that a room keeps, at most; 0 for all.
    pub room_max_bytes: u64,
}

impl Rules {
    pub fn new(chat: &ChatConfig, limits: &Limits) -> Self {
        Self {
            history_max_messages: chat.history_max_messages,
            dedupe_ttl: chat.dedupe_ttl,
            viewer_lease: chat.viewer_lease,
            content_max_bytes: limits.max_content_bytes,
            participants_max: limits.max_participants,
            rooms_max: limits.max_rooms_per_user,
            room_max_bytes: chat.room_max_bytes,
        }
    }
}

/// The limits of calls.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// For each call, from the moment it is made.
    pub timeout: Duration,
    /// Concurrent calls; further ones wait.
    pub calls_at_once: usize,
    /// Whether a call of unknown outcome is repeated where that is harmless.
    pub repeats: bool,
}

impl Bounds {
    /// For a single caller, who wants to see each call's own outcome.
    pub fn within(timeout: Duration) -> Self {
        Self {
            timeout,
            calls_at_once: 1,
            repeats: false,
        }
    }
}

/// Notified of each failed call, before the caller is.
type OnFailure = Arc<dyn Fn(Script, &CallError) + Send + Sync>;

/// Calls scripts, each in one round trip.
pub struct Store {
    keys: Keys,
    scripts: InEffect,
    commands: Current,
    bounds: Bounds,
    /// For concurrent calls: a call that finds no place waits.
    places: Semaphore,
    made: Instant,
    /// When a call first found no connection, in milliseconds after `made`; [`exchange::UP`] while there is one.
    missed_at_ms: AtomicU64,
    master: Master,
    confirmations: Option<Confirmations>,
    rules: Rules,
    names: CallNames,
    tallies: Arc<Tallies>,
    on_failure: OnFailure,
    /// `None` in a trial, where a reply with a flaw is a failure.
    flaw_log: Option<Arc<FlawLog>>,
}

impl Store {
    pub fn new(
        keys: Keys,
        scripts: InEffect,
        commands: Current,
        bounds: Bounds,
        rules: Rules,
    ) -> Self {
        Self {
            keys,
            scripts,
            commands,
            bounds,
            places: Semaphore::new(bounds.calls_at_once),
            made: Instant::now(),
            missed_at_ms: AtomicU64::new(exchange::UP),
            master: Master::default(),
            confirmations: None,
            rules,
            names: CallNames::new(),
            tallies: Arc::default(),
            on_failure: Arc::new(call_error::log_failure),
            flaw_log: Some(Arc::default()),
        }
    }

    /// Counts its calls here.
    pub fn counting(mut self, tallies: Tallies) -> Self {
        self.tallies = Arc::new(tallies);
        self
    }

    /// The counts of this store's calls.
    pub fn tallies(&self) -> Arc<Tallies> {
        self.tallies.clone()
    }

    /// Reports flaws in stored data to this log.
    pub fn telling_flaws(mut self, log: Arc<FlawLog>) -> Self {
        self.flaw_log = Some(log);
        self
    }

    /// Reports failed calls to `on_failure` instead of the log: for a trial, which looks for failures. In a trial a
    /// reply has to match the script's header exactly.
    pub(crate) fn telling(
        mut self,
        on_failure: impl Fn(Script, &CallError) + Send + Sync + 'static,
    ) -> Self {
        self.on_failure = Arc::new(on_failure);
        self.flaw_log = None;
        self
    }

    /// Has writes confirmed before they count as done.
    pub fn confirming(mut self, confirmations: Option<Confirmations>) -> Self {
        self.confirmations = confirmations;
        self
    }

    /// Ends the term of a master that turns out to be a replica.
    pub fn reporting_to(mut self, master: Master) -> Self {
        self.master = master;
        self
    }

    /// Resolves when there is a connection.
    pub async fn up(&self) {
        let mut commands = self.commands.clone();
        if commands.wait_for(Option::is_some).await.is_err() {
            // There never will be one: the server is stopping.
            std::future::pending().await
        }
    }

    /// Publishes a number on a server's own channel.
    pub(crate) async fn beat(&self, server: Uuid, number: u64) -> Result<(), CallError> {
        let connection = self.commands.borrow().clone();
        let mut connection = connection.ok_or(CallError::Down)?;
        let mut publish = redis::cmd("SPUBLISH");
        publish
            .arg(self.keys.channel(&Topic::Server(server)))
            .arg(number);
        let published = publish.exec_async(&mut connection.redis);
        match timeout(self.bounds.timeout, published).await {
            Ok(published) => Ok(published?),
            Err(_) => Err(CallError::TimedOut),
        }
    }

    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    pub fn rules(&self) -> &Rules {
        &self.rules
    }
}

/// Names for calls, by which a script recognises a repeated one. Two calls about the same thing, on whatever server,
/// have the same name once in four billion times.
struct CallNames(AtomicU32);

impl CallNames {
    fn new() -> Self {
        let (start, _, _, _) = uuid::Uuid::new_v4().as_fields();
        Self(AtomicU32::new(start))
    }

    /// Eight hexadecimal digits.
    fn next(&self) -> String {
        // Far from the names of a server that started at nearly the same time.
        const STEP: u32 = 0x9E37_79B9;
        format!("{:08x}", self.0.fetch_add(STEP, Ordering::Relaxed))
    }
}

/// Loads every script of a set, in one round trip.
pub async fn load_scripts(
    connection: &mut MultiplexedConnection,
    scripts: &ScriptSet,
) -> Result<(), ConnectError> {
    let mut pipeline = redis::pipe();
    for (_, script) in scripts.iter() {
        pipeline.add_command(load_cmd(&script.text));
    }
    Ok(pipeline.exec_async(connection).await?)
}

fn load_cmd(text: &str) -> Cmd {
    let mut cmd = redis::cmd("SCRIPT");
    cmd.arg("LOAD").arg(text);
    cmd
}

/// The keys and arguments of one call. They are stored one after another in one buffer: a call has about twenty.
struct Invocation {
    keys: usize,
    parts: Cmd,
}

impl Invocation {
    /// Capacity for the usual call, so that the buffers do not grow step by step.
    const PARTS: usize = 24;
    const BYTES: usize = 1024;

    fn new() -> Self {
        Self {
            keys: 0,
            parts: Cmd::with_capacity(Self::PARTS, Self::BYTES),
        }
    }

    /// Adds a key: all keys come before the first argument.
    fn key(&mut self, key: &str) {
        self.keys += 1;
        self.parts.arg(key);
    }

    fn arg(mut self, arg: impl redis::ToRedisArgs) -> Self {
        self.parts.arg(arg);
        self
    }

    fn into_cmd(self, sha1: &str) -> Cmd {
        let parts = self.parts.args_iter();
        let mut cmd = Cmd::with_capacity(parts.len() + 3, Self::BYTES);
        cmd.arg("EVALSHA").arg(sha1).arg(self.keys);
        for part in parts {
            if let Arg::Simple(part) = part {
                cmd.arg(part);
            }
        }
        cmd
    }
}
