//! How a drill and its devices communicate.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

/// How many messages each room has.
pub(crate) type Heads = BTreeMap<String, u64>;

/// What the devices are to do.
#[derive(Clone, Debug)]
pub(crate) enum Orders {
    /// Send, each at its own pace.
    Send,
    /// Send nothing new, and finish what was begun.
    Settle,
    /// Leave, each once it has all of its rooms, or at this time at the latest.
    Leave(Arc<Heads>, Instant),
}

/// The end of a fault: the repair of a device is timed from then on, until it has every message that existed by then
/// and the next message of each room, which shows that all is well again.
#[derive(Clone, Debug)]
pub(crate) struct Goal {
    pub(crate) since: Instant,
    pub(crate) heads: Arc<Heads>,
}

/// What is counted while a drill runs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) connected: u64,
    pub(crate) acked: u64,
    pub(crate) refused: u64,
    pub(crate) unknown: u64,
    /// Rooms that a device had to load again after a reset.
    pub(crate) resets: u64,
}

/// The board.
pub(crate) struct Board {
    pub(crate) orders: watch::Sender<Orders>,
    pub(crate) goal: watch::Sender<Option<Goal>>,
    counts: watch::Sender<Counts>,
    idle: watch::Sender<BTreeSet<usize>>,
    heads: Mutex<Heads>,
    repairs: Mutex<Vec<Duration>>,
}

impl Board {
    pub(crate) fn new() -> Self {
        Self {
            orders: watch::Sender::new(Orders::Send),
            goal: watch::Sender::new(None),
            counts: watch::Sender::default(),
            idle: watch::Sender::default(),
            heads: Mutex::default(),
            repairs: Mutex::default(),
        }
    }

    /// Counts something.
    pub(crate) fn count(&self, change: impl FnOnce(&mut Counts)) {
        self.counts.send_modify(change);
    }

    /// The counts by now.
    pub(crate) fn counts(&self) -> Counts {
        *self.counts.borrow()
    }

    /// Waits until the counts are as wished; returns false if they are not in time.
    pub(crate) async fn reached(
        &self,
        limit: Duration,
        wished: impl FnMut(&Counts) -> bool,
    ) -> bool {
        let mut counts = self.counts.subscribe();
        timeout(limit, counts.wait_for(wished)).await.is_ok()
    }

    /// Notes that a device has nothing in flight, or has something again.
    pub(crate) fn set_idle(&self, device: usize, idle: bool) {
        self.idle.send_if_modified(|devices| {
            if idle {
                devices.insert(device)
            } else {
                devices.remove(&device)
            }
        });
    }

    /// Waits until this many devices have nothing in flight; otherwise returns those that do.
    pub(crate) async fn all_idle(&self, devices: usize, limit: Duration) -> Result<(), Vec<usize>> {
        let mut idle = self.idle.subscribe();
        let waited = timeout(limit, idle.wait_for(|idle| idle.len() == devices)).await;
        if waited.is_ok() {
            return Ok(());
        }
        let idle = self.idle.borrow();
        Err((0..devices)
            .filter(|device| !idle.contains(device))
            .collect())
    }

    /// Notes that a room has at least this many messages.
    pub(crate) fn head(&self, room: &str, seq: u64) {
        let mut heads = lock(&self.heads);
        match heads.get_mut(room) {
            Some(head) => *head = seq.max(*head),
            None => drop(heads.insert(room.to_owned(), seq)),
        }
    }

    /// A fault ends now.
    pub(crate) fn set_goal(&self) {
        let heads = lock(&self.heads);
        let next = heads.iter().map(|(room, seq)| (room.clone(), seq + 1));
        let heads = Arc::new(next.collect());
        self.goal.send_replace(Some(Goal {
            since: Instant::now(),
            heads,
        }));
    }

    /// Notes how long a device took to have what it had missed.
    pub(crate) fn repaired(&self, took: Duration) {
        lock(&self.repairs).push(took);
    }

    /// All of these times, shortest first.
    pub(crate) fn repairs(&self) -> Vec<Duration> {
        let mut repairs = lock(&self.repairs).clone();
        repairs.sort();
        repairs
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no device panicked")
}
