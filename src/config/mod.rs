//! The configuration: the only reader of the environment.
//!
//! Everything is checked before anything starts, and all that is wrong is reported at once. The
//! settings, their defaults and ranges are in [`settings`]; `.env.example` mirrors them.

mod describe;
pub mod example;
mod reader;
mod redis_url;
pub mod settings;
mod sources;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::auth;
use reader::Reader;
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
    /// Where `/metrics` is told; `None` for the clients' port.
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
    /// What scripts are told of payloads.
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
    /// Bytes of one frame from a client.
    pub max_frame_bytes: usize,
    /// Bytes of one message's content, as UTF-8.
    pub max_content_bytes: usize,
    /// Users in one room, its creator included.
    pub max_participants: usize,
    /// Frames that may wait for one device.
    pub queue_max_frames: usize,
    /// Bytes that may wait for one device.
    pub queue_max_bytes: usize,
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
    /// How long a repeated `clientMessageId` is recognised.
    pub dedupe_ttl: Duration,
    /// How long a device counts as viewing a room unless that is renewed.
    pub viewer_lease: Duration,
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
    /// Between two pings to a device.
    pub ping_interval: Duration,
    /// For the answer to a ping.
    pub ping_timeout: Duration,
    /// For devices to take what is queued when the server stops.
    pub shutdown_deadline: Duration,
}

/// One thing that is wrong, with what is accepted instead. Never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    let lookup = |name: &str| sources.get(name);
    let mut reader = Reader::new(&lookup);
    reader.problems = sources.problems.clone();
    read_environment(&mut reader);
    let config = OperatorConfig {
        redis: read_redis(&mut reader),
        lua_dir: read_lua_dir(&mut reader),
        limits: read_limits(&mut reader),
        chat: read_chat(&mut reader),
    };
    let problems = reader.problems;
    if problems.is_empty() {
        return Ok(config);
    }
    Err(ConfigErrors {
        problems,
        origin: origin(&sources),
    })
}

/// Who uses this process: `USER` or `LOGNAME`.
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

fn open_sources() -> Sources {
    Sources::open(Path::new(""), &|name| std::env::var_os(name))
}

