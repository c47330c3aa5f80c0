//! One room as this server follows it: what was delivered last, and who gets what comes next.
//!
//! An event is delivered only if its epoch is the feed's and its `rev` the last one + 1. Anything else is a gap: the
//! feed then keeps what comes, until the repair has fetched what is missing.

use std::collections::HashMap;
use std::sync::Arc;

use super::device::Device;
use super::published::RoomEvent;
use crate::protocol::ids::DeviceId;
use crate::room::Position;

/// Events kept before the first snapshot and during a repair; past it they are dropped, which the next `rev` shows.
const BUFFER_MAX: usize = 1024;

#[derive(Default)]
pub struct Feed {
    pub devices: HashMap<DeviceId, Arc<Device>>,
    state: State,
    /// The `rev` at which the feed began: what came before it was never seen here.
    began_rev: u64,
    /// The `rev` of the latest snapshot or repair: events up to it may still be on their way.
    settled_rev: u64,
    /// An event came since [`Feed::take_quiet`] was last called.
    stirred: bool,
}

enum State {
    /// Nobody knows yet where the room is; every device in it waits for its first snapshot. What comes is kept.
    New {
        early: Vec<RoomEvent>,
        heard: bool,
        /// The channel was subscribed again: of what came before, some may be lost.
        doubtful: bool,
    },
    Live(Position),
    Repairing {
        from: Position,
        buffered: Vec<RoomEvent>,
    },
}

impl Default for State {
    fn default() -> Self {
        Self::New {
            early: Vec::new(),
            heard: false,
            doubtful: false,
        }
    }
}

/// What is to be done with an event.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Deliver,
    /// It is part of what everyone has, or is kept until the first snapshot or the end of the repair.
    Drop,
    /// Fetch what is missing.
    Repair,
}

/// How a snapshot stands to the feed.
#[derive(Debug, PartialEq, Eq)]
pub enum Snapshot {
    /// Everything that it covers has been delivered.
    Covered,
    /// Events up to its `rev` are still to come.
    Ahead,
    /// It is older than the feed, which has never seen what came after it: read it again.
    Stale,
    /// It is of another history: repair.
    Foreign,
}

impl Feed {
    /// Decides on an event that was published.
    pub fn accept(&mut self, event: &RoomEvent) -> Verdict {
        let next = &event.position;
        self.stirred = true;
        match &mut self.state {
            State::New { early, .. } => {
                keep(early, event);
                Verdict::Drop
            }
            State::Live(last) if follows(last, next) => {
                *last = next.clone();
                Verdict::Deliver
            }
            State::Live(last)
                if last.epoch == next.epoch && next.rev <= last.rev.min(self.settled_rev) =>
            {
                Verdict::Drop
            }
            State::Live(last) => {
                self.state = State::Repairing {
                    from: last.clone(),
                    buffered: vec![event.clone()],
                };
                Verdict::Repair
            }
            State::Repairing { buffered, .. } => {
                keep(buffered, event);
                Verdict::Drop
            }
        }
    }

    /// The channel was subscribed (again): what came before may be lost. True if a repair is needed.
    pub fn distrust(&mut self) -> bool {
        match &mut self.state {
            State::New {
                heard, doubtful, ..
            } => {
                // Snapshots are read only once the channel is heard: the first time says nothing.
                *doubtful |= std::mem::replace(heard, true);
                false
            }
            State::Live(last) => {
                self.state = State::Repairing {
                    from: last.clone(),
                    buffered: Vec::new(),
                };
                true
            }
            State::Repairing { .. } => true,
        }
    }

    /// The room's story begins here for everyone in it: all that follows is to be delivered.
    pub fn begin_at(&mut self, position: &Position) -> bool {
        let State::New { early, .. } = &mut self.state else {
            return false;
        };
        let buffered = std::mem::take(early);
        (self.began_rev, self.settled_rev) = (position.rev, position.rev);
        self.state = State::Repairing {
            from: position.clone(),
            buffered,
        };
        true
    }

    /// A new feed begins at its first snapshot. Gives back what came before it was read, to be decided on now.
    pub fn begin_with(&mut self, cut: &Position) -> Vec<RoomEvent> {
        let State::New {
            early, doubtful, ..
        } = &mut self.state
        else {
            return Vec::new();
        };
        let (early, doubtful) = (std::mem::take(early), *doubtful);
        (self.began_rev, self.settled_rev) = (cut.rev, cut.rev);
        self.state = State::Live(cut.clone());
        if doubtful {
            self.distrust();
        }
        early
    }

    /// How a snapshot read at `cut` stands to what was delivered.
    pub fn compare(&self, cut: &Position) -> Snapshot {
        let Some(at) = self.position() else {
            return Snapshot::Covered;
        };
        if at.epoch != cut.epoch {
            Snapshot::Foreign
        } else if cut.rev < self.began_rev {
            Snapshot::Stale
        } else if cut.rev > at.rev {
            Snapshot::Ahead
        } else {
            Snapshot::Covered
        }
    }

    /// Where the feed is; `None` while it is new.
    pub fn position(&self) -> Option<&Position> {
        match &self.state {
            State::New { .. } => None,
            State::Live(position) | State::Repairing { from: position, .. } => Some(position),
        }
    }

    /// Where the feed is, if it is live and no event came since the last call.
    pub fn take_quiet(&mut self) -> Option<&Position> {
        let stirred = std::mem::take(&mut self.stirred);
        match &self.state {
            State::Live(position) if !stirred => Some(position),
            _ => None,
        }
    }

    /// From where a repair has to fetch; `None` if none is needed.
    pub fn repair_from(&self) -> Option<&Position> {
        match &self.state {
            State::Repairing { from, .. } => Some(from),
            _ => None,
        }
    }

    /// Part of a repair was delivered.
    pub fn repaired_up_to(&mut self, position: Position) {
        if let State::Repairing { from, .. } = &mut self.state {
            *from = position;
        }
    }

    /// A repair is complete: the feed is live again. Gives back the events that came meanwhile.
    pub fn end_repair(&mut self, head: Position) -> Vec<RoomEvent> {
        match std::mem::replace(&mut self.state, State::Live(head)) {
            State::Repairing { buffered, .. } => {
                self.settled_rev = self.position().map_or(self.settled_rev, |head| head.rev);
                buffered
            }
            other => {
                self.state = other;
                Vec::new()
            }
        }
    }
}

fn keep(events: &mut Vec<RoomEvent>, event: &RoomEvent) {
    if events.len() < BUFFER_MAX {
        events.push(event.clone());
    }
}

fn follows(last: &Position, next: &Position) -> bool {
    last.epoch == next.epoch && next.rev == last.rev + 1
}
