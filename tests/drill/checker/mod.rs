//! The history checker: compares what devices did and saw with the final history.
//!
//! It reads no code and asks no server. The promises are listed under "Order and loss" in `docs/protocol.md`. The
//! checker is tested too: `planted` runs it on planted faults.

mod answers;
mod counts;
pub(crate) mod crowd;
mod deliveries;
mod history;
pub(crate) mod mishaps;
pub(crate) mod planted;
pub(crate) mod record;
mod sends;

use self::history::Histories;
use self::record::{Record, Rest};

/// What the checker found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// Attempts to send that were acked, including repeats of the same message.
    pub(crate) acked: u64,
    /// Attempts whose outcome the device did not learn.
    pub(crate) unknown: u64,
    /// Attempts that the server refused.
    pub(crate) refused: u64,
    /// Acked messages that are not stored, and stored ones that a device did not receive.
    pub(crate) lost: u64,
    /// Messages that are stored twice, and those that a device received twice.
    pub(crate) doubled: u64,
    /// Messages that are stored, or arrived, before an earlier one.
    pub(crate) reordered: u64,
    /// Every finding, in words.
    pub(crate) problems: Vec<String>,
}

impl Report {
    fn problem(&mut self, text: String) {
        self.problems.push(text);
    }

    fn lost(&mut self, count: u64, text: String) {
        self.lost += count;
        self.problem(text);
    }

    fn doubled(&mut self, count: u64, text: String) {
        self.doubled += count;
        self.problem(text);
    }

    fn reordered(&mut self, text: String) {
        self.reordered += 1;
        self.problem(text);
    }
}

/// Judges a whole drill.
pub(crate) fn judge(record: &Record) -> Report {
    let mut report = Report::default();
    let histories = Histories::index(record, &mut report);
    sends::judge(record, &histories, &mut report);
    deliveries::judge(record, &histories, &mut report);
    counts::judge(record, &histories, &mut report);
    answers::judge(record, &mut report);
    judge_rest(&record.rest, &mut report);
    report
}

fn judge_rest(rest: &Rest, report: &mut Report) {
    let Rest { calls, allowed } = rest;
    if calls > allowed {
        report.problem(format!(
            "nobody asked for anything, and Redis ran {calls} scripts; {allowed} are allowed"
        ));
    }
}
