//! Checks unread counts against histories and marks.

use std::collections::{BTreeMap, BTreeSet};

use super::Report;
use super::history::{Histories, counts_from};
use super::record::{DeviceLog, Entry, Record, Step};

/// The range of numbers in which a user's read marker must be.
#[derive(Clone, Copy, Default)]
struct Bounds {
    at_least: u64,
    at_most: u64,
}

impl Bounds {
    fn surely(&mut self, seq: u64) {
        self.at_least = self.at_least.max(seq);
        self.perhaps(seq);
    }

    fn perhaps(&mut self, seq: u64) {
        self.at_most = self.at_most.max(seq);
    }
}

/// By user and room.
type Markers<'a> = BTreeMap<(&'a str, &'a str), Bounds>;

/// Checks every user's chat list against what is known of the rooms and the user's marks.
pub(super) fn judge(record: &Record, histories: &Histories<'_>, report: &mut Report) {
    let markers = markers(record);
    for (user, list) in &record.lists {
        for entry in list {
            let bounds = markers.get(&(user.as_str(), entry.room.as_str()));
            let last = histories.last_seq(&entry.room);
            judge_entry(
                user,
                entry,
                last,
                bounds.copied().unwrap_or_default(),
                report,
            );
        }
        let listed: BTreeSet<&str> = list.iter().map(|entry| entry.room.as_str()).collect();
        for room in rooms_of(record, user) {
            if !listed.contains(room) {
                report.lost(1, format!("{user}: room {room} is not in the chat list"));
            }
        }
    }
}

fn judge_entry(user: &str, entry: &Entry, last: u64, bounds: Bounds, report: &mut Report) {
    let Entry {
        room,
        seq,
        read_seq,
        unread,
    } = entry;
    if *seq != last {
        report.problem(format!(
            "{user}: room {room} is listed with {seq} messages, and there are {last}"
        ));
    }
    if read_seq + unread != *seq {
        report.problem(format!(
            "{user}: room {room} is listed with {unread} unread, read up to {read_seq} of {seq}"
        ));
    }
    let Bounds { at_least, at_most } = bounds;
    if !(at_least..=at_most).contains(read_seq) {
        report.problem(format!(
            "{user}: room {room} is listed as read up to {read_seq}, by sends and marks it is {at_least} to {at_most}"
        ));
    }
}

/// The rooms that devices of the user were notified of and that still exist.
fn rooms_of<'a>(record: &'a Record, user: &str) -> BTreeSet<&'a str> {
    let devices = record.devices.iter().filter(|log| log.user == user);
    let began = devices
        .flat_map(|log| &log.steps)
        .filter_map(|step| match step {
            Step::Began { room, .. } => Some(room.as_str()),
            _ => None,
        });
    began
        .filter(|room| record.histories.contains_key(*room))
        .collect()
}

fn markers(record: &Record) -> Markers<'_> {
    let mut markers = Markers::new();
    for message in record.histories.values().flatten() {
        let sender = (message.sender.as_str(), message.room.as_str());
        markers.entry(sender).or_default().surely(message.seq);
    }
    for log in &record.devices {
        marks(log, &mut markers);
    }
    markers
}

fn marks<'a>(log: &'a DeviceLog, markers: &mut Markers<'a>) {
    for (at, step) in log.steps.iter().enumerate() {
        match step {
            Step::Marked { room, seq } => {
                let bounds = markers.entry((&log.user, room)).or_default();
                // A mark in a history that is gone may have gone with it.
                if at < counts_from(&log.steps, room) {
                    bounds.perhaps(*seq);
                } else {
                    bounds.surely(*seq);
                }
            }
            Step::MaybeMarked { room, seq } => {
                markers.entry((&log.user, room)).or_default().perhaps(*seq);
            }
            _ => {}
        }
    }
}
