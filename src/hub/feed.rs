//! One room as this server follows it: what was delivered last, and who gets what comes next.
//!
//! An event is delivered only if its epoch is the feed's and its `rev` the last one + 1. Anything else is a gap: the
//! feed then keeps what comes, until the repair has fetched what is missing.

use std::collections::HashMap;
use std::sync::Arc;

use super::device::Device;
use super::published::RoomEvent;
use crate::protocol::ids::DeviceId;
use crate::store::reply::Position;

/// Events kept during a repair; past it they are dropped, which the next `rev` shows.
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
    /// Nobody knows yet where the room is; every device in it waits for its first snapshot.
    New {
        early: Option<Early>,
    },
    Live(Position),
    Repairing {
        from: Position,
        buffered: Vec<RoomEvent>,
    },
}

impl Default for State {
    fn default() -> Self {
        Self::New { early: None }
    }
}

/// What came before the first snapshot.
struct Early {
    first_rev: u64,
    last: Position,
    gap: bool,
}

/// What is to be done with an event.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Deliver,
    /// It is part of what everyone has, or will come with the repair.
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
            State::New { early } => {
                let gap = early
                    .as_ref()
                    .is_some_and(|early| early.gap || !follows(&early.last, next));
                let first_rev = early.as_ref().map_or(next.rev, |early| early.first_rev);
                *early = Some(Early {
                    first_rev,
                    last: next.clone(),
                    gap,
                });
                Verdict::Deliver
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
                if buffered.len() < BUFFER_MAX {
                    buffered.push(event.clone());
                }
                Verdict::Drop
            }
        }
    }

    /// The channel was subscribed (again): what came before may be lost. True if a repair is needed.
    pub fn distrust(&mut self) -> bool {
        match &mut self.state {
            State::New { early } => {
                if let Some(early) = early {
                    early.gap = true;
                }
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
        let new = matches!(self.state, State::New { .. });
        if new {
            (self.began_rev, self.settled_rev) = (position.rev, position.rev);
            self.state = State::Repairing {
                from: position.clone(),
                buffered: Vec::new(),
            };
        }
        new
    }

    /// How a snapshot read at `cut` stands to what was delivered. A new feed begins at it.
    pub fn compare(&mut self, cut: &Position) -> Snapshot {
        if let State::New { early } = &mut self.state {
            let early = early.take();
            self.begin_from_snapshot(cut, early);
        }
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

    fn begin_from_snapshot(&mut self, cut: &Position, early: Option<Early>) {
        (self.began_rev, self.settled_rev) = (cut.rev, cut.rev);
        self.state = match early {
            Some(early) if early.last.epoch == cut.epoch && early.last.rev > cut.rev => {
                if early.gap || early.first_rev > cut.rev + 1 {
                    State::Repairing {
                        from: cut.clone(),
                        buffered: Vec::new(),
                    }
                } else {
                    State::Live(early.last)
                }
            }
            _ => State::Live(cut.clone()),
        };
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

fn follows(last: &Position, next: &Position) -> bool {
    last.epoch == next.epoch && next.rev == last.rev + 1
}
