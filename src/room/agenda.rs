//! What is to be done, each thing once, and when: one policy for everything that is repeated.
//!
//! A thing that was not done lately may be done at once. If it has to be repeated soon after, it waits: 100 ms, then
//! twice as long each time, up to [`PAUSE_MAX`]. It counts as new after it was left alone for [`FORGOTTEN_AFTER`].

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Between the first time and the second.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
/// Between two times, at most.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Longer than the longest pause: a thing that is repeated again and again never counts as new.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(15);

/// Things to do. Bounded by the number of distinct things: adding one that already waits changes nothing.
#[derive(Debug)]
pub struct Agenda<K> {
    things: HashMap<K, Thing>,
    /// Ordered by due time, then by order of addition.
    waiting: BTreeMap<(Instant, u64), K>,
    added: u64,
    /// Things that were done, in the order in which they are forgotten.
    done: VecDeque<(Instant, K)>,
}

#[derive(Debug)]
struct Thing {
    state: State,
    /// How many times in a row it was begun.
    times: u32,
    /// When it was last begun.
    begun: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    /// It is being done; `again` is set if it was added meanwhile.
    UnderWay {
        again: bool,
    },
    Done,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<K> {
    Do(Turn<K>),
    /// Nothing before this time.
    WaitUntil(Instant),
    /// Nothing before something is added.
    Idle,
}

/// A thing to do now. Its [`Agenda::done`] has to follow.
#[derive(Debug, PartialEq, Eq)]
pub struct Turn<K> {
    pub thing: K,
    /// How many times in a row it has been begun, this time included.
    pub times: u32,
}

impl<K> Default for Agenda<K> {
    fn default() -> Self {
        Self {
            things: HashMap::new(),
            waiting: BTreeMap::new(),
            added: 0,
            done: VecDeque::new(),
        }
    }
}

impl<K: Clone + Eq + Hash> Agenda<K> {
    /// Notes that this has to be done, once, as soon as the policy allows.
    pub fn add(&mut self, thing: K, now: Instant) {
        let known = self.things.entry(thing.clone()).or_insert(Thing {
            state: State::Done,
            times: 0,
            begun: None,
        });
        match known.state {
            State::Waiting => {}
            State::UnderWay { .. } => known.state = State::UnderWay { again: true },
            State::Done => {
                known.state = State::Waiting;
                let earliest = known.begun.map(|begun| begun + pause_after(known.times));
                let time = earliest.map_or(now, |earliest| earliest.max(now));
                self.added += 1;
                self.waiting.insert((time, self.added), thing);
            }
        }
    }

    /// What to do now.
    pub fn next(&mut self, now: Instant) -> Next<K> {
        self.forget(now);
        let Some(first) = self.waiting.first_entry() else {
            return Next::Idle;
        };
        let (time, _) = *first.key();
        if time > now {
            return Next::WaitUntil(time);
        }
        let thing = first.remove();
        let known = self.things.entry(thing.clone()).or_insert(Thing {
            state: State::Waiting,
            times: 0,
            begun: None,
        });
        known.state = State::UnderWay { again: false };
        known.times = known.times.saturating_add(1);
        known.begun = Some(now);
        Next::Do(Turn {
            thing,
            times: known.times,
        })
    }

    /// The thing was done, or is given up until it is added again.
    pub fn done(&mut self, thing: &K, now: Instant) {
        let Some(known) = self.things.get_mut(thing) else {
            return;
        };
        let again = known.state == State::UnderWay { again: true };
        known.state = State::Done;
        if again {
            self.add(thing.clone(), now);
        } else {
            self.done.push_back((now + FORGOTTEN_AFTER, thing.clone()));
        }
    }

    fn forget(&mut self, now: Instant) {
        while let Some((_, thing)) = self.done.pop_front_if(|(time, _)| *time <= now) {
            // It may have been done again since.
            let is_over = |known: &Thing| {
                known.state == State::Done
                    && known
                        .begun
                        .is_none_or(|begun| begun + FORGOTTEN_AFTER <= now)
            };
            if self.things.get(&thing).is_some_and(is_over) {
                self.things.remove(&thing);
            }
        }
    }
}

/// How long after its beginning a thing may be begun again, when it was begun this many times in a row.
pub fn pause_after(times: u32) -> Duration {
    match times {
        0 => Duration::ZERO,
        times => PAUSE_FIRST
            .saturating_mul(1 << (times - 1).min(16))
            .min(PAUSE_MAX),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn times_begun(agenda: &mut Agenda<u8>, start: Instant, within: Duration) -> u32 {
        let mut now = start;
        let mut count = 0;
        while now < start + within {
            match agenda.next(now) {
                Next::Do(turn) => {
                    count += 1;
                    agenda.add(turn.thing, now);
                    agenda.done(&turn.thing, now);
                }
                Next::WaitUntil(time) => now = time,
                Next::Idle => break,
            }
        }
        count
    }

    #[test]
    fn what_never_ends_is_done_ever_more_seldom() {
        let (mut agenda, start) = (Agenda::default(), Instant::now());
        agenda.add(1, start);
        // 0, 0.1, 0.3, 0.7, 1.5, 3.1, 6.3 s, then every 5 s
        assert_eq!(times_begun(&mut agenda, start, Duration::from_secs(60)), 17);
    }

    #[test]
    fn each_thing_stands_once_and_new_ones_go_at_once() {
        let (mut agenda, start) = (Agenda::default(), Instant::now());
        for thing in [1, 2, 1, 2] {
            agenda.add(thing, start);
        }
        for thing in [1, 2] {
            assert_eq!(agenda.next(start), Next::Do(Turn { thing, times: 1 }));
        }
        assert_eq!(agenda.next(start), Next::Idle);
        // Added while in progress: once more, after a pause
        agenda.add(1, start);
        agenda.done(&1, start);
        agenda.done(&2, start);
        assert_eq!(agenda.next(start), Next::WaitUntil(start + PAUSE_FIRST));
        let later = start + PAUSE_FIRST;
        let turn = Turn { thing: 1, times: 2 };
        assert_eq!(agenda.next(later), Next::Do(turn));
        agenda.done(&1, later);
    }

    #[test]
    fn what_was_left_alone_is_new_and_takes_no_memory() {
        let (mut agenda, start) = (Agenda::default(), Instant::now());
        agenda.add(1, start);
        assert_eq!(times_begun(&mut agenda, start, Duration::from_secs(3)), 5);
        let Next::WaitUntil(time) = agenda.next(start + Duration::from_secs(2)) else {
            panic!("it waits");
        };
        assert!(matches!(agenda.next(time), Next::Do(_)));
        agenda.done(&1, time);
        assert_eq!(agenda.next(time + FORGOTTEN_AFTER), Next::Idle);
        assert!(agenda.things.is_empty());
        agenda.add(1, time + FORGOTTEN_AFTER);
        let turn = Turn { thing: 1, times: 1 };
        assert_eq!(agenda.next(time + FORGOTTEN_AFTER), Next::Do(turn));
    }
}
