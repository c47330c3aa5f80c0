//! One connection to Redis that is kept open: connect, check, prepare, wait until it breaks, and start over.
//!
//! The redis crate's own connection manager is not used: with its retries a command waits out an outage, and it is
//! never known whether it was written. Here a call finds either a connection that is up or none at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, IntoConnectionInfo, ProtocolVersion, PushInfo, PushKind,
    RedisError,
};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::clock::RedisClock;
use super::server_check::master_run_id;
use super::term::{Master, Term};
use crate::metrics::ConnectionMetrics;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// Why a Redis that answers is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("{0}")]
    Redis(#[from] RedisError),
    /// It will be usable after a while.
    #[error("{0}")]
    NotYet(&'static str),
    /// Retrying does not help: the operator has to change something.
    #[error("{0}")]
    Refused(String),
}

/// Opens connections to one Redis.
#[derive(Clone)]
pub struct Connector {
    client: Client,
    display: String,
}

impl Connector {
    /// `url` as in `REDIS_URL`. Errors if it is invalid.
    pub fn new(url: &str) -> Result<Self, RedisError> {
        Self::speaking(url, ProtocolVersion::RESP3)
    }

    /// For a Redis of any version, without push messages. Errors as [`new`](Self::new).
    pub fn for_any_version(url: &str) -> Result<Self, RedisError> {
        Self::speaking(url, ProtocolVersion::RESP2)
    }

    fn speaking(url: &str, protocol: ProtocolVersion) -> Result<Self, RedisError> {
        // rustls selects no provider by itself; an error only means that this process has selected one before.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let info = url.into_connection_info()?;
        let settings = info.redis_settings().clone().set_protocol(protocol);
        let info = info
            .set_redis_settings(settings)
            .set_tcp_settings(TcpSettings::default().set_nodelay(true));
        let display = info.addr().to_string();
        Ok(Self {
            client: Client::open(info)?,
            display,
        })
    }

    /// The address of Redis, without user and password.
    pub fn address(&self) -> &str {
        &self.display
    }

    /// The number of the database.
    pub fn database(&self) -> i64 {
        self.client.get_connection_info().redis_settings().db()
    }

    /// A new connection, for a single caller: each answer arrives within this time, or is an error.
    pub async fn open_bounded(
        &self,
        within: Duration,
    ) -> Result<MultiplexedConnection, ConnectError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(within));
        let client = &self.client;
        Ok(client
            .get_multiplexed_async_connection_with_config(&config)
            .await?)
    }

    /// A new connection. `on_push` gets what Redis sends unasked; `broken` is notified when the connection ends.
    pub async fn open(
        &self,
        on_push: impl Fn(PushInfo) + Send + Sync + 'static,
        broken: Arc<Notify>,
    ) -> Result<MultiplexedConnection, RedisError> {
        let push = move |info: PushInfo| {
            match info.kind {
                PushKind::Disconnection => broken.notify_one(),
                _ => on_push(info),
            }
            Ok::<(), std::convert::Infallible>(())
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            // Each call has its own timeout, set where it is known what the call was.
            .set_response_timeout(None)
            .set_push_sender(push);
        self.client
            .get_multiplexed_async_connection_with_config(&config)
            .await
    }
}

/// A connection that is up. Clones share it.
#[derive(Clone)]
pub struct Connection {
    pub redis: MultiplexedConnection,
    /// The term of the master that it leads to.
    pub term: Term,
    /// Different for each connection of one keeper.
    pub number: u64,
    signs: Signs,
}

impl Connection {
    /// A connection that nobody keeps open.
    pub fn unkept(redis: MultiplexedConnection) -> Self {
        Self {
            redis,
            term: Term::default(),
            number: 0,
            signs: Signs::default(),
        }
    }

    /// A reply arrived on it.
    pub fn answered(&self) {
        self.signs.add();
    }
}

/// Counts what arrives on a connection: while the count grows Redis is busy, not gone.
#[derive(Clone, Default)]
struct Signs(Arc<AtomicU64>);

