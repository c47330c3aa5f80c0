//! Script calls: their turn, the round trip, and the handling of an unknown outcome.

use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, RedisError, RedisResult, Value};
use tokio::sync::SemaphorePermit;
use tokio::time::{Instant, sleep, timeout_at};

use super::connection::Connection;
use super::term::Term;
use super::{CallError, Invocation, Store, load_cmd};
use crate::error::ErrorCode;
use crate::scripts::{Script, ScriptText};

/// How long calls wait for Redis to come back, from the first call that finds it missing. Later ones are refused at
/// once, so that requests queued behind one another do not add up their waits.
const COMES_BACK_WITHIN: Duration = Duration::from_millis(500);

/// The pause before a call is repeated.
const BREATH: Duration = Duration::from_millis(50);

/// No call is missing the connection.
pub(super) const UP: u64 = u64::MAX;

/// Whether a call may be repeated when it is unknown whether it ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Running it twice changes nothing.
    Harmless,
    /// Running it twice might store something twice.
    Never,
}

/// A script and its calls that are made in one round trip, in order.
struct Call<'a> {
    text: &'a ScriptText,
    cmds: Vec<Cmd>,
}

/// The results of the calls. An error for the whole means that none of them is known to have run.
type Replies = Vec<RedisResult<Value>>;

/// The replies, and the term of the Redis that sent them.
type Replied = (Replies, Term);

impl Store {
    /// Calls a script, loading it if Redis has lost it. Ends within the store's timeout.
    ///
    /// A call whose outcome is unknown is repeated where that is harmless. [`CallError::Down`] means that nothing was
    /// ever written.
    pub(super) async fn call(
        &self,
        script: Script,
        repeat: Repeat,
        invocation: Invocation,
    ) -> Result<Value, CallError> {
        let mut replies = self.call_each(script, repeat, vec![invocation]).await?;
        replies.pop().unwrap_or(Ok(Value::Nil))
    }

    /// Calls a script several times in one round trip, as [`Self::call`] does once: all calls in order with nothing in
    /// between, or none.
    pub(super) async fn call_each(
        &self,
        script: Script,
        repeat: Repeat,
        invocations: Vec<Invocation>,
    ) -> Result<Vec<Result<Value, CallError>>, CallError> {
        let started = Instant::now();
        let deadline = started + self.bounds.timeout;
        let place = self.place(deadline).await?;
        // Taken once: a set that arrives meanwhile is for the next call.
        let scripts = self.scripts.borrow().clone();
        let text = scripts.get(script);
        let cmds = invocations.into_iter();
        let call = Call {
            text,
            cmds: cmds.map(|one| one.into_cmd(&text.sha1)).collect(),
        };
        let outcome = if self.bounds.repeats && repeat == Repeat::Harmless {
            let half = started + self.bounds.timeout / 2;
            self.attempt_until_known(&call, half, deadline).await
        } else {
            self.attempt(&call, deadline).await
        };
        // A call that waits for disk or replicas does not keep others from calling.
        drop(place);
        for _ in &call.cmds {
            self.tallies.count(script, started.elapsed());
        }
        let (replies, term) = outcome?;
        let replies: Vec<Result<Value, CallError>> =
            replies.into_iter().map(|reply| Ok(reply?)).collect();
        if !is_promised(script) || replies.iter().all(Result::is_err) {
            return Ok(replies);
        }
        let confirmed = self.is_confirmed(term, deadline).await;
        Ok(match confirmed {
            true => replies,
            // A refused call has written nothing, and stays refused.
            false => replies
                .into_iter()
                .map(|reply| reply.and(Err(CallError::Unconfirmed)))
                .collect(),
        })
    }

    /// Whether what was written in this term is as safe as an ack promises. Waits until that is known.
    async fn is_confirmed(&self, term: Term, deadline: Instant) -> bool {
        let Some(confirmations) = &self.confirmations else {
            return true;
        };
        let confirmed = timeout_at(deadline, confirmations.confirmed(term)).await;
        confirmed.unwrap_or(false)
    }

