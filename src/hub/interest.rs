//! Which channels this server wants to hear, and which it hears. No Redis: `store::subscriber` makes the two agree.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

use crate::room::Topic;

/// Channels wanted and heard.
#[derive(Default)]
pub struct Interest {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    topics: HashMap<Topic, Entry>,
    /// Topics whose `wanted` and `heard` may differ; each once.
    todo: VecDeque<Topic>,
}

#[derive(Default)]
struct Entry {
    wanted: bool,
    heard: bool,
    /// A subscribe or unsubscribe is under way.
    busy: bool,
    queued: bool,
    waiting: Vec<oneshot::Sender<()>>,
}

/// What is to be done on the connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    Subscribe(Topic),
    Unsubscribe(Topic),
}

impl Interest {
    pub fn want(&self, topic: Topic) {
        self.set_wanted(topic, true);
    }

    pub fn unwant(&self, topic: Topic) {
        self.set_wanted(topic, false);
    }

    fn set_wanted(&self, topic: Topic, wanted: bool) {
        let mut state = self.lock();
        state.topics.entry(topic.clone()).or_default().wanted = wanted;
        state.queue(topic);
        self.changed.notify_one();
    }

    /// Resolves once the topic is heard: `Ok` at once if it is. `Err` if it is no longer wanted.
    pub async fn heard(&self, topic: &Topic) -> Result<(), oneshot::error::RecvError> {
        let waiter = {
            let mut state = self.lock();
            match state.topics.get_mut(topic) {
                Some(entry) if entry.heard => return Ok(()),
                Some(entry) => {
                    let (sender, receiver) = oneshot::channel();
                    entry.waiting.push(sender);
                    receiver
                }
                // The sender is dropped at once: an error.
                None => oneshot::channel().1,
            }
        };
        waiter.await
    }

    /// A new connection: nothing is heard on it yet.
    pub fn connection_replaced(&self) {
        let mut state = self.lock();
        state.topics.retain(|_, entry| entry.wanted);
        state.todo = state.topics.keys().cloned().collect();
        for entry in state.topics.values_mut() {
            (entry.heard, entry.busy, entry.queued) = (false, false, true);
        }
        self.changed.notify_one();
    }

    /// The next thing to do; it counts as under way until [`Self::done`].
    pub fn next_step(&self) -> Option<Step> {
        let mut state = self.lock();
        while let Some(topic) = state.todo.pop_front() {
            let Some(entry) = state.topics.get_mut(&topic) else {
                continue;
            };
            entry.queued = false;
            if entry.busy || entry.wanted == entry.heard {
                if !entry.busy && !entry.wanted {
                    state.topics.remove(&topic);
                }
                continue;
            }
            entry.busy = true;
            return Some(if entry.wanted {
                Step::Subscribe(topic)
            } else {
                Step::Unsubscribe(topic)
            });
        }
        None
    }

    /// A step is done. True if the topic is heard now and still wanted.
    pub fn done(&self, step: Step) -> bool {
        let mut state = self.lock();
        let (topic, heard) = match step {
            Step::Subscribe(topic) => (topic, true),
            Step::Unsubscribe(topic) => (topic, false),
        };
        let Some(entry) = state.topics.get_mut(&topic) else {
            return false;
        };
        (entry.busy, entry.heard) = (false, heard);
        let agreed = entry.wanted == heard;
        if agreed && heard {
            entry
                .waiting
                .drain(..)
                .for_each(|waiter: oneshot::Sender<()>| {
                    // Whoever waited may have gone.
                    let _ = waiter.send(());
                });
        }
        if !agreed {
            state.queue(topic);
            self.changed.notify_one();
        } else if !heard {
            state.topics.remove(&topic);
        }
        agreed && heard
    }

    /// Resolves when there may be a next step.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is one assignment: a panic elsewhere leaves the state whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn queue(&mut self, topic: Topic) {
        if let Some(entry) = self.topics.get_mut(&topic)
            && !entry.queued
        {
            entry.queued = true;
            self.todo.push_back(topic);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn wanting_and_dropping_before_the_reply_ends_unsubscribed() {
        let interest = Interest::default();
        interest.want(Topic::Control);
        let subscribe = interest.next_step().unwrap();
        interest.unwant(Topic::Control);
        assert_eq!(interest.next_step(), None, "one step at a time for a topic");
        assert!(!interest.done(subscribe));
        let unsubscribe = interest.next_step().unwrap();
        assert_eq!(unsubscribe, Step::Unsubscribe(Topic::Control));
        interest.done(unsubscribe);
        assert_eq!(interest.next_step(), None);
        assert!(interest.lock().topics.is_empty());
    }

    #[test]
    fn a_new_connection_hears_nothing_until_told() {
        let interest = Interest::default();
        interest.want(Topic::Control);
        assert!(interest.done(interest.next_step().unwrap()));
        assert_eq!(interest.next_step(), None);
        interest.connection_replaced();
        assert_eq!(interest.next_step(), Some(Step::Subscribe(Topic::Control)));
    }
}