impl Signs {
    fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The connection that is up now, if one is.
pub type Current = watch::Receiver<Option<Connection>>;

/// The progress of a connection that others cannot use yet.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<AtomicBool>);

impl Progress {
    /// Redis was checked; the scripts are not loaded yet.
    pub fn checked(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// The connection starts over, or is ready.
    fn reset(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Whether only the scripts keep others from using the connection.
    pub fn lacks_scripts(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// How a Redis that no longer answers on an open connection is detected.
#[derive(Debug, Clone, Copy)]
pub struct Pulse {
    /// How often Redis is asked.
    pub every: Duration,
    /// After this long without an answer, others no longer get the connection until Redis answers.
    pub late: Duration,
    /// After this long without an answer, the connection is given up.
    pub dead: Duration,
}

/// How Redis is asked whether it is alive.
pub enum Question {
    /// `PING`.
    Alive,
    /// `INFO`: whether it is still a master, and the same one; this also reads its clock.
    Master(RedisClock),
    /// Whether published messages arrive on it. A command of its own would be answered among the replies to
    /// subscriptions, which Redis may send unasked.
    Echo(Echo),
}

/// A message that this server publishes and hears itself.
pub struct Echo {
    /// Publishes it; resolves when it has been heard.
    pub heard: Box<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>,
    /// The connection over which it is published. While there is none, the question is skipped.
    pub by: Current,
}

/// What a connection is for, and how it is kept.
pub struct Keeping<Prepare, Push> {
    /// For the log.
    pub name: &'static str,
    pub pulse: Pulse,
    pub question: Question,
    /// Runs on each new connection before others may use it; it bounds its own time. Returns the term it leads to.
    pub prepare: Prepare,
    /// Gets what Redis sends unasked, with the number of the connection. It must not block.
    pub on_push: Push,
    /// Shared by the connections that move together.
    pub master: Master,
    /// Set by `prepare`.
    pub progress: Progress,
    pub metrics: ConnectionMetrics,
}

/// Why a connection is no longer used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Closed,
    /// Its Redis is not, or is no longer, the master that the other connections lead to.
    Left,
    Silent,
}

impl End {
    fn says(self) -> &'static str {
        match self {
            Self::Closed => "closed the connection",
            Self::Left => "is no master any more, or the address leads to another one",
            Self::Silent => "does not answer: the connection is given up",
        }
    }
}

/// Pauses that double up to a bound.
struct Backoff(Duration);

impl Backoff {
    fn new() -> Self {
        Self(BACKOFF_FIRST)
    }

    fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(BACKOFF_MAX);
        pause
    }
}

/// Keeps one connection open until `cancel`.
///
/// Errors only if the very first Redis that answers is refused; later refusals are logged and retried.
pub async fn keep_open<Prepare, Push>(
    connector: Connector,
    keeping: Keeping<Prepare, Push>,
    current: watch::Sender<Option<Connection>>,
    cancel: CancellationToken,
) -> Result<(), ConnectError>
where
    Prepare: AsyncFn(&mut MultiplexedConnection) -> Result<Term, ConnectError>,
    Push: Fn(u64, PushInfo) + Clone + Send + Sync + 'static,
{
    let (name, address) = (keeping.name, connector.address());
    let (mut refused, mut left) = (Backoff::new(), Backoff::new());
    let mut ever_connected = false;
    let mut complained = false;
    for number in 0.. {
        let broken = Arc::new(Notify::new());
        keeping.progress.reset();
        let outcome = tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            outcome = attempt(&connector, &keeping, number, broken.clone()) => outcome,
        };
        let pause = match outcome {
            Ok(connection) => {
                if complained || ever_connected {
                    log::info!("Redis at {address} is back ({name})");
                }
                if ever_connected {
                    keeping.metrics.reconnected();
                }
                (ever_connected, complained, refused) = (true, false, Backoff::new());
                keeping.progress.reset();
                let since = Instant::now();
                current.send_replace(Some(connection.clone()));
                let end = tokio::select! {
                    () = cancel.cancelled() => return Ok(()),
                    () = broken.notified() => End::Closed,
                    () = keeping.master.ended(connection.term) => End::Left,
                    end = feel_pulse(address, &keeping, connection.clone(), &current) => end,
                };
                current.send_replace(None);
                log::warn!("Redis at {address} {} ({name})", end.says());
                if since.elapsed() > BACKOFF_MAX {
                    left = Backoff::new();
                }
                match end {
                    // With two masters behind one address the connections would otherwise move for ever.
                    End::Left => left.next(),
                    End::Closed | End::Silent => BACKOFF_FIRST.saturating_sub(since.elapsed()),
                }
            }
            Err(error @ ConnectError::Refused(_)) if !ever_connected => return Err(error),
            Err(error) => {
                if !complained {
                    log::warn!(
                        "cannot use Redis at {address} ({name}): {error}; trying again until it can be used"
                    );
                    complained = true;
                }
                refused.next()
            }
        };
        tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            () = tokio::time::sleep(pause) => {}
        }
    }
    Ok(())
}

