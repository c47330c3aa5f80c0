//! One room as a server follows it: its position, and what is to be done with what arrives.
//!
//! An event is delivered only if its epoch is the feed's and its `rev` is the last one + 1. Anything else is a gap: the
//! feed is then *broken* and keeps what arrives, until a repair has fetched what is missing.
//!
//! A feed has no clock and no store. Its owner numbers what happens with [`Tick`]s, so that the feed can tell whether
//! something was read from the store before or after something happened here.

use std::fmt;

use super::Position;

/// Events that a feed keeps, at most. A repair fetches any beyond that.
const KEPT_EVENTS: usize = 256;
/// Bytes of the events that a feed keeps, at most; a single one may be larger.
const KEPT_BYTES: usize = 64 * 1024;

/// A moment of this server; greater ticks are later.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tick(pub u64);

/// Something that happened in a room, as a feed sees it.
pub trait Positioned {
    /// The room's position with this event.
    fn position(&self) -> &Position;
    /// The approximate memory that it takes.
    fn bytes(&self) -> usize;
}

/// This server's position in a room, and the events that it could not place yet.
#[derive(Debug)]
pub struct Feed<E> {
    state: State<E>,
    /// The `rev` at which the feed began, or began again: earlier events were never seen here.
    began_rev: u64,
    /// The `rev` of the latest snapshot or repair: events up to it may still be in flight.
    settled_rev: u64,
    /// When the position last changed.
    moved: Tick,
    /// When another history replaced what was delivered.
    anew: Tick,
    /// When the room's channel was last subscribed.
    heard: Tick,
    /// An event has arrived since [`Feed::take_quiet`] was last called.
    stirred: bool,
}

#[derive(Debug)]
enum State<E> {
    /// The room's position is not known yet.
    New {
        early: Kept<E>,
    },
    Live {
        at: Position,
    },
    /// Something after `at` is missing.
    Broken {
        at: Position,
        kept: Kept<E>,
        /// A repair is being read: since when, and how many of the kept events had arrived before.
        asked: Option<(Tick, usize)>,
    },
}

/// Events in order of arrival.
#[derive(Debug)]
struct Kept<E> {
    events: Vec<E>,
    bytes: usize,
    /// There were more than can be kept.
    overflowed: bool,
}

impl<E> Default for Kept<E> {
    fn default() -> Self {
        Self {
            events: Vec::new(),
            bytes: 0,
            overflowed: false,
        }
    }
}

impl<E: Positioned> Kept<E> {
    fn add(&mut self, event: E) {
        let bytes = event.bytes();
        let fits = self.events.len() < KEPT_EVENTS && self.bytes + bytes <= KEPT_BYTES;
        if self.overflowed || !(fits || self.events.is_empty()) {
            self.overflowed = true;
            return;
        }
        self.bytes += bytes;
        self.events.push(event);
    }
}

/// Why a repair is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// An event arrived that does not follow the last one.
    Gap,
    /// An event arrived again with a `rev` that was passed long ago: the store may have gone back.
    Again,
    /// A snapshot shows an earlier `rev` than was delivered, or another epoch: the store has gone back.
    SetBack,
    /// The store is ahead of the events that arrived.
    Lost,
    /// More events arrived than are kept.
    Overflow,
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Gap => "an event came that does not follow the last one",
            Self::Again => "an event came whose rev was passed long ago",
            Self::SetBack => "Redis has less of it than was delivered, or has made it again",
            Self::Lost => "Redis has more of it than arrived",
            Self::Overflow => "more events came at once than are kept",
        })
    }
}

/// What is to be done with an event.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict<E> {
    Deliver(E),
    /// It is part of what everyone has, or is kept until the feed continues.
    Nothing,
    /// It is kept; what is missing before it has to be fetched.
    Repair(Reason),
}

/// How a snapshot relates to the feed.
#[derive(Debug, PartialEq, Eq)]
pub enum Standing {
    /// Everything that it covers has been delivered.
    Covered,
    /// Events up to its `rev` are still to come.
    Ahead,
    /// It lacks something that this server has never seen and never will: it has to be read again.
    Stale,
    /// The store has gone back, or has created the room again. The feed is now broken.
    SetBack,
}

