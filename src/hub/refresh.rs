//! Whose chat list is to be sent again, and when: at once for the first change, then at most once an interval.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::protocol::ids::UserId;

/// Users with a change to tell. Bounded by the users connected here.
pub struct RefreshQueue {
    interval: Duration,
    users: HashMap<UserId, State>,
    ready: VecDeque<UserId>,
    /// In the order in which they end: each rests for the same time.
    resting: VecDeque<(Instant, UserId)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Ready,
    Resting { changed: bool },
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    Refresh(UserId),
    /// Nothing before this time.
    WaitUntil(Instant),
    /// Nothing before a change.
    Idle,
}

impl RefreshQueue {
    pub fn new(interval: Duration) -> Self {
        Self {
            interval,
            users: HashMap::new(),
            ready: VecDeque::new(),
            resting: VecDeque::new(),
        }
    }

    /// A room of the user's changed.
    pub fn changed(&mut self, user: &UserId) {
        match self.users.get_mut(user) {
            None => {
                self.users.insert(user.clone(), State::Ready);
                self.ready.push_back(user.clone());
            }
            Some(State::Resting { changed }) => *changed = true,
            Some(State::Ready) => {}
        }
    }

    /// Whose turn it is. The user then rests for an interval.
    pub fn next(&mut self, now: Instant) -> Next {
        while let Some((end, user)) = self.resting.pop_front() {
            if end > now {
                self.resting.push_front((end, user));
                break;
            }
            if self.users.get(&user) == Some(&State::Resting { changed: true }) {
                self.users.insert(user.clone(), State::Ready);
                self.ready.push_back(user);
            } else {
                self.users.remove(&user);
            }
        }
        if let Some(user) = self.ready.pop_front() {
            self.users
                .insert(user.clone(), State::Resting { changed: false });
            self.resting.push_back((now + self.interval, user.clone()));
            return Next::Refresh(user);
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
