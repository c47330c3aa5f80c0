//! Arguments.

use std::path::{Path, PathBuf};

use clap::builder::RangedU64ValueParser;
use clap::{Args, Parser, Subcommand};

use crate::attack::Kind;
use crate::door::{Door, ListMode};

/// Loads a chat server, checks that every message was delivered once and in order, and reports how fast it was.
///
/// Exit codes: 0 all is well, 1 the run failed or something was lost, 2 the arguments are wrong.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) run: Run,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The same load against the bare Node relay
    Relay(Run),
    /// Connect and do nothing: the server's memory per connection
    Idle(Idle),
    /// Connect all at once: the time until all are served
    Connect(Connect),
    /// One send to a room with many connected members: the time to the last delivery
    Fanout(Fanout),
    /// The send script alone, by EVALSHA: the most that Redis can handle
    Raw(Raw),
    /// What a message costs in Redis's memory, with and without an id from its sender
    Memory(Memory),
    /// Attack a server of its own, and report what that costs it: docs/security.md
    Attack(Attack),
    /// Measure everything in BENCHMARKS.md, with processes of its own
    Table(Table),
}

/// The target of the load.
#[derive(Debug, Clone, Args)]
pub(crate) struct Place {
    /// Start a Redis (unix socket, no persistence) and a server, and end them afterwards
    #[arg(long)]
    pub(crate) self_contained: bool,
    /// The server program, for --self-contained
    #[arg(
        long,
        value_name = "PATH",
        default_value = "target/release/chat-server"
    )]
    pub(crate) server: PathBuf,
    /// The relay program, for --self-contained with --door relay
    #[arg(long, value_name = "PATH", default_value = "benches/peer/relay.mjs")]
    pub(crate) relay: PathBuf,
    /// The address of a running server; it must have MAX_REQUESTS_PER_SEC=0 and MAX_NEW_ROOM_MEMBERS_PER_MIN=0
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:3000")]
    pub(crate) address: String,
    /// The secret that the server checks tokens with [default: JWT_SECRET of the environment]
    #[arg(long, value_name = "SECRET")]
    pub(crate) jwt_secret: Option<String>,
    /// Its Redis, redis:// or unix://, for --raw and to count calls
    #[arg(long, value_name = "URL")]
    pub(crate) redis_url: Option<String>,
    /// The server's process, to see its CPU time and memory
    #[arg(long, value_name = "PID")]
    pub(crate) server_pid: Option<u32>,
    /// The process of Redis, to see its CPU time and memory
    #[arg(long, value_name = "PID")]
    pub(crate) redis_pid: Option<u32>,
}

/// How results are printed.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Output {
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// A load of messages.
#[derive(Debug, Clone, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) work: Work,
    /// Draw latency over time
    #[arg(long, value_name = "FILE.svg")]
    pub(crate) plot: Option<PathBuf>,
    /// Measure the send script alone in the same run, before the load, with as many sends in flight
    #[arg(long)]
    pub(crate) raw: bool,
}

/// The work, and the clients that do it.
#[derive(Debug, Clone, Args)]
pub(crate) struct Work {
    /// Rooms
    #[arg(long, default_value_t = Work::DEFAULT.rooms, value_parser = at_least_one())]
    pub(crate) rooms: usize,
    /// Members of each room
    #[arg(long, default_value_t = Work::DEFAULT.members, value_parser = room_size())]
    pub(crate) members: usize,
    /// How many members of each room are connected [default: all]
    #[arg(long, value_parser = at_least_one())]
    pub(crate) connected: Option<usize>,
    /// Devices per connected member
    #[arg(long, default_value_t = Work::DEFAULT.devices, value_parser = at_least_one())]
    pub(crate) devices: usize,
    /// Members of each room that send, each from one device
    #[arg(long, default_value_t = Work::DEFAULT.senders, value_parser = at_least_one())]
    pub(crate) senders: usize,
    /// Requests in flight per sender
    #[arg(long, default_value_t = Work::DEFAULT.window, value_parser = at_least_one())]
    pub(crate) window: usize,
    /// Total sends per second, whether the server keeps up or not; then there is no window
    #[arg(long, conflicts_with = "window", value_name = "SENDS/S", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub(crate) rate: Option<u64>,
    /// The protocol
    #[arg(long, value_enum, default_value_t = Work::DEFAULT.door)]
    pub(crate) door: Door,
    /// Bytes of each message's content
    #[arg(long, default_value_t = Work::DEFAULT.bytes)]
    pub(crate) bytes: usize,
    /// How devices learn of changes in their chat lists
    #[arg(long, value_enum, default_value_t = Work::DEFAULT.list)]
    pub(crate) list: ListMode,
    /// Seconds to measure
    #[arg(long, default_value_t = Work::DEFAULT.secs, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) secs: u64,
    /// Seconds of load before the measurement
    #[arg(long, default_value_t = Work::DEFAULT.warmup_secs)]
    pub(crate) warmup_secs: u64,
    /// Other rooms of each sender, in which nothing happens
    #[arg(long, default_value_t = Work::DEFAULT.other_rooms)]
    pub(crate) other_rooms: usize,
    /// Messages that each sender has sent before
    #[arg(long, default_value_t = Work::DEFAULT.history)]
    pub(crate) history: u64,
}

fn at_least_one() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..)
}

/// As many members as a room may have with the server's default settings.
fn room_size() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(2..=1000)
}

impl Place {
    /// Processes started by this run.
    pub(crate) fn own(server: &Path, relay: &Path) -> Self {
        Self {
            self_contained: true,
            server: server.to_owned(),
            relay: relay.to_owned(),
            address: String::new(),
            jwt_secret: None,
            redis_url: None,
            server_pid: None,
            redis_pid: None,
        }
    }
}

