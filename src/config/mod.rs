//! The configuration: the only reader of the environment.
//!
//! Everything is checked before anything starts, and all that is wrong is reported at once. The
//! settings, their defaults and ranges are in [`settings`]; `.env.example` mirrors them.

mod describe;
pub mod example;
mod reader;
mod reading;
mod redis_url;
pub mod settings;
mod sources;
#[cfg(test)]
mod tests;

pub use self::reading::normal_origin;

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use reading::environment_of;
use settings as s;
use sources::{NODE_ENV, Sources};

/// Gives a variable's value, `None` where it is unset.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The whole configuration, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Development or production.
    pub environment: Environment,
    /// The address to listen on.
    pub host: IpAddr,
    /// The port to listen on; 0 for any free one.
    pub port: u16,
    /// Whether the chat client for browsers is served.
    pub web_client: bool,
    /// Where `/metrics` is served; `None` for the clients' port.
    pub metrics_address: Option<SocketAddr>,
    /// In development: allow what only developers may also where `host` is not loopback.
    pub dev_open: bool,
    /// Threads that serve clients; 0 for as many as suit the machine.
    pub worker_threads: usize,
    /// Which web pages may use the server from a browser.
    pub origins: AllowedOrigins,
    /// How Redis is reached or run.
    pub redis: RedisConfig,
    /// The folder of the scripts to run; `None` for the applied or the embedded set.
    pub lua_dir: Option<PathBuf>,
    /// How tokens are checked.
    pub auth: AuthConfig,
    /// What clients may use up.
    pub limits: Limits,
    /// How chats behave.
    pub chat: ChatConfig,
    /// How long things may take.
    pub timing: Timing,
}

/// The part of the configuration that `chat-server scripts` needs: no token settings.
#[derive(Debug, Clone)]
pub struct OperatorConfig {
    /// How Redis is reached.
    pub redis: RedisConfig,
    /// The folder of the scripts that a server with these settings runs.
    pub lua_dir: Option<PathBuf>,
    /// The limits that scripts get as arguments.
    pub limits: Limits,
    /// How chats behave.
    pub chat: ChatConfig,
}

/// Where the server runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Environment {
    /// On a developer's machine.
    Development,
    /// Everywhere else.
    Production,
}

/// Which web pages may use the server from a browser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedOrigins {
    /// Every page.
    Any,
    /// Pages of these origins, such as `https://app.example`, and the server's own.
    List(Vec<String>),
    /// Pages of these origins, and those that this machine serves at a loopback address.
    ThisMachine(Vec<String>),
}

/// How Redis is reached or run.
#[derive(Clone)]
pub struct RedisConfig {
    /// The Redis to use; `None` for one of the server's own.
    pub url: Option<String>,
    /// What all keys and channels begin with: 1 to 32 of `A-Za-z0-9._-`.
    pub key_prefix: String,
    /// The data folder of the server's own Redis.
    pub data_dir: PathBuf,
    /// The folder for its socket; `None` for a private one that the server chooses.
    pub runtime_dir: Option<PathBuf>,
    /// How long one call may take.
    pub call_timeout: Duration,
    /// Calls under way at once.
    pub calls_at_once: usize,
    /// What an ack promises.
    pub durability: Durability,
}

/// What the ack of a write promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Redis has it in memory.
    Memory,
    /// It is on disk.
    Fsync,
    /// So many replicas have it too.
    Replicas(u32),
}

/// How tokens are checked.
#[derive(Debug, Clone)]
pub struct AuthConfig {
    /// What signatures are checked with.
    pub key: KeySource,
    /// The claim, or path to it, that holds the user id; `None` for the usual ones.
    pub user_claim: Option<String>,
    /// Refuse tokens without `exp`.
    pub require_exp: bool,
    /// The `iss` that tokens must have.
    pub issuer: Option<String>,
    /// The `aud` that tokens must have, alone or in a list.
    pub audience: Option<String>,
    /// How far clocks may differ.
    pub leeway: Duration,
    /// Accept `?token=` too.
    pub allow_query_token: bool,
}

