//! When to ping a peer, and when to give it up.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::time::Instant;

use crate::config::Timing;

/// A peer is alive if anything came from it since the last ping.
pub struct Heartbeat<'a> {
    timing: &'a Timing,
    /// The time of the next ping, or the end of the wait for an answer.
    pub due: Instant,
    pinged_at: Option<Instant>,
}

/// What to do when it is due.
#[derive(Debug, PartialEq, Eq)]
pub enum Beat {
    Ping,
    Wait,
    Dead,
}

impl<'a> Heartbeat<'a> {
    pub fn new(timing: &'a Timing) -> Self {
        Self {
            timing,
            due: Instant::now() + timing.ping_interval,
            pinged_at: None,
        }
    }

    /// What to do now that it is `due`. `heard` is set by whoever reads, when anything comes.
    pub fn beat(&mut self, heard: &AtomicBool) -> Beat {
        let now = Instant::now();
        match self.pinged_at.take() {
            None => {
                heard.store(false, Ordering::Relaxed);
                self.pinged_at = Some(now);
                self.due = now + self.timing.ping_timeout;
                Beat::Ping
            }
            Some(pinged_at) if heard.load(Ordering::Relaxed) => {
                self.due = now.max(pinged_at + self.timing.ping_interval);
                Beat::Wait
            }
            Some(_) => Beat::Dead,
        }
    }
}
