//! Puts the parts together, runs them, and takes them apart in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use redis::PushInfo;
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
use crate::store::connection::{ConnectError, Connector, keep_open};
use crate::store::embedded::{EmbeddedError, EmbeddedOptions, EmbeddedRedis};
use crate::store::keys::{Keys, Topic};
use crate::store::scripts::{MissingScript, Script, ScriptSet};
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
    let embedded = match &config.redis.url {
        Some(_) => None,
        None => Some(start_embedded(&config).await?),
    };
    let url = match (&config.redis.url, &embedded) {
        (Some(url), _) => url.clone(),
        (None, Some(embedded)) => embedded.url().to_owned(),
        (None, None) => unreachable!("an embedded Redis was started"),
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
    let queue_limits = QueueLimits {
        max_frames: config.limits.queue_max_frames,
        max_bytes: config.limits.queue_max_bytes,
    };
    let hub = Arc::new(Hub::new(queue_limits, config.chat.list_refresh_interval));
    let (commands_set, commands) = watch::channel(None);
    let (subscriber_set, subscriber) = watch::channel(None);
    let (info_set, info) = watch::channel(None::<ServerInfo>);
    let background = CancellationToken::new();
    let mut tasks: JoinSet<Result<(), ConnectError>> = JoinSet::new();

    let production = !config.environment.is_development();
    let loaded = scripts.clone();
    let prepare = async move |connection: &mut redis::aio::MultiplexedConnection| {
        let info = check_server(connection, production).await?;
        load_scripts(connection, &loaded).await?;
        log::debug!(
            "Redis {}: {} scripts loaded",
            info.version,
            Script::ALL.len()
        );
        info_set.send_replace(Some(info));
        Ok(())
    };
    tasks.spawn(keep_open(
        connector.clone(),
        "commands",
        commands_set,
        prepare,
        |_| (),
        background.clone(),
    ));
    let hand_on = {
        let (keys, hub) = (keys.clone(), hub.clone());
        move |push: PushInfo| deliver(&keys, &hub, push)
    };
    let ready = async |_: &mut redis::aio::MultiplexedConnection| Ok(());
    tasks.spawn(keep_open(
        connector.clone(),
        "subscriptions",
        subscriber_set,
        ready,
        hand_on,
        background.clone(),
    ));
    {
        let (keys, hub, current, cancel) = (
            keys.clone(),
            hub.clone(),
            subscriber.clone(),
            background.clone(),
        );
        tasks.spawn(async move {
            let interest = hub.interest.clone();
            keep_subscribed(keys, interest, current, |topic| hub.heard(topic), cancel).await;
            Ok(())
        });
    }

    let rules = Rules {
        history_max_messages: config.chat.history_max_messages,
        dedupe_ttl: config.chat.dedupe_ttl,
        viewer_lease: config.chat.viewer_lease,
    };
    let chat = Arc::new(Chat {
        store: Store::new(keys, scripts, commands, config.redis.call_timeout, rules),
        hub: hub.clone(),
        verifier,
        limits: PayloadLimits {
            content_max_bytes: config.limits.max_content_bytes,
            participants_max: config.limits.max_participants,
        },
        reset_allowed: config.environment.is_development()
            && (config.host.is_loopback() || config.dev_open),
    });
    {
        let (chat, cancel) = (chat.clone(), background.clone());
        tasks.spawn(async move {
            upkeep::run(chat, cancel).await;
            Ok(())
        });
    }
    let gateway = Arc::new(Gateway {
        chat,
        limits: config.limits.clone(),
        timing: config.timing.clone(),
        allow_query_token: config.auth.allow_query_token,
        origins: config.origins.clone(),
        seats: Arc::new(Semaphore::new(config.limits.max_connections)),
        tasks: TaskTracker::new(),
        subscriber,
        stopping: CancellationToken::new(),
    });

    let local = listener
        .local_addr()
        .unwrap_or_else(|_| SocketAddr::new(config.host, config.port));
    let acceptor = tokio::spawn(accept::accept(gateway.clone(), listener));
    let announce = announce(config, local, &connector, info);
    tokio::pin!(stop);
    let outcome = tokio::select! {
        () = &mut stop => Ok(()),
        refused = refused(&mut tasks) => Err(refused.into()),
        () = async { announce.await; std::future::pending().await } => Ok(()),
    };
    log::info!(
        "stopping: no new connections, {} to close",
        gateway.tasks.len()
    );
    gateway.stopping.cancel();
    hub.close_all();
    gateway.tasks.close();
    if tokio::time::timeout(config.timing.shutdown_deadline, gateway.tasks.wait())
        .await
        .is_err()
    {
        log::warn!("{} connections did not close in time", gateway.tasks.len());
    }
    background.cancel();
    while tasks.join_next().await.is_some() {}
    // It ends with `stopping`; a panic in it has been printed already.
    let _ = acceptor.await;
    outcome
}

/// Resolves when a task says that this Redis cannot be used at all.
async fn refused(tasks: &mut JoinSet<Result<(), ConnectError>>) -> ConnectError {
    while let Some(ended) = tasks.join_next().await {
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
