//! Assembles the parts, runs them, and shuts them down in order.

mod background;
mod checks;
mod listener;
mod operations;
mod peers;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::BuildError;
use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::background::Background;
use self::listener::Listener;
use self::operations::Observed;
use self::peers::Peers;
use crate::auth::{AuthSetupError, Verifier};
use crate::chat::Chat;
use crate::chat::budget::Budget;
use crate::chat::entry_reads::EntryReads;
use crate::chat::hello::Greeter;
use crate::chat::list_reads::ListReads;
use crate::chat::new_rooms::NewRooms;
use crate::config::{Config, Durability};
use crate::gateway::guests::Guests;
use crate::gateway::readiness::{Others, Readiness};
use crate::gateway::web::Web;
use crate::gateway::{Gateway, accept};
use crate::hub::Hub;
use crate::hub::lane::QueueLimits;
use crate::metrics::{DoorMetrics, Exposition, Metrics};
use crate::scripts::keeper::{self, Keeper};
use crate::scripts::set::InEffect;
use crate::scripts::verify::Refusal;
use crate::scripts::wire::ServerFacts;
use crate::scripts::{CONTRACT, MissingScript, Script, ScriptSet};
use crate::store::confirm::Wanted;
use crate::store::connection::{ConnectError, Connector, Current};
use crate::store::embedded::{EmbeddedError, EmbeddedOptions, EmbeddedRedis};
use crate::store::flaw_log::FlawLog;
use crate::store::keys::Keys;
use crate::store::server_check::ServerInfo;
use crate::store::tally::Tallies;
use crate::store::{Bounds, Rules, Store};
use crate::upkeep;

/// Connections that the kernel queues until they are accepted; its own limit may be lower (`net.core.somaxconn`). Past
/// it a client's first packet is dropped, and the client retries after one second, then two: a storm of reconnects
/// would take long.
const BACKLOG: u32 = 16 * 1024;

