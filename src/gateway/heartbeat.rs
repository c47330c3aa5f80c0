//! When to ping a peer, and when to give up on it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Timing;

/// A peer is alive if anything has arrived from it since the last ping.
pub struct Heartbeat {
    interval: Duration,
    timeout: Duration,
    /// The time of the next ping, or the end of the wait for an answer.
    pub due: Instant,
    pinged_at: Option<Instant>,
}

/// What to do when the time has come.
#[derive(Debug, PartialEq, Eq)]
pub enum Beat {
    Ping,
    Wait,
    Dead,
}

impl Heartbeat {
    pub fn new(timing: &Timing, now: Instant) -> Self {
        Self {
            interval: timing.ping_interval,
            timeout: timing.ping_timeout,
            due: now + timing.ping_interval,
            pinged_at: None,
        }
    }

    /// What to do at `now`, when it is `due`. The reader sets `heard` when anything arrives.
    pub fn beat(&mut self, now: Instant, heard: &AtomicBool) -> Beat {
        let Some(pinged_at) = self.pinged_at else {
            return self.ping(now, heard);
        };
        let (next, end) = (pinged_at + self.interval, pinged_at + self.timeout);
        if heard.load(Ordering::Relaxed) {
            if now >= next {
                return self.ping(now, heard);
            }
            (self.pinged_at, self.due) = (None, next);
            Beat::Wait
        } else if now >= end {
            Beat::Dead
        } else {
            // A late answer does not delay the next ping by more than one interval.
            self.due = end.min(now + self.interval);
            Beat::Wait
        }
    }

    fn ping(&mut self, now: Instant, heard: &AtomicBool) -> Beat {
        heard.store(false, Ordering::Relaxed);
        self.pinged_at = Some(now);
        self.due = now + self.interval.min(self.timeout);
        Beat::Ping
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn timing(interval_ms: u64, timeout_ms: u64) -> Timing {
        Timing {
            header_timeout: ms(1),
            request_timeout: ms(1),
            ping_interval: ms(interval_ms),
            ping_timeout: ms(timeout_ms),
            shutdown_deadline: ms(1),
        }
    }

    /// Steps from one due time to the next; the peer answers each ping after `answers_after`. Returns when it was
    /// pinged, and when it was given up.
    fn story(timing: &Timing, answers_after: Duration, until: Duration) -> (Vec<u64>, Option<u64>) {
        let start = Instant::now();
        let heard = AtomicBool::new(true);
        let mut heartbeat = Heartbeat::new(timing, start);
        let (mut pings, mut answer_at) = (Vec::new(), None::<Instant>);
        while heartbeat.due <= start + until {
            let now = heartbeat.due;
            if answer_at.is_some_and(|at| at <= now) {
                heard.store(true, Ordering::Relaxed);
                answer_at = None;
            }
            let at_ms = u64::try_from((now - start).as_millis()).unwrap_or(u64::MAX);
            match heartbeat.beat(now, &heard) {
                Beat::Ping => {
                    pings.push(at_ms);
                    answer_at = Some(now + answers_after);
                }
                Beat::Wait => {}
                Beat::Dead => return (pings, Some(at_ms)),
            }
        }
        (pings, None)
    }

    #[test]
    fn who_answers_is_pinged_every_interval() {
        for timing in [timing(100, 20_000), timing(100, 80), timing(100, 100)] {
            let (pings, given_up) = story(&timing, ms(10), ms(500));
            assert_eq!((pings, given_up), (vec![100, 200, 300, 400, 500], None));
        }
    }

    #[test]
    fn a_late_answer_puts_off_one_ping_only() {
        let (pings, given_up) = story(&timing(100, 250), ms(120), ms(500));
        assert_eq!((pings, given_up), (vec![100, 300, 500], None));
    }

    #[test]
    fn who_does_not_answer_in_time_is_given_up() {
        for timing in [timing(100, 250), timing(300, 250)] {
            let (pings, given_up) = story(&timing, ms(10_000), ms(1000));
            let first = u64::try_from(timing.ping_interval.as_millis()).unwrap_or(0);
            assert_eq!((pings, given_up), (vec![first], Some(first + 250)));
        }
    }
}
