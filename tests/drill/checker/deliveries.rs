//! Checks what devices received against what is stored.

use std::collections::BTreeSet;

use super::Report;
use super::history::{Histories, counts_from};
use super::record::{DeviceLog, Message, Record, Step, short};

/// The state of one device in one room.
struct Place<'a> {
    log: &'a DeviceLog,
    room: &'a str,
    histories: &'a Histories<'a>,
    /// It has all messages from where it joined up to this number.
    has: Option<u64>,
    /// The room's number when this connection began.
    began: u64,
    /// The last number that was pushed on this connection.
    live: Option<u64>,
    /// Numbers that were skipped on this connection, and may only be late.
    skipped: BTreeSet<u64>,
}

/// Follows every device through every room it knew.
pub(super) fn judge(record: &Record, histories: &Histories<'_>, report: &mut Report) {
    for log in &record.devices {
        let rooms: BTreeSet<&str> = log.steps.iter().filter_map(began).collect();
        for room in rooms {
            follow(log, room, histories, report);
        }
    }
}

fn follow<'a>(
    log: &'a DeviceLog,
    room: &'a str,
    histories: &'a Histories<'_>,
    report: &mut Report,
) {
    let from = counts_from(&log.steps, room);
    let mut place = Place {
        log,
        room,
        histories,
        // After a reset everything has to be loaded again.
        has: (from > 0).then_some(0),
        began: 0,
        live: None,
        skipped: BTreeSet::new(),
    };
    for step in log.steps[from..].iter().filter(|step| concerns(step, room)) {
        place.take(step, report);
    }
    place.end(report);
}

fn began(step: &Step) -> Option<&str> {
    match step {
        Step::Began { room, .. } => Some(room),
        _ => None,
    }
}

fn concerns(step: &Step, room: &str) -> bool {
    matches!(step, Step::Disconnected) || step.room() == Some(room)
}

impl<'a> Place<'a> {
    fn take(&mut self, step: &'a Step, report: &mut Report) {
        match step {
            Step::Began { seq, .. } => {
                self.give_up_skipped(report);
                self.has.get_or_insert(*seq);
                self.began = *seq;
                self.live = Some(*seq);
            }
            Step::Saw(message) => self.saw(message, report),
            Step::Page {
                after, messages, ..
            } => self.page(*after, messages, report),
            Step::Disconnected => {
                self.give_up_skipped(report);
                self.live = None;
            }
            _ => {}
        }
    }

    /// An event must be the next one.
    fn saw(&mut self, message: &'a Message, report: &mut Report) {
        self.compare(message, report);
        let seq = message.seq;
        let live = self.live.unwrap_or(seq - 1);
        if seq > live {
            self.skipped.extend(live + 1..seq);
            self.live = Some(seq);
        } else if self.skipped.remove(&seq) {
            report.reordered(format!("{self}: {seq} came after {live}"));
        } else {
            let began = self.began;
            let what = format!("{self}: {seq} came again, after {live}; the list said {began}");
            report.doubled(1, what);
        }
        self.has = self.has.map(|has| if seq == has + 1 { seq } else { has });
    }

    /// A page must continue where the device's own history ends.
    fn page(&mut self, after: u64, messages: &'a [Message], report: &mut Report) {
        let mut last = after;
        for message in messages {
            self.compare(message, report);
            let seq = message.seq;
            if seq > last + 1 {
                let what = format!("{self}: a page goes from {last} to {seq}");
                report.lost(seq - last - 1, what);
            } else if seq <= last {
                report.doubled(1, format!("{self}: a page has {seq} after {last}"));
            }
            last = last.max(seq);
        }
        self.has = self
            .has
            .map(|has| if after <= has { has.max(last) } else { has });
    }

    /// What the device received is what is stored.
    fn compare(&self, given: &'a Message, report: &mut Report) {
        let Some(there) = self.histories.at(self.room, given.seq) else {
            let (seq, content) = (given.seq, short(&given.content));
            return report.lost(
                1,
                format!("{self}: was given {seq} {content:?}, which is not there"),
            );
        };
        if there == given {
            return;
        }
        let what = format!(
            "{self}: was given {:?} as {} ({}), where {:?} stands ({})",
            short(&given.content),
            given.seq,
            given.id,
            short(&there.content),
            there.id
        );
        if self
            .histories
            .with_content(self.room, &given.content)
            .is_empty()
        {
            report.problem(what);
        } else {
            report.reordered(what);
        }
    }

    fn give_up_skipped(&mut self, report: &mut Report) {
        let skipped = std::mem::take(&mut self.skipped);
        if !skipped.is_empty() {
            let what = format!("{self}: {skipped:?} did not come, while it was connected");
            report.lost(skipped.len() as u64, what);
        }
    }

    fn end(mut self, report: &mut Report) {
        self.give_up_skipped(report);
        let last = self.histories.last_seq(self.room);
        let has = self.has.unwrap_or(0);
        if self.log.stayed && has < last {
            let what = format!("{self}: ends with {has}, and there are {last}");
            report.lost(last - has, what);
        }
    }
}

impl std::fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} in room {}", self.log.name, self.room)
    }
}
