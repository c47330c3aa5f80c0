//! One connection to Redis that is kept open: connect, check, prepare, wait until it breaks, again.
//!
//! The redis crate's own connection manager is not used: with its retries a command waits out an outage, and nobody
//! learns whether it was ever written. Here a call finds either a connection that is up or none at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, IntoConnectionInfo, ProtocolVersion, PushInfo, PushKind,
    RedisError,
};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::metrics::ConnectionMetrics;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// Why a Redis that answers is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("{0}")]
    Redis(#[from] RedisError),
    /// It will do after a while.
    #[error("{0}")]
    NotYet(&'static str),
    /// Trying again does not help: its operator has to change something.
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
    /// `url` as in `REDIS_URL`. Errors if it is not understood.
    pub fn new(url: &str) -> Result<Self, RedisError> {
        // rustls takes no provider by itself; an error only says that this process has chosen one before.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let info = url.into_connection_info()?;
        let settings = info
            .redis_settings()
            .clone()
            .set_protocol(ProtocolVersion::RESP3);
        let info = info
            .set_redis_settings(settings)
            .set_tcp_settings(TcpSettings::default().set_nodelay(true));
        let display = info.addr().to_string();
        Ok(Self {
            client: Client::open(info)?,
            display,
        })
    }

    /// Where Redis is, without user and password.
    pub fn address(&self) -> &str {
        &self.display
    }

    /// A new connection. `on_push` gets what Redis sends unasked; `broken` is told when the connection ends.
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
            // Each call has a timeout of its own, which knows what the call was.
            .set_response_timeout(None)
            .set_push_sender(push);
        self.client
            .get_multiplexed_async_connection_with_config(&config)
            .await
    }
}

/// The connection that is up now, if one is.
pub type Current = watch::Receiver<Option<MultiplexedConnection>>;

/// How far a connection has come that others cannot have yet.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<AtomicBool>);

impl Progress {
    /// Redis was checked; the scripts are not loaded yet.
    pub fn checked(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// It begins anew, or is done.
    fn reset(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Whether it is for the scripts alone that others cannot have the connection.
    pub fn lacks_scripts(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// How it is noticed that Redis no longer answers on a connection that is still open.
#[derive(Debug, Clone, Copy)]
pub struct Pulse {
    /// How often it is asked.
    pub every: Duration,
    /// After so long without an answer others get the connection no more, until it answers.
    pub late: Duration,
    /// After so long without an answer the connection is given up.
    pub dead: Duration,
}

/// What a connection is for, and how it is kept.
pub struct Keeping<Prepare, Push> {
    /// For the log.
    pub name: &'static str,
    pub pulse: Pulse,
    /// Runs on each new connection before others may use it; it bounds its own time.
    pub prepare: Prepare,
    /// Gets what Redis sends unasked. It must not block.
    pub on_push: Push,
    /// Notified if the connection is to be made anew: it leads to the wrong Redis.
    pub distrusted: Arc<Notify>,
    /// Told by `prepare`.
    pub progress: Progress,
    pub metrics: ConnectionMetrics,
}

/// Keeps one connection open until `cancel`.
///
/// Errors only if the very first Redis that answers is refused; later refusals are logged and tried again.
pub async fn keep_open<Prepare, Push>(
    connector: Connector,
    keeping: Keeping<Prepare, Push>,
    current: watch::Sender<Option<MultiplexedConnection>>,
    cancel: CancellationToken,
) -> Result<(), ConnectError>
where
    Prepare: AsyncFn(&mut MultiplexedConnection) -> Result<(), ConnectError>,
    Push: Fn(PushInfo) + Clone + Send + Sync + 'static,
{
    let name = keeping.name;
    let mut backoff = BACKOFF_FIRST;
    let mut ever_connected = false;
    let mut complained = false;
    loop {
        let broken = Arc::new(Notify::new());
        let attempt = async {
            let mut connection = connector
                .open(keeping.on_push.clone(), broken.clone())
                .await?;
            (keeping.prepare)(&mut connection).await?;
            Ok::<_, ConnectError>(connection)
        };
        keeping.progress.reset();
        let outcome = tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            outcome = attempt => outcome,
        };
        match outcome {
            Ok(connection) => {
                if complained || ever_connected {
                    log::info!("Redis at {} is back ({name})", connector.address());
                }
                if ever_connected {
                    keeping.metrics.reconnected();
                }
                (ever_connected, complained, backoff) = (true, false, BACKOFF_FIRST);
                keeping.progress.reset();
                current.send_replace(Some(connection.clone()));
                let end = tokio::select! {
                    () = cancel.cancelled() => return Ok(()),
                    () = broken.notified() => "closed the connection",
                    () = keeping.distrusted.notified() => "is no master any more",
                    () = feel_pulse(&connector, &keeping, connection, &current) => "does not answer: the connection is given up",
                };
                current.send_replace(None);
                log::warn!("Redis at {} {end} ({name})", connector.address());
            }
            Err(error @ ConnectError::Refused(_)) if !ever_connected => return Err(error),
            Err(error) => {
                if !complained {
                    log::warn!(
                        "cannot use Redis at {} ({name}): {error}; trying again until it can be used",
                        connector.address()
                    );
                    complained = true;
                }
                tokio::select! {
                    () = cancel.cancelled() => return Ok(()),
                    () = tokio::time::sleep(backoff) => {}
                }
                backoff = (backoff * 2).min(BACKOFF_MAX);
            }
        }
    }
}

/// Asks now and then whether Redis is there. Resolves when it has not answered for too long.
async fn feel_pulse<Prepare, Push>(
    connector: &Connector,
    keeping: &Keeping<Prepare, Push>,
    mut connection: MultiplexedConnection,
    current: &watch::Sender<Option<MultiplexedConnection>>,
) {
    let (pulse, name) = (keeping.pulse, keeping.name);
    loop {
        tokio::time::sleep(pulse.every).await;
        let asked = Instant::now();
        let ping = redis::cmd("PING");
        let mut answer = std::pin::pin!(ping.exec_async(&mut connection));
        if let Ok(answered) = tokio::time::timeout_at(asked + pulse.late, &mut answer).await {
            // An error ends the connection, or is an answer too.
            if answered.is_ok() {
                keeping.metrics.answered_after(asked.elapsed());
            }
            continue;
        }
        log::warn!("Redis at {} does not answer ({name})", connector.address());
        let for_others = current.send_replace(None);
        match tokio::time::timeout_at(asked + pulse.dead, answer).await {
            Ok(Ok(())) => keeping.metrics.answered_after(asked.elapsed()),
            Ok(Err(_)) => {}
            Err(_) => return,
        }
        log::info!("Redis at {} answers again ({name})", connector.address());
        current.send_replace(for_others);
    }
}