/// A repair has ended.
#[derive(Debug)]
pub struct Repaired<E> {
    /// What arrived meanwhile: to be decided on now, in this order.
    pub kept: Vec<E>,
    /// The number of events dropped because they arrived before the store was asked and the store does not know them.
    pub strays: usize,
    /// The channel was subscribed again after the store was asked: the room has to be compared with it once more.
    pub doubtful: bool,
    /// More arrived than could be kept. The feed is to be broken again when what was kept has been decided on.
    pub overflowed: bool,
}

impl<E> Default for Feed<E> {
    fn default() -> Self {
        Self {
            state: State::New {
                early: Kept::default(),
            },
            began_rev: 0,
            settled_rev: 0,
            moved: Tick::default(),
            anew: Tick::default(),
            heard: Tick::default(),
            stirred: false,
        }
    }
}

impl<E: Positioned> Feed<E> {
    /// Decides on an event that was published.
    pub fn accept(&mut self, event: E, now: Tick) -> Verdict<E> {
        self.stirred = true;
        let next = event.position();
        match &mut self.state {
            State::New { early } => early.add(event),
            State::Broken { kept, .. } => kept.add(event),
            State::Live { at } if at.is_followed_by(next) => {
                at.clone_from(next);
                self.moved = now;
                return Verdict::Deliver(event);
            }
            State::Live { at } if at.epoch == next.epoch && next.rev <= at.rev => {
                let is_another = next.rev == at.rev && next != at;
                if next.rev <= self.settled_rev && !is_another {
                    return Verdict::Nothing;
                }
                // If the store had gone back, what it stores now would begin after the event before this one.
                let from = Position {
                    rev: next.rev.saturating_sub(1),
                    ..at.clone()
                };
                return self.break_with(from, event, Reason::Again);
            }
            State::Live { at } => {
                let from = at.clone();
                return self.break_with(from, event, Reason::Gap);
            }
        }
        Verdict::Nothing
    }

    fn break_with(&mut self, at: Position, event: E, reason: Reason) -> Verdict<E> {
        let mut kept = Kept::default();
        kept.add(event);
        self.state = State::Broken {
            at,
            kept,
            asked: None,
        };
        Verdict::Repair(reason)
    }

    /// Something after the feed's position was lost. True if that is news: a repair has to be requested.
    pub fn break_off(&mut self) -> bool {
        let State::Live { at } = &self.state else {
            return false;
        };
        self.state = State::Broken {
            at: at.clone(),
            kept: Kept::default(),
            asked: None,
        };
        true
    }

    /// The channel was subscribed: earlier events may be lost. True if the room has to be compared with the store.
    pub fn heard(&mut self, now: Tick) -> bool {
        self.heard = now;
        matches!(self.state, State::Live { .. })
    }

    /// The feed begins here for everyone in the room. Returns what arrived before, to be decided on now; `None` if the
    /// feed had begun already.
    pub fn begin_at(&mut self, position: &Position, now: Tick) -> Option<Begun<E>> {
        let State::New { early } = &mut self.state else {
            return None;
        };
        let early = std::mem::take(early);
        (self.began_rev, self.settled_rev) = (position.rev, position.rev);
        self.moved = now;
        self.state = State::Live {
            at: position.clone(),
        };
        Some(Begun {
            early: early.events,
            overflowed: early.overflowed,
        })
    }

    /// Whether the channel was subscribed after `since`.
    pub fn was_heard_since(&self, since: Tick) -> bool {
        self.heard > since
    }

    /// Whether the channel was ever subscribed.
    pub fn is_heard(&self) -> bool {
        self.heard > Tick::default()
    }

