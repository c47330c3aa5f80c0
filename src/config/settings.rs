//! The table of all settings: names, defaults, ranges and what they are for.
//!
//! Parsing, the error texts and `.env.example` follow it.

/// The `JWT_SECRET` of `.env.example`. Known to everybody, so production refuses it.
pub const EXAMPLE_SECRET: &str = "example-secret-for-development-only-change-me";

/// The fewest bytes of a `JWT_SECRET` in production: the size of an HS256 hash (RFC 7518, 3.2).
pub const MIN_SECRET_BYTES: usize = 32;

/// One environment variable.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// The variable's name.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// What it does, as lines of plain text.
    pub help: &'static str,
}

/// What a setting holds, its default and what is accepted.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A whole number from `min` to `max`, both included.
    Number {
        /// What is counted: `ms`, `s`, `bytes`, …; empty where nothing is.
        unit: &'static str,
        /// Used when the variable is unset.
        default: u64,
        /// The least accepted value.
        min: u64,
        /// The greatest accepted value.
        max: u64,
    },
    /// `1` or `0`, default `0`.
    Flag,
    /// Text.
    Text {
        /// Used when the variable is unset; empty where there is no default.
        default: &'static str,
        /// What is accepted, to stand after "give".
        accepts: &'static str,
    },
}

impl Setting {
    /// The default as it would be written in the environment; empty where there is none.
    #[must_use]
    pub fn default_text(&self) -> String {
        match self.kind {
            Kind::Number { default, .. } => default.to_string(),
            Kind::Flag => "0".to_owned(),
            Kind::Text { default, .. } => default.to_owned(),
        }
    }

    /// What is accepted, in words that can stand after "give".
    #[must_use]
    pub fn accepted(&self) -> String {
        match self.kind {
            Kind::Number {
                unit: "", min, max, ..
            } => format!("a whole number from {min} to {max}"),
            Kind::Number { unit, min, max, .. } => {
                format!("a whole number of {unit} from {min} to {max}")
            }
            Kind::Flag => "1 or 0".to_owned(),
            Kind::Text { accepts, .. } => accepts.to_owned(),
        }
    }
}

/// A heading and the settings under it.
#[derive(Debug, Clone, Copy)]
pub struct Group {
    /// The heading in `.env.example`.
    pub title: &'static str,
    /// In the order of `.env.example`.
    pub settings: &'static [Setting],
}

/// Every setting, in the order of the table.
pub fn all() -> impl Iterator<Item = &'static Setting> {
    GROUPS.iter().flat_map(|group| group.settings)
}

/// The setting whose name is most like this one, if at most a third of it differs.
#[must_use]
pub fn nearest(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_uppercase();
    let distance = |setting: &Setting| strsim::damerau_levenshtein(&name, setting.name);
    let (distance, nearest) = all()
        .map(|setting| (distance(setting), setting.name))
        .min_by_key(|(distance, _)| *distance)?;
    (3 * distance <= nearest.len()).then_some(nearest)
}

/// The whole table.
pub const GROUPS: &[Group] = &[
    Group {
        title: "Server",
        settings: &[
            APP_ENV,
            HOST,
            PORT,
            WEB_CLIENT,
            METRICS_ADDR,
            CORS_ORIGINS,
            DEV_OPEN,
            WORKER_THREADS,
            RUST_LOG,
        ],
    },
    Group {
        title: "Redis",
        settings: &[
            REDIS_URL,
            KEY_PREFIX,
            REDIS_DATA_DIR,
            REDIS_RUNTIME_DIR,
            REDIS_CALL_TIMEOUT_MS,
            REDIS_CALLS_AT_ONCE,
            DURABILITY,
        ],
    },
    Group {
        title: "Scripts",
        settings: &[LUA_DIR],
    },
    Group {
        title: "Tokens",
        settings: &[
            JWT_SECRET,
            JWT_PUBLIC_KEY,
            JWT_USER_CLAIM,
            JWT_REQUIRE_EXP,
            JWT_ISSUER,
            JWT_AUDIENCE,
            JWT_LEEWAY_SECS,
            ALLOW_QUERY_TOKEN,
        ],
    },
    Group {
        title: "Limits",
        settings: &[
            MAX_CONNECTIONS,
            MAX_CONNECTIONS_PER_USER,
            MAX_UNJOINED,
            MAX_FRAME_BYTES,
            MAX_CONTENT_BYTES,
            MAX_PARTICIPANTS,
            MAX_ROOMS_PER_USER,
            MAX_NEW_ROOM_MEMBERS_PER_MIN,
            QUEUE_MAX_FRAMES,
            QUEUE_MAX_BYTES,
            ANSWERS_MAX_BYTES,
            ANSWERS_MAX_BYTES_PER_DEVICE,
            MAX_REQUESTS_PER_SEC,
            MAX_REQUEST_BURST,
            MAX_REQUESTS_WAITING,
        ],
    },
    Group {
        title: "Chats",
        settings: &[
            HISTORY_MAX_MESSAGES,
            MAX_ROOM_BYTES,
            DEDUPE_TTL_SECS,
            VIEWER_LEASE_MS,
            LIST_PATIENCE_MS,
            LIST_REFRESH_INTERVAL_MS,
            CLASSIC_HISTORY,
            QUIET_ROOM_CHECK_MS,
        ],
    },
    Group {
        title: "Timing",
        settings: &[
            HEADER_TIMEOUT_MS,
            REQUEST_TIMEOUT_MS,
            PING_INTERVAL_MS,
            PING_TIMEOUT_MS,
            SHUTDOWN_DEADLINE_MS,
        ],
    },
];

