//! How fast a device may send requests: a bucket that fills evenly and that each request takes from.

use std::time::Instant;

use crate::config::Limits;

/// What is left for a device. Starts full.
pub struct RateLimit {
    per_sec: f64,
    burst: f64,
    left: f64,
    at: Instant,
}

impl RateLimit {
    pub fn new(limits: &Limits, now: Instant) -> Self {
        let burst = limits.max_request_burst as f64;
        Self {
            per_sec: limits.max_requests_per_sec as f64,
            burst,
            left: burst,
            at: now,
        }
    }

    /// Takes one request from what is left. False if nothing is.
    pub fn take(&mut self, now: Instant) -> bool {
        if self.per_sec == 0.0 {
            return true;
        }
        let gained = now.duration_since(self.at).as_secs_f64() * self.per_sec;
        self.left = (self.left + gained).min(self.burst);
        self.at = now;
        let enough = self.left >= 1.0;
        if enough {
            self.left -= 1.0;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::Config;
    use std::time::Duration;

    fn limit(per_sec: usize, burst: usize) -> (RateLimit, Instant) {
        let config = Config::from_lookup(&|name| match name {
            "JWT_SECRET" => Some("a-secret-for-tests-of-more-than-32-bytes".to_owned()),
            _ => None,
        });
        let limits = Limits {
            max_requests_per_sec: per_sec,
            max_request_burst: burst,
            ..config.unwrap().limits
        };
        let start = Instant::now();
        (RateLimit::new(&limits, start), start)
    }

    #[test]
    fn a_burst_is_taken_at_once_and_no_more() {
        let (mut limit, start) = limit(10, 5);
        assert!((0..5).all(|_| limit.take(start)));
        assert!(!limit.take(start));
    }

    #[test]
    fn then_as_many_as_the_rate_says() {
        let (mut limit, start) = limit(10, 5);
        while limit.take(start) {}
        let after = |ms| start + Duration::from_millis(ms);
        assert!(!limit.take(after(90)));
        assert!(limit.take(after(110)));
        assert!(!limit.take(after(150)));
        // A long quiet time fills it, but not over.
        assert!((0..5).all(|_| limit.take(after(60_000))));
        assert!(!limit.take(after(60_000)));
    }

    #[test]
    fn zero_is_no_limit() {
        let (mut limit, start) = limit(0, 1);
        assert!((0..10_000).all(|_| limit.take(start)));
    }
}