    /// How a snapshot relates to what was delivered. It was read at `cut`, by a call made at `asked`.
    ///
    /// A new feed has to be begun first.
    pub fn compare(&mut self, cut: &Position, asked: Tick) -> Standing {
        let moved_since = self.moved > asked;
        let Some(at) = self.position() else {
            return Standing::Covered;
        };
        if self.anew > asked {
            // It is not known which history the snapshot belongs to.
            return Standing::Stale;
        }
        let foreign = at.epoch != cut.epoch;
        if !foreign && cut.rev >= at.rev {
            return if cut.rev == at.rev {
                Standing::Covered
            } else {
                Standing::Ahead
            };
        }
        if !moved_since {
            self.break_off();
            Standing::SetBack
        } else if foreign || cut.rev < self.began_rev {
            Standing::Stale
        } else {
            Standing::Covered
        }
    }

    /// The feed's position; `None` while it is new.
    pub fn position(&self) -> Option<&Position> {
        match &self.state {
            State::New { .. } => None,
            State::Live { at } | State::Broken { at, .. } => Some(at),
        }
    }

    /// The feed's position, if nothing is missing as far as it knows.
    pub fn live_at(&self) -> Option<&Position> {
        match &self.state {
            State::Live { at } => Some(at),
            _ => None,
        }
    }

    /// The feed's position, if it is live and no event has arrived since the last call.
    pub fn take_quiet(&mut self) -> Option<&Position> {
        let stirred = std::mem::take(&mut self.stirred);
        self.live_at().filter(|_| !stirred)
    }

    pub fn is_broken(&self) -> bool {
        matches!(self.state, State::Broken { .. })
    }

    /// The store is about to be asked for what is missing; returns the position to ask from. `None` if nothing is
    /// missing.
    pub fn ask(&mut self, now: Tick) -> Option<Position> {
        let State::Broken { at, kept, asked } = &mut self.state else {
            return None;
        };
        *asked = Some((now, kept.events.len()));
        Some(at.clone())
    }

    /// Whether the answer to a question asked `from` this position is still awaited.
    pub fn awaits(&self, from: &Position) -> bool {
        match &self.state {
            State::Broken { at, asked, .. } => asked.is_some() && at == from,
            _ => false,
        }
    }

    /// Part of what was missing has been delivered.
    pub fn repaired_up_to(&mut self, position: Position) {
        if let State::Broken { at, asked, .. } = &mut self.state {
            (*at, *asked) = (position, None);
        }
    }

    /// All that was missing up to `head` has been delivered: the feed is live again.
    ///
    /// With `anew` the history before `head` is not the one that was delivered.
    pub fn end_repair(&mut self, head: Position, anew: bool, now: Tick) -> Repaired<E> {
        let rev = head.rev;
        let former = std::mem::replace(&mut self.state, State::Live { at: head });
        let State::Broken { kept, asked, .. } = former else {
            self.state = former;
            return Repaired::nothing();
        };
        if anew {
            (self.began_rev, self.anew) = (rev, now);
        }
        (self.settled_rev, self.moved) = (rev, now);
        let (asked, before) = asked.unwrap_or((now, 0));
        let count = kept.events.len();
        // What had arrived before the store was asked would be stored if it belonged to the room.
        let is_known = |(index, event): &(usize, E)| *index >= before || self.covers(event);
        let kept_on: Vec<E> = kept
            .events
            .into_iter()
            .enumerate()
            .filter(is_known)
            .map(|(_, event)| event)
            .collect();
        Repaired {
            strays: count - kept_on.len(),
            kept: kept_on,
            doubtful: self.heard > asked,
            overflowed: kept.overflowed,
        }
    }

    /// Whether the event may be part of what was delivered. The last event is known completely.
    fn covers(&self, event: &E) -> bool {
        let next = event.position();
        let covers = |at: &Position| next == at || at.epoch == next.epoch && next.rev < at.rev;
        self.position().is_some_and(covers)
    }
}

/// A feed has begun.
#[derive(Debug)]
pub struct Begun<E> {
    /// What arrived before: to be decided on now, in this order.
    pub early: Vec<E>,
    /// More arrived than could be kept. The feed is to be broken when what was kept has been decided on.
    pub overflowed: bool,
}

impl<E> Repaired<E> {
    fn nothing() -> Self {
        Self {
            kept: Vec::new(),
            strays: 0,
            doubtful: false,
            overflowed: false,
        }
    }
}