const fn number(
    name: &'static str,
    unit: &'static str,
    default: u64,
    (min, max): (u64, u64),
    help: &'static str,
) -> Setting {
    let kind = Kind::Number {
        unit,
        default,
        min,
        max,
    };
    Setting { name, kind, help }
}

const fn flag(name: &'static str, help: &'static str) -> Setting {
    Setting {
        name,
        kind: Kind::Flag,
        help,
    }
}

const fn text(
    name: &'static str,
    default: &'static str,
    accepts: &'static str,
    help: &'static str,
) -> Setting {
    Setting {
        name,
        kind: Kind::Text { default, accepts },
        help,
    }
}

pub(super) const APP_ENV: Setting = text(
    "APP_ENV",
    "production",
    "dev, development, prod or production",
    "Development or production. It also picks the file that the other settings are\n\
     read from, .env.dev or .env.prod, so set it in the real environment, not in a\n\
     file. NODE_ENV means the same where APP_ENV is unset.",
);
pub(super) const HOST: Setting = text(
    "HOST",
    "127.0.0.1",
    "an IP address such as 127.0.0.1, 0.0.0.0 or ::1",
    "The address to listen on.",
);
pub(super) const PORT: Setting = number(
    "PORT",
    "",
    3000,
    (0, 65_535),
    "The port to listen on; 0 takes any free one.",
);
pub(super) const WEB_CLIENT: Setting = text(
    "WEB_CLIENT",
    "",
    "1 or 0",
    "Serve the chat client for browsers at /. Unset: in development only.",
);
pub(super) const METRICS_ADDR: Setting = text(
    "METRICS_ADDR",
    "",
    "an IP address and a port, such as 127.0.0.1:9464 or [::1]:9464",
    "An address and a port that clients cannot reach, where /metrics is served, and\n\
     /healthz and /readyz as well. Unset: /metrics is on the clients' port, for everybody.",
);
pub(super) const DEV_OPEN: Setting = flag(
    "DEV_OPEN",
    "In development: let pages of every origin use the server, and let clients reset all\n\
     chats, and get a token for any name, also where HOST is not a loopback address.\n\
     Production never allows it.",
);
pub(super) const WORKER_THREADS: Setting = number(
    "WORKER_THREADS",
    "threads",
    0,
    (0, 1024),
    "Threads that serve clients. 0 means one for each core, minus one that is left to Redis\n\
     if Redis runs on this machine.",
);
pub(super) const CORS_ORIGINS: Setting = text(
    "CORS_ORIGINS",
    "",
    "* or origins such as https://app.example, capacitor://localhost, app://. or null, separated \
     by commas",
    "Which web pages may use the server from a browser, over WebSocket and Socket.IO. Unset:\n\
     in production the server's own; in development those of this machine (localhost,\n\
     127.0.0.1), or all with DEV_OPEN=1. Clients other than browsers send no origin.\n\
     Apps in a web view have one of capacitor://localhost, ionic://localhost, tauri://localhost,\n\
     app://. or null (which pages from files and sandboxed frames have too).",
);
pub const RUST_LOG: Setting = text(
    "RUST_LOG",
    "info",
    "a log filter such as info or chat_server=debug",
    "What is logged: error, warn, info, debug or trace, also for single modules.",
);

