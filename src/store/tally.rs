//! How often each script was called, and how long calls took.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::error::ErrorCode;
use crate::metrics::ScriptMetrics;
use crate::scripts::Script;

/// Counts since the server started.
#[derive(Debug, Default)]
pub struct Tallies {
    scripts: [Tally; Script::ALL.len()],
    metrics: ScriptMetrics,
}

#[derive(Debug, Default)]
struct Tally {
    calls: AtomicU64,
    total_us: AtomicU64,
    worst_us: AtomicU64,
}

/// The counts of one script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    pub calls: u64,
    /// Microseconds, 0 if there was no call.
    pub average_us: u64,
    pub worst_us: u64,
}

impl Tallies {
    /// Also reports to `/metrics`.
    pub fn telling(metrics: ScriptMetrics) -> Self {
        Self {
            metrics,
            ..Self::default()
        }
    }

    /// Counts a call, timed from its start to its reply or failure.
    pub fn count(&self, script: Script, took: Duration) {
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let tally = &self.scripts[script as usize];
        tally.calls.fetch_add(1, Ordering::Relaxed);
        tally.total_us.fetch_add(took_us, Ordering::Relaxed);
        tally.worst_us.fetch_max(took_us, Ordering::Relaxed);
        self.metrics.took(script, took);
    }

    /// Counts a failure, by the error that the client gets.
    pub fn failed(&self, script: Script, code: ErrorCode) {
        self.metrics.failed(script, code);
    }

    pub fn of(&self, script: Script) -> Counted {
        let tally = &self.scripts[script as usize];
        let calls = tally.calls.load(Ordering::Relaxed);
        let total_us = tally.total_us.load(Ordering::Relaxed);
        Counted {
            calls,
            average_us: total_us.checked_div(calls).unwrap_or_default(),
            worst_us: tally.worst_us.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_for_each_script() {
        let tallies = Tallies::default();
        tallies.count(Script::SendMessage, Duration::from_micros(100));
        tallies.count(Script::SendMessage, Duration::from_micros(300));
        let (calls, average_us, worst_us) = (2, 200, 300);
        let counted = Counted {
            calls,
            average_us,
            worst_us,
        };
        assert_eq!(tallies.of(Script::SendMessage), counted);
        assert_eq!(tallies.of(Script::EnterChat).calls, 0);
        assert_eq!(tallies.of(Script::EnterChat).average_us, 0);
    }
}
