//! A queue of things to do in which each stands once.

use std::collections::{HashSet, VecDeque};
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

/// Bounded by what there is to name: adding again what waits already changes nothing.
pub struct WorkSet<T> {
    state: Mutex<(VecDeque<T>, HashSet<T>)>,
    added: Notify,
}

impl<T> Default for WorkSet<T> {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            added: Notify::new(),
        }
    }
}

impl<T: Clone + Eq + Hash> WorkSet<T> {
    pub fn add(&self, item: T) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.1.insert(item.clone()) {
            state.0.push_back(item);
            self.added.notify_one();
        }
    }

    /// Takes the oldest; waits for one. For a single taker.
    pub async fn take(&self) -> T {
        loop {
            if let Some(item) = self.try_take() {
                return item;
            }
            self.added.notified().await;
        }
    }

    fn try_take(&self) -> Option<T> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let item = state.0.pop_front()?;
        state.1.remove(&item);
        Some(item)
    }
}