fn load_from(sources: &Sources) -> Result<Config, ConfigErrors> {
    let mut problems = sources.problems.clone();
    match Config::from_lookup(&|name| sources.get(name)) {
        Ok(config) if problems.is_empty() => return Ok(config),
        Ok(_) => {}
        Err(errors) => problems.extend(errors.problems),
    }
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

/// The environment that `APP_ENV` or, where that is unset, `NODE_ENV` says; or the name of the
/// variable and its bad value.
fn environment_of(lookup: Lookup<'_>) -> Result<Environment, (&'static str, String)> {
    for name in [s::APP_ENV.name, NODE_ENV] {
        let value = lookup(name).unwrap_or_default();
        match value.trim() {
            "" => {}
            "dev" | "development" => return Ok(Environment::Development),
            "prod" | "production" => return Ok(Environment::Production),
            _ => return Err((name, value)),
        }
    }
    Ok(Environment::Production)
}

impl Config {
    /// Where programs on this machine find the server: an address that stands for all is none to connect to.
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

    /// Reads all settings from `lookup`, which stands for the environment.
    ///
    /// # Errors
    /// All bad values at once.
    pub fn from_lookup(lookup: Lookup<'_>) -> Result<Self, ConfigErrors> {
        let mut reader = Reader::new(lookup);
        let environment = read_environment(&mut reader);
        let host = reader.parsed(&s::HOST, |text| text.parse().ok());
        let config = Self {
            environment: environment.unwrap_or(Environment::Production),
            host: host.unwrap_or(IpAddr::from([127, 0, 0, 1])),
            port: u16::try_from(reader.number(&s::PORT)).unwrap_or_default(),
            web_client: read_web_client(&mut reader, environment),
            metrics_address: reader.parsed(&s::METRICS_ADDR, |text| text.parse().ok()),
            dev_open: reader.flag(&s::DEV_OPEN),
            worker_threads: reader.count(&s::WORKER_THREADS),
            origins: read_origins(&mut reader, environment),
            redis: read_redis(&mut reader),
            lua_dir: read_lua_dir(&mut reader),
            auth: read_auth(&mut reader, environment),
            limits: read_limits(&mut reader),
            chat: read_chat(&mut reader),
            timing: read_timing(&mut reader),
        };
        if reader.problems.is_empty() {
            return Ok(config);
        }
        Err(ConfigErrors {
            problems: reader.problems,
            origin: String::new(),
        })
    }

    /// Whether clients may do what only developers may: delete all chats, get a token for any name. In development, and
    /// there only where nobody else can reach the server, unless `dev_open` says so.
    #[must_use]
    pub fn serves_developers(&self) -> bool {
        let private = self.host.is_loopback() || self.dev_open;
        self.environment.is_development() && private
    }
}

/// On in development, off in production, where nothing is said.
fn read_web_client(reader: &mut Reader<'_>, environment: Option<Environment>) -> bool {
    let given = reader.parsed(&s::WEB_CLIENT, reader::flag);
    given.unwrap_or(environment == Some(Environment::Development))
}

/// Any page in development, none but the server's own in production, where nothing is said.
fn read_origins(reader: &mut Reader<'_>, environment: Option<Environment>) -> AllowedOrigins {
    let given = reader.parsed(&s::CORS_ORIGINS, allowed_origins);
    given.unwrap_or(match environment {
        Some(Environment::Development) => AllowedOrigins::Any,
        _ => AllowedOrigins::List(Vec::new()),
    })
}

fn allowed_origins(text: &str) -> Option<AllowedOrigins> {
    if text == "*" {
        return Some(AllowedOrigins::Any);
    }
    let origin = |part: &str| {
        let part = part.trim();
        let (scheme, host) = part.split_once("://")?;
        let plain = |c: char| c.is_ascii_graphic() && !"/?#@,*".contains(c);
        let good =
            ["http", "https"].contains(&scheme) && !host.is_empty() && host.chars().all(plain);
        good.then(|| part.to_ascii_lowercase())
    };
    text.split(',')
        .map(origin)
        .collect::<Option<Vec<_>>>()
        .map(AllowedOrigins::List)
}

/// `None` where `APP_ENV` is bad: what depends on it can't be judged then.
fn read_environment(reader: &mut Reader<'_>) -> Option<Environment> {
    environment_of(&|name| reader.raw(name))
        .map_err(|(name, value)| {
            let accepted = s::APP_ENV.accepted();
            let text = format!("{value:?} is not accepted; give {accepted}");
            reader.problems.push(Problem::new(name, text));
        })
        .ok()
}

fn read_redis(reader: &mut Reader<'_>) -> RedisConfig {
    RedisConfig {
        url: read_redis_url(reader),
        key_prefix: reader
            .parsed(&s::KEY_PREFIX, key_prefix)
            .unwrap_or_default(),
        data_dir: reader
            .text(&s::REDIS_DATA_DIR)
            .map(PathBuf::from)
            .unwrap_or_default(),
        runtime_dir: reader.text(&s::REDIS_RUNTIME_DIR).map(PathBuf::from),
        call_timeout: reader.millis(&s::REDIS_CALL_TIMEOUT_MS),
        calls_at_once: reader.count(&s::REDIS_CALLS_AT_ONCE),
        durability: reader
            .parsed(&s::DURABILITY, durability)
            .unwrap_or(Durability::Memory),
    }
}

fn durability(text: &str) -> Option<Durability> {
    match text {
        "memory" => Some(Durability::Memory),
        "fsync" => Some(Durability::Fsync),
        _ => {
            let replicas = text.strip_prefix("replicas:")?.parse().ok()?;
            (1..=9)
                .contains(&replicas)
                .then_some(Durability::Replicas(replicas))
        }
    }
}

fn read_lua_dir(reader: &mut Reader<'_>) -> Option<PathBuf> {
    reader.text(&s::LUA_DIR).map(PathBuf::from)
}

fn key_prefix(text: &str) -> Option<String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let fits = (1..=32).contains(&text.len()) && text.bytes().all(allowed);
    fits.then(|| text.to_owned())
}

fn read_redis_url(reader: &mut Reader<'_>) -> Option<String> {
    let url = reader.text(&s::REDIS_URL)?;
    if let Err(reason) = redis_url::check(&url) {
        let accepted = s::REDIS_URL.accepted();
        let shown = redis_url::masked(&url);
        reader.report(
            &s::REDIS_URL,
            format!("{shown} is not accepted: {reason}; give {accepted}"),
        );
    }
    Some(url)
}

fn read_auth(reader: &mut Reader<'_>, environment: Option<Environment>) -> AuthConfig {
    let claim = |text: &str| (text.len() <= 128).then(|| text.to_owned());
    AuthConfig {
        key: read_key(reader, environment),
        user_claim: reader.parsed(&s::JWT_USER_CLAIM, claim),
        require_exp: reader.flag(&s::JWT_REQUIRE_EXP),
        issuer: reader.text(&s::JWT_ISSUER),
        audience: reader.text(&s::JWT_AUDIENCE),
        leeway: reader.secs(&s::JWT_LEEWAY_SECS),
        allow_query_token: reader.flag(&s::ALLOW_QUERY_TOKEN),
    }
}