impl Work {
    /// The defaults of the arguments.
    pub(crate) const DEFAULT: Self = Self {
        rooms: 50,
        members: 2,
        connected: None,
        devices: 1,
        senders: 1,
        window: 1,
        rate: None,
        door: Door::Native,
        bytes: 100,
        list: ListMode::Delta,
        secs: 10,
        warmup_secs: 2,
        other_rooms: 0,
        history: 0,
    };

    /// Connected members of each room.
    pub(crate) fn connected(&self) -> usize {
        self.connected.unwrap_or(self.members).min(self.members)
    }

    /// Connected devices of each room.
    pub(crate) fn room_devices(&self) -> usize {
        self.connected() * self.devices
    }

    /// Sending members of each room.
    pub(crate) fn room_senders(&self) -> usize {
        self.senders.min(self.connected())
    }
}

/// Idle connections.
#[derive(Debug, Clone, Args)]
pub(crate) struct Idle {
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) output: Output,
    /// Connections, each from a different user
    #[arg(long, default_value_t = 10_000, value_parser = at_least_one())]
    pub(crate) connections: usize,
    /// The protocol
    #[arg(long, value_enum, default_value_t = Door::Native)]
    pub(crate) door: Door,
    /// Seconds to idle before the memory is read
    #[arg(long, default_value_t = 30)]
    pub(crate) secs: u64,
}

/// Clients that all connect at once.
#[derive(Debug, Clone, Args)]
pub(crate) struct Connect {
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) output: Output,
    /// Clients, each a different user
    #[arg(long, default_value_t = 10_000, value_parser = at_least_one())]
    pub(crate) clients: usize,
    /// The protocol
    #[arg(long, value_enum, default_value_t = Door::Native)]
    pub(crate) door: Door,
}

/// One message to many.
#[derive(Debug, Clone, Args)]
pub(crate) struct Fanout {
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) output: Output,
    /// Connected members of the room
    #[arg(long, default_value_t = 1000, value_parser = room_size())]
    pub(crate) members: usize,
    /// Sends, one after the other; the median is taken over these
    #[arg(long, default_value_t = 100, value_parser = at_least_one())]
    pub(crate) sends: usize,
    /// The protocol
    #[arg(long, value_enum, default_value_t = Door::Native)]
    pub(crate) door: Door,
    /// Bytes of each message's content
    #[arg(long, default_value_t = 100)]
    pub(crate) bytes: usize,
}

/// The send script alone.
#[derive(Debug, Clone, Args)]
pub(crate) struct Raw {
    #[command(flatten)]
    pub(crate) output: Output,
    /// Start a Redis (unix socket, no persistence), and end it afterwards
    #[arg(long)]
    pub(crate) self_contained: bool,
    /// A running Redis, redis:// or unix://, without a password
    #[arg(long, value_name = "URL", default_value = "redis://127.0.0.1:6379")]
    pub(crate) redis_url: String,
    /// Connections to Redis
    #[arg(long, default_value_t = 1, value_parser = at_least_one())]
    pub(crate) connections: usize,
    /// Calls in flight on each connection
    #[arg(long, default_value_t = 800, value_parser = at_least_one())]
    pub(crate) window: usize,
    /// Rooms that are sent to, in turn
    #[arg(long, default_value_t = 50, value_parser = at_least_one())]
    pub(crate) rooms: usize,
    /// Members of each room
    #[arg(long, default_value_t = 2, value_parser = room_size())]
    pub(crate) members: usize,
    /// Bytes of each message's content
    #[arg(long, default_value_t = 100)]
    pub(crate) bytes: usize,
    /// Seconds to measure
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) secs: u64,
}

/// Stored messages, in a Redis of its own.
#[derive(Debug, Clone, Args)]
pub(crate) struct Memory {
    #[command(flatten)]
    pub(crate) output: Output,
    /// Rooms of two
    #[arg(long, default_value_t = 1000, value_parser = at_least_one())]
    pub(crate) rooms: usize,
    /// Messages in each room
    #[arg(long, default_value_t = 100, value_parser = at_least_one())]
    pub(crate) messages: usize,
    /// Bytes of each message's content
    #[arg(long, default_value_t = 100)]
    pub(crate) bytes: usize,
}

/// Attacks, each on a server of its own with default settings.
#[derive(Debug, Clone, Args)]
pub(crate) struct Attack {
    #[command(flatten)]
    pub(crate) output: Output,
    /// The server program
    #[arg(
        long,
        value_name = "PATH",
        default_value = "target/release/chat-server"
    )]
    pub(crate) server: PathBuf,
    /// Which attacks [default: all, one after the other]
    #[arg(value_enum)]
    pub(crate) kinds: Vec<Kind>,
    /// Concurrent connections [default: a suitable number for each attack]
    #[arg(long, value_parser = RangedU64ValueParser::<usize>::new().range(1..=20_000))]
    pub(crate) connections: Option<usize>,
    /// Seconds per attack
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=60))]
    pub(crate) secs: u64,
}

/// All of BENCHMARKS.md.
#[derive(Debug, Clone, Args)]
pub(crate) struct Table {
    #[command(flatten)]
    pub(crate) output: Output,
    /// The server program
    #[arg(
        long,
        value_name = "PATH",
        default_value = "target/release/chat-server"
    )]
    pub(crate) server: PathBuf,
    /// The relay program; without Node and its packages its rows are left out
    #[arg(long, value_name = "PATH", default_value = "benches/peer/relay.mjs")]
    pub(crate) relay: PathBuf,
    /// A few seconds each and smaller numbers: to check that it works, not how fast it is
    #[arg(long)]
    pub(crate) quick: bool,
}
