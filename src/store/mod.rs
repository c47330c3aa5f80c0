//! Redis: connections, key names, scripts, typed calls, subscriptions, and the embedded server.

pub mod calls;
pub mod connection;
pub mod embedded;
pub mod keys;
pub mod reply;
pub mod server_check;
pub mod subscriber;

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, ParsingError, RedisError, RedisResult, Value};

use self::connection::{ConnectError, Current};
use self::keys::Keys;
use crate::error::{ChatError, ErrorCode};
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
}

/// Calls scripts, each in one round trip.
pub struct Store {
    keys: Keys,
    scripts: InEffect,
    commands: Current,
    timeout: Duration,
    rules: Rules,
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
        }
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
    async fn call(&self, script: Script, invocation: Invocation) -> Result<Value, ChatError> {
        let Some(mut connection) = self.commands.borrow().clone() else {
            return Err(unavailable());
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
        match tokio::time::timeout(self.timeout, exchange).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(error)) => Err(translate(script, &error)),
            Err(_) => Err(timed_out()),
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

/// The one place where a failed call becomes what the client is told.
fn translate(script: Script, error: &RedisError) -> ChatError {
    if error.is_timeout() || error.is_io_error() || error.is_connection_dropped() {
        return timed_out();
    }
    match error.code().and_then(ErrorCode::from_redis) {
        Some(ErrorCode::Unavailable) => {
            log::warn!("Redis refused {}: {error}", script.name());
            unavailable()
        }
        Some(code) => ChatError::new(code, error.detail().unwrap_or_default()),
        None => {
            log::error!("{}.lua failed: {error}", script.name());
            internal()
        }
    }
}

/// A script returned what its header does not say.
fn broken_reply(script: &str, error: &ParsingError) -> ChatError {
    log::error!("{script}.lua returned what the server cannot read: {error}");
    internal()
}

fn internal() -> ChatError {
    ChatError::new(
        ErrorCode::Internal,
        "the server failed to do this; its log says why",
    )
}

/// Nothing was stored.
fn unavailable() -> ChatError {
    ChatError::new(
        ErrorCode::Unavailable,
        "the chat store cannot be used right now: nothing was stored, try again soon",
    )
}

/// The command may have run.
fn timed_out() -> ChatError {
    ChatError::new(
        ErrorCode::Timeout,
        "the chat store did not answer in time: whether it was done is not known (a message can be sent again with the same clientMessageId)",
    )
}
