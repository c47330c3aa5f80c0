//! A `redis-server` of the test's own.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::{Path, PathBuf},
    process::Stdio,
};

use redis::{AsyncConnectionConfig, Client, aio::MultiplexedConnection, cmd};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    net::{UnixStream, unix::OwnedReadHalf},
    process::{Child, Command},
};

use super::{PATIENCE, eventually, free_port, server::signal};

/// A running `redis-server`, killed on drop. Data lives in a temporary folder.
pub(crate) struct Redis {
    dir: TempDir,
    /// The command that starts it, as words that precede its options.
    launcher: Vec<String>,
    /// The options that differ from the usual ones.
    options: Vec<String>,
    /// The TCP port, 0 where it listens only on the unix socket.
    pub(crate) port: u16,
    process: Option<Child>,
    admin: Option<MultiplexedConnection>,
}

impl Redis {
    /// Starts one that listens only on a unix socket.
    pub(crate) async fn start() -> Self {
        Self::launch(0).await
    }

    /// Starts one that listens on a free TCP port as well.
    pub(crate) async fn start_tcp() -> Self {
        Self::launch(free_port()).await
    }

    /// Starts one with a copy of this RDB.
    pub(crate) async fn with_data(rdb: &Path) -> Self {
        let mut redis = Self::absent(0);
        let copy = redis.dir.path().join("dump.rdb");
        std::fs::copy(rdb, copy).expect("an RDB");
        redis.appear().await;
        redis
    }

    async fn launch(port: u16) -> Self {
        let mut redis = Self::absent(port);
        redis.appear().await;
        redis
    }

    /// One that is not running yet: only its address is known.
    pub(crate) fn absent(port: u16) -> Self {
        let dir = TempDir::with_prefix("chat-it-").expect("a temporary folder");
        Self {
            dir,
            launcher: vec!["redis-server".into()],
            options: Vec::new(),
            port,
            process: None,
            admin: None,
        }
    }

    /// Starts the process and waits until it answers.
    pub(crate) async fn appear(&mut self) {
        let process = Command::new(&self.launcher[0])
            .args(&self.launcher[1..])
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"])
            .arg("--unixsocket")
            .arg(self.socket())
            .arg("--dir")
            .arg(self.dir.path())
            .args(["--save", "", "--appendonly", "no", "--loglevel", "warning"])
            .args(&self.options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("redis-server must be in PATH");
        self.process = Some(process);
        let client = Client::open(self.url()).expect("a Redis URL");
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE));
        eventually("the test's redis-server answers", async || {
            client
                .get_multiplexed_async_connection_with_config(&config)
                .await
                .is_ok()
        })
        .await;
        let admin = client
            .get_multiplexed_async_connection_with_config(&config)
            .await;
        self.admin = Some(admin.expect("an admin connection"));
    }

    /// Freezes the process, with its connections open, until [`thaw`](Self::thaw).
    pub(crate) fn freeze(&self) {
        self.signal("STOP");
    }

    pub(crate) fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let process = self.process.as_ref().expect("Redis runs");
        signal(process.id().expect("it has not ended"), name);
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("redis.sock")
    }

    /// The URL of the unix socket.
    pub(crate) fn url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// The URL of the TCP port.
    pub(crate) fn tcp_url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// A connection for inspecting and changing data behind the server's back.
    pub(crate) fn admin(&self) -> MultiplexedConnection {
        self.admin.clone().expect("Redis runs")
    }

    /// Runs one command whose words are separated by spaces.
    pub(crate) async fn run<T: redis::FromRedisValue>(&self, command: &str) -> T {
        let mut words = command.split(' ');
        let mut call = cmd(words.next().expect("a command"));
        words.for_each(|word| {
            call.arg(word);
        });
        let answer = call.query_async(&mut self.admin()).await;
        answer.unwrap_or_else(|error| panic!("{command}: {error}"))
    }

    /// Every key with its value.
    pub(crate) async fn dump(&self) -> Dump {
        let mut admin = self.admin();
        let mut keys: Vec<Vec<u8>> = self.run("KEYS *").await;
        keys.sort();
        let mut dump = BTreeMap::new();
        for key in keys {
            // A set's order changes by itself while Redis rehashes it.
            let members: Result<BTreeSet<Vec<u8>>, _> =
                cmd("SMEMBERS").arg(&key).query_async(&mut admin).await;
            let value: Option<Vec<u8>> = match members {
                Ok(members) => Some(members.into_iter().collect::<Vec<_>>().join(&b'\n')),
                Err(_) => cmd("DUMP")
                    .arg(&key)
                    .query_async(&mut admin)
                    .await
                    .expect("DUMP"),
            };
            if let Some(value) = value {
                dump.insert(String::from_utf8_lossy(&key).into_owned(), value);
            }
        }
        Dump(dump)
    }

    /// How many changes of its data Redis has counted.
    #[allow(dead_code, reason = "of the binaries that share this only one asks")]
    pub(crate) async fn changes(&self) -> u64 {
        let info: String = self.run("INFO persistence").await;
        let mut lines = info.lines();
        let count = lines.find_map(|line| line.strip_prefix("rdb_changes_since_last_save:"));
        count.expect("a count").trim().parse().expect("a number")
    }

    /// Monitors every command that Redis runs from now on.
    pub(crate) async fn monitor(&self) -> Monitor {
        let stream = UnixStream::connect(self.socket())
            .await
            .expect("connect to Redis");
        let (reader, mut writer) = stream.into_split();
        writer
            .write_all(b"MONITOR\r\n")
            .await
            .expect("write to Redis");
        let mut lines = BufReader::new(reader).lines();
        let first = lines.next_line().await.expect("read from Redis");
        assert_eq!(first.as_deref(), Some("+OK"));
        Monitor {
            lines,
            _writer: writer,
            fences: 0,
        }
    }
}