/// What signatures are checked with.
#[derive(Clone)]
pub enum KeySource {
    /// A shared secret, for HS256, HS384 and HS512.
    HmacSecret(String),
    /// A public key as PEM text, for the algorithms of its own family.
    PublicKeyPem(Vec<u8>),
}

/// What clients may use up.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections in all.
    pub max_connections: usize,
    /// Connections of one user.
    pub max_connections_per_user: usize,
    /// Connections and sessions without a device.
    pub max_unjoined: usize,
    /// Bytes of one frame from a client.
    pub max_frame_bytes: usize,
    /// Bytes of one message's content, as UTF-8.
    pub max_content_bytes: usize,
    /// Users in one room, its creator included.
    pub max_participants: usize,
    /// Rooms of one user.
    pub max_rooms_per_user: usize,
    /// Members of new rooms that one user may make in a minute, on the long run; 0 for any number.
    pub max_new_room_members_per_min: usize,
    /// Frames that were pushed and may wait for one device.
    pub queue_max_frames: usize,
    /// Bytes of them.
    pub queue_max_bytes: usize,
    /// Bytes of pages and chat lists on their way to all devices.
    pub answers_max_bytes: usize,
    /// Bytes of answers on their way to one device, past which its next request waits.
    pub answers_max_bytes_per_device: usize,
    /// Requests of one device in a second, on the long run; 0 for any number.
    pub max_requests_per_sec: usize,
    /// Requests of one device at once, after a quiet time.
    pub max_request_burst: usize,
    /// Requests of one Socket.IO device that may wait for the ones before them.
    pub max_requests_waiting: usize,
}

/// How chats behave.
#[derive(Debug, Clone)]
pub struct ChatConfig {
    /// About how many messages a room keeps; 0 for all.
    pub history_max_messages: u64,
    /// About how many bytes of messages a room keeps; 0 for all.
    pub room_max_bytes: u64,
    /// How long a repeated `clientMessageId` is recognised.
    pub dedupe_ttl: Duration,
    /// How long a device counts as viewing a room unless that is renewed.
    pub viewer_lease: Duration,
    /// How long a device that has just connected may wait for its chat list.
    pub list_patience: Duration,
    /// Whether classic devices get a room's latest messages again for each message.
    pub classic_history: bool,
    /// The least time between two pushed chat lists of a user whose rooms keep changing.
    pub list_refresh_interval: Duration,
    /// Between two comparisons of quiet rooms with the store.
    pub quiet_room_check: Duration,
}

/// How long things may take.
#[derive(Debug, Clone)]
pub struct Timing {
    /// For the head of an HTTP request.
    pub header_timeout: Duration,
    /// From the first byte of an HTTP request to its answer taken, but for what the server itself takes.
    pub request_timeout: Duration,
    /// Between two pings to a device.
    pub ping_interval: Duration,
    /// For the answer to a ping.
    pub ping_timeout: Duration,
    /// For devices to take what is queued when the server stops.
    pub shutdown_deadline: Duration,
}

/// One thing that is wrong, with what is accepted instead. Never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {text}")]
pub struct Problem {
    /// The variable or the file.
    pub name: String,
    /// What is wrong with it.
    pub text: String,
}

/// Everything that is wrong with the configuration. Displays as one line for each problem.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.render())]
pub struct ConfigErrors {
    /// All problems, never empty.
    pub problems: Vec<Problem>,
    /// Which environment and file were read, for people; empty where that is not known.
    pub origin: String,
}

/// Reads the environment and the `.env.dev` or `.env.prod` of the current folder.
///
/// The real environment wins over the file, which need not be there. The environment of the
/// process is not changed.
///
/// # Errors
/// All bad values, and a file that cannot be read or parsed.
pub fn load() -> Result<Config, ConfigErrors> {
    load_from(&open_sources())
}