    /// A place among the concurrent calls.
    async fn place(&self, deadline: Instant) -> Result<SemaphorePermit<'_>, CallError> {
        match timeout_at(deadline, self.places.acquire()).await {
            Ok(Ok(place)) => Ok(place),
            // The semaphore is never closed.
            Ok(Err(_)) | Err(_) => Err(CallError::Crowded),
        }
    }

    /// Repeats a harmless call until its outcome is known: once over a connection that was slow, and as often as time
    /// allows over connections that break.
    async fn attempt_until_known(
        &self,
        call: &Call<'_>,
        half: Instant,
        deadline: Instant,
    ) -> Result<Replied, CallError> {
        let mut outcome = self.attempt(call, half).await;
        while outcome
            .as_ref()
            .is_err_and(CallError::is_of_unknown_outcome)
            && Instant::now() < deadline
        {
            outcome = self.attempt_again(call, deadline).await;
        }
        outcome
    }

    /// Repeats a call that may have run: a refusal now does not prove that nothing was stored then.
    async fn attempt_again(
        &self,
        call: &Call<'_>,
        deadline: Instant,
    ) -> Result<Replied, CallError> {
        // A connection that broke remains visible for a moment.
        sleep(BREATH).await;
        let Ok(Ok(connection)) = timeout_at(deadline, self.next_connection()).await else {
            return Err(CallError::TimedOut);
        };
        match self.exchange(call, connection, deadline).await {
            Err(error) if ErrorCode::from(&error) == ErrorCode::Unavailable => {
                Err(CallError::TimedOut)
            }
            outcome => outcome,
        }
    }

    async fn attempt(&self, call: &Call<'_>, deadline: Instant) -> Result<Replied, CallError> {
        let connection = self.connection(deadline).await?;
        self.exchange(call, connection, deadline).await
    }

    async fn exchange(
        &self,
        call: &Call<'_>,
        mut connection: Connection,
        deadline: Instant,
    ) -> Result<Replied, CallError> {
        let exchanged = timeout_at(deadline, call.exchange(&mut connection.redis)).await;
        let outcome = exchanged.map_err(|_| CallError::TimedOut)?;
        let refused = match &outcome {
            Ok(replies) => replies
                .iter()
                .any(|reply| reply.as_ref().is_err_and(is_readonly)),
            Err(error) => is_readonly(error),
        };
        connection.answered();
        if refused {
            self.master.end(connection.term);
        }
        Ok((outcome?, connection.term))
    }

    /// The connection that is up, or that comes up again soon.
    async fn connection(&self, deadline: Instant) -> Result<Connection, CallError> {
        if let Some(connection) = self.commands.borrow().clone() {
            self.is_back();
            return Ok(connection);
        }
        let patience = self.missed_at() + COMES_BACK_WITHIN;
        match timeout_at(patience.min(deadline), self.next_connection()).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(_)) | Err(_) => Err(CallError::Down),
        }
    }

    /// When a call first found the current outage.
    fn missed_at(&self) -> Instant {
        let age_ms = u64::try_from(self.made.elapsed().as_millis()).unwrap_or(UP - 1);
        let order = Ordering::Relaxed;
        let missed = self.missed_at_ms.compare_exchange(UP, age_ms, order, order);
        self.made + Duration::from_millis(missed.err().unwrap_or(age_ms))
    }

    /// The next call that finds no connection is the first again.
    fn is_back(&self) {
        if self.missed_at_ms.load(Ordering::Relaxed) != UP {
            self.missed_at_ms.store(UP, Ordering::Relaxed);
        }
    }

    /// Resolves as soon as a connection is up. Errors if there never will be one.
    async fn next_connection(&self) -> Result<Connection, CallError> {
        let mut commands = self.commands.clone();
        let up = commands.wait_for(Option::is_some).await;
        let up = up.ok().and_then(|up| up.clone());
        self.is_back();
        up.ok_or(CallError::Down)
    }
}

/// Whether the setting `DURABILITY` covers the ack of what the script writes.
fn is_promised(script: Script) -> bool {
    matches!(
        script,
        Script::InitializeChat | Script::SendMessage | Script::MarkAsRead
    )
}

impl Call<'_> {
    async fn exchange(&self, connection: &mut MultiplexedConnection) -> RedisResult<Replies> {
        let outcome = match self.cmds.as_slice() {
            [cmd] => cmd
                .query_async(connection)
                .await
                .map(|value| vec![Ok(value)]),
            _ => self.in_transaction(None, connection).await,
        };
        let is_lost = match &outcome {
            Ok(replies) => replies
                .iter()
                .any(|reply| reply.as_ref().is_err_and(is_noscript)),
            Err(error) => is_noscript(error),
        };
        match is_lost {
            true => self.load_and_call(connection).await,
            false => outcome,
        }
    }

    /// Redis has lost the script. Loaded and called in one transaction, the script cannot be lost in between.
    async fn load_and_call(&self, connection: &mut MultiplexedConnection) -> RedisResult<Replies> {
        let load = load_cmd(&self.text.text);
        let outcome = self.in_transaction(Some(&load), connection).await;
        match (outcome, self.cmds.as_slice()) {
            // As with a call that found its script: the caller gets the outcome of the whole.
            (Ok(mut replies), [_]) => match replies.pop() {
                Some(Err(error)) => Err(error),
                reply => Ok(reply.into_iter().collect()),
            },
            (outcome, _) => outcome,
        }
    }

    /// Makes the calls, after `first`, with nothing in between: in one transaction. Returns the calls' replies.
    async fn in_transaction(
        &self,
        first: Option<&Cmd>,
        connection: &mut MultiplexedConnection,
    ) -> RedisResult<Replies> {
        let mut transaction = redis::pipe();
        transaction.atomic();
        for cmd in first.into_iter().chain(&self.cmds) {
            transaction.add_command(cmd.clone());
        }
        // Without this the crate would keep neither code nor text of a script's error.
        let outcome = transaction.ignore_errors().query_async(connection).await;
        let mut replies: Replies = match outcome {
            // When its memory is full, Redis accepts no command into a transaction, though it would accept these on
            // their own.
            Err(error) if error.code() == Some("EXECABORT") => {
                return self.one_by_one(first, connection).await;
            }
            outcome => outcome?,
        };
        Ok(replies.split_off(usize::from(first.is_some()).min(replies.len())))
    }

    async fn one_by_one(
        &self,
        first: Option<&Cmd>,
        connection: &mut MultiplexedConnection,
    ) -> RedisResult<Replies> {
        if let Some(first) = first {
            first.exec_async(connection).await?;
        }
        let mut replies = Replies::new();
        for cmd in &self.cmds {
            replies.push(cmd.query_async(connection).await);
        }
        Ok(replies)
    }
}

/// Redis takes no writes because another one is the master.
fn is_readonly(error: &RedisError) -> bool {
    error.code() == Some("READONLY")
}

fn is_noscript(error: &RedisError) -> bool {
    error.code() == Some("NOSCRIPT")
}
