//! The numbers that this server publishes to itself; see [`crate::room::Fences`].

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use super::now;
use crate::room::{Fence, Fences, Publish};

/// Publishes nothing itself: the task that owns the connection does what [`Beats::next`] returns.
pub struct Beats {
    fences: Mutex<Fences>,
    asked: Notify,
    heard: watch::Sender<()>,
}

impl Default for Beats {
    fn default() -> Self {
        Self {
            fences: Mutex::default(),
            asked: Notify::new(),
            heard: watch::Sender::new(()),
        }
    }
}

impl Beats {
    /// A fence that is placed after this moment.
    pub fn ask(&self) -> Fence {
        let fence = self.lock().ask();
        self.asked.notify_one();
        fence
    }

    /// Resolves when everything that Redis published before the fence was asked for has arrived, or never will.
    pub async fn passed(&self, fence: Fence) {
        let mut heard = self.heard.subscribe();
        while !self.lock().is_past(fence) {
            // The sender lives as long as `self`.
            if heard.changed().await.is_err() {
                return;
            }
        }
    }

    /// The next number to publish; waits until it is due. For a single consumer.
    pub async fn next(&self) -> u64 {
        loop {
            let publish = self.lock().publish(now());
            match publish {
                Publish::Now(number) => return number,
                Publish::At(time) => tokio::select! {
                    () = tokio::time::sleep_until(time.into()) => {}
                    () = self.asked.notified() => {}
                },
            }
        }
    }

    /// A number has arrived.
    pub fn heard(&self, number: u64) {
        self.lock().heard(number);
        // The next one may be due now.
        self.asked.notify_one();
        self.heard.send_replace(());
    }

    fn lock(&self) -> MutexGuard<'_, Fences> {
        // No code under this lock panics halfway through a change.
        self.fences.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