/// How long the start line waits for Redis before it reports that there is none.
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
    #[error(
        "cannot listen on {address} for metrics: {source} (another program may use the port, or it is the clients' own: set METRICS_ADDR to a free one)"
    )]
    ListenForMetrics {
        address: SocketAddr,
        source: std::io::Error,
    },
    #[error("the metrics cannot be recorded: {0}")]
    Metrics(#[from] BuildError),
    #[error(transparent)]
    Auth(#[from] AuthSetupError),
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    #[error("REDIS_URL is not understood: {0}")]
    RedisUrl(redis::RedisError),
    #[error("this Redis is not used: {0}")]
    RedisRefused(#[from] ConnectError),
    #[error(transparent)]
    Embedding(#[from] MissingScript),
    #[error("the scripts of LUA_DIR are not run:\n{0}")]
    Scripts(#[from] Refusal),
    #[error("cannot listen for signals: {0}")]
    Signals(std::io::Error),
}

/// Runs the server until SIGTERM or Ctrl-C.
pub async fn serve(config: Config) -> Result<(), ServeError> {
    let signal = stop_signal()?;
    let address = SocketAddr::new(config.host, config.port);
    let listener = listen(address).map_err(|source| ServeError::Listen { address, source })?;
    let for_metrics = config.metrics_address.map(|address| {
        listen(address).map_err(|source| ServeError::ListenForMetrics { address, source })
    });
    let listeners = Listeners {
        clients: listener,
        metrics: for_metrics.transpose()?,
    };
    let (embedded, url) = match &config.redis.url {
        Some(url) => (None, url.clone()),
        None => {
            let embedded = start_embedded(&config).await?;
            let url = embedded.url().to_owned();
            (Some(embedded), url)
        }
    };
    let outcome = run(&config, listeners, &url, signal).await;
    if let Some(embedded) = embedded {
        embedded.stop().await;
    }
    log::info!("stopped");
    outcome
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn start_embedded(config: &Config) -> Result<EmbeddedRedis, EmbeddedError> {
    let options = EmbeddedOptions {
        data_dir: config.redis.data_dir.clone(),
        runtime_dir: config.redis.runtime_dir.clone(),
        sync_each_write: config.redis.durability == Durability::Fsync,
    };
    EmbeddedRedis::start(options).await
}

/// The sockets that accept connections.
pub struct Listeners {
    pub clients: TcpListener,
    /// For `/metrics`, if it is not served on the clients' port.
    pub metrics: Option<TcpListener>,
}

/// Runs on open listeners and a running Redis, until `stop`.
pub async fn run(
    config: &Config,
    listeners: Listeners,
    redis_url: &str,
    stop: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let verifier = Verifier::new(&config.auth)?;
    let connector = Connector::new(redis_url).map_err(ServeError::RedisUrl)?;
    let embedded = ScriptSet::embedded()?;
    let first = keeper::first_set(config.lua_dir.clone(), &embedded).await?;
    let (set_scripts, scripts) = keeper::in_effect(first.set);
    let keys = Keys::new(&config.redis.key_prefix);
    let confirms = Wanted::of(config.redis.durability).is_some();
    let (metrics, recorder) = Metrics::recorded(confirms)?;
    let hub = Arc::new(new_hub(config, &metrics));
    let local = listeners.clients.local_addr();
    let local = local.unwrap_or_else(|_| SocketAddr::new(config.host, config.port));

    let mut background = Background::new(metrics.clone());
    let (orders, inbox) = keeper::inbox();
    let confirmations = background.keep_confirmations(&connector, &keys, config);
    let (confirmations, confirming) = confirmations.unzip();
    let commands =
        background.keep_commands(&connector, orders.clone(), config, confirmations.clone());
    let flaw_log: Arc<FlawLog> = Arc::default();
    let (peers, heard_peers) = peers::inbox();
    let listener = Listener {
        keys: keys.clone(),
        hub: hub.clone(),
        orders: orders.clone(),
        peers,
        metrics: metrics.published.clone(),
        flaw_log: Arc::clone(&flaw_log),
    };
    let subscriber = background.keep_subscriber(&connector, &commands.current, listener);
    let (set_others, others) = watch::channel(Others::default());
    let peers = Peers {
        own: server_facts(local),
        nonce: uuid::Uuid::new_v4().as_simple().to_string(),
        keys: keys.clone(),
        interest: hub.interest.clone(),
        commands: commands.current.clone(),
        inbox: heard_peers,
        others: set_others,
    };
    let cancel = background.cancel.clone();
    background.spawn(peers.run(cancel));
    let readiness = Readiness {
        commands: commands.current.clone(),
        progress: commands.progress,
        subscriber,
        interest: hub.interest.clone(),
        missing_rights: background.keep_checking(&commands.current, &scripts, &keys, config),
        others,
        stopping: CancellationToken::new(),
    };
    let (info, commands) = (commands.info, commands.current);
    let commands_up = commands.clone();
    let store = Store::new(
        keys.clone(),
        scripts.clone(),
        commands.clone(),
        bounds(config),
        Rules::new(&config.chat, &config.limits),
    );
    let store = store
        .reporting_to(background.master.clone())
        .confirming(confirmations)
        .counting(Tallies::telling(metrics.scripts.clone()))
        .telling_flaws(flaw_log);
    let parts = keeper::Parts {
        embedded,
        lua_dir: config.lua_dir.clone(),
        keys,
        commands,
        in_effect: set_scripts,
        tallies: store.tallies(),
        server: server_facts(local),
    };
    let keeper = Keeper::new(parts, first.note);
    background.keep_scripts(keeper, inbox, &orders, config)?;
    let greeter = Greeter::new(
        &config.limits,
        config.serves_developers(),
        background.clock.clone(),
    );
    let chat = new_chat(config, store, hub.clone(), (verifier, greeter), &metrics);
    let chat = Arc::new(chat);
    let cancel = background.cancel.clone();
    let quiet_room_check = config.chat.quiet_room_check;
    background.spawn(upkeep::run(chat.clone(), quiet_room_check, cancel));
    background.keep_watching_policy(commands_up.clone());
    background.keep_writing(&hub);
    let observed = Observed {
        readiness: readiness.clone(),
        confirming,
        hub: hub.clone(),
        gauges: metrics.scraped,
    };
    let metrics_at = operations::place(listeners.metrics.as_ref());
    let told_here = operations::tell(
        &mut background,
        &recorder,
        observed,
        listeners.metrics,
        config.timing.clone(),
    );
    let gateway = new_gateway(config, chat, readiness, metrics.doors, told_here);
    let gateway = Arc::new(gateway);

    let acceptor = tokio::spawn(accept::accept(gateway.clone(), listeners.clients));
    let outcome = tokio::select! {
        () = stop => Ok(()),
        refused = background.refused() => Err(refused.into()),
        () = async { announce(config, (local, &metrics_at), &connector, info, commands_up, &scripts).await; std::future::pending().await } => Ok(()),
    };
    close_connections(&gateway, &hub, config.timing.shutdown_deadline).await;
    background.end().await;
    // It ends with the gateway's `stopping`; a panic in it has been printed already.
    let _ = acceptor.await;
    outcome
}

/// Closes every connection: what is queued for a device is still sent, until the deadline.
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

fn new_hub(config: &Config, metrics: &Metrics) -> Hub {
    let limits = QueueLimits {
        max_frames: config.limits.queue_max_frames,
        max_bytes: config.limits.queue_max_bytes,
        answers_max_bytes: config.limits.answers_max_bytes_per_device,
    };
    Hub::new(limits, config.chat.list_refresh_interval)
        .pushing_histories(config.chat.classic_history)
        .counting(metrics.hub.clone())
}

fn bounds(config: &Config) -> Bounds {
    Bounds {
        timeout: config.redis.call_timeout,
        calls_at_once: config.redis.calls_at_once,
        repeats: true,
    }
}

/// How this server identifies itself to others.
fn server_facts(address: SocketAddr) -> ServerFacts {
    ServerFacts {
        host: gethostname::gethostname().to_string_lossy().into_owned(),
        address: address.to_string(),
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        contract: CONTRACT,
    }
}

fn new_chat(
    config: &Config,
    store: Store,
    hub: Arc<Hub>,
    (verifier, greeter): (Verifier, Greeter),
    metrics: &Metrics,
) -> Chat {
    Chat {
        store,
        hub,
        verifier,
        greeter,
        requests: metrics.requests.clone(),
        lists: metrics.lists.clone(),
        list_reads: ListReads::default(),
        entry_reads: EntryReads::default(),
        answers: Budget::new(config.limits.answers_max_bytes),
        list_patience: config.chat.list_patience,
        new_rooms: NewRooms::new(config.limits.max_new_room_members_per_min),
        reset_allowed: config.serves_developers(),
    }
}

fn new_gateway(
    config: &Config,
    chat: Arc<Chat>,
    readiness: Readiness,
    metrics: DoorMetrics,
    exposition: Option<Arc<Exposition>>,
) -> Gateway {
    Gateway {
        chat,
        limits: config.limits.clone(),
        timing: config.timing.clone(),
        allow_query_token: config.auth.allow_query_token,
        origins: config.origins.clone(),
        web: Web::new(config),
        seats: Arc::new(Semaphore::new(config.limits.max_connections)),
        guests: Guests::new(config.limits.max_unjoined, config.limits.max_connections),
        tasks: TaskTracker::new(),
        stopping: readiness.stopping.clone(),
        readiness,
        exposition,
        metrics,
    }
}

/// The start line: version, address, environment, Redis and scripts.
async fn announce(
    config: &Config,
    (address, metrics_at): (SocketAddr, &str),
    connector: &Connector,
    mut info: watch::Receiver<Option<ServerInfo>>,
    mut commands: Current,
    scripts: &InEffect,
) {
    let answered = tokio::time::timeout(START_PATIENCE, info.wait_for(Option::is_some)).await;
    let version = match answered {
        Ok(Ok(info)) => info.as_ref().map(|info| info.version.clone()),
        _ => None,
    };
    let redis = match version {
        Some(version) => {
            // A Redis that answers is used as soon as its scripts are checked and loaded.
            let _ = commands.wait_for(Option::is_some).await;
            let origin = &scripts.borrow().origin;
            let count = Script::ALL.len();
            format!("Redis {version}, {count} scripts loaded: {origin}")
        }
        None => format!("no Redis at {} yet", connector.address()),
    };
    let version = env!("CARGO_PKG_VERSION");
    log::info!(
        "chat-server {version} listening on {address}, {}, {redis}{metrics_at}",
        config.environment
    );
    if config.web_client && config.environment.is_development() {
        let own = SocketAddr::new(config.own_host(), address.port());
        log::info!("to chat in a browser open http://{own}/");
    }
}

/// Resolves at SIGTERM or Ctrl-C.
fn stop_signal() -> Result<impl Future<Output = ()>, ServeError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(ServeError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServeError::Signals)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
