//! Which channels this server wants to hear, and which it hears. No Redis: `store::subscriber` brings the two in line.
//!
//! Only Redis's own confirmations decide whether a channel is heard. A request that is not confirmed is repeated at
//! growing intervals; so a channel that Redis refuses does not affect any other channel.

use std::collections::hash_map::Entry as Slot;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::room::Topic;

/// How long Redis may take to confirm a subscription before it is asked again.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);
/// How often that time is doubled, once for each request without result: 8 s at most.
const DOUBLINGS: u32 = 4;

/// Channels wanted and heard.
#[derive(Default)]
pub struct Interest {
    state: Mutex<State>,
    changed: Notify,
}

/// Nobody here wants to hear the topic, or nobody does any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nobody wants to hear this")]
pub struct Unwanted;

#[derive(Default)]
struct State {
    topics: HashMap<Topic, Entry>,
    /// Topics whose `wanted` and `heard` may differ; each once.
    todo: VecDeque<Topic>,
    /// When to check whether a request has taken effect, and which attempt it was.
    reviews: BTreeMap<(Instant, u64), Topic>,
    attempts: u64,
    /// The connection that all of this refers to.
    connection: Option<u64>,
    /// Whether a refusal on this connection has been logged.
    complained: bool,
}

#[derive(Default)]
struct Entry {
    wanted: bool,
    heard: bool,
    /// The attempt in progress.
    attempt: Option<u64>,
    /// Attempts without result.
    tries: u32,
    queued: bool,
    /// Notified when `wanted` or `heard` may have changed; present only if somebody waits.
    told: Option<Arc<Notify>>,
}