pub(super) const REDIS_URL: Setting = text(
    "REDIS_URL",
    "",
    "redis://[user:password@]host[:port], rediss:// (TLS), or unix:///path/to/socket \
     (also redis+unix://), with database 0",
    "The Redis to use. Unset: the server runs a Redis of its own.\n\
     redis://user:password@host:6379, rediss:// for TLS, unix:///path?user=…&pass=…;\n\
     only database 0, because Redis channels know no databases: to keep two\n\
     installations apart give them different prefixes.",
);
pub(super) const KEY_PREFIX: Setting = text(
    "KEY_PREFIX",
    "chat",
    "1 to 32 characters of A-Z a-z 0-9 . _ -",
    "What all keys and channels in Redis begin with.",
);
pub(super) const REDIS_DATA_DIR: Setting = text(
    "REDIS_DATA_DIR",
    "./data/redis",
    "a folder",
    "Where the server's own Redis keeps its data.",
);
pub(super) const REDIS_RUNTIME_DIR: Setting = text(
    "REDIS_RUNTIME_DIR",
    "",
    "a folder with a short path",
    "Where the server's own Redis puts its socket. Unset: a private folder is chosen.\n\
     The path of a socket ends at 108 bytes, so keep it short.",
);
pub(super) const REDIS_CALL_TIMEOUT_MS: Setting = number(
    "REDIS_CALL_TIMEOUT_MS",
    "ms",
    2000,
    (50, 60_000),
    "How long one call to Redis may take before the client gets TIMEOUT.",
);

pub(super) const REDIS_CALLS_AT_ONCE: Setting = number(
    "REDIS_CALLS_AT_ONCE",
    "calls",
    4096,
    (1, 1_000_000),
    "Calls to Redis that are under way at once, in all. Further calls wait, within\n\
     REDIS_CALL_TIMEOUT_MS; those whose turn does not come are answered UNAVAILABLE.",
);

pub(super) const DURABILITY: Setting = text(
    "DURABILITY",
    "memory",
    "memory, fsync or replicas:N with N from 1 to 9",
    "What the ack of a message, a room or a read mark promises. memory: Redis has it in\n\
     memory, and on disk when its own settings say. fsync: it is on disk; Redis must run\n\
     with appendfsync always, or be 7.2 or newer with appendonly yes. replicas:N: N\n\
     replicas have it too; TIMEOUT where they do not confirm in time.",
);

pub(super) const LUA_DIR: Setting = text(
    "LUA_DIR",
    "",
    "a folder",
    "A folder with Lua scripts that this server alone runs, with the binary's own for those\n\
     that are missing there. It is read again on SIGHUP, and in development also when a\n\
     file changes. Unset: the set that was last applied with chat-server scripts apply, or\n\
     the binary's own.",
);

pub(super) const JWT_SECRET: Setting = text(
    "JWT_SECRET",
    "",
    "a secret of at least 32 bytes that is not the example's",
    "The secret that tokens are signed with (HS256, HS384, HS512). Set either this or\n\
     JWT_PUBLIC_KEY. Production wants 32 bytes or more (openssl rand -base64 48) and\n\
     refuses the one below. Put it in single quotes if it has a $ or a # in it.",
);
pub(super) const JWT_PUBLIC_KEY: Setting = text(
    "JWT_PUBLIC_KEY",
    "",
    "a public key as PEM text (line breaks may be written as \\n) or the path of a PEM file",
    "The public key that tokens are checked with, as PEM text (line breaks may be\n\
     written as \\n) or as the path of a PEM file. RSA: RS256 to RS512 and PS256 to\n\
     PS512; EC: ES256, ES384; Ed25519: EdDSA.",
);
pub(super) const JWT_USER_CLAIM: Setting = text(
    "JWT_USER_CLAIM",
    "",
    "the name of a claim, or a path such as user.id, of 1 to 128 bytes",
    "The claim that holds the user id; may be a path such as user.id. Unset: the first\n\
     of id, sub, userId, user_id, uid, _id, username, email that is there.",
);
pub(super) const JWT_REQUIRE_EXP: Setting =
    flag("JWT_REQUIRE_EXP", "Refuse tokens that never expire.");
pub(super) const JWT_ISSUER: Setting = text(
    "JWT_ISSUER",
    "",
    "text",
    "The iss claim that tokens must have. Unset: not checked.",
);
pub(super) const JWT_AUDIENCE: Setting = text(
    "JWT_AUDIENCE",
    "",
    "text",
    "The aud claim that tokens must have, alone or in a list. Unset: not checked.",
);
pub(super) const JWT_LEEWAY_SECS: Setting = number(
    "JWT_LEEWAY_SECS",
    "s",
    0,
    (0, 300),
    "How far the clock of your login and the clock of this machine may differ: a token is\n\
     accepted that much past its exp, and that much before its nbf.",
);
pub(super) const ALLOW_QUERY_TOKEN: Setting = flag(
    "ALLOW_QUERY_TOKEN",
    "Accept a token in the address (?token=…) too. Addresses end up in the logs of\n\
     proxies: leave it off where clients can send headers.",
);

