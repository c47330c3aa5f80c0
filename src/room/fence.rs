//! Late or lost? A server publishes numbers to itself: once a number has arrived, whatever Redis had published before
//! it has arrived too, or never will.
//!
//! Redis delivers published messages to a connection in the order of publication. So a late event makes the next number
//! late too, and a lost one does not.

use std::time::{Duration, Instant};

/// How often a number is published when nobody waits for one.
const EVERY: Duration = Duration::from_secs(1);
/// If the number published last has not arrived after this long, the next one is published.
const OVERDUE: Duration = Duration::from_secs(1);

/// The numbers of one server.
#[derive(Debug, Default)]
pub struct Fences {
    published: u64,
    published_at: Option<Instant>,
    heard: u64,
    /// Somebody waits for a number above the last one.
    wanted: bool,
}

/// A number to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fence(u64);

/// When to publish.
#[derive(Debug, PartialEq, Eq)]
pub enum Publish {
    /// Publish this number now.
    Now(u64),
    /// Publish nothing before this time, unless somebody asks.
    At(Instant),
}

impl Fences {
    /// A number that is published after this moment, for the caller to wait for.
    pub fn ask(&mut self) -> Fence {
        self.wanted = true;
        Fence(self.published + 1)
    }

    /// Whether everything that was published before the fence was asked for has arrived.
    pub fn is_past(&self, fence: Fence) -> bool {
        self.heard >= fence.0
    }

    /// What is to be published. Only one number is in flight at a time, so that a lagging connection gets no extra
    /// work.
    pub fn publish(&mut self, now: Instant) -> Publish {
        let under_way = self.heard < self.published;
        let pause = match (under_way, self.wanted) {
            (true, _) => OVERDUE,
            (false, true) => Duration::ZERO,
            (false, false) => EVERY,
        };
        match self.published_at.map(|at| at + pause) {
            Some(time) if time > now => Publish::At(time),
            _ => {
                self.published += 1;
                (self.published_at, self.wanted) = (Some(now), false);
                Publish::Now(self.published)
            }
        }
    }

    /// A number has arrived. Numbers from before the server began are not its own.
    pub fn heard(&mut self, number: u64) {
        if number <= self.published {
            self.heard = self.heard.max(number);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_was_published_before_a_number_was_asked_for_has_come_with_it() {
        let (mut fences, start) = (Fences::default(), Instant::now());
        assert_eq!(fences.publish(start), Publish::Now(1));
        // Asked for while the first is in flight: that one may be older than the question.
        let fence = fences.ask();
        fences.heard(1);
        assert!(!fences.is_past(fence));
        assert_eq!(fences.publish(start), Publish::Now(2));
        fences.heard(2);
        assert!(fences.is_past(fence));
    }

    #[test]
    fn a_connection_that_lags_gets_one_number_a_second() {
        let (mut fences, start) = (Fences::default(), Instant::now());
        assert_eq!(fences.publish(start), Publish::Now(1));
        for _ in 0..100 {
            fences.ask();
            assert_eq!(fences.publish(start), Publish::At(start + OVERDUE));
        }
        assert_eq!(fences.publish(start + OVERDUE), Publish::Now(2));
    }

    #[test]
    fn numbers_of_others_do_not_count() {
        let mut fences = Fences::default();
        let fence = fences.ask();
        fences.heard(7);
        assert!(!fences.is_past(fence));
    }
}