/// What is to be done on the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
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
        let entry = state.topics.entry(topic.clone()).or_default();
        entry.wanted = wanted;
        entry.tell();
        state.queue(topic);
        self.changed.notify_one();
    }

    /// Resolves once the topic is heard; at once if it already is.
    pub async fn heard(&self, topic: &Topic) -> Result<(), Unwanted> {
        loop {
            let told = {
                let mut state = self.lock();
                let entry = state.topics.get_mut(topic).filter(|entry| entry.wanted);
                let entry = entry.ok_or(Unwanted)?;
                if entry.heard {
                    return Ok(());
                }
                // All waiting tasks share one: a task that gives up leaves nothing behind.
                entry.told.get_or_insert_default().clone().notified_owned()
            };
            told.await;
        }
    }

    /// Whether the topic is heard right now.
    pub fn hears(&self, topic: &Topic) -> bool {
        self.lock()
            .topics
            .get(topic)
            .is_some_and(|entry| entry.heard)
    }

    /// The connection with this number is in use. If it is a new one, nothing is heard on it yet.
    pub fn use_connection(&self, number: u64) {
        let mut state = self.lock();
        if state.connection == Some(number) {
            return;
        }
        (state.connection, state.complained) = (Some(number), false);
        state.topics.retain(|_, entry| entry.wanted);
        state.todo = state.topics.keys().cloned().collect();
        state.reviews.clear();
        for entry in state.topics.values_mut() {
            (entry.heard, entry.queued) = (false, true);
            (entry.attempt, entry.tries) = (None, 0);
        }
        self.changed.notify_one();
    }

    /// The next thing to do; it counts as in progress until Redis has answered or has taken too long.
    pub fn next_step(&self, now: Instant) -> Option<Step> {
        let mut state = self.lock();
        state.review(now);
        while let Some(topic) = state.todo.pop_front() {
            if let Some(step) = state.begin(topic, now) {
                return Some(step);
            }
        }
        None
    }

    /// When there may be a next step at the latest.
    pub fn next_review(&self) -> Option<Instant> {
        let state = self.lock();
        state.reviews.keys().next().map(|(due, _)| *due)
    }

    /// Redis reports, on the connection with this number, that the topic is subscribed or no longer is.
    ///
    /// True if the topic is heard from this moment on, and wanted.
    pub fn confirmed(&self, number: u64, topic: Topic, subscribed: bool) -> bool {
        let mut state = self.lock();
        if state.connection != Some(number) {
            return false;
        }
        // This includes a topic that was forgotten: it then has to be unsubscribed.
        let mut slot = match state.topics.entry(topic.clone()) {
            Slot::Occupied(slot) => slot,
            Slot::Vacant(slot) => slot.insert_entry(Entry::default()),
        };
        let entry = slot.get_mut();
        let is_new = subscribed && !entry.heard;
        (entry.heard, entry.attempt) = (subscribed, None);
        let wanted = entry.wanted;
        if wanted == subscribed {
            entry.tries = 0;
            entry.tell();
            if !wanted {
                slot.remove();
            }
        } else {
            state.queue(topic);
            self.changed.notify_one();
        }
        is_new && wanted
    }

    /// Redis has refused a step. It is retried automatically.
    ///
    /// True if the refusal should be logged: the first time on this connection.
    pub fn refused(&self, number: u64) -> bool {
        let mut state = self.lock();
        state.connection == Some(number) && !std::mem::replace(&mut state.complained, true)
    }

    /// Resolves when there may be a next step.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is one assignment: a panic elsewhere leaves the state consistent.
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

    /// A request that was made long enough ago and has not taken effect is to be repeated.
    fn review(&mut self, now: Instant) {
        while let Some(review) = self.reviews.first_entry()
            && review.key().0 <= now
        {
            let ((_, attempt), topic) = review.remove_entry();
            let entry = self.topics.get_mut(&topic);
            if let Some(entry) = entry.filter(|entry| entry.attempt == Some(attempt)) {
                entry.attempt = None;
                self.queue(topic);
            }
        }
    }

    /// Begins whatever is to be done about a topic taken from `todo`.
    fn begin(&mut self, topic: Topic, now: Instant) -> Option<Step> {
        let entry = self.topics.get_mut(&topic)?;
        entry.queued = false;
        if entry.attempt.is_some() {
            return None;
        }
        if entry.wanted == entry.heard {
            if !entry.wanted {
                self.topics.remove(&topic);
            }
            return None;
        }
        self.attempts += 1;
        entry.attempt = Some(self.attempts);
        let patience = ANSWER_WITHIN * 2_u32.pow(entry.tries.min(DOUBLINGS));
        entry.tries = entry.tries.saturating_add(1);
        let wanted = entry.wanted;
        self.reviews
            .insert((now + patience, self.attempts), topic.clone());
        Some(match wanted {
            true => Step::Subscribe(topic),
            false => Step::Unsubscribe(topic),
        })
    }
}

