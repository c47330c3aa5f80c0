//! The devices for which something is waiting to be written.
//!
//! What goes to many devices waits behind what goes to few: a message between two people is not held up by one to a
//! thousand, nor are requests and their answers. While the many wait, whatever else arrives for them goes out in the
//! same write. (Measured: BENCHMARKS.md, "What was tried".)

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;

/// An event for more devices than this counts as one for many.
const FEW_DEVICES: usize = 8;
/// The most high-priority devices that are written to in one turn.
const HIGH_AT_ONCE: usize = 64;
/// For low priority: this many per turn, or this fraction of those waiting.
const LOW_AT_ONCE: usize = 8;
const LOW_PART: usize = 16;

/// Which devices are written to first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    High,
    Low,
}

impl Priority {
    /// The priority of an event for this many devices.
    pub fn of_fan_out(devices: usize) -> Self {
        if devices > FEW_DEVICES {
            Self::Low
        } else {
            Self::High
        }
    }
}

/// Writes to one device.
pub trait Outlet: Send + Sync {
    /// Writes what is queued for the device, as far as its socket takes it now. Does not block.
    ///
    /// The device is no longer registered as due with `priority`.
    fn flush(&self, priority: Priority);
}

/// Devices whose turn it is.
#[derive(Default)]
pub struct Turn {
    high: Vec<Weak<dyn Outlet>>,
    low: Vec<Weak<dyn Outlet>>,
}

impl Turn {
    /// Writes to each of them that still exists.
    pub fn write(&mut self) {
        for outlet in self.high.drain(..).filter_map(|outlet| outlet.upgrade()) {
            outlet.flush(Priority::High);
        }
        for outlet in self.low.drain(..).filter_map(|outlet| outlet.upgrade()) {
            outlet.flush(Priority::Low);
        }
    }
}

/// Devices to be written to, in order of arrival. Bounded by the number of devices: each is listed at most once per
/// priority.
#[derive(Default)]
pub struct Due {
    waiting: Mutex<Waiting>,
    added: Notify,
}

#[derive(Default)]
struct Waiting {
    high: VecDeque<Weak<dyn Outlet>>,
    low: VecDeque<Weak<dyn Outlet>>,
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.high.is_empty() && self.low.is_empty()
    }
}

impl Due {
    pub(super) fn add(&self, outlet: Weak<dyn Outlet>, priority: Priority) {
        let mut waiting = self.lock();
        let first = waiting.is_empty();
        match priority {
            Priority::High => waiting.high.push_back(outlet),
            Priority::Low => waiting.low.push_back(outlet),
        }
        if first {
            self.added.notify_one();
        }
    }

    /// Takes the devices whose turn it is; waits until there are some. For any number of consumers.
    pub async fn take(&self, turn: &mut Turn) {
        while !self.try_take(turn) {
            self.added.notified().await;
        }
    }

    fn try_take(&self, turn: &mut Turn) -> bool {
        let mut waiting = self.lock();
        if waiting.is_empty() {
            return false;
        }
        let high = waiting.high.len().min(HIGH_AT_ONCE);
        let low = waiting.low.len();
        let low = low.min(LOW_AT_ONCE.max(low / LOW_PART));
        turn.high.extend(waiting.high.drain(..high));
        turn.low.extend(waiting.low.drain(..low));
        if !waiting.is_empty() {
            // There is work for another consumer.
            self.added.notify_one();
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // No code under this lock panics halfway through a change.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// Records what is written to it.
    struct Noted {
        name: usize,
        notes: Arc<Mutex<Vec<(usize, Priority)>>>,
    }

    impl Outlet for Noted {
        fn flush(&self, priority: Priority) {
            let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
            notes.push((self.name, priority));
        }
    }

    #[derive(Default)]
    struct Devices {
        due: Due,
        all: Vec<Arc<Noted>>,
        notes: Arc<Mutex<Vec<(usize, Priority)>>>,
    }

    impl Devices {
        fn add(&mut self, count: usize, priority: Priority) {
            for _ in 0..count {
                let device = Arc::new(Noted {
                    name: self.all.len(),
                    notes: self.notes.clone(),
                });
                let outlet: Arc<dyn Outlet> = device.clone();
                self.due.add(Arc::downgrade(&outlet), priority);
                self.all.push(device);
            }
        }

        /// The devices that were written to in this turn, in order.
        async fn turn(&self) -> Vec<(usize, Priority)> {
            let mut turn = Turn::default();
            self.due.take(&mut turn).await;
            turn.write();
            let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *notes)
        }
    }

    #[tokio::test]
    async fn what_goes_to_few_does_not_wait_for_what_goes_to_many() {
        let mut devices = Devices::default();
        devices.add(100, Priority::of_fan_out(100));
        devices.add(2, Priority::of_fan_out(2));
        let first = devices.turn().await;
        let high = [(100, Priority::High), (101, Priority::High)];
        assert_eq!(first[..2], high);
        // And the many get their share of each turn, in order
        let mut low: Vec<usize> = first[2..].iter().map(|(name, _)| *name).collect();
        assert_eq!(low.len(), LOW_AT_ONCE);
        while low.len() < 100 {
            devices.add(1, Priority::High);
            let turn = devices.turn().await;
            assert_eq!(turn[0].1, Priority::High);
            low.extend(turn[1..].iter().map(|(name, _)| *name));
        }
        assert_eq!(low, Vec::from_iter(0..100));
    }

    #[tokio::test]
    async fn of_very_many_more_have_a_turn() {
        let mut devices = Devices::default();
        devices.add(10_000, Priority::Low);
        let mut turns = 0;
        let mut written = 0;
        while written < 10_000 {
            written += devices.turn().await.len();
            turns += 1;
        }
        assert!(turns < 100, "{turns} turns");
    }

    #[tokio::test]
    async fn who_is_gone_is_left_out() {
        let mut devices = Devices::default();
        devices.add(3, Priority::High);
        devices.all.remove(1);
        assert_eq!(
            devices.turn().await,
            [(0, Priority::High), (2, Priority::High)]
        );
    }

    #[tokio::test]
    async fn several_writers_share_what_waits() {
        let mut devices = Devices::default();
        devices.add(3 * LOW_AT_ONCE, Priority::Low);
        // One writer was woken when the first device arrived; it wakes the next.
        let (one, two, three) = tokio::join!(
            async {
                devices.due.added.notified().await;
                devices.turn().await.len()
            },
            async {
                devices.due.added.notified().await;
                devices.turn().await.len()
            },
            async {
                devices.due.added.notified().await;
                devices.turn().await.len()
            },
        );
        assert_eq!([one, two, three], [LOW_AT_ONCE; 3]);
    }
}
