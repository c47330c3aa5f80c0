//! The drills, one for each fault.

mod clients;
mod everybody;
mod redis;
mod resets;
mod rooms;
mod servers;
mod storage;

use std::{fmt::Write, time::Duration};

use futures_util::future::LocalBoxFuture;
use libtest_mimic::{Failed, Trial};

use crate::load::{Outcome, Shape};
use crate::table;

/// The environment variable that makes the drills full-scale.
const FULL: &str = "DRILL_FULL";
/// A drill that takes longer has hung.
const LONGEST_SHORT: Duration = Duration::from_secs(120);
const LONGEST_FULL: Duration = Duration::from_secs(900);
/// How many findings of one drill are printed; the others are mostly of the same kind.
const PRINTED: usize = 20;

/// How large the drills are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// A few seconds each.
    Short,
    Full,
}

impl Scale {
    pub(crate) fn from_environment() -> Self {
        if std::env::var_os(FULL).is_some_and(|value| value == "1") {
            Self::Full
        } else {
            Self::Short
        }
    }

    pub(crate) fn is_full(self) -> bool {
        self == Self::Full
    }

    /// One of two sizes.
    fn of<T>(self, short: T, full: T) -> T {
        match self {
            Self::Short => short,
            Self::Full => full,
        }
    }

    /// The load that most drills run under.
    fn load(self) -> Shape {
        let mut shape = self.of(
            Shape::new(4, 4, Duration::from_millis(100)),
            Shape::new(20, 6, Duration::from_millis(200)),
        );
        shape.devices_each = 2;
        shape
    }

    /// This many sends are acked before, between and after faults.
    fn sends(self) -> u64 {
        self.of(100, 3000)
    }
}

/// A drill.
pub(crate) struct Drill {
    name: &'static str,
    /// The name of the fault in the table.
    fault: &'static str,
    run: fn(Scale) -> LocalBoxFuture<'static, Outcome>,
    /// Whether it can be run on this system.
    here: bool,
}

impl Drill {
    const fn new(
        name: &'static str,
        fault: &'static str,
        run: fn(Scale) -> LocalBoxFuture<'static, Outcome>,
    ) -> Self {
        Self {
            name,
            fault,
            run,
            here: true,
        }
    }

    /// It needs what only Linux has. Elsewhere it is reported as ignored, never as passed.
    const fn only_on_linux(mut self) -> Self {
        self.here = cfg!(target_os = "linux");
        self
    }

    /// The drill as a test.
    pub(crate) fn trial(&'static self, scale: Scale) -> Trial {
        Trial::test(format!("drill::{}", self.name), move || self.check(scale))
            .with_ignored_flag(!self.here)
    }

    fn check(&self, scale: Scale) -> Result<(), Failed> {
        if scale.is_full() {
            eprintln!("==> {}", self.fault);
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let limit = scale.of(LONGEST_SHORT, LONGEST_FULL);
        let run = async { tokio::time::timeout(limit, (self.run)(scale)).await };
        let outcome = runtime.block_on(run)?;
        table::add(self.fault, &outcome);
        verdict(&outcome)
    }
}

fn verdict(outcome: &Outcome) -> Result<(), Failed> {
    let problems = &outcome.report.problems;
    if problems.is_empty() {
        return Ok(());
    }
    let mut text = format!("{} findings", problems.len());
    for problem in problems.iter().take(PRINTED) {
        write!(text, "\n  {problem}")?;
    }
    if problems.len() > PRINTED {
        write!(text, "\n  … and {} more", problems.len() - PRINTED)?;
    }
    Err(text.into())
}

/// All of them.
pub(crate) const ALL: &[Drill] = &[
    Drill::new("server_killed", "kill -9 of a server", |scale| {
        Box::pin(servers::killed(scale))
    }),
    Drill::new("redis_killed", "kill -9 of Redis, fsync always", |scale| {
        Box::pin(redis::killed(scale))
    }),
    Drill::new("redis_stopped", "Redis hangs", |scale| {
        Box::pin(redis::stopped(scale))
    }),
    Drill::new("connections_cut", "CLIENT KILL, every second", |scale| {
        Box::pin(redis::connections_cut(scale))
    }),
    Drill::new("scripts_flushed", "SCRIPT FLUSH, 50 Hz", |scale| {
        Box::pin(redis::scripts_flushed(scale))
    }),
    Drill::new(
        "subscription_cut",
        "a server hangs until Redis cuts it off",
        |scale| Box::pin(servers::cut_off(scale)),
    ),
    Drill::new("redis_emptied", "Redis comes back empty", |scale| {
        Box::pin(resets::emptied(scale))
    }),
    Drill::new(
        "redis_emptied_and_grown",
        "Redis comes back empty, rooms grow past the old numbers",
        |scale| Box::pin(resets::emptied_and_grown(scale)),
    ),
    Drill::new(
        "redis_rolled_back",
        "Redis comes back with an older copy",
        |scale| Box::pin(resets::rolled_back(scale)),
    ),
    Drill::new("memory_full", "maxmemory reached", |scale| {
        Box::pin(storage::memory_full(scale))
    }),
    Drill::new("disk_full", "no more room on the disk", |scale| {
        Box::pin(storage::disk_full(scale))
    })
    .only_on_linux(),
    Drill::new(
        "rolling_restart",
        "rolling restart of both servers",
        |scale| Box::pin(servers::rolling_restart(scale)),
    ),
    Drill::new("large_room", "a large room, connections cut", |scale| {
        Box::pin(rooms::large(scale))
    }),
    Drill::new(
        "clients_that_never_read",
        "clients that never read",
        |scale| Box::pin(clients::that_never_read(scale)),
    ),
    Drill::new(
        "clients_that_drop",
        "clients that drop out again and again",
        |scale| Box::pin(clients::that_drop(scale)),
    ),
    Drill::new(
        "everybody_comes_back",
        "everybody comes back at once",
        |scale| Box::pin(everybody::comes_back(scale)),
    )
    .only_on_linux(),
];