fn read_key(reader: &mut Reader<'_>, environment: Option<Environment>) -> KeySource {
    match (reader.text(&s::JWT_SECRET), reader.text(&s::JWT_PUBLIC_KEY)) {
        (Some(secret), None) => {
            check_secret(reader, &secret, environment);
            return KeySource::HmacSecret(secret);
        }
        (None, Some(key)) => return KeySource::PublicKeyPem(read_public_key(reader, &key)),
        (Some(_), Some(_)) => {
            let text = "is set, and so is JWT_PUBLIC_KEY; give one of the two";
            reader.report(&s::JWT_SECRET, text);
        }
        // With a bad APP_ENV no file was read, so it may well be set there.
        (None, None) if environment.is_none() => {}
        (None, None) => {
            let text = "is not set, nor is JWT_PUBLIC_KEY; give one of the two \
                        (for development: cp .env.example .env.dev, and APP_ENV=dev)";
            reader.report(&s::JWT_SECRET, text);
        }
    }
    KeySource::HmacSecret(String::new())
}

fn check_secret(reader: &mut Reader<'_>, secret: &str, environment: Option<Environment>) {
    if environment != Some(Environment::Production) {
        return;
    }
    let reason = if secret == s::EXAMPLE_SECRET {
        "is the example's"
    } else if secret.len() < s::MIN_SECRET_BYTES {
        "is too short for production"
    } else {
        return;
    };
    let accepted = s::JWT_SECRET.accepted();
    reader.report(
        &s::JWT_SECRET,
        format!("{reason}; give {accepted} (openssl rand -base64 48)"),
    );
}

/// The PEM text, from the value itself or from the file it names.
fn read_public_key(reader: &mut Reader<'_>, value: &str) -> Vec<u8> {
    let pem = if value.contains("-----BEGIN") {
        Ok(value.replace("\\n", "\n").into_bytes())
    } else {
        // The value is not shown: it may be a secret that was put in the wrong variable.
        fs::read(value).map_err(|error| {
            format!("is neither PEM text nor the path of a file that can be read ({error})")
        })
    };
    let checked = pem.and_then(|pem| match auth::check_public_key(&pem) {
        Ok(()) => Ok(pem),
        Err(error) => Err(error.to_string()),
    });
    checked.unwrap_or_else(|reason| {
        let accepted = s::JWT_PUBLIC_KEY.accepted();
        reader.report(&s::JWT_PUBLIC_KEY, format!("{reason}; give {accepted}"));
        Vec::new()
    })
}

fn read_limits(reader: &mut Reader<'_>) -> Limits {
    let limits = Limits {
        max_connections: reader.count(&s::MAX_CONNECTIONS),
        max_connections_per_user: reader.count(&s::MAX_CONNECTIONS_PER_USER),
        max_frame_bytes: reader.count(&s::MAX_FRAME_BYTES),
        max_content_bytes: reader.count(&s::MAX_CONTENT_BYTES),
        max_participants: reader.count(&s::MAX_PARTICIPANTS),
        queue_max_frames: reader.count(&s::QUEUE_MAX_FRAMES),
        queue_max_bytes: reader.count(&s::QUEUE_MAX_BYTES),
        max_requests_per_sec: reader.count(&s::MAX_REQUESTS_PER_SEC),
        max_request_burst: reader.count(&s::MAX_REQUEST_BURST),
        max_requests_waiting: reader.count(&s::MAX_REQUESTS_WAITING),
    };
    let (content, frame) = (limits.max_content_bytes, limits.max_frame_bytes);
    // A refused frame limit reads as 0; it is reported already.
    if frame > 0 && content > frame {
        let text = format!("{content} is more than MAX_FRAME_BYTES, {frame}; give at most that");
        reader.report(&s::MAX_CONTENT_BYTES, text);
    }
    limits
}

fn read_chat(reader: &mut Reader<'_>) -> ChatConfig {
    ChatConfig {
        history_max_messages: reader.number(&s::HISTORY_MAX_MESSAGES),
        dedupe_ttl: reader.secs(&s::DEDUPE_TTL_SECS),
        viewer_lease: reader.millis(&s::VIEWER_LEASE_MS),
        list_refresh_interval: reader.millis(&s::LIST_REFRESH_INTERVAL_MS),
        quiet_room_check: reader.millis(&s::QUIET_ROOM_CHECK_MS),
    }
}

fn read_timing(reader: &mut Reader<'_>) -> Timing {
    Timing {
        header_timeout: reader.millis(&s::HEADER_TIMEOUT_MS),
        ping_interval: reader.millis(&s::PING_INTERVAL_MS),
        ping_timeout: reader.millis(&s::PING_TIMEOUT_MS),
        shutdown_deadline: reader.millis(&s::SHUTDOWN_DEADLINE_MS),
    }
}
