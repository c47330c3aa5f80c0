//! What the settings become: each group is read into its part of the configuration.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;

use super::reader::{self, Reader};
use super::settings as s;
use super::sources::NODE_ENV;
use super::{
    AllowedOrigins, AuthConfig, ChatConfig, Config, ConfigErrors, Durability, Environment,
    KeySource, Limits, Lookup, OperatorConfig, Problem, RedisConfig, Timing, redis_url,
};
use crate::auth;

impl Config {
    /// Reads all settings from `lookup`, in place of the environment.
    ///
    /// # Errors
    /// All bad values at once.
    pub fn from_lookup(lookup: Lookup<'_>) -> Result<Self, ConfigErrors> {
        let mut reader = Reader::new(lookup);
        let environment = read_environment(&mut reader);
        let host = reader.parsed(&s::HOST, |text| text.parse().ok());
        let port = u16::try_from(reader.number(&s::PORT)).unwrap_or_default();
        let web_client = read_web_client(&mut reader, environment);
        let metrics_address = reader.parsed(&s::METRICS_ADDR, |text| text.parse().ok());
        let listed = reader.parsed(&s::CORS_ORIGINS, allowed_origins);
        let dev_open = reader.flag(&s::DEV_OPEN);
        let config = Self {
            environment: environment.unwrap_or(Environment::Production),
            host: host.unwrap_or(IpAddr::from([127, 0, 0, 1])),
            port,
            web_client,
            metrics_address,
            dev_open,
            worker_threads: reader.count(&s::WORKER_THREADS),
            origins: origins(listed, environment, dev_open),
            redis: read_redis(&mut reader),
            lua_dir: read_lua_dir(&mut reader),
            auth: read_auth(&mut reader, environment),
            limits: read_limits(&mut reader, environment),
            chat: read_chat(&mut reader),
            timing: read_timing(&mut reader),
        };
        check_development(&mut reader, &config);
        all_good(config, reader)
    }
}

impl OperatorConfig {
    /// As [`Config::from_lookup`], without what only a server needs.
    pub(super) fn from_lookup(lookup: Lookup<'_>) -> Result<Self, ConfigErrors> {
        let mut reader = Reader::new(lookup);
        let environment = read_environment(&mut reader);
        let config = Self {
            redis: read_redis(&mut reader),
            lua_dir: read_lua_dir(&mut reader),
            limits: read_limits(&mut reader, environment),
            chat: read_chat(&mut reader),
        };
        all_good(config, reader)
    }
}

fn all_good<T>(config: T, reader: Reader<'_>) -> Result<T, ConfigErrors> {
    if reader.problems.is_empty() {
        return Ok(config);
    }
    Err(ConfigErrors {
        problems: reader.problems,
        origin: String::new(),
    })
}

/// The environment that `APP_ENV` or, where that is unset, `NODE_ENV` says; or the name of the
/// variable and its bad value.
pub(super) fn environment_of(lookup: Lookup<'_>) -> Result<Environment, (&'static str, String)> {
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

/// On in development, off in production, where nothing is said.
fn read_web_client(reader: &mut Reader<'_>, environment: Option<Environment>) -> bool {
    let given = reader.parsed(&s::WEB_CLIENT, reader::flag);
    given.unwrap_or(environment == Some(Environment::Development))
}

/// Where `CORS_ORIGINS` is unset: the server's own pages in production; in development those of this machine, or all where
/// the server is open.
fn origins(
    listed: Option<AllowedOrigins>,
    environment: Option<Environment>,
    dev_open: bool,
) -> AllowedOrigins {
    let is_development = environment == Some(Environment::Development);
    match listed {
        None if is_development && dev_open => AllowedOrigins::Any,
        None if is_development => AllowedOrigins::ThisMachine(Vec::new()),
        None => AllowedOrigins::List(Vec::new()),
        Some(AllowedOrigins::List(list)) if is_development && !dev_open => {
            AllowedOrigins::ThisMachine(list)
        }
        Some(given) => given,
    }
}

fn allowed_origins(text: &str) -> Option<AllowedOrigins> {
    if text == "*" {
        return Some(AllowedOrigins::Any);
    }
    let list: Option<_> = text
        .split(',')
        .map(|part| allowed_origin(part.trim()))
        .collect();
    list.map(AllowedOrigins::List)
}

/// Schemes of web pages, and of apps that show theirs in a web view.
const SCHEMES: [&str; 6] = ["http", "https", "capacitor", "ionic", "tauri", "app"];

fn allowed_origin(text: &str) -> Option<String> {
    let origin = normal_origin(text);
    if origin == "null" {
        return Some(origin);
    }
    let (scheme, host) = origin.split_once("://")?;
    let plain = |c: char| c.is_ascii_graphic() && !"/?#@,*".contains(c);
    let is_good = SCHEMES.contains(&scheme) && !host.is_empty() && host.chars().all(plain);
    is_good.then_some(origin)
}

/// An origin as browsers write it: in small letters, without its scheme's own port.
pub fn normal_origin(text: &str) -> String {
    let origin = text.to_ascii_lowercase();
    for (scheme, port) in [("http://", ":80"), ("https://", ":443")] {
        if origin.starts_with(scheme)
            && let Some(without) = origin.strip_suffix(port)
        {
            return without.to_owned();
        }
    }
    origin
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
                        (in development, make run writes one into .env.dev)";
            reader.report(&s::JWT_SECRET, text);
        }
    }
    KeySource::HmacSecret(String::new())
}

