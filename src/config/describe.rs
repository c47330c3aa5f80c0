//! The effective settings as text. Secrets never get into it, nor into `Debug` output.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::settings as s;
use super::{
    AllowedOrigins, AuthConfig, ChatConfig, Config, ConfigErrors, Durability, Environment,
    KeySource, Limits, Problem, RedisConfig, Timing, redis_url,
};

/// Stands for a secret.
const MASK: &str = "(set, not shown)";

type Values = Vec<(&'static str, String)>;

impl Config {
    /// The effective settings as variables and their values, in the order of the table; secrets
    /// are masked. What is unset has an empty value. `RUST_LOG` is not among them.
    #[must_use]
    pub fn describe(&self) -> Vec<(&'static str, String)> {
        let mut values = vec![
            (s::APP_ENV.name, self.environment.to_string()),
            (s::HOST.name, self.host.to_string()),
            (s::PORT.name, self.port.to_string()),
            (s::WEB_CLIENT.name, flag(self.web_client)),
            (s::METRICS_ADDR.name, describe_address(self.metrics_address)),
            (s::CORS_ORIGINS.name, describe_origins(&self.origins)),
            (s::DEV_OPEN.name, flag(self.dev_open)),
            (s::WORKER_THREADS.name, self.worker_threads.to_string()),
        ];
        values.extend(describe_redis(&self.redis));
        let lua_dir = self.lua_dir.as_deref();
        values.push((s::LUA_DIR.name, folder(lua_dir)));
        values.extend(describe_auth(&self.auth));
        values.extend(describe_limits(&self.limits));
        values.extend(describe_chat(&self.chat));
        values.extend(describe_timing(&self.timing));
        values
    }
}

fn describe_address(address: Option<SocketAddr>) -> String {
    address
        .map(|address| address.to_string())
        .unwrap_or_default()
}

fn describe_origins(origins: &AllowedOrigins) -> String {
    match origins {
        AllowedOrigins::Any => "*".to_owned(),
        AllowedOrigins::List(list) | AllowedOrigins::ThisMachine(list) => list.join(","),
    }
}

fn folder(path: Option<&Path>) -> String {
    path.map(|path| path.display().to_string())
        .unwrap_or_default()
}

fn describe_redis(redis: &RedisConfig) -> Values {
    let url = redis
        .url
        .as_deref()
        .map(redis_url::masked)
        .unwrap_or_default();
    vec![
        (s::REDIS_URL.name, url),
        (s::KEY_PREFIX.name, redis.key_prefix.clone()),
        (s::REDIS_DATA_DIR.name, redis.data_dir.display().to_string()),
        (
            s::REDIS_RUNTIME_DIR.name,
            folder(redis.runtime_dir.as_deref()),
        ),
        (s::REDIS_CALL_TIMEOUT_MS.name, millis(redis.call_timeout)),
        (s::REDIS_CALLS_AT_ONCE.name, redis.calls_at_once.to_string()),
        (s::DURABILITY.name, redis.durability.to_string()),
    ]
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory"),
            Self::Fsync => f.write_str("fsync"),
            Self::Replicas(number) => write!(f, "replicas:{number}"),
        }
    }
}

fn describe_auth(auth: &AuthConfig) -> Values {
    let (secret, public_key) = match &auth.key {
        KeySource::HmacSecret(_) => (MASK, String::new()),
        KeySource::PublicKeyPem(pem) => {
            ("", String::from_utf8_lossy(pem).trim().replace('\n', "\\n"))
        }
    };
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    vec![
        (s::JWT_SECRET.name, secret.to_owned()),
        (s::JWT_PUBLIC_KEY.name, public_key),
        (s::JWT_USER_CLAIM.name, text(&auth.user_claim)),
        (s::JWT_REQUIRE_EXP.name, flag(auth.require_exp)),
        (s::JWT_ISSUER.name, text(&auth.issuer)),
        (s::JWT_AUDIENCE.name, text(&auth.audience)),
        (s::JWT_LEEWAY_SECS.name, auth.leeway.as_secs().to_string()),
        (s::ALLOW_QUERY_TOKEN.name, flag(auth.allow_query_token)),
    ]
}

