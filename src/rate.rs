//! How much of something may be used up: a bucket that fills evenly and that each use takes from.

use std::time::Instant;

/// What is left. Starts full.
#[derive(Debug)]
pub struct Bucket {
    per_sec: f64,
    most: f64,
    left: f64,
    at: Instant,
}

impl Bucket {
    /// A bucket that holds `most` and gains `per_sec`; one that gains nothing is never empty.
    pub fn new(per_sec: f64, most: f64, now: Instant) -> Self {
        Self {
            per_sec,
            most,
            left: most,
            at: now,
        }
    }

    /// Takes this much. False, and nothing is taken, where less is left; but what is more than the bucket holds is taken
    /// from a full one, which then owes the rest.
    pub fn take(&mut self, amount: f64, now: Instant) -> bool {
        if self.per_sec == 0.0 {
            return true;
        }
        self.fill(now);
        let enough = self.left >= amount.min(self.most);
        if enough {
            self.left -= amount;
        }
        enough
    }

    /// Gives back what was taken and not used.
    pub fn give_back(&mut self, amount: f64) {
        self.left = (self.left + amount).min(self.most);
    }

    /// Whether it is as full as a new one.
    pub fn is_full(&mut self, now: Instant) -> bool {
        self.fill(now);
        self.left >= self.most
    }

    fn fill(&mut self, now: Instant) {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * self.per_sec;
        self.left = (self.left + gained).min(self.most);
        self.at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn bucket(per_sec: f64, most: f64) -> (Bucket, Instant) {
        let start = Instant::now();
        (Bucket::new(per_sec, most, start), start)
    }

    #[test]
    fn as_much_as_it_holds_is_taken_at_once_and_no_more() {
        let (mut bucket, start) = bucket(10.0, 5.0);
        assert!((0..5).all(|_| bucket.take(1.0, start)));
        assert!(!bucket.take(1.0, start));
        bucket.give_back(1.0);
        assert!(bucket.take(1.0, start));
    }

    #[test]
    fn then_as_much_as_it_gains() {
        let (mut bucket, start) = bucket(10.0, 5.0);
        while bucket.take(1.0, start) {}
        let after = |ms| start + Duration::from_millis(ms);
        assert!(!bucket.take(1.0, after(90)));
        assert!(bucket.take(1.0, after(110)));
        assert!(!bucket.take(1.0, after(150)));
        // A long quiet time fills it, but not over.
        assert!((0..5).all(|_| bucket.take(1.0, after(60_000))));
        assert!(!bucket.take(1.0, after(60_000)));
    }

    #[test]
    fn more_than_it_holds_is_taken_from_a_full_one_and_owed() {
        let (mut bucket, start) = bucket(10.0, 5.0);
        assert!(bucket.take(25.0, start));
        assert!(!bucket.take(1.0, start + Duration::from_millis(2000)));
        assert!(bucket.take(1.0, start + Duration::from_millis(2200)));
        assert!(!bucket.take(25.0, start + Duration::from_millis(2200)));
        assert!(bucket.is_full(start + Duration::from_millis(2800)));
    }

    #[test]
    fn one_that_gains_nothing_is_never_empty() {
        let (mut bucket, start) = bucket(0.0, 1.0);
        assert!((0..10_000).all(|_| bucket.take(1.0, start)));
    }
}
