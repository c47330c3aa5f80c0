//! Redis's clock, as this server knows it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// The offset of Redis's clock from this machine's. Clones share it.
///
/// Redis reports its time with each health check. Until the first one the two clocks count as equal; afterwards the
/// time here is behind by the time that an answer takes.
#[derive(Debug, Clone, Default)]
pub struct RedisClock {
    ahead_ms: Arc<AtomicI64>,
}

impl RedisClock {
    /// Redis has just reported its time: Unix time in milliseconds.
    pub fn told(&self, ms: u64) {
        let ahead = i128::from(ms) - i128::from(local_ms());
        // An offset of centuries is as wrong as one of aeons.
        let ahead = ahead.clamp(i64::MIN.into(), i64::MAX.into()) as i64;
        self.ahead_ms.store(ahead, Ordering::Relaxed);
    }

    /// Unix time in milliseconds.
    pub fn now_ms(&self) -> u64 {
        local_ms().saturating_add_signed(self.ahead_ms.load(Ordering::Relaxed))
    }
}

/// A clock before 1970 reads as 1970.
fn local_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on_from_what_redis_told() {
        let clock = RedisClock::default();
        for told in [local_ms() + 7_200_000, local_ms() - 7_200_000, 0] {
            clock.told(told);
            let now = clock.now_ms();
            assert!((told..told + 60_000).contains(&now), "{told}: {now}");
        }
        clock.told(u64::MAX);
        assert!(clock.now_ms() > local_ms());
    }
}
