//! One Redis and two servers that can be disturbed.

use std::{
    net::{SocketAddr, TcpListener},
    sync::atomic::{AtomicU16, Ordering},
};

use crate::support::{
    Redis, Server, eventually,
    server::{Builder, signal},
};

/// Ports from which the system takes none for the local end of a connection, so that a server that restarts is sure to
/// find its own port free.
const FIRST_PORT: u16 = 20_000;
const PORTS: u16 = 10_000;

/// The processes of one drill.
pub(crate) struct World {
    pub(crate) redis: Redis,
    builders: Vec<Builder>,
    servers: Vec<Option<Server>>,
    pub(crate) addresses: Vec<SocketAddr>,
}

impl World {
    /// Starts two servers on this running Redis.
    pub(crate) async fn start(redis: Redis, settings: &[(&str, &str)]) -> Self {
        let mut world = Self {
            redis,
            builders: Vec::new(),
            servers: Vec::new(),
            addresses: Vec::new(),
        };
        for number in 0..2 {
            let port = steady_port();
            let mut builder = Server::on(&world.redis)
                .env("PORT", &port.to_string())
                .env("RUST_LOG", "warn")
                .env("MAX_NEW_ROOM_MEMBERS_PER_MIN", "0");
            for (name, value) in settings {
                builder = builder.env(name, value);
            }
            world.builders.push(builder);
            world.servers.push(None);
            world.addresses.push(([127, 0, 0, 1], port).into());
            world.start_server(number).await;
        }
        world
    }

    /// Starts two servers with default settings on a Redis with default settings.
    pub(crate) async fn ordinary() -> Self {
        Self::start(Redis::start().await, &[]).await
    }

    /// A running server.
    pub(crate) fn server(&self, number: usize) -> &Server {
        self.servers[number].as_ref().expect("the server runs")
    }

    /// Starts a server, on the port that it had before.
    pub(crate) async fn start_server(&mut self, number: usize) {
        self.servers[number] = Some(self.builders[number].clone().start().await);
    }

    /// `kill -9`.
    pub(crate) async fn kill_server(&mut self, number: usize) {
        let mut server = self.servers[number].take().expect("the server runs");
        server.kill_9().await;
    }

    /// Sends SIGTERM, and waits for the exit.
    pub(crate) async fn stop_server(&mut self, number: usize) {
        let server = self.servers[number].take().expect("the server runs");
        server.stop().await;
    }

    /// Sends SIGSTOP or SIGCONT to Redis.
    pub(crate) fn signal_redis(&self, name: &str) {
        signal(self.redis.pid(), name);
    }

    /// Kills Redis with `kill -9`, and starts it with what it has on disk.
    pub(crate) async fn restart_redis(&mut self) {
        self.redis.kill_9().await;
        self.redis.appear().await;
    }

    /// The scripts that Redis has run since it started.
    pub(crate) async fn scripts_run(&self) -> u64 {
        let info: String = self.redis.run("INFO commandstats").await;
        let calls = info.lines().filter_map(|line| {
            let (_, figures) = line.strip_prefix("cmdstat_eval")?.split_once(":calls=")?;
            figures.split_once(',')?.0.parse::<u64>().ok()
        });
        calls.sum()
    }

    /// Waits until both servers are ready again.
    pub(crate) async fn ready(&self) {
        for server in self.servers.iter().flatten() {
            eventually("the server is ready again", || server.is_ready()).await;
        }
    }
}

fn steady_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Two runs at the same time begin at different places.
    let begin = u16::try_from(std::process::id() % u32::from(PORTS)).expect("it is small");
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST_PORT + (begin + step) % PORTS;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