impl Entry {
    fn tell(&mut self) {
        if let Some(told) = self.told.take() {
            told.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use futures_util::FutureExt;

    use super::*;
    use crate::protocol::ids::RoomId;

    fn connected(topics: &[Topic]) -> Interest {
        let interest = Interest::default();
        interest.use_connection(1);
        for topic in topics {
            interest.want(topic.clone());
        }
        interest
    }

    fn steps(interest: &Interest, now: Instant) -> Vec<Step> {
        std::iter::from_fn(|| interest.next_step(now)).collect()
    }

    #[test]
    fn wanting_and_dropping_before_the_reply_ends_unsubscribed() {
        let now = Instant::now();
        let interest = connected(&[Topic::Control]);
        assert_eq!(steps(&interest, now), [Step::Subscribe(Topic::Control)]);
        interest.unwant(Topic::Control);
        assert_eq!(steps(&interest, now), [], "one step at a time for a topic");
        assert!(!interest.confirmed(1, Topic::Control, true));
        assert_eq!(steps(&interest, now), [Step::Unsubscribe(Topic::Control)]);
        interest.confirmed(1, Topic::Control, false);
        assert_eq!(steps(&interest, now), []);
        assert!(interest.lock().topics.is_empty());
    }

    #[test]
    fn a_new_connection_hears_nothing_until_told() {
        let now = Instant::now();
        let interest = connected(&[Topic::Control]);
        assert_eq!(steps(&interest, now).len(), 1);
        assert!(interest.confirmed(1, Topic::Control, true));
        interest.use_connection(2);
        assert!(!interest.hears(&Topic::Control));
        assert_eq!(steps(&interest, now), [Step::Subscribe(Topic::Control)]);
        assert!(
            !interest.confirmed(1, Topic::Control, true),
            "a late word over the former connection"
        );
        assert!(interest.confirmed(2, Topic::Control, true));
    }

    #[test]
    fn the_same_connection_again_changes_nothing() {
        let now = Instant::now();
        let room = Topic::Room(RoomId::random());
        let interest = connected(&[Topic::Control, room.clone()]);
        assert_eq!(steps(&interest, now).len(), 2);
        interest.confirmed(1, Topic::Control, true);
        interest.confirmed(1, room.clone(), true);

        // Given a room that is no longer wanted, and is still subscribed
        interest.unwant(room.clone());
        interest.use_connection(1);

        // Then it is unsubscribed, and what is heard is not requested again
        assert_eq!(steps(&interest, now), [Step::Unsubscribe(room)]);
        assert!(interest.hears(&Topic::Control));
    }

    #[test]
    fn what_is_subscribed_and_wanted_by_nobody_is_unsubscribed() {
        let now = Instant::now();
        let interest = connected(&[]);
        assert!(!interest.confirmed(1, Topic::Control, true));
        assert_eq!(steps(&interest, now), [Step::Unsubscribe(Topic::Control)]);
    }

    #[test]
    fn what_redis_ends_by_itself_is_subscribed_again_and_told_anew() {
        let now = Instant::now();
        let interest = connected(&[Topic::Control]);
        assert_eq!(steps(&interest, now).len(), 1);
        assert!(interest.confirmed(1, Topic::Control, true));
        assert!(!interest.confirmed(1, Topic::Control, true), "said twice");
        interest.confirmed(1, Topic::Control, false);
        assert_eq!(steps(&interest, now), [Step::Subscribe(Topic::Control)]);
        assert!(interest.confirmed(1, Topic::Control, true));
    }

    #[test]
    fn what_is_not_confirmed_is_asked_again_later_and_later_and_alone() {
        let room = Topic::Room(RoomId::random());
        let interest = connected(&[Topic::Control, room.clone()]);
        let mut now = Instant::now();
        assert_eq!(steps(&interest, now).len(), 2);
        interest.confirmed(1, Topic::Control, true);
        assert!(interest.refused(1));
        assert!(!interest.refused(1), "told once");

        // When only the room is refused, then only the room is asked for again, at pauses that grow up to a bound
        let mut pauses = Vec::new();
        for _ in 0..6 {
            let due = interest.next_review().unwrap();
            if due > now {
                pauses.push((due - now).as_millis());
                assert_eq!(steps(&interest, now), [], "not before its time");
            }
            now = due;
            let again = steps(&interest, now);
            assert!(again.is_empty() || again == [Step::Subscribe(room.clone())]);
        }
        assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 8000]);
    }

    #[test]
    fn those_who_give_up_waiting_leave_nothing_behind() {
        let interest = connected(&[Topic::Control]);
        for _ in 0..1000 {
            let gave_up = interest.heard(&Topic::Control).now_or_never();
            assert_eq!(gave_up, None);
        }
        let state = interest.lock();
        let told = state.topics[&Topic::Control].told.as_ref();
        assert_eq!(told.map(Arc::strong_count), Some(1));
    }

    #[tokio::test]
    async fn those_who_wait_are_told_when_it_is_heard_and_when_it_is_wanted_no_more() {
        let interest = connected(&[Topic::Control]);
        let (first, second, ()) = tokio::join!(
            interest.heard(&Topic::Control),
            interest.heard(&Topic::Control),
            async {
                assert!(interest.next_step(Instant::now()).is_some());
                interest.confirmed(1, Topic::Control, true);
            }
        );
        assert_eq!((first, second), (Ok(()), Ok(())));

        let room = Topic::Room(RoomId::random());
        interest.want(room.clone());
        let (waited, ()) = tokio::join!(interest.heard(&room), async {
            interest.unwant(room.clone())
        });
        assert_eq!(waited, Err(Unwanted));
    }
}