fn describe_limits(limits: &Limits) -> Values {
    [
        (s::MAX_CONNECTIONS, limits.max_connections),
        (s::MAX_CONNECTIONS_PER_USER, limits.max_connections_per_user),
        (s::MAX_UNJOINED, limits.max_unjoined),
        (s::MAX_FRAME_BYTES, limits.max_frame_bytes),
        (s::MAX_CONTENT_BYTES, limits.max_content_bytes),
        (s::MAX_PARTICIPANTS, limits.max_participants),
        (s::MAX_ROOMS_PER_USER, limits.max_rooms_per_user),
        (
            s::MAX_NEW_ROOM_MEMBERS_PER_MIN,
            limits.max_new_room_members_per_min,
        ),
        (s::QUEUE_MAX_FRAMES, limits.queue_max_frames),
        (s::QUEUE_MAX_BYTES, limits.queue_max_bytes),
        (s::ANSWERS_MAX_BYTES, limits.answers_max_bytes),
        (
            s::ANSWERS_MAX_BYTES_PER_DEVICE,
            limits.answers_max_bytes_per_device,
        ),
        (s::MAX_REQUESTS_PER_SEC, limits.max_requests_per_sec),
        (s::MAX_REQUEST_BURST, limits.max_request_burst),
        (s::MAX_REQUESTS_WAITING, limits.max_requests_waiting),
    ]
    .map(|(setting, value)| (setting.name, value.to_string()))
    .to_vec()
}

fn describe_chat(chat: &ChatConfig) -> Values {
    vec![
        (
            s::HISTORY_MAX_MESSAGES.name,
            chat.history_max_messages.to_string(),
        ),
        (s::MAX_ROOM_BYTES.name, chat.room_max_bytes.to_string()),
        (
            s::DEDUPE_TTL_SECS.name,
            chat.dedupe_ttl.as_secs().to_string(),
        ),
        (s::VIEWER_LEASE_MS.name, millis(chat.viewer_lease)),
        (s::LIST_PATIENCE_MS.name, millis(chat.list_patience)),
        (
            s::LIST_REFRESH_INTERVAL_MS.name,
            millis(chat.list_refresh_interval),
        ),
        (s::CLASSIC_HISTORY.name, flag(chat.classic_history)),
        (s::QUIET_ROOM_CHECK_MS.name, millis(chat.quiet_room_check)),
    ]
}

fn describe_timing(timing: &Timing) -> Values {
    [
        (s::HEADER_TIMEOUT_MS, timing.header_timeout),
        (s::REQUEST_TIMEOUT_MS, timing.request_timeout),
        (s::PING_INTERVAL_MS, timing.ping_interval),
        (s::PING_TIMEOUT_MS, timing.ping_timeout),
        (s::SHUTDOWN_DEADLINE_MS, timing.shutdown_deadline),
    ]
    .map(|(setting, value)| (setting.name, millis(value)))
    .to_vec()
}

fn flag(on: bool) -> String {
    u8::from(on).to_string()
}

fn millis(duration: Duration) -> String {
    duration.as_millis().to_string()
}

impl Environment {
    /// Whether this is [`Environment::Development`].
    #[must_use]
    pub fn is_development(self) -> bool {
        self == Self::Development
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Development => "development",
            Self::Production => "production",
        })
    }
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig")
            .field("url", &self.url.as_deref().map(redis_url::masked))
            .field("key_prefix", &self.key_prefix)
            .field("data_dir", &self.data_dir)
            .field("runtime_dir", &self.runtime_dir)
            .field("call_timeout", &self.call_timeout)
            .field("calls_at_once", &self.calls_at_once)
            .field("durability", &self.durability)
            .finish()
    }
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HmacSecret(_) => f.debug_tuple("HmacSecret").field(&MASK).finish(),
            Self::PublicKeyPem(pem) => {
                let text = String::from_utf8_lossy(pem);
                f.debug_tuple("PublicKeyPem").field(&text).finish()
            }
        }
    }
}

impl Problem {
    pub(super) fn new(name: &str, text: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            text: text.into(),
        }
    }
}

impl ConfigErrors {
    pub(super) fn render(&self) -> String {
        let mut text = "the configuration has problems".to_owned();
        if !self.origin.is_empty() {
            text.push_str(&format!(" ({})", self.origin));
        }
        text.push(':');
        for problem in &self.problems {
            text.push_str(&format!("\n  {problem}"));
        }
        text
    }
}