/// Everybody knows the example's secret: with it a server that others reach lets them in as anyone.
fn check_development(reader: &mut Reader<'_>, config: &Config) {
    let is_example =
        matches!(&config.auth.key, KeySource::HmacSecret(secret) if secret == s::EXAMPLE_SECRET);
    if is_example && config.environment.is_development() && !config.host.is_loopback() {
        let host = config.host;
        reader.report(
            &s::JWT_SECRET,
            format!(
                "is the example's, which everybody knows, and HOST={host} lets others reach the server; give one of your own \
                 (openssl rand -hex 32; make run writes one into .env.dev), or take HOST=127.0.0.1"
            ),
        );
    }
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

/// No limit in development where nothing is said.
fn read_new_room_members(reader: &mut Reader<'_>, environment: Option<Environment>) -> usize {
    let setting = &s::MAX_NEW_ROOM_MEMBERS_PER_MIN;
    let is_unset = reader.raw(setting.name).is_none();
    match environment {
        Some(Environment::Development) if is_unset => 0,
        _ => reader.count(setting),
    }
}

fn read_limits(reader: &mut Reader<'_>, environment: Option<Environment>) -> Limits {
    let limits = Limits {
        max_connections: reader.count(&s::MAX_CONNECTIONS),
        max_connections_per_user: reader.count(&s::MAX_CONNECTIONS_PER_USER),
        max_unjoined: reader.count(&s::MAX_UNJOINED),
        max_frame_bytes: reader.count(&s::MAX_FRAME_BYTES),
        max_content_bytes: reader.count(&s::MAX_CONTENT_BYTES),
        max_participants: reader.count(&s::MAX_PARTICIPANTS),
        max_rooms_per_user: reader.count(&s::MAX_ROOMS_PER_USER),
        max_new_room_members_per_min: read_new_room_members(reader, environment),
        queue_max_frames: reader.count(&s::QUEUE_MAX_FRAMES),
        queue_max_bytes: reader.count(&s::QUEUE_MAX_BYTES),
        answers_max_bytes: reader.count(&s::ANSWERS_MAX_BYTES),
        answers_max_bytes_per_device: reader.count(&s::ANSWERS_MAX_BYTES_PER_DEVICE),
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
    let queue = limits.queue_max_bytes;
    if queue > 0 && frame > queue {
        let text = format!("{queue} is less than MAX_FRAME_BYTES, {frame}; give at least that");
        reader.report(&s::QUEUE_MAX_BYTES, text);
    }
    limits
}

fn read_chat(reader: &mut Reader<'_>) -> ChatConfig {
    ChatConfig {
        history_max_messages: reader.number(&s::HISTORY_MAX_MESSAGES),
        room_max_bytes: reader.number(&s::MAX_ROOM_BYTES),
        dedupe_ttl: reader.secs(&s::DEDUPE_TTL_SECS),
        viewer_lease: reader.millis(&s::VIEWER_LEASE_MS),
        list_patience: reader.millis(&s::LIST_PATIENCE_MS),
        list_refresh_interval: reader.millis(&s::LIST_REFRESH_INTERVAL_MS),
        classic_history: reader.flag(&s::CLASSIC_HISTORY),
        quiet_room_check: reader.millis(&s::QUIET_ROOM_CHECK_MS),
    }
}

fn read_timing(reader: &mut Reader<'_>) -> Timing {
    Timing {
        header_timeout: reader.millis(&s::HEADER_TIMEOUT_MS),
        request_timeout: reader.millis(&s::REQUEST_TIMEOUT_MS),
        ping_interval: reader.millis(&s::PING_INTERVAL_MS),
        ping_timeout: reader.millis(&s::PING_TIMEOUT_MS),
        shutdown_deadline: reader.millis(&s::SHUTDOWN_DEADLINE_MS),
    }
}
