//! The final histories: consistent in themselves, and indexed for look-ups.

use std::collections::HashMap;

use super::Report;
use super::record::{Message, Record, Step};

/// Every room's final history.
pub(super) struct Histories<'a> {
    by_seq: HashMap<(&'a str, u64), &'a Message>,
    by_content: HashMap<(&'a str, &'a str), Vec<&'a Message>>,
    last_seq: HashMap<&'a str, u64>,
}

impl<'a> Histories<'a> {
    /// Reads them, and reports what is wrong with each by itself.
    pub(super) fn index(record: &'a Record, report: &mut Report) -> Self {
        let mut histories = Self {
            by_seq: HashMap::new(),
            by_content: HashMap::new(),
            last_seq: HashMap::new(),
        };
        for (room, messages) in &record.histories {
            judge_numbers(room, messages, report);
            let last = messages.last().map_or(0, |message| message.seq);
            histories.last_seq.insert(room, last);
            for message in messages {
                histories.by_seq.insert((room, message.seq), message);
                let content = (room.as_str(), message.content.as_str());
                histories
                    .by_content
                    .entry(content)
                    .or_default()
                    .push(message);
            }
        }
        histories
    }

    /// The number of the newest message, 0 where there is none.
    pub(super) fn last_seq(&self, room: &str) -> u64 {
        self.last_seq.get(room).copied().unwrap_or(0)
    }

    /// The message of this number.
    pub(super) fn at(&self, room: &'a str, seq: u64) -> Option<&'a Message> {
        self.by_seq.get(&(room, seq)).copied()
    }

    /// All messages with this content.
    pub(super) fn with_content(&self, room: &'a str, content: &'a str) -> &[&'a Message] {
        self.by_content
            .get(&(room, content))
            .map_or(&[], Vec::as_slice)
    }
}

/// Numbers go up by one, from 1, and each id ends in its message's number.
fn judge_numbers(room: &str, messages: &[Message], report: &mut Report) {
    let mut last = 0;
    for message in messages {
        let seq = message.seq;
        if seq > last + 1 {
            let hole = format!("room {room}: the history has a hole between {last} and {seq}");
            report.lost(seq - last - 1, hole);
        } else if seq <= last {
            report.doubled(
                1,
                format!("room {room}: number {seq} comes again after {last}"),
            );
        }
        let number = message.id.rsplit_once('-').map(|(_, number)| number);
        if number != Some(seq.to_string().as_str()) {
            let id = &message.id;
            report.problem(format!("room {room}: message {seq} has the id {id}"));
        }
        last = last.max(seq);
    }
}

/// The step from which a device's statements about a room count: after its last `HISTORY_RESET`, because everything
/// before it belongs to a history that is gone.
pub(super) fn counts_from(steps: &[Step], room: &str) -> usize {
    let is_reset = |step: &Step| matches!(step, Step::Reset { room: reset } if reset == room);
    steps
        .iter()
        .rposition(is_reset)
        .map_or(0, |position| position + 1)
}
