//! What strangers and misbehaving users can do to a server: what it costs, and whether others can still connect.
//!
//! Only ever run against a server of this run's own, which uses its defaults and listens on loopback.

use std::fmt::{self, Display, Formatter};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use serde::Serialize;

use crate::Error;
use crate::cli;
use crate::process::Process;
use crate::websocket;
use crate::world::World;

/// How often a user with a token visits.
const VISIT: Duration = Duration::from_millis(200);
/// How long visitors wait to be admitted.
const PATIENCE: Duration = Duration::from_secs(5);
/// The pause between checks of connections that accept no more data.
const PAUSE: Duration = Duration::from_millis(1);
/// How long the server may take to recover after the attack.
const REST: Duration = Duration::from_secs(3);
/// The most connections that are opened in total.
const MAX_OPENED: usize = 200_000;

/// The kind of attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// Connections that send nothing
    Silent,
    /// Request heads that never end
    Heads,
    /// Malformed heads, one connection after the other
    Nonsense,
    /// Bodies that never arrive
    Bodies,
    /// Requests whose answers are never read
    Answers,
    /// Socket.IO clients on WebSockets that never join
    Unjoined,
    /// Socket.IO sessions over long-polling that never join
    Polling,
    /// Pings without a token, whose pongs are never read
    Pings,
    /// The same from users with a token
    UserPings,
    /// Requests from users who read no answers
    Requests,
    /// Frames that are far too large, from users
    Oversize,
}

impl Kind {
    /// Concurrent connections.
    fn connections(self) -> usize {
        match self {
            Self::Silent | Self::Heads | Self::Bodies | Self::Unjoined => 2000,
            Self::Answers | Self::Polling => 200,
            Self::Nonsense | Self::Oversize => 20,
            Self::Pings | Self::UserPings | Self::Requests => 4,
        }
    }

    /// What each connection sends: first once, then repeatedly.
    fn bytes(self, token: &str) -> (Vec<u8>, Vec<u8>) {
        const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let get = |path: &str, headers: &str| {
            format!("GET {path} HTTP/1.1\r\nHost: chat\r\n{headers}\r\n").into_bytes()
        };
        let unjoined = || get("/socket.io/?EIO=4&transport=websocket", UPGRADE);
        let joined = || {
            get(
                "/ws?chatList=delta",
                &format!("token: {token}\r\n{UPGRADE}"),
            )
        };
        let pings = || frame(websocket::put_ping, &[b'x'; 125]).repeat(100);
        match self {
            Self::Silent => (Vec::new(), Vec::new()),
            Self::Heads => (b"GET / HTTP/1.1\r\nHost: chat\r\nX: ".to_vec(), Vec::new()),
            Self::Nonsense => (
                b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n".to_vec(),
                vec![b'x'; 1000],
            ),
            Self::Bodies => {
                let head = "POST /socket.io/?EIO=4&transport=polling&sid=x HTTP/1.1\r\nHost: chat\r\n\
                    Content-Length: 60000\r\n\r\n4";
                (head.into(), Vec::new())
            }
            Self::Answers => (Vec::new(), get("/asyncapi.yaml", "").repeat(100)),
            Self::Unjoined => (unjoined(), Vec::new()),
            Self::Polling => (Vec::new(), get("/socket.io/?EIO=4&transport=polling", "")),
            Self::Pings => (unjoined(), pings()),
            Self::UserPings => (joined(), pings()),
            Self::Requests => (
                joined(),
                frame(websocket::put_text, br#"{"id":1,"event":"getChatList"}"#).repeat(100),
            ),
            Self::Oversize => (joined(), frame(websocket::put_text, &vec![b'x'; 1 << 20])),
        }
    }
}

fn frame(put: fn(&mut Vec<u8>, &[u8]), payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    put(&mut bytes, payload);
    bytes
}

/// The outcome of one attack.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Figures {
    kind: Kind,
    connections: usize,
    secs: u64,
    /// Connections opened in total: those that the server closes are opened again.
    opened: usize,
    sent_mib: f64,
    rss_mib_before: f64,
    /// The maximum during the attack.
    rss_mib_during: f64,
    rss_mib_after: f64,
    /// How many times a user with a token visited, and was admitted.
    visits: usize,
    let_in: usize,
    slowest_ms: u128,
}

/// The outcomes of all attacks.
#[derive(Debug, Serialize)]
pub(crate) struct Attacks(Vec<Figures>);

impl Attacks {
    /// Whether every user with a token was admitted.
    pub(crate) fn held(&self) -> bool {
        self.0
            .iter()
            .all(|figures| figures.visits == figures.let_in)
    }
}

impl Display for Attacks {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| attack | connections | opened | sent | RSS before | during | after | with a token, let in |"
        )?;
        write!(f, "| --- | --- | --- | --- | --- | --- | --- | --- |")?;
        for it in &self.0 {
            let name = it.kind.to_possible_value();
            let name = name.as_ref().map_or("", |name| name.get_name());
            write!(
                f,
                "\n| {name} | {} for {} s | {} | {:.1} MiB | {:.0} MiB | {:.0} MiB | {:.0} MiB | {} of {}, {} ms at most |",
                it.connections,
                it.secs,
                it.opened,
                it.sent_mib,
                it.rss_mib_before,
                it.rss_mib_during,
                it.rss_mib_after,
                it.let_in,
                it.visits,
                it.slowest_ms,
            )?;
        }
        Ok(())
    }
}