pub(super) const MAX_CONNECTIONS: Setting = number(
    "MAX_CONNECTIONS",
    "connections",
    15_000,
    (1, 1_000_000),
    "Connections in all. Further clients get HTTP 503. The process needs as many open\n\
     files.",
);
pub(super) const MAX_CONNECTIONS_PER_USER: Setting = number(
    "MAX_CONNECTIONS_PER_USER",
    "connections",
    50,
    (1, 1_000_000),
    "Connections of one user to this server. Further ones get HTTP 429, or over Socket.IO\n\
     the error RATE_LIMITED.",
);
pub(super) const MAX_UNJOINED: Setting = number(
    "MAX_UNJOINED",
    "connections",
    15_000,
    (1, 1_000_000),
    "Connections and Socket.IO sessions that have not joined with a token yet;\n\
     MAX_CONNECTIONS does not count them. If there are more, the oldest one is closed. Set\n\
     it no lower than the number of clients that may come back at once.",
);
pub(super) const MAX_FRAME_BYTES: Setting = number(
    "MAX_FRAME_BYTES",
    "bytes",
    65_536,
    (1024, 16_777_216),
    "The largest frame that a client may send. A larger one closes the connection (1009).",
);
pub(super) const MAX_CONTENT_BYTES: Setting = number(
    "MAX_CONTENT_BYTES",
    "bytes",
    16_384,
    (1, 16_777_216),
    "The largest content of a message, as UTF-8; not more than MAX_FRAME_BYTES.",
);
pub(super) const MAX_PARTICIPANTS: Setting = number(
    "MAX_PARTICIPANTS",
    "users",
    1000,
    (2, 100_000),
    "Users in one room, its creator included.",
);
pub(super) const MAX_ROOMS_PER_USER: Setting = number(
    "MAX_ROOMS_PER_USER",
    "rooms",
    10_000,
    (1, 1_000_000),
    "Rooms that one user may be in. A room that would exceed this for any of its members is\n\
     refused with TOO_MANY_ROOMS.",
);
pub(super) const MAX_NEW_ROOM_MEMBERS_PER_MIN: Setting = number(
    "MAX_NEW_ROOM_MEMBERS_PER_MIN",
    "members/min",
    2000,
    (0, 10_000_000),
    "Members, in all, of the rooms that one user creates in a minute, on each server.\n\
     Further rooms are refused with RATE_LIMITED. After a quiet minute a room of any size\n\
     is allowed. 0 sets no limit, and in development there is none if this is unset,\n\
     because there scripts fill the chats.",
);
pub(super) const QUEUE_MAX_FRAMES: Setting = number(
    "QUEUE_MAX_FRAMES",
    "frames",
    4096,
    (16, 1_000_000),
    "Events that may wait for one slow device before it is closed (4408).",
);
pub(super) const QUEUE_MAX_BYTES: Setting = number(
    "QUEUE_MAX_BYTES",
    "bytes",
    1_048_576,
    (65_536, 1_073_741_824),
    "Bytes of events that may wait for one slow device before it is closed (4408); not less\n\
     than MAX_FRAME_BYTES. A single event of any size may wait. Chat lists and answers are\n\
     not counted.",
);
pub(super) const ANSWERS_MAX_BYTES: Setting = number(
    "ANSWERS_MAX_BYTES",
    "bytes",
    268_435_456,
    (16_777_216, 1_099_511_627_776),
    "Bytes of pages and chat lists on their way to all devices. While there are more,\n\
     further ones wait; after 10 s they are answered UNAVAILABLE.",
);
pub(super) const ANSWERS_MAX_BYTES_PER_DEVICE: Setting = number(
    "ANSWERS_MAX_BYTES_PER_DEVICE",
    "bytes",
    262_144,
    (16_384, 1_073_741_824),
    "Bytes of answers on their way to one device. While there are more, its next request\n\
     waits. A single answer may have any size.",
);

