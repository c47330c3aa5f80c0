//! One call of a script: its turn, the round trip, and what is done when its outcome is not known.

use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, RedisResult, Value};
use tokio::sync::SemaphorePermit;
use tokio::time::{Instant, sleep, timeout_at};

use super::{Bounds, CallError, Invocation, Store, load_cmd};
use crate::error::ErrorCode;
use crate::scripts::{Script, ScriptText};

/// How long calls wait for Redis to come back, from the first that misses it. Later ones are refused at once, so that
/// requests that queue up behind one another do not add their waits up.
const COMES_BACK_WITHIN: Duration = Duration::from_millis(500);

/// Before a call is made again.
const BREATH: Duration = Duration::from_millis(50);

/// No call misses the connection.
pub(super) const UP: u64 = u64::MAX;

/// Whether a call may be made again when it is not known whether it ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// A second time changes nothing.
    Harmless,
    /// A second time might store something twice.
    Never,
}

/// A script and one call of it.
struct Call<'a> {
    text: &'a ScriptText,
    cmd: Cmd,
}

impl Store {
    /// Calls a script, loading it if Redis has lost it. Ends within the store's timeout.
    ///
    /// A call whose outcome is not known is made again where that is harmless. [`CallError::Down`] says that
    /// nothing was ever written.
    pub(super) async fn call(
        &self,
        script: Script,
        repeat: Repeat,
        invocation: Invocation,
    ) -> Result<Value, CallError> {
        let started = Instant::now();
        let Bounds {
            timeout, repeats, ..
        } = self.bounds;
        let deadline = started + timeout;
        let _place = self.place(deadline).await?;
        // Taken once: a set that comes meanwhile is for the next call.
        let scripts = self.scripts.borrow().clone();
        let text = scripts.get(script);
        let cmd = invocation.into_cmd(&text.sha1);
        let call = Call { text, cmd };
        let outcome = if repeats && repeat == Repeat::Harmless {
            self.attempt_until_known(&call, started + timeout / 2, deadline)
                .await
        } else {
            self.attempt(&call, deadline).await
        };
        self.tallies.count(script, started.elapsed());
        match &outcome {
            Ok(_) if is_promised(script) => self.confirm(deadline).await?,
            Err(error) if error.is_from_replica() => self.distrusted.notify_one(),
            Ok(_) | Err(_) => {}
        }
        outcome
    }

    /// Waits until what was written is as safe as an ack promises.
    async fn confirm(&self, deadline: Instant) -> Result<(), CallError> {
        let Some(confirmations) = &self.confirmations else {
            return Ok(());
        };
        match timeout_at(deadline, confirmations.confirmed()).await {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(CallError::Unconfirmed),
        }
    }

    /// A place among the calls at once.
    async fn place(&self, deadline: Instant) -> Result<SemaphorePermit<'_>, CallError> {
        match timeout_at(deadline, self.places.acquire()).await {
            Ok(Ok(place)) => Ok(place),
            // The semaphore is never closed.
            Ok(Err(_)) | Err(_) => Err(CallError::Crowded),
        }
    }

    /// Makes a harmless call again until its outcome is known: over a connection that was slow once more, over those
    /// that break as often as there is time.
    async fn attempt_until_known(
        &self,
        call: &Call<'_>,
        half: Instant,
        deadline: Instant,
    ) -> Result<Value, CallError> {
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

    /// Makes a call again that may have run: a refusal now does not say that nothing was stored then.
    async fn attempt_again(&self, call: &Call<'_>, deadline: Instant) -> Result<Value, CallError> {
        // A connection that broke is still there for a moment.
        sleep(BREATH).await;
        let Ok(Ok(mut connection)) = timeout_at(deadline, self.next_connection()).await else {
            return Err(CallError::TimedOut);
        };
        match call.exchange_until(deadline, &mut connection).await {
            Err(error) if ErrorCode::from(&error) == ErrorCode::Unavailable => {
                Err(CallError::TimedOut)
            }
            outcome => outcome,
        }
    }

    async fn attempt(&self, call: &Call<'_>, deadline: Instant) -> Result<Value, CallError> {
        let mut connection = self.connection(deadline).await?;
        call.exchange_until(deadline, &mut connection).await
    }

    /// The connection that is up, or that comes up again soon.
    async fn connection(&self, deadline: Instant) -> Result<MultiplexedConnection, CallError> {
        if let Some(connection) = self.commands.borrow().clone() {
            if self.missed_at_ms.load(Ordering::Relaxed) != UP {
                self.missed_at_ms.store(UP, Ordering::Relaxed);
            }
            return Ok(connection);
        }
        let patience = self.missed_at() + COMES_BACK_WITHIN;
        match timeout_at(patience.min(deadline), self.next_connection()).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(_)) | Err(_) => Err(CallError::Down),
        }
    }

    /// When a call first missed the connection that is missing now.
    fn missed_at(&self) -> Instant {
        let age_ms = u64::try_from(self.made.elapsed().as_millis()).unwrap_or(UP - 1);
        let order = Ordering::Relaxed;
        let missed = self.missed_at_ms.compare_exchange(UP, age_ms, order, order);
        self.made + Duration::from_millis(missed.err().unwrap_or(age_ms))
    }

    /// Resolves as soon as a connection is up. Errors if there never will be one.
    async fn next_connection(&self) -> Result<MultiplexedConnection, CallError> {
        let mut commands = self.commands.clone();
        let up = commands.wait_for(Option::is_some).await;
        up.ok().and_then(|up| up.clone()).ok_or(CallError::Down)
    }
}

/// Whether the ack of what the script writes is covered by the setting `DURABILITY`.
fn is_promised(script: Script) -> bool {
    matches!(
        script,
        Script::InitializeChat | Script::SendMessage | Script::MarkAsRead
    )
}

impl Call<'_> {
    async fn exchange_until(
        &self,
        deadline: Instant,
        connection: &mut MultiplexedConnection,
    ) -> Result<Value, CallError> {
        match timeout_at(deadline, self.exchange(connection)).await {
            Ok(outcome) => Ok(outcome?),
            Err(_) => Err(CallError::TimedOut),
        }
    }

    async fn exchange(&self, connection: &mut MultiplexedConnection) -> RedisResult<Value> {
        match self.cmd.query_async(connection).await {
            Err(error) if error.code() == Some("NOSCRIPT") => self.load_and_call(connection).await,
            outcome => outcome,
        }
    }

    /// Redis has lost the script. Loaded and called in one transaction, it cannot be lost in between.
    async fn load_and_call(&self, connection: &mut MultiplexedConnection) -> RedisResult<Value> {
        let load = load_cmd(&self.text.text);
        let mut transaction = redis::pipe();
        transaction
            .atomic()
            .add_command(load.clone())
            .add_command(self.cmd.clone());
        // Otherwise the crate would keep of a script's error neither code nor text.
        let outcome = transaction.ignore_errors().query_async(connection).await;
        let replies: Vec<RedisResult<Value>> = match outcome {
            // With its memory full Redis takes no command into a transaction, though alone it would take these.
            Err(error) if error.code() == Some("EXECABORT") => {
                load.exec_async(connection).await?;
                return self.cmd.query_async(connection).await;
            }
            outcome => outcome?,
        };
        replies.into_iter().next_back().unwrap_or(Ok(Value::Nil))
    }
}