/// Opens a connection and prepares it for others.
async fn attempt<Prepare, Push>(
    connector: &Connector,
    keeping: &Keeping<Prepare, Push>,
    number: u64,
    broken: Arc<Notify>,
) -> Result<Connection, ConnectError>
where
    Prepare: AsyncFn(&mut MultiplexedConnection) -> Result<Term, ConnectError>,
    Push: Fn(u64, PushInfo) + Clone + Send + Sync + 'static,
{
    let signs = Signs::default();
    let on_push = {
        let (signs, on_push) = (signs.clone(), keeping.on_push.clone());
        move |push| {
            signs.add();
            on_push(number, push);
        }
    };
    let mut redis = connector.open(on_push, broken).await?;
    let term = (keeping.prepare)(&mut redis).await?;
    Ok(Connection {
        redis,
        term,
        number,
        signs,
    })
}

/// Regularly asks whether Redis is alive. Resolves when nothing has arrived for too long, or when Redis is no master.
async fn feel_pulse<Prepare, Push>(
    address: &str,
    keeping: &Keeping<Prepare, Push>,
    mut connection: Connection,
    current: &watch::Sender<Option<Connection>>,
) -> End {
    let (pulse, name) = (keeping.pulse, keeping.name);
    let for_others = connection.clone();
    loop {
        tokio::time::sleep(pulse.every).await;
        keeping.question.possible().await;
        let asked = Instant::now();
        let mut silence = Silence::from(asked, for_others.signs.clone());
        let mut withdrawn = false;
        let answer = keeping.question.ask(&mut connection.redis);
        let mut answer = std::pin::pin!(answer);
        let answer = loop {
            let waited = tokio::time::timeout(pulse.late / LOOKS, &mut answer).await;
            let silent_for = match &waited {
                Ok(_) => Duration::ZERO,
                Err(_) => silence.lasts(),
            };
            if withdrawn && silent_for < pulse.late {
                log::info!("Redis at {address} answers again ({name})");
                current.send_replace(Some(for_others.clone()));
                withdrawn = false;
            }
            if let Ok(answer) = waited {
                break answer;
            }
            if silent_for >= pulse.dead {
                return End::Silent;
            }
            if !withdrawn && silent_for >= pulse.late {
                log::warn!("Redis at {address} does not answer ({name})");
                current.send_replace(None);
                withdrawn = true;
            }
        };
        // An error either ends the connection or counts as an answer too.
        if let Ok(answer) = answer {
            keeping.metrics.answered_after(asked.elapsed());
            if !answer.fits(&keeping.master, connection.term) {
                keeping.master.end(connection.term);
                return End::Left;
            }
        }
    }
}

/// How many times to look for arrivals within the time after which Redis counts as late.
const LOOKS: u32 = 5;

/// The time since anything last arrived on a connection.
struct Silence {
    since: Instant,
    seen: u64,
    signs: Signs,
}

impl Silence {
    fn from(since: Instant, signs: Signs) -> Self {
        let seen = signs.count();
        Self { since, seen, signs }
    }

    /// How long the silence has lasted.
    fn lasts(&mut self) -> Duration {
        let seen = self.signs.count();
        if seen != self.seen {
            (self.since, self.seen) = (Instant::now(), seen);
        }
        self.since.elapsed()
    }
}

/// Redis's answer to a [`Question`].
enum Answer {
    Alive,
    /// The run id of a master, or `None` if it is not one.
    Master(Option<String>),
}

impl Question {
    /// Resolves when the question can be asked.
    async fn possible(&self) {
        if let Self::Echo(echo) = self {
            // An error means that the server is stopping.
            let _ = echo.by.clone().wait_for(Option::is_some).await;
        }
    }

    async fn ask(&self, connection: &mut MultiplexedConnection) -> Result<Answer, RedisError> {
        match self {
            Self::Alive => {
                redis::cmd("PING").exec_async(connection).await?;
                Ok(Answer::Alive)
            }
            Self::Master(clock) => Ok(Answer::Master(master_run_id(connection, clock).await?)),
            Self::Echo(echo) => {
                let mut by = echo.by.clone();
                tokio::select! {
                    () = (echo.heard)() => {}
                    // It may never have been published.
                    _ = by.wait_for(Option::is_none) => {}
                }
                Ok(Answer::Alive)
            }
        }
    }
}

impl Answer {
    /// Whether the answer is compatible with this master.
    fn fits(&self, master: &Master, term: Term) -> bool {
        match self {
            Self::Alive => true,
            Self::Master(run_id) => run_id.as_deref().is_some_and(|run| master.is(term, run)),
        }
    }
}
