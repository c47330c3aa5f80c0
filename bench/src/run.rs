//! One run of the load: what `chat-bench` does without a subcommand.

use std::time::Duration;

use redis::{Client, cmd};
use serde::Serialize;

use crate::Error;
use crate::cli::Work;
use crate::door::{Door, ListMode};
use crate::ledger::Faults;
use crate::load::Load;
use crate::meter::{Latency, Second};
use crate::process::Process;
use crate::raw;
use crate::world::World;

/// The most seconds for the raw measurement that accompanies a run.
const RAW_SECS: u64 = 5;

/// The outcome of a run.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Figures {
    pub(crate) door: Door,
    pub(crate) list: ListMode,
    pub(crate) rooms: usize,
    pub(crate) members: usize,
    pub(crate) connected: usize,
    pub(crate) devices: usize,
    pub(crate) senders: usize,
    /// Requests in flight per sender; `None` in an open run.
    pub(crate) window: Option<usize>,
    /// Sends per second that were due; `None` if there was a window.
    pub(crate) rate: Option<u64>,
    pub(crate) content_bytes: usize,
    pub(crate) secs: u64,
    pub(crate) sends_per_sec: f64,
    pub(crate) deliveries_per_sec: f64,
    pub(crate) ack: Latency,
    pub(crate) delivery: Latency,
    pub(crate) received_bytes: u64,
    pub(crate) errors: u64,
    pub(crate) first_error: Option<String>,
    pub(crate) faults: Faults,
    pub(crate) server: Option<Usage>,
    pub(crate) redis: Option<Usage>,
    /// The load generator itself, which shares the machine.
    pub(crate) load: Option<Usage>,
    /// EVALSHA calls of all servers, per send.
    pub(crate) evalsha_per_send: Option<f64>,
    pub(crate) raw: Option<Ratio>,
    pub(crate) seconds: Vec<Second>,
}

/// What a process used during the measurement.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Usage {
    pub(crate) cpu_secs: f64,
    pub(crate) cpu_us_per_delivery: f64,
    /// In memory at the end.
    pub(crate) rss_kib: u64,
}

/// The send script alone, and the fraction of it that the server reached.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Ratio {
    pub(crate) sends_per_sec: f64,
    pub(crate) server_to_raw: f64,
}

impl Figures {
    /// Nothing was lost, duplicated or out of order, and no request failed.
    pub(crate) fn is_right(&self) -> bool {
        self.faults.is_none() && self.errors == 0
    }
}

/// Runs the load, after the raw measurement if that is wanted.
pub(crate) fn run(work: &Work, world: &World, raw: bool) -> Result<Figures, Error> {
    let raw = raw.then(|| measure_raw(work, world)).transpose()?;
    eprintln!("connecting {} devices", work.rooms * work.room_devices());
    let mut load = Load::set_up(work, world)?;
    if work.history > 0 {
        eprintln!(
            "writing {} messages",
            work.history * (work.rooms * work.room_senders()) as u64
        );
        load.fill()?;
    }
    eprintln!("warming up for {} s", work.warmup_secs);
    load.warm_up(Duration::from_secs(work.warmup_secs))?;
    let before = Snapshot::take(world);
    load.start_meter();
    for number in 1..=work.secs {
        let second = load.one_second()?;
        eprintln!(
            "{number:>4} s  {:>7} sends  {:>8} deliveries  p99 {:.1} ms",
            second.sends, second.deliveries, second.delivery.p99_ms
        );
    }
    load.stop_meter();
    let received_bytes = load.received_bytes();
    let after = Snapshot::take(world);
    let faults = load.drain();
    let meter = load.meter();
    let (ack, delivery) = meter.latencies();
    let per_sec = |count: u64| count as f64 / meter.secs();
    let sends_per_sec = per_sec(meter.sends);
    Ok(Figures {
        door: work.door,
        list: work.list,
        rooms: work.rooms,
        members: work.members,
        connected: work.connected(),
        devices: work.devices,
        senders: work.room_senders(),
        window: work.rate.is_none().then_some(work.window),
        rate: work.rate,
        content_bytes: work.bytes,
        secs: work.secs,
        sends_per_sec,
        deliveries_per_sec: per_sec(meter.deliveries),
        ack,
        delivery,
        received_bytes,
        errors: load.errors(),
        first_error: load.first_error(),
        faults,
        server: usage(
            world.server,
            before.server_cpu,
            after.server_cpu,
            meter.deliveries,
        ),
        redis: usage(
            world.redis,
            before.redis_cpu,
            after.redis_cpu,
            meter.deliveries,
        ),
        load: usage(
            Some(Process::own()),
            before.load_cpu,
            after.load_cpu,
            meter.deliveries,
        ),
        evalsha_per_send: before
            .evalsha
            .zip(after.evalsha)
            .map(|(before, after)| (after - before) as f64 / meter.sends as f64),
        raw: raw.map(|raw| Ratio {
            sends_per_sec: raw.sends_per_sec,
            server_to_raw: sends_per_sec / raw.sends_per_sec,
        }),
        seconds: meter.seconds.clone(),
    })
}

/// On one connection, as the server has one, and with as many calls in flight as the load has requests.
fn measure_raw(work: &Work, world: &World) -> Result<raw::Figures, Error> {
    let secs = work.secs.min(RAW_SECS);
    eprintln!("measuring the send script alone for {secs} s");
    let plan = raw::Plan {
        connections: 1,
        window: work.rooms * work.room_senders() * work.window,
        rooms: work.rooms,
        members: work.members,
        bytes: work.bytes,
        time: Duration::from_secs(secs),
    };
    raw::measure(world.redis_url.as_deref().ok_or(Error::NoRedis)?, plan)
}

/// Readings taken before and after the measurement.
struct Snapshot {
    server_cpu: Option<f64>,
    redis_cpu: Option<f64>,
    load_cpu: Option<f64>,
    evalsha: Option<u64>,
}

impl Snapshot {
    fn take(world: &World) -> Self {
        Self {
            server_cpu: world.server.and_then(Process::cpu_secs),
            redis_cpu: world.redis.and_then(Process::cpu_secs),
            load_cpu: Process::own().cpu_secs(),
            evalsha: world.redis_url.as_deref().and_then(evalsha_calls),
        }
    }
}

/// How many times Redis was called with EVALSHA so far.
fn evalsha_calls(url: &str) -> Option<u64> {
    let mut redis = Client::open(url).ok()?.get_connection().ok()?;
    let info: String = cmd("INFO").arg("commandstats").query(&mut redis).ok()?;
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
    line.map_or(Some(0), |line| line.split(',').next()?.parse().ok())
}

fn usage(
    process: Option<Process>,
    before: Option<f64>,
    after: Option<f64>,
    deliveries: u64,
) -> Option<Usage> {
    let cpu_secs = after? - before?;
    Some(Usage {
        cpu_secs,
        cpu_us_per_delivery: cpu_secs * 1e6 / deliveries.max(1) as f64,
        rss_kib: process?.rss_kib()?,
    })
}
