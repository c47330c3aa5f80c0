//! Reports to the operator, within bounds, stored or published data that is not as it should be.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::protocol::ids::{MessageId, RoomId};
use crate::room::flaws::{Flaw, Flaws};

/// Logs flaws: once in a while for each message and each room, and a bounded number in all.
#[derive(Debug, Default)]
pub struct FlawLog(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    since: Option<Instant>,
    places: HashSet<(RoomId, Option<MessageId>)>,
}

impl FlawLog {
    /// After this time a flaw that is still there is logged again.
    const AGAIN_AFTER: Duration = Duration::from_secs(60 * 60);
    /// Lines within that time.
    const LINES_MAX: usize = 100;

    pub fn tell(&self, flaws: &Flaws) {
        for flaw in &flaws.0 {
            if self.is_to_be_told(flaw, Instant::now()) {
                log::error!("{flaw}; it is shown as far as it can be read");
            }
        }
    }

    fn is_to_be_told(&self, flaw: &Flaw, now: Instant) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since = *told.since.get_or_insert(now);
        if now.duration_since(since) >= Self::AGAIN_AFTER {
            *told = Told {
                since: Some(now),
                ..Told::default()
            };
        }
        told.places.len() < Self::LINES_MAX && told.places.insert((flaw.room, flaw.message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_has_a_flaw_once_and_not_too_many() {
        let log = FlawLog::default();
        let start = Instant::now();
        let flaw = |room| Flaw {
            room,
            message: None,
            what: String::new(),
        };
        let told = |flaw: &Flaw, now| log.is_to_be_told(flaw, now);
        let first = flaw(RoomId::random());
        assert!(told(&first, start));
        assert!(!told(&first, start));
        let others = (0..1000).filter(|_| told(&flaw(RoomId::random()), start));
        assert_eq!(others.count(), FlawLog::LINES_MAX - 1);
        let later = start + FlawLog::AGAIN_AFTER;
        assert!(told(&first, later));
        assert!(!told(&first, later));
    }
}
