//! A `redis-server` of the test's own, and the server's store on it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use chat_server::error::{ChatError, ErrorCode};
use chat_server::protocol::ids::{DeviceId, MessageId, RoomId, UserId};
use chat_server::protocol::request::Cursor;
use chat_server::room::{Page, Topic};
use chat_server::scripts::set::fixed;
use chat_server::scripts::{Script, ScriptSet};
use chat_server::store::calls::NewRoom;
use chat_server::store::connection::Connection;
use chat_server::store::keys::{Keys, ROOM_KEYS};
use chat_server::store::{Bounds, Rules, Store, load_scripts};
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, FromRedisValue, IntoConnectionInfo, ProtocolVersion, PushInfo,
    PushKind, RedisError, Value,
};
use serde_json::Value as Json;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

/// How long any wait lasts before it fails the test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The settings that the rules get.
pub(crate) const CONTENT_MAX_BYTES: usize = 512 * 1024;
pub(crate) const PARTICIPANTS_MAX: usize = 1000;

/// A running `redis-server` on a unix socket in a temporary folder, killed on drop.
pub(crate) struct Redis {
    pub(crate) dir: TempDir,
    admin: MultiplexedConnection,
    process: Child,
}

impl Redis {
    pub(crate) async fn start() -> Self {
        let dir = TempDir::with_prefix("chat-lua-").unwrap();
        let process = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no"])
            .args(["--loglevel", "warning", "--unixsocket"])
            .arg(dir.path().join("redis.sock"))
            .arg("--dir")
            .arg(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("redis-server must be in PATH");
        let deadline = Instant::now() + PATIENCE;
        let admin = loop {
            match connect(&dir, AsyncConnectionConfig::new()).await {
                Ok(connection) => break connection,
                Err(error) => assert!(Instant::now() < deadline, "redis-server: {error}"),
            }
            sleep(Duration::from_millis(10)).await;
        };
        Self {
            dir,
            admin,
            process,
        }
    }

    /// Sends its process a signal.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.process.id().expect("Redis runs");
        let kill = std::process::Command::new("kill")
            .args([format!("-{name}"), pid.to_string()])
            .status();
        assert!(kill.is_ok_and(|status| status.success()));
    }

    /// A connection for commands that need more than words.
    pub(crate) fn admin(&self) -> MultiplexedConnection {
        self.admin.clone()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("redis.sock")
    }

    pub(crate) async fn try_run<T: FromRedisValue>(&self, words: &[&str]) -> Result<T, RedisError> {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async(&mut self.admin.clone()).await
    }

    /// Runs one command behind the server's back.
    pub(crate) async fn run<T: FromRedisValue>(&self, words: &[&str]) -> T {
        let answer = self.try_run(words).await;
        answer.unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// Redis's clock, Unix time in milliseconds.
    pub(crate) async fn now_ms(&self) -> u64 {
        let (secs, micros): (u64, u64) = self.run(&["TIME"]).await;
        secs * 1000 + micros / 1000
    }

    /// Every key with its value.
    pub(crate) async fn dump(&self) -> BTreeMap<String, Dumped> {
        let mut dump = BTreeMap::new();
        for key in self.run::<Vec<String>>(&["KEYS", "*"]).await {
            let value = self.run(&["DUMP", &key]).await;
            dump.insert(key, Dumped(value));
        }
        dump
    }
}

/// A value as `DUMP` returns it.
#[derive(PartialEq, Eq)]
pub(crate) struct Dumped(pub(crate) Vec<u8>);

impl fmt::Debug for Dumped {
    /// The checksum at its end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sum = self.0.iter().rev().take(8);
        sum.into_iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

async fn connect(
    dir: &TempDir,
    config: AsyncConnectionConfig,
) -> Result<MultiplexedConnection, RedisError> {
    let url = format!("unix://{}", dir.path().join("redis.sock").display());
    let info = url.into_connection_info()?;
    let settings = info
        .redis_settings()
        .clone()
        .set_protocol(ProtocolVersion::RESP3);
    Client::open(info.set_redis_settings(settings))?
        .get_multiplexed_async_connection_with_config(&config.set_response_timeout(Some(PATIENCE)))
        .await
}

/// The store as the server has it, on a Redis of its own, and what is published there.
pub(crate) struct World {
    pub(crate) redis: Redis,
    pub(crate) store: Store,
    pub(crate) keys: Keys,
    scripts: ScriptSet,
    subscriber: MultiplexedConnection,
    pushes: mpsc::UnboundedReceiver<PushInfo>,
}

fn store_on(redis: &Redis, keys: &Keys, scripts: &ScriptSet, rules: Rules) -> Store {
    let (_, current) = watch::channel(Some(Connection::unkept(redis.admin.clone())));
    let (scripts, bounds) = (fixed(scripts.clone()), Bounds::within(PATIENCE));
    Store::new(keys.clone(), scripts, current, bounds, rules)
}

/// Ends a batch of events: it comes after everything that was published before.
const FENCE: &str = "fence";

impl World {
    pub(crate) async fn start() -> Self {
        Self::keeping(0).await
    }

