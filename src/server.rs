//! Puts the parts together, runs them, and takes them apart in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use redis::PushInfo;
use redis::aio::MultiplexedConnection;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::{AuthSetupError, Verifier};
use crate::chat::Chat;
use crate::config::Config;
use crate::gateway::{Gateway, accept};
use crate::hub::Hub;
use crate::hub::device::QueueLimits;
use crate::hub::published::{RoomEvent, RoomGained};
use crate::protocol::request::PayloadLimits;
use crate::scripts::{MissingScript, Script, ScriptSet};
use crate::store::connection::{ConnectError, Connector, Current, keep_open};
use crate::store::embedded::{EmbeddedError, EmbeddedOptions, EmbeddedRedis};
use crate::store::keys::{Keys, Topic};
use crate::store::server_check::{ServerInfo, check_server};
use crate::store::subscriber::{keep_subscribed, published};
use crate::store::{Rules, Store, load_scripts};
use crate::upkeep;

/// How long the start line waits for Redis before it says that there is none.
const START_PATIENCE: Duration = Duration::from_secs(1);

/// Why the server could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(
        "cannot listen on {address}: {source} (another program may use the port: set PORT to a free one)"
    )]
    Listen {
        address: SocketAddr,
        source: std::io::Error,
    },
    #[error(transparent)]
    Auth(#[from] AuthSetupError),
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    #[error("REDIS_URL is not understood: {0}")]
    RedisUrl(redis::RedisError),
    #[error("this Redis is not used: {0}")]
    RedisRefused(#[from] ConnectError),
    #[error(transparent)]
    Scripts(#[from] MissingScript),
    #[error("cannot listen for signals: {0}")]
    Signals(std::io::Error),
}

/// Runs the server until SIGTERM or Ctrl-C.
pub async fn serve(config: Config) -> Result<(), ServeError> {
    let signal = stop_signal()?;
    let address = SocketAddr::new(config.host, config.port);
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| ServeError::Listen { address, source })?;
    let (embedded, url) = match &config.redis.url {
        Some(url) => (None, url.clone()),
        None => {
            let embedded = start_embedded(&config).await?;
            let url = embedded.url().to_owned();
            (Some(embedded), url)
        }
    };
    let outcome = run(&config, listener, &url, signal).await;
    if let Some(embedded) = embedded {
        embedded.stop().await;
    }
    log::info!("stopped");
    outcome
}

async fn start_embedded(config: &Config) -> Result<EmbeddedRedis, EmbeddedError> {
    let options = EmbeddedOptions {
        data_dir: config.redis.data_dir.clone(),
        runtime_dir: config.redis.runtime_dir.clone(),
    };
    EmbeddedRedis::start(options).await
}

/// Runs on a listener and a Redis that are there, until `stop`.
pub async fn run(
    config: &Config,
    listener: TcpListener,
    redis_url: &str,
    stop: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let verifier = Verifier::new(&config.auth)?;
    let connector = Connector::new(redis_url).map_err(ServeError::RedisUrl)?;
    let scripts = Arc::new(ScriptSet::embedded()?);
    let keys = Keys::new(&config.redis.key_prefix);
    let hub = Arc::new(new_hub(config));

    let mut background = Background::default();
    let production = !config.environment.is_development();
    let (commands, info) = background.keep_commands(&connector, scripts.clone(), production);
    let subscriber = background.keep_subscriber(&connector, &keys, &hub);
    let store = Store::new(
        keys,
        crate::scripts::set::fixed((*scripts).clone()),
        commands,
        config.redis.call_timeout,
        rules(config),
    );
    let chat = Arc::new(new_chat(config, store, hub.clone(), verifier));
    background.spawn(upkeep::run(chat.clone(), background.cancel.clone()));
    let gateway = Arc::new(new_gateway(config, chat, subscriber));

    let local = listener
        .local_addr()
        .unwrap_or_else(|_| SocketAddr::new(config.host, config.port));
    let acceptor = tokio::spawn(accept::accept(gateway.clone(), listener));
    let outcome = tokio::select! {
        () = stop => Ok(()),
        refused = background.refused() => Err(refused.into()),
        () = async { announce(config, local, &connector, info).await; std::future::pending().await } => Ok(()),
    };
    close_connections(&gateway, &hub, config.timing.shutdown_deadline).await;
    background.end().await;
    // It ends with the gateway's `stopping`; a panic in it has been printed already.
    let _ = acceptor.await;
    outcome
}

/// Ends every connection: what waits for a device is still sent, until the deadline.
async fn close_connections(gateway: &Gateway, hub: &Hub, deadline: Duration) {
    log::info!(
        "stopping: no new connections, {} to close",
        gateway.tasks.len()
    );
    gateway.stopping.cancel();
    hub.close_all();
    gateway.tasks.close();
    if tokio::time::timeout(deadline, gateway.tasks.wait())
        .await
        .is_err()
    {
        log::warn!("{} connections did not close in time", gateway.tasks.len());
    }
}

fn new_hub(config: &Config) -> Hub {
    let limits = QueueLimits {
        max_frames: config.limits.queue_max_frames,
        max_bytes: config.limits.queue_max_bytes,
    };
    Hub::new(limits, config.chat.list_refresh_interval)
}

fn rules(config: &Config) -> Rules {
    Rules {
        history_max_messages: config.chat.history_max_messages,
        dedupe_ttl: config.chat.dedupe_ttl,
        viewer_lease: config.chat.viewer_lease,
    }
}

fn new_chat(config: &Config, store: Store, hub: Arc<Hub>, verifier: Verifier) -> Chat {
    let limits = PayloadLimits {
        content_max_bytes: config.limits.max_content_bytes,
        participants_max: config.limits.max_participants,
    };
    let private = config.host.is_loopback() || config.dev_open;
    let reset_allowed = config.environment.is_development() && private;
    Chat {
        store,
        hub,
        verifier,
        limits,
        reset_allowed,
    }
}

fn new_gateway(config: &Config, chat: Arc<Chat>, subscriber: Current) -> Gateway {
    Gateway {
        chat,
        limits: config.limits.clone(),
        timing: config.timing.clone(),
        allow_query_token: config.auth.allow_query_token,
        origins: config.origins.clone(),
        seats: Arc::new(Semaphore::new(config.limits.max_connections)),
        tasks: TaskTracker::new(),
        subscriber,
        stopping: CancellationToken::new(),
    }
}

/// The tasks that serve no single connection.
#[derive(Default)]
struct Background {
    tasks: JoinSet<Result<(), ConnectError>>,
    cancel: CancellationToken,
}

impl Background {
    fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(async {
            task.await;
            Ok(())
        });
    }

    /// The connection for commands, on a Redis that was checked and has the scripts; and what that Redis is.
    fn keep_commands(
        &mut self,
        connector: &Connector,
        scripts: Arc<ScriptSet>,
        production: bool,
    ) -> (Current, watch::Receiver<Option<ServerInfo>>) {
        let (set, current) = watch::channel(None);
        let (set_info, info) = watch::channel(None);
        let prepare = async move |connection: &mut MultiplexedConnection| {
            let info = check_server(connection, production).await?;
            load_scripts(connection, &scripts).await?;
            log::debug!(
                "Redis {}: {} scripts loaded",
                info.version,
                Script::ALL.len()
            );
            set_info.send_replace(Some(info));
            Ok(())
        };
        let cancel = self.cancel.clone();
        self.tasks.spawn(keep_open(
            connector.clone(),
            "commands",
            set,
            prepare,
            |_| (),
            cancel,
        ));
        (current, info)
    }

    /// The connection that listens, on which the hub hears what it wants to.
    fn keep_subscriber(&mut self, connector: &Connector, keys: &Keys, hub: &Arc<Hub>) -> Current {
        let (set, current) = watch::channel(None);
        let prepare = async |_: &mut MultiplexedConnection| Ok(());
        let on_push = {
            let (keys, hub) = (keys.clone(), hub.clone());
            move |push| deliver(&keys, &hub, push)
        };
        let cancel = self.cancel.clone();
        self.tasks.spawn(keep_open(
            connector.clone(),
            "subscriptions",
            set,
            prepare,
            on_push,
            cancel,
        ));
        let (keys, hub, cancel) = (keys.clone(), hub.clone(), self.cancel.clone());
        let heard_on = current.clone();
        self.spawn(async move {
            let interest = hub.interest.clone();
            keep_subscribed(keys, interest, heard_on, |topic| hub.heard(topic), cancel).await;
        });
        current
    }

    /// Resolves when a task says that this Redis cannot be used at all.
    async fn refused(&mut self) -> ConnectError {
        while let Some(ended) = self.tasks.join_next().await {
            match ended {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return error,
                Err(panic) => {
                    return ConnectError::Refused(format!("a task of the server failed: {panic}"));
                }
            }
        }
        std::future::pending().await
    }

    async fn end(mut self) {
        self.cancel.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

/// The start line: version, address, environment, Redis and scripts.
async fn announce(
    config: &Config,
    address: SocketAddr,
    connector: &Connector,
    mut info: watch::Receiver<Option<ServerInfo>>,
) {
    let known = tokio::time::timeout(START_PATIENCE, info.wait_for(Option::is_some)).await;
    let redis = match known {
        Ok(Ok(info)) => info.as_ref().map(|info| {
            format!(
                "Redis {}, {} scripts loaded",
                info.version,
                Script::ALL.len()
            )
        }),
        _ => None,
    };
    let redis = redis.unwrap_or_else(|| format!("no Redis at {} yet", connector.address()));
    let version = env!("CARGO_PKG_VERSION");
    log::info!(
        "chat-server {version} listening on {address}, {}, {redis}",
        config.environment
    );
}

/// Hands what Redis published to the hub. Runs on the connection's own task: it must not block.
fn deliver(keys: &Keys, hub: &Hub, push: PushInfo) {
    let Some((topic, payload)) = published(keys, push) else {
        return;
    };
    match &topic {
        Topic::Room(room) => match RoomEvent::parse(*room, &payload) {
            Some(event) => hub.room_event(*room, event),
            None => log::warn!("an event of room {room} could not be read"),
        },
        Topic::User(user) => match RoomGained::parse(&payload) {
            Some(gained) => hub.room_gained(user, &gained),
            None => log::warn!("an event of a user's channel could not be read"),
        },
        // The one event there is: all chats were deleted.
        Topic::Control => hub.reset(),
    }
}

/// Resolves at SIGTERM or Ctrl-C.
fn stop_signal() -> Result<impl Future<Output = ()>, ServeError> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).map_err(ServeError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServeError::Signals)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
