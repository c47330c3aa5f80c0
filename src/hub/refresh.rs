//! What is to be sent again, such as a user's chat list, and when: at once for the first change, then at most once per
//! interval.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Users or rooms with a change to send. Bounded by how many of them this server has.
pub struct RefreshQueue<K> {
    interval: Duration,
    states: HashMap<K, State>,
    ready: VecDeque<K>,
    /// In order of expiry: all pauses are equally long.
    resting: VecDeque<(Instant, K)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Ready,
    Resting { changed: bool },
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<K> {
    Refresh(K),
    /// Nothing before this time.
    WaitUntil(Instant),
    /// Nothing before a change.
    Idle,
}

impl<K: Clone + Eq + Hash> RefreshQueue<K> {
    pub fn new(interval: Duration) -> Self {
        Self {
            interval,
            states: HashMap::new(),
            ready: VecDeque::new(),
            resting: VecDeque::new(),
        }
    }

    /// There is a change to send.
    pub fn changed(&mut self, key: &K) {
        match self.states.get_mut(key) {
            None => {
                self.states.insert(key.clone(), State::Ready);
                self.ready.push_back(key.clone());
            }
            Some(State::Resting { changed }) => *changed = true,
            Some(State::Ready) => {}
        }
    }

    /// The next key that is due. It then pauses for an interval.
    pub fn next(&mut self, now: Instant) -> Next<K> {
        while let Some((end, key)) = self.resting.pop_front() {
            if end > now {
                self.resting.push_front((end, key));
                break;
            }
            if self.states.get(&key) == Some(&State::Resting { changed: true }) {
                self.states.insert(key.clone(), State::Ready);
                self.ready.push_back(key);
            } else {
                self.states.remove(&key);
            }
        }
        if let Some(key) = self.ready.pop_front() {
            self.states
                .insert(key.clone(), State::Resting { changed: false });
            self.resting.push_back((now + self.interval, key.clone()));
            return Next::Refresh(key);
        }
        self.resting
            .front()
            .map_or(Next::Idle, |(end, _)| Next::WaitUntil(*end))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::protocol::ids::UserId;

    #[test]
    fn the_first_change_goes_at_once_and_the_last_is_never_lost() {
        let second = Duration::from_secs(1);
        let (mut queue, start) = (RefreshQueue::new(second), Instant::now());
        let alice = UserId::parse("alice").unwrap();
        assert_eq!(queue.next(start), Next::Idle);
        queue.changed(&alice);
        queue.changed(&alice);
        assert_eq!(queue.next(start), Next::Refresh(alice.clone()));
        assert_eq!(queue.next(start), Next::WaitUntil(start + second));
        queue.changed(&alice);
        queue.changed(&alice);
        assert_eq!(queue.next(start), Next::WaitUntil(start + second));
        assert_eq!(queue.next(start + second), Next::Refresh(alice.clone()));
        assert_eq!(queue.next(start + 2 * second), Next::Idle);
        queue.changed(&alice);
        assert_eq!(queue.next(start + 2 * second), Next::Refresh(alice));
    }
}