/// `chat-bench attack`
pub(crate) fn run(args: &cli::Attack) -> Result<Attacks, Error> {
    let all = Kind::value_variants();
    let kinds = if args.kinds.is_empty() {
        all
    } else {
        &args.kinds
    };
    let figures = kinds.iter().map(|kind| attack(args, *kind));
    figures.collect::<Result<_, _>>().map(Attacks)
}

fn attack(args: &cli::Attack, kind: Kind) -> Result<Figures, Error> {
    let world = World::with_defaults(&args.server)?;
    let server = world.server.ok_or(Error::NoProcess)?;
    let connections = args.connections.unwrap_or(kind.connections());
    let before = rss_mib(server)?;
    let mut crowd = Crowd::new(world.address, kind.bytes(&world.token("mallory")?));
    let mut visitors = Visitors::new(world.address, world.token("alice")?);
    let (ended, mut during) = (AtomicBool::new(false), before);
    thread::scope(|scope| {
        scope.spawn(|| visitors.come_until(&ended));
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(args.secs) {
            crowd.fill(connections);
            crowd.push();
            during = during.max(rss_mib(server).unwrap_or_default());
        }
        ended.store(true, Ordering::Relaxed);
    });
    let (opened, sent) = (crowd.opened, crowd.sent);
    drop(crowd);
    thread::sleep(REST);
    Ok(Figures {
        kind,
        connections,
        secs: args.secs,
        opened,
        sent_mib: sent as f64 / f64::from(1 << 20),
        rss_mib_before: before,
        rss_mib_during: during,
        rss_mib_after: rss_mib(server)?,
        visits: visitors.count,
        let_in: visitors.let_in,
        slowest_ms: visitors.slowest.as_millis(),
    })
}

fn rss_mib(process: Process) -> Result<f64, Error> {
    let kib = process.rss_kib().ok_or(Error::NoProcess)?;
    Ok(kib as f64 / 1024.0)
}

/// The attackers: they send, and read no answers while they have more to send.
struct Crowd {
    address: SocketAddr,
    first: Vec<u8>,
    again: Vec<u8>,
    open: Vec<Attacker>,
    opened: usize,
    sent: usize,
}

struct Attacker {
    stream: TcpStream,
    /// Bytes that the crowd has sent.
    sent: usize,
}

impl Crowd {
    fn new(address: SocketAddr, (first, again): (Vec<u8>, Vec<u8>)) -> Self {
        let (open, opened, sent) = (Vec::new(), 0, 0);
        Self {
            address,
            first,
            again,
            open,
            opened,
            sent,
        }
    }

    /// Opens missing connections, as far as possible.
    fn fill(&mut self, count: usize) {
        while self.open.len() < count && self.opened < MAX_OPENED {
            let stream = TcpStream::connect_timeout(&self.address, PATIENCE);
            let stream = stream.and_then(|stream| stream.set_nonblocking(true).map(|()| stream));
            let Ok(stream) = stream else { return };
            self.open.push(Attacker { stream, sent: 0 });
            self.opened += 1;
        }
    }

    /// Each connection sends what the socket accepts now. Connections that the server has closed are removed.
    fn push(&mut self) {
        let before = self.sent;
        let (first, again, sent) = (&self.first, &self.again, &mut self.sent);
        self.open
            .retain_mut(|attacker| attacker.push(first, again, sent));
        if self.sent == before {
            thread::sleep(PAUSE);
        }
    }
}

impl Attacker {
    /// False once the connection is gone.
    fn push(&mut self, first: &[u8], again: &[u8], sent: &mut usize) -> bool {
        let rest = match self.sent.checked_sub(first.len()) {
            None => &first[self.sent..],
            Some(_) if again.is_empty() => return !self.is_gone(),
            Some(past) => &again[past % again.len()..],
        };
        match self.stream.write(rest) {
            Ok(written) => {
                self.sent += written;
                *sent += written;
                true
            }
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        }
    }

    fn is_gone(&mut self) -> bool {
        match self.stream.read(&mut [0; 1024]) {
            Ok(read) => read == 0,
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        }
    }
}

/// A user with a token, visiting again and again.
struct Visitors {
    address: SocketAddr,
    request: String,
    count: usize,
    let_in: usize,
    slowest: Duration,
}

impl Visitors {
    fn new(address: SocketAddr, token: String) -> Self {
        let request = format!(
            "GET /ws?chatList=delta HTTP/1.1\r\nHost: chat\r\ntoken: {token}\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        Self {
            address,
            request,
            count: 0,
            let_in: 0,
            slowest: Duration::ZERO,
        }
    }

    fn come_until(&mut self, ended: &AtomicBool) {
        while !ended.load(Ordering::Relaxed) {
            thread::sleep(VISIT);
            let began = Instant::now();
            self.count += 1;
            self.let_in += usize::from(self.come_in().unwrap_or(false));
            self.slowest = self.slowest.max(began.elapsed());
        }
    }

    fn come_in(&self) -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&self.address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(self.request.as_bytes())?;
        let mut status = [0; 12];
        stream.read_exact(&mut status)?;
        Ok(&status == b"HTTP/1.1 101")
    }
}
