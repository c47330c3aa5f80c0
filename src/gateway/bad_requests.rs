//! How many bad requests a device may send.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// This many bad requests …
const LIMIT: usize = 100;
/// … within this time end the connection.
const WINDOW: Duration = Duration::from_secs(10);

/// The times of a device's latest bad requests.
#[derive(Default)]
pub struct BadRequests(VecDeque<Instant>);

impl BadRequests {
    /// Counts one more. True if that is one too many.
    pub fn add(&mut self, now: Instant) -> bool {
        while self
            .0
            .front()
            .is_some_and(|first| now.duration_since(*first) > WINDOW)
        {
            self.0.pop_front();
        }
        self.0.push_back(now);
        self.0.len() >= LIMIT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_within_ten_seconds_are_too_many() {
        let (mut bad, start) = (BadRequests::default(), Instant::now());
        assert!((0..99).all(|_| !bad.add(start)));
        assert!(bad.add(start));
    }

    #[test]
    fn old_ones_do_not_count() {
        let (mut bad, start) = (BadRequests::default(), Instant::now());
        let every_200_ms = |n: u32| start + Duration::from_millis(200) * n;
        assert!((0..1000).all(|n| !bad.add(every_200_ms(n))));
    }
}
