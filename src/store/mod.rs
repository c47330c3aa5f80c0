//! Redis: connections, key names, scripts, typed calls, subscriptions, and the embedded server.

mod call_error;
pub mod calls;
pub mod connection;
pub mod embedded;
pub mod keys;
pub mod reply;
pub mod server_check;
pub mod subscriber;
pub mod tally;

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{Cmd, RedisResult, Value};

pub(crate) use self::call_error::CallError;
use self::connection::{ConnectError, Current};
use self::keys::Keys;
use self::tally::Tallies;
use crate::config::{ChatConfig, Limits};
use crate::scripts::set::InEffect;
use crate::scripts::{Script, ScriptSet, ScriptText};

/// What the scripts are told with each call; settings.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Messages a room keeps, at least; 0 keeps all.
    pub history_max_messages: u64,
    /// How long a `clientMessageId` is remembered.
    pub dedupe_ttl: Duration,
    /// How long a device counts as a viewer unless renewed.
    pub viewer_lease: Duration,
    /// Bytes of a message's content, at most.
    pub content_max_bytes: usize,
    /// People in a room, at most, the one who makes it among them.
    pub participants_max: usize,
}

impl Rules {
    pub fn new(chat: &ChatConfig, limits: &Limits) -> Self {
        Self {
            history_max_messages: chat.history_max_messages,
            dedupe_ttl: chat.dedupe_ttl,
            viewer_lease: chat.viewer_lease,
            content_max_bytes: limits.max_content_bytes,
            participants_max: limits.max_participants,
        }
    }
}

/// Is told of each call that failed, before the caller is.
type OnFailure = Arc<dyn Fn(Script, &CallError) + Send + Sync>;

/// Calls scripts, each in one round trip.
pub struct Store {
    keys: Keys,
    scripts: InEffect,
    commands: Current,
    timeout: Duration,
    rules: Rules,
    tallies: Arc<Tallies>,
    on_failure: OnFailure,
}

impl Store {
    /// `timeout` bounds each call, from the moment it is made.
    pub fn new(
        keys: Keys,
        scripts: InEffect,
        commands: Current,
        timeout: Duration,
        rules: Rules,
    ) -> Self {
        Self {
            keys,
            scripts,
            commands,
            timeout,
            rules,
            tallies: Arc::default(),
            on_failure: Arc::new(call_error::log_failure),
        }
    }

    /// What is counted of this store's calls.
    pub fn tallies(&self) -> Arc<Tallies> {
        self.tallies.clone()
    }

    /// Tells `on_failure` of failed calls in place of the log: for a trial, where they are what is looked for.
    pub(crate) fn telling(
        mut self,
        on_failure: impl Fn(Script, &CallError) + Send + Sync + 'static,
    ) -> Self {
        self.on_failure = Arc::new(on_failure);
        self
    }

    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Whether a call made now would reach Redis.
    pub fn is_up(&self) -> bool {
        self.commands.borrow().is_some()
    }

    /// Calls a script, loading it if Redis has lost it.
    async fn call(&self, script: Script, invocation: Invocation) -> Result<Value, CallError> {
        let Some(mut connection) = self.commands.borrow().clone() else {
            return Err(CallError::Down);
        };
        // Taken once: a set that comes meanwhile is for the next call.
        let scripts = self.scripts.borrow().clone();
        let text = scripts.get(script);
        let cmd = invocation.into_cmd(&text.sha1);
        let exchange = async {
            match cmd.query_async(&mut connection).await {
                Err(error) if error.code() == Some("NOSCRIPT") => {
                    load_and_call(&mut connection, text, cmd).await
                }
                outcome => outcome,
            }
        };
        let started = Instant::now();
        let outcome = tokio::time::timeout(self.timeout, exchange).await;
        self.tallies.count(script, started.elapsed());
        match outcome {
            Ok(outcome) => Ok(outcome?),
            Err(_) => Err(CallError::TimedOut),
        }
    }
}

/// Redis has lost the script. Loaded and called in one transaction, it cannot be lost in between.
async fn load_and_call(
    connection: &mut MultiplexedConnection,
    text: &ScriptText,
    cmd: Cmd,
) -> RedisResult<Value> {
    let load = load_cmd(&text.text);
    let mut transaction = redis::pipe();
    transaction
        .atomic()
        .add_command(load.clone())
        .add_command(cmd.clone());
    // Otherwise the crate would keep of a script's error neither code nor text.
    let outcome = transaction.ignore_errors().query_async(connection).await;
    let replies: Vec<RedisResult<Value>> = match outcome {
        // With its memory full Redis takes no command into a transaction, though alone it would take these.
        Err(error) if error.code() == Some("EXECABORT") => {
            load.exec_async(connection).await?;
            return cmd.query_async(connection).await;
        }
        outcome => outcome?,
    };
    replies.into_iter().next_back().unwrap_or(Ok(Value::Nil))
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

/// The keys and arguments of one call.
struct Invocation {
    keys: Vec<String>,
    args: Vec<Vec<u8>>,
}

impl Invocation {
    fn new(keys: Vec<String>) -> Self {
        Self {
            keys,
            args: Vec::new(),
        }
    }

    fn arg(mut self, arg: impl redis::ToRedisArgs) -> Self {
        arg.write_redis_args(&mut self.args);
        self
    }

    fn into_cmd(self, sha1: &str) -> Cmd {
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(sha1)
            .arg(self.keys.len())
            .arg(self.keys)
            .arg(self.args);
        cmd
    }
}