pub(super) const MAX_REQUESTS_PER_SEC: Setting = number(
    "MAX_REQUESTS_PER_SEC",
    "requests/s",
    100,
    (0, 1_000_000),
    "Requests of one device in a second, in the long run. Further requests are refused with\n\
     RATE_LIMITED. 0 sets no limit.",
);
pub(super) const MAX_REQUEST_BURST: Setting = number(
    "MAX_REQUEST_BURST",
    "requests",
    500,
    (1, 1_000_000),
    "Requests that one device may make at once after a quiet time, before\n\
     MAX_REQUESTS_PER_SEC applies.",
);
pub(super) const MAX_REQUESTS_WAITING: Setting = number(
    "MAX_REQUESTS_WAITING",
    "requests",
    256,
    (1, 1_000_000),
    "Requests of one device over long-polling that may wait for earlier ones. Further\n\
     requests are refused with RATE_LIMITED. (Over a WebSocket the server does not read the\n\
     next request before.)",
);

pub(super) const HISTORY_MAX_MESSAGES: Setting = number(
    "HISTORY_MAX_MESSAGES",
    "messages",
    0,
    (0, 1_000_000_000),
    "About how many messages a room keeps: the newest ones. 0 keeps all.",
);
pub(super) const MAX_ROOM_BYTES: Setting = number(
    "MAX_ROOM_BYTES",
    "bytes",
    0,
    (0, 1_000_000_000_000),
    "About how many bytes of messages a room keeps. The oldest messages are deleted, at\n\
     most 8 for each message that is sent. Each message counts with the bytes that were\n\
     written and 64 more. 0 keeps all.",
);
pub(super) const DEDUPE_TTL_SECS: Setting = number(
    "DEDUPE_TTL_SECS",
    "s",
    86_400,
    (1, 2_592_000),
    "A message that is sent again with the same clientMessageId is recognised for at least\n\
     this long, and for at most twice as long. During this time each message that was sent\n\
     with such an id takes 100 to 150 bytes more of Redis memory, as much as a short\n\
     message.",
);
pub(super) const VIEWER_LEASE_MS: Setting = number(
    "VIEWER_LEASE_MS",
    "ms",
    15_000,
    (1000, 600_000),
    "How long a device counts as viewing a room after its server last renewed that, which\n\
     it does every third of this time.",
);
pub(super) const LIST_PATIENCE_MS: Setting = number(
    "LIST_PATIENCE_MS",
    "ms",
    30_000,
    (1000, 600_000),
    "How long a device that has just connected may wait for its chat list. After a restart\n\
     of a server all of its clients ask for one at once; while more of them wait than can\n\
     be served in this time, new clients are refused (HTTP 503 with Retry-After).",
);
pub(super) const LIST_REFRESH_INTERVAL_MS: Setting = number(
    "LIST_REFRESH_INTERVAL_MS",
    "ms",
    1000,
    (10, 60_000),
    "The shortest time between two chat lists while the rooms of a user keep changing.",
);
pub(super) const CLASSIC_HISTORY: Setting = flag(
    "CLASSIC_HISTORY",
    "For clients of the replaced server's later versions, which draw a room from chatHistory:\n\
     send it again, with the last 50 messages, for each message to Socket.IO devices that view\n\
     the room and get whole lists; at most four times a second in a room.",
);
pub(super) const QUIET_ROOM_CHECK_MS: Setting = number(
    "QUIET_ROOM_CHECK_MS",
    "ms",
    30_000,
    (100, 3_600_000),
    "How often rooms without events are compared with the store, so that a lost last event\n\
     is found, at the latest after three of these intervals.",
);

pub(super) const HEADER_TIMEOUT_MS: Setting = number(
    "HEADER_TIMEOUT_MS",
    "ms",
    10_000,
    (100, 300_000),
    "How long a client may take to send the head of its HTTP request.",
);
pub(super) const REQUEST_TIMEOUT_MS: Setting = number(
    "REQUEST_TIMEOUT_MS",
    "ms",
    30_000,
    (100, 600_000),
    "How long a client may take for a whole HTTP request, from its first byte until it has\n\
     taken the answer. The time that the server takes, as in a long poll, does not count.",
);
pub(super) const PING_INTERVAL_MS: Setting = number(
    "PING_INTERVAL_MS",
    "ms",
    25_000,
    (100, 3_600_000),
    "How often a device is pinged.",
);
pub(super) const PING_TIMEOUT_MS: Setting = number(
    "PING_TIMEOUT_MS",
    "ms",
    20_000,
    (100, 3_600_000),
    "How long a device may take to answer a ping before it is closed.",
);
pub(super) const SHUTDOWN_DEADLINE_MS: Setting = number(
    "SHUTDOWN_DEADLINE_MS",
    "ms",
    10_000,
    (0, 600_000),
    "How long a shutdown waits for devices to take what is queued for them.",
);