    /// With a retention of this many messages.
    pub(crate) async fn keeping(history_max_messages: u64) -> Self {
        Self::with(ScriptSet::embedded().unwrap(), history_max_messages).await
    }

    /// With these scripts and a retention of this many messages.
    pub(crate) async fn with(scripts: ScriptSet, history_max_messages: u64) -> Self {
        let redis = Redis::start().await;
        let rules = Rules {
            history_max_messages,
            dedupe_ttl: Duration::from_secs(24 * 60 * 60),
            viewer_lease: Duration::from_secs(60),
            content_max_bytes: CONTENT_MAX_BYTES,
            participants_max: PARTICIPANTS_MAX,
            rooms_max: 10_000,
            room_max_bytes: 0,
        };
        load_scripts(&mut redis.admin(), &scripts).await.unwrap();
        let keys = Keys::new("chat");
        let store = store_on(&redis, &keys, &scripts, rules);
        let (sender, pushes) = mpsc::unbounded_channel();
        let config = AsyncConnectionConfig::new().set_push_sender(sender);
        let subscriber = connect(&redis.dir, config).await.unwrap();
        let mut world = Self {
            redis,
            store,
            keys,
            scripts,
            subscriber,
            pushes,
        };
        world.follow(FENCE).await;
        world
    }

    /// The same with other rules.
    pub(crate) fn ruled(mut self, change: impl FnOnce(&mut Rules)) -> Self {
        let mut rules = *self.store.rules();
        change(&mut rules);
        self.store = store_on(&self.redis, &self.keys, &self.scripts, rules);
        self
    }

    /// Subscribes to a channel from now on.
    pub(crate) async fn follow(&mut self, channel: &str) {
        let mut subscribe = redis::cmd("SSUBSCRIBE");
        let outcome = subscribe
            .arg(channel)
            .exec_async(&mut self.subscriber)
            .await;
        outcome.unwrap();
    }

    pub(crate) async fn follow_room(&mut self, room: RoomId) {
        self.follow(&self.keys.channel(&Topic::Room(room))).await;
    }

    pub(crate) async fn follow_user(&mut self, user: &UserId) {
        let topic = Topic::User(user.clone());
        self.follow(&self.keys.channel(&topic)).await;
    }

    /// What was published since the last call: channel and event.
    pub(crate) async fn published(&mut self) -> Vec<(String, Json)> {
        let _: i64 = self.redis.run(&["SPUBLISH", FENCE, "{}"]).await;
        let mut events = Vec::new();
        loop {
            let push = timeout(PATIENCE, self.pushes.recv())
                .await
                .unwrap()
                .unwrap();
            if push.kind != PushKind::SMessage {
                continue;
            }
            let channel = String::from_redis_value_ref(&push.data[0]).unwrap();
            if channel == FENCE {
                return events;
            }
            let payload = String::from_redis_value_ref(&push.data[1]).unwrap();
            events.push((channel, serde_json::from_str(&payload).unwrap()));
        }
    }

    /// The events alone, for when it is clear which channel they came from.
    pub(crate) async fn events(&mut self) -> Vec<Json> {
        let published = self.published().await;
        published.into_iter().map(|(_, event)| event).collect()
    }

    /// The key of a room that scripts call by this name.
    pub(crate) fn key(&self, room: RoomId, name: &str) -> String {
        self.keys.room(room, name)
    }

    /// One field of a room's head.
    pub(crate) async fn head(&self, room: RoomId, field: &str) -> String {
        self.redis
            .run(&["HGET", &self.key(room, "meta"), field])
            .await
    }