/// Reads what `chat-server scripts` needs, from where [`load`] reads it.
///
/// # Errors
/// Bad values among them, and a file that cannot be read or parsed.
pub fn load_for_operator() -> Result<OperatorConfig, ConfigErrors> {
    let sources = open_sources();
    let outcome = OperatorConfig::from_lookup(&|name| sources.get(name));
    checked(outcome, &sources)
}

/// The user of this process: `USER` or `LOGNAME`.
#[must_use]
pub fn user_name() -> Option<String> {
    ["USER", "LOGNAME"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|user| !user.is_empty()))
}

/// What is logged, as an `env_logger` filter: `RUST_LOG`, or `info`.
#[must_use]
pub fn log_filter() -> String {
    let sources = open_sources();
    sources
        .get(s::RUST_LOG.name)
        .unwrap_or_else(|| s::RUST_LOG.default_text())
}

/// The folders in which programs are looked for: `PATH`.
#[must_use]
pub fn search_path() -> Option<OsString> {
    std::env::var_os("PATH")
}

/// The user's folder for sockets, where the system makes one: `XDG_RUNTIME_DIR`.
#[must_use]
pub fn user_runtime_dir() -> Option<PathBuf> {
    std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from)
}

/// The folder for temporary files: `TMPDIR`, or the system's.
#[must_use]
pub fn temp_dir() -> PathBuf {
    std::env::temp_dir()
}

/// What is odd in the file of settings, and no reason not to start.
#[must_use]
pub fn warnings() -> Vec<Problem> {
    open_sources().unknown_names()
}

fn open_sources() -> Sources {
    Sources::open(Path::new(""), &|name| std::env::var_os(name))
}

fn load_from(sources: &Sources) -> Result<Config, ConfigErrors> {
    let outcome = Config::from_lookup(&|name| sources.get(name));
    checked(outcome, sources)
}

/// With what is wrong with the file, before what is wrong with the values.
fn checked<T>(outcome: Result<T, ConfigErrors>, sources: &Sources) -> Result<T, ConfigErrors> {
    let mut problems = sources.problems.clone();
    match outcome {
        Ok(config) if problems.is_empty() => return Ok(config),
        Ok(_) => {}
        Err(errors) => problems.extend(errors.problems),
    }
    // What is missing may be there under a wrong name.
    problems.extend(sources.unknown_names());
    Err(ConfigErrors {
        problems,
        origin: origin(sources),
    })
}

/// Says where values were looked for: forgetting `APP_ENV` is the most common mistake.
fn origin(sources: &Sources) -> String {
    let Some(path) = &sources.path else {
        return String::new();
    };
    let lookup = |name: &str| sources.get(name);
    let unset = [s::APP_ENV.name, NODE_ENV]
        .iter()
        .all(|name| lookup(name).is_none());
    let environment = match environment_of(&lookup) {
        Ok(environment) if unset => format!("{environment}, because APP_ENV is not set"),
        Ok(environment) => environment.to_string(),
        Err(_) => return String::new(),
    };
    let found = if sources.found { "" } else { ", not there" };
    format!("{environment}; file {}{found}", path.display())
}

impl Config {
    /// Where programs on this machine find the server: nobody can connect to an address that means all addresses.
    pub fn own_host(&self) -> IpAddr {
        match self.host {
            IpAddr::V4(host) if host.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(host) if host.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            host => host,
        }
    }

    /// Threads that serve clients, on a machine with so many cores.
    ///
    /// Redis keeps a core busy when the server is: where both are on one machine it has one of its own.
    #[must_use]
    pub fn worker_threads_on(&self, cores: usize) -> usize {
        let beside_redis = self.redis.url.as_deref().is_none_or(redis_url::is_local);
        match self.worker_threads {
            0 if beside_redis => cores.saturating_sub(1).max(1),
            0 => cores,
            given => given,
        }
    }

    /// Whether clients may do what only developers may: delete all chats, get a token for any name. In development, and
    /// there only where nobody else can reach the server, unless `dev_open` says so.
    #[must_use]
    pub fn serves_developers(&self) -> bool {
        let private = self.host.is_loopback() || self.dev_open;
        self.environment.is_development() && private
    }
}
