//! What rooms' events become: deliveries, gaps and their repairs, resets, lists that are sent again.

use ::metrics::{Counter, Histogram};

use super::{counter, histogram, label, number};

/// What the hub counts.
#[derive(Debug, Clone)]
pub struct HubMetrics {
    messages: Histogram,
    reads: Histogram,
    gaps_by_next_event: Counter,
    gaps_by_comparison: Counter,
    repairs_with_news: Counter,
    repairs_without_news: Counter,
    repairs_reset: Counter,
    repairs_gone: Counter,
    resets: Counter,
}

/// What a repair found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caught {
    /// Something was missing and was delivered.
    Up,
    /// Nothing was missing.
    Nothing,
    /// What was delivered is not the beginning of what is stored.
    Reset,
    /// The room is no longer there.
    Gone,
}

impl HubMetrics {
    pub(super) fn register() -> Self {
        let devices = |event: &str| {
            histogram(
                "chat_fanout_devices",
                "Devices of this server for which one event of a room was queued.",
                &[label("event", event)],
            )
        };
        let gaps = |found_by: &str| {
            counter(
                "chat_gaps_total",
                "Times that events of a room were found missing, by what showed it.",
                &[label("found_by", found_by)],
            )
        };
        let repairs = |result: &str| {
            counter(
                "chat_repairs_total",
                "Rooms that were brought up to date from the stored history, by what was found.",
                &[label("result", result)],
            )
        };
        Self {
            messages: devices("newMessage"),
            reads: devices("messageRead"),
            gaps_by_next_event: gaps("next_event"),
            gaps_by_comparison: gaps("comparison"),
            repairs_with_news: repairs("caught_up"),
            repairs_without_news: repairs("nothing_missing"),
            repairs_reset: repairs("reset"),
            repairs_gone: repairs("gone"),
            resets: counter(
                "chat_history_resets_total",
                "Times that the devices of a room got HISTORY_RESET.",
                &[],
            ),
        }
    }

    /// A message was queued for so many devices.
    pub fn message_for(&self, devices: usize) {
        self.messages.record(number(devices));
    }

    /// A read mark was queued for so many devices.
    pub fn read_for(&self, devices: usize) {
        self.reads.record(number(devices));
    }

    pub fn gap_shown_by_next_event(&self) {
        self.gaps_by_next_event.increment(1);
    }

    pub fn gap_shown_by_comparison(&self) {
        self.gaps_by_comparison.increment(1);
    }

    pub fn repaired(&self, caught: Caught) {
        let counter = match caught {
            Caught::Up => &self.repairs_with_news,
            Caught::Nothing => &self.repairs_without_news,
            Caught::Reset => &self.repairs_reset,
            Caught::Gone => &self.repairs_gone,
        };
        counter.increment(1);
    }

    pub fn history_reset(&self) {
        self.resets.increment(1);
    }
}

/// Counts nothing.
impl Default for HubMetrics {
    fn default() -> Self {
        Self::register()
    }
}

/// Chat lists that are sent unasked.
#[derive(Debug, Clone)]
pub struct ListMetrics {
    done: Counter,
    failed: Counter,
}

impl ListMetrics {
    pub(super) fn register() -> Self {
        let refreshes = |result: &str| {
            counter(
                "chat_list_refreshes_total",
                "Times that a user's whole chat list was read again for their full devices.",
                &[label("result", result)],
            )
        };
        Self {
            done: refreshes("ok"),
            failed: refreshes("failed"),
        }
    }

    pub fn refreshed(&self, done: bool) {
        let counter = if done { &self.done } else { &self.failed };
        counter.increment(1);
    }
}