    /// The room of two people, made if it does not exist.
    pub(crate) async fn direct(&self, one: &UserId, other: &UserId) -> RoomId {
        let room = RoomId::direct(one, other);
        let members = [one.clone(), other.clone()];
        self.initialize(room, false, "", &members).await;
        room
    }

    /// A new group.
    pub(crate) async fn group(&self, members: &[UserId]) -> RoomId {
        let room = RoomId::random();
        self.initialize(room, true, "Book club", members).await;
        room
    }

    async fn initialize(&self, room: RoomId, is_group: bool, name: &str, members: &[UserId]) {
        let new = NewRoom {
            room,
            is_group,
            name,
            members,
        };
        assert!(self.store.initialize_chat(new).await.unwrap().created);
    }

    pub(crate) async fn say(&self, room: RoomId, user: &UserId, content: &str) -> MessageId {
        let sent = self.store.send_message(room, user, content, None).await;
        sent.unwrap().id
    }

    pub(crate) async fn enter(&self, room: RoomId, user: &UserId) -> DeviceId {
        let device = DeviceId::random();
        let entered = self.store.enter_chat(room, user, device, 50).await;
        entered.unwrap();
        device
    }

    pub(crate) async fn latest(&self, room: RoomId, user: &UserId) -> Page {
        let page = self.store.get_history(room, user, Cursor::Latest, 100);
        page.await.unwrap()
    }

    /// How far the user has read, 0 where there is no marker.
    pub(crate) async fn marker(&self, room: RoomId, user: &UserId) -> u64 {
        let score: Option<u64> = self
            .redis
            .run(&["ZSCORE", &self.key(room, "reads"), user.as_str()])
            .await;
        score.unwrap_or_default()
    }

    /// The keys of this room that a script gets; [`Script::SendMessage`] for a message with this client id.
    pub(crate) fn room_keys(
        &self,
        script: Script,
        room: RoomId,
        user: &UserId,
        client_id: &str,
    ) -> Vec<String> {
        let mut keys: Vec<String> = ROOM_KEYS.map(|name| self.key(room, name)).into();
        match script {
            Script::EnterChat => keys.push(self.key(room, "viewers")),
            Script::SendMessage if !client_id.is_empty() => {
                keys.push(self.keys.sent_before(room, user, client_id))
            }
            _ => {}
        }
        keys
    }

    /// Calls a script directly, for results that the typed calls do not return.
    pub(crate) async fn eval(
        &self,
        script: Script,
        keys: &[String],
        args: &[String],
    ) -> Result<Value, RedisError> {
        let mut call = redis::cmd("EVAL");
        call.arg(&self.scripts.get(script).text)
            .arg(keys.len())
            .arg(keys)
            .arg(args);
        call.query_async(&mut self.redis.admin.clone()).await
    }
}

pub(crate) fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

pub(crate) fn users<const N: usize>(names: [&str; N]) -> [UserId; N] {
    names.map(user)
}

/// This many members: `user-001`, `user-002`, …
pub(crate) fn crowd(size: usize) -> Vec<UserId> {
    (1..=size).map(|i| user(&format!("user-{i:03}"))).collect()
}

/// The code with which a call was refused.
pub(crate) fn refusal<T>(outcome: Result<T, ChatError>) -> Option<ErrorCode> {
    outcome.err().map(|error| error.code)
}

pub(crate) fn contents(page: &Page) -> Vec<&str> {
    page.messages.iter().map(|m| m.content.as_str()).collect()
}

/// The holders of leases, live or not: `device:user`, in the order in which they end.
pub(crate) async fn leases(world: &World, room: RoomId) -> Vec<String> {
    let viewing = world.key(room, "viewing");
    world.redis.run(&["ZRANGE", &viewing, "0", "-1"]).await
}

/// Sets a lease, `device:user`, that ends this many milliseconds from now by Redis's clock.
pub(crate) async fn hold_lease(world: &World, room: RoomId, ends_in_ms: i64, lease: &str) {
    let end_ms = world.redis.now_ms().await.saturating_add_signed(ends_in_ms);
    let (viewing, end) = (world.key(room, "viewing"), end_ms.to_string());
    let _: u64 = world.redis.run(&["ZADD", &viewing, &end, lease]).await;
}
