//! Checks what was sent against what is stored.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::Report;
use super::history::{Histories, counts_from};
use super::record::{DeviceLog, Message, Record, Step};

/// One request to store something.
struct Attempt<'a> {
    room: &'a str,
    content: &'a str,
    outcome: Outcome<'a>,
    /// The history that it went to is known to be gone.
    excused: bool,
}

#[derive(Clone, Copy)]
enum Outcome<'a> {
    Unknown,
    Refused(&'a str),
    Acked {
        id: &'a str,
        seq: u64,
        duplicate: bool,
    },
}

/// All attempts to send one message.
struct Sending<'a> {
    log: &'a DeviceLog,
    room: &'a str,
    content: &'a str,
    attempts: Vec<&'a Attempt<'a>>,
}

/// Checks every send against the histories, and the histories against the sends.
pub(super) fn judge(record: &Record, histories: &Histories<'_>, report: &mut Report) {
    let mut known = HashSet::new();
    for log in &record.devices {
        let attempts = attempts(log);
        count(&attempts, report);
        judge_order(log, &attempts, report);
        for sending in sendings(log, &attempts) {
            judge_sending(&sending, histories, report);
        }
        known.extend(
            attempts
                .iter()
                .map(|attempt| (attempt.room, attempt.content)),
        );
    }
    for message in record.histories.values().flatten() {
        if !known.contains(&(message.room.as_str(), message.content.as_str())) {
            report.problem(format!("nobody sent {}", told(message)));
        }
    }
}

fn attempts(log: &DeviceLog) -> Vec<Attempt<'_>> {
    let mut attempts = Vec::new();
    let mut place: HashMap<u64, usize> = HashMap::new();
    let mut from: HashMap<&str, usize> = HashMap::new();
    for (at, step) in log.steps.iter().enumerate() {
        let (attempt, outcome) = match step {
            Step::Sent {
                attempt,
                room,
                content,
            } => {
                let from = *from
                    .entry(room)
                    .or_insert_with(|| counts_from(&log.steps, room));
                place.insert(*attempt, attempts.len());
                attempts.push(Attempt {
                    room,
                    content,
                    outcome: Outcome::Unknown,
                    excused: at < from,
                });
                continue;
            }
            Step::Acked {
                attempt,
                id,
                seq,
                duplicate,
            } => (
                attempt,
                Outcome::Acked {
                    id,
                    seq: *seq,
                    duplicate: *duplicate,
                },
            ),
            Step::Refused { attempt, code } => (attempt, Outcome::Refused(code)),
            Step::Unknown { attempt } => (attempt, Outcome::Unknown),
            _ => continue,
        };
        if let Some(place) = place.get(attempt) {
            attempts[*place].outcome = outcome;
        }
    }
    attempts
}

fn count(attempts: &[Attempt<'_>], report: &mut Report) {
    for attempt in attempts {
        match attempt.outcome {
            Outcome::Unknown => report.unknown += 1,
            Outcome::Refused(_) => report.refused += 1,
            Outcome::Acked { .. } => report.acked += 1,
        }
    }
}

/// The attempts of each message, grouped. A device sends the same content twice only to repeat it.
fn sendings<'a>(log: &'a DeviceLog, attempts: &'a [Attempt<'a>]) -> Vec<Sending<'a>> {
    let mut together: BTreeMap<(&str, &str), Vec<&Attempt<'_>>> = BTreeMap::new();
    for attempt in attempts {
        let one = (attempt.room, attempt.content);
        together.entry(one).or_default().push(attempt);
    }
    let sending = |((room, content), attempts)| Sending {
        log,
        room,
        content,
        attempts,
    };
    together.into_iter().map(sending).collect()
}

fn judge_sending(sending: &Sending<'_>, histories: &Histories<'_>, report: &mut Report) {
    let stored = histories.with_content(sending.room, sending.content);
    if stored.len() > 1 {
        let seqs: Vec<u64> = stored.iter().map(|message| message.seq).collect();
        let what = format!("{sending} is there {} times: {seqs:?}", stored.len());
        report.doubled(stored.len() as u64 - 1, what);
    }
    for message in stored {
        if message.sender != sending.log.user {
            report.problem(format!(
                "{sending} stands there as said by {}",
                message.sender
            ));
        }
    }
    judge_acks(sending, stored, report);
    judge_refusals(sending, stored, report);
}

/// Each ack names the one message that is stored.
fn judge_acks(sending: &Sending<'_>, stored: &[&Message], report: &mut Report) {
    let mut first: Option<(&str, u64)> = None;
    for attempt in sending.attempts.iter().filter(|attempt| !attempt.excused) {
        let Outcome::Acked { id, seq, .. } = attempt.outcome else {
            continue;
        };
        if let Some(first) = first {
            if first != (id, seq) {
                let what = format!("{sending} was acked as {} and as {id}", first.0);
                report.doubled(1, what);
            }
            continue;
        }
        first = Some((id, seq));
        if stored.is_empty() {
            let what = format!("{sending} was acked as {seq} ({id}) and is not there");
            report.lost(1, what);
        } else if !stored
            .iter()
            .any(|there| there.id == id && there.seq == seq)
        {
            let there = &stored[0].id;
            report.problem(format!(
                "{sending} was acked as {id} and stands there as {there}"
            ));
        }
    }
}

/// A refused message is not stored; and a first ack that says "duplicate" reveals that it was.
fn judge_refusals(sending: &Sending<'_>, stored: &[&Message], report: &mut Report) {
    let mut refused_by = None;
    for attempt in &sending.attempts {
        match attempt.outcome {
            Outcome::Refused(code) => refused_by = Some(code),
            Outcome::Acked {
                duplicate: true, ..
            } => {
                let what = match refused_by {
                    Some(code) => format!("{sending} was refused ({code}) and had been stored"),
                    None => format!("{sending} was acked as a repeat, and is none"),
                };
                return report.problem(what);
            }
            // From here on there may be something to repeat.
            Outcome::Acked { .. } | Outcome::Unknown => return,
        }
    }
    if let (Some(code), false) = (refused_by, stored.is_empty()) {
        report.problem(format!("{sending} was refused ({code}) and is there"));
    }
}

/// What one device sent to a room is stored in the order in which it sent it. A repeat has the place of the first
/// attempt that was stored, and the device may not know which one that was.
fn judge_order(log: &DeviceLog, attempts: &[Attempt<'_>], report: &mut Report) {
    let mut latest: HashMap<&str, (u64, &str)> = HashMap::new();
    for attempt in attempts.iter().filter(|attempt| !attempt.excused) {
        let Outcome::Acked {
            seq,
            duplicate: false,
            ..
        } = attempt.outcome
        else {
            continue;
        };
        let before = latest.insert(attempt.room, (seq, attempt.content));
        if let Some((earlier, content)) = before
            && earlier >= seq
        {
            report.reordered(format!(
                "{}: {:?} was sent after {content:?} and stands before it in room {} ({seq}, {earlier})",
                log.name, attempt.content, attempt.room
            ));
        }
    }
}

impl std::fmt::Display for Sending<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let content = super::record::short(self.content);
        write!(f, "{}: {content:?} in room {}", self.log.name, self.room)
    }
}

fn told(message: &Message) -> String {
    let Message {
        room, seq, content, ..
    } = message;
    format!(
        "{:?}, number {seq} of room {room}",
        super::record::short(content)
    )
}
