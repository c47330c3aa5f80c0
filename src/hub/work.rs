//! An [`Agenda`] that tasks add to and take from.

use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::now;
use crate::room::{Agenda, Next, Turn};

/// Things to do, each once, repeated at growing intervals.
pub struct Work<K> {
    agenda: Mutex<Agenda<K>>,
    added: Notify,
}

impl<K> Default for Work<K> {
    fn default() -> Self {
        Self {
            agenda: Mutex::default(),
            added: Notify::new(),
        }
    }
}

impl<K: Clone + Eq + Hash> Work<K> {
    pub fn add(&self, thing: K) {
        self.lock().add(thing, now());
        self.added.notify_one();
    }

    /// Takes the thing that is due first; waits for it. For a single consumer. [`Self::done`] has to follow.
    pub async fn take(&self) -> Turn<K> {
        loop {
            let next = self.lock().next(now());
            match next {
                Next::Do(turn) => return turn,
                Next::WaitUntil(time) => tokio::select! {
                    () = tokio::time::sleep_until(time.into()) => {}
                    () = self.added.notified() => {}
                },
                Next::Idle => self.added.notified().await,
            }
        }
    }

    /// Takes up to `max` of the things that are due now; waits for the first. For a single consumer.
    pub async fn take_several(&self, max: usize) -> Vec<K> {
        let mut things = vec![self.take().await.thing];
        let mut agenda = self.lock();
        while things.len() < max
            && let Next::Do(turn) = agenda.next(now())
        {
            things.push(turn.thing);
        }
        things
    }

    /// The thing is done, or given up until it is added again.
    pub fn done(&self, thing: &K) {
        self.lock().done(thing, now());
        // It may have been added again meanwhile.
        self.added.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Agenda<K>> {
        // No code under this lock panics halfway through a change.
        self.agenda.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