/// For the drills.
#[allow(dead_code, reason = "of the binaries that share this only one drills")]
impl Redis {
    /// One that is not running yet, and will have these options.
    pub(crate) fn with_options(options: &[&str]) -> Self {
        let mut redis = Self::absent(0);
        redis.options = options.iter().map(|word| (*word).into()).collect();
        redis
    }

    /// Starts it through these words, to which its options are appended.
    pub(crate) fn launched_by(mut self, words: &[&str]) -> Self {
        self.launcher = words.iter().map(|word| (*word).into()).collect();
        self
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        let process = self.process.as_ref();
        process.and_then(Child::id).expect("Redis runs")
    }

    /// `kill -9`. The data folder stays, for the next [`appear`](Self::appear).
    pub(crate) async fn kill_9(&mut self) {
        self.admin = None;
        let mut process = self.process.take().expect("Redis runs");
        process.kill().await.expect("kill Redis");
    }
}

/// The output of `MONITOR`.
pub(crate) struct Monitor {
    lines: Lines<BufReader<OwnedReadHalf>>,
    _writer: tokio::net::unix::OwnedWriteHalf,
    fences: u64,
}

impl Monitor {
    /// The commands that clients sent since the last call; not those that scripts ran, nor those of the test's own
    /// admin connection.
    pub(crate) async fn commands(&mut self, redis: &Redis) -> Vec<String> {
        self.fences += 1;
        let fence = format!("fence-{}", self.fences);
        let echo: String = redis.run(&format!("ECHO {fence}")).await;
        assert_eq!(echo, fence);
        let mut commands = Vec::new();
        loop {
            let line = self
                .lines
                .next_line()
                .await
                .expect("read MONITOR")
                .expect("MONITOR goes on");
            let (source, command) = line.split_once("] ").expect("a line of MONITOR");
            if command.contains(&fence) {
                return commands;
            }
            // Servers ask now and then whether Redis is reachable, and which role it has.
            let asks = ["\"PING\"", "\"INFO\""];
            let asks = asks.iter().any(|question| command.starts_with(question));
            if !source.ends_with(" lua") && !asks {
                commands.push(command.to_owned());
            }
        }
    }
}

/// Everything in a Redis: two are equal if nothing was written in between.
#[derive(PartialEq, Eq)]
pub(crate) struct Dump(BTreeMap<String, Vec<u8>>);

impl Dump {
    /// The names of the keys.
    pub(crate) fn keys(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }

    /// The same without the keys that begin with this prefix.
    #[allow(dead_code, reason = "of the binaries that share this only one asks")]
    pub(crate) fn without(mut self, prefix: &str) -> Self {
        self.0.retain(|key, _| !key.starts_with(prefix));
        self
    }

    /// Fails with the keys that differ.
    #[track_caller]
    pub(crate) fn assert_same(&self, now: &Self, after_what: &str) {
        let changed: Vec<_> = self
            .0
            .keys()
            .chain(now.0.keys())
            .filter(|key| self.0.get(*key) != now.0.get(*key))
            .collect();
        assert!(
            changed.is_empty(),
            "{after_what} wrote to Redis: {changed:?}"
        );
    }
}

impl fmt::Debug for Dump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}
