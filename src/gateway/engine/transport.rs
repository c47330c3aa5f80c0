//! The rules of one long-polling session: which request may begin, what a poll is answered with and when, at which moment
//! a WebSocket takes over, and how long each of these may take. Without I/O, and without the packets themselves.
//!
//! At most one poll is under way. It waits until there are packets for it; then its answer is on its way until the connection
//! has taken all of it. A WebSocket that was agreed on takes over when no poll is under way any more, so that what went before
//! is before all that comes over it. A post is here once its whole body is, so none is ever under way.

use std::time::Duration;

use tokio::time::Instant;

/// How long a WebSocket may take to replace long-polling, from its opening to its client's word that it moves.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// The state of a session.
#[derive(Debug)]
pub(super) struct Transport {
    poll: Poll,
    upgrade: Upgrade,
    /// How long the client may stay away between polls, or take to read an answer.
    patience: Duration,
}

#[derive(Debug, PartialEq, Eq)]
enum Poll {
    /// There is none, since then.
    Absent(Instant),
    Waiting,
    /// Its answer is on its way, since then.
    Answered(Instant),
}

#[derive(Debug, PartialEq, Eq)]
enum Upgrade {
    No,
    /// A WebSocket was opened at this time; nobody knows yet whether it carries anything.
    Opened(Instant),
    /// It does: the client ends its polling and will say that it moves.
    Agreed(Instant),
    /// The client has said so.
    Moving,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// There is a poll already. Nobody could tell which is to get what, so the session ends.
    Overlap,
    /// The session moves, or has moved, to WebSocket.
    Moved,
}

/// What a poll is to be answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// There is no poll that waits.
    Nothing,
    /// Packets, as soon as there are any.
    Packets,
    /// Packets or, where there are none, a noop at once: the client waits for it, to end its polling.
    PacketsOrNoop,
    /// A noop: the packets go over the WebSocket.
    Noop,
}

/// What ends because its time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Late {
    Nothing,
    /// The attempt to replace long-polling, which goes on.
    Probe,
    Session,
}

impl Transport {
    pub(super) fn new(patience: Duration, now: Instant) -> Self {
        Self {
            poll: Poll::Absent(now),
            upgrade: Upgrade::No,
            patience,
        }
    }

    /// A poll begins.
    pub(super) fn poll(&mut self) -> Result<(), Refused> {
        self.stays()?;
        if !matches!(self.poll, Poll::Absent(_)) {
            return Err(Refused::Overlap);
        }
        self.poll = Poll::Waiting;
        Ok(())
    }

    pub(super) fn wanted(&self) -> Wanted {
        match (&self.poll, &self.upgrade) {
            (Poll::Absent(_) | Poll::Answered(_), _) => Wanted::Nothing,
            (Poll::Waiting, Upgrade::No | Upgrade::Opened(_)) => Wanted::Packets,
            (Poll::Waiting, Upgrade::Agreed(_)) => Wanted::PacketsOrNoop,
            (Poll::Waiting, Upgrade::Moving) => Wanted::Noop,
        }
    }

    /// The poll that waited was given its answer.
    pub(super) fn answered(&mut self, now: Instant) {
        self.poll = Poll::Answered(now);
    }

    /// The connection has taken the whole answer.
    pub(super) fn taken(&mut self, now: Instant) {
        self.poll = Poll::Absent(now);
    }

    /// A WebSocket is opened to replace long-polling.
    pub(super) fn open_upgrade(&mut self, now: Instant) -> Result<(), Refused> {
        match self.upgrade {
            Upgrade::No => {
                self.upgrade = Upgrade::Opened(now);
                Ok(())
            }
            // The one that was first goes on.
            _ => Err(Refused::Moved),
        }
    }

    /// It carries packets, as the client has seen.
    pub(super) fn agree(&mut self) {
        if let Upgrade::Opened(since) = self.upgrade {
            self.upgrade = Upgrade::Agreed(since);
        }
    }

    pub(super) fn is_agreed(&self) -> bool {
        matches!(self.upgrade, Upgrade::Agreed(_))
    }

    /// The client moves to it.
    pub(super) fn begin_move(&mut self) {
        self.upgrade = Upgrade::Moving;
    }

    /// It came to nothing; long-polling goes on.
    pub(super) fn give_up_upgrade(&mut self) {
        self.upgrade = Upgrade::No;
    }

    /// Whether the WebSocket takes over now.
    pub(super) fn has_moved(&self) -> bool {
        matches!(
            (&self.poll, &self.upgrade),
            (Poll::Absent(_), Upgrade::Moving)
        )
    }

    /// Whether an answer is on its way.
    pub(super) fn is_answering(&self) -> bool {
        matches!(self.poll, Poll::Answered(_))
    }

    /// When to call [`Self::pass`], at the latest. `None` if a poll waits and no WebSocket is tried: the session's pings end its
    /// wait.
    pub(super) fn deadline(&self) -> Option<Instant> {
        [self.poll_ends(), self.probe_ends()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Ends what is late at `now`.
    pub(super) fn pass(&mut self, now: Instant) -> Late {
        let is_over = |end: Option<Instant>| end.is_some_and(|end| end <= now);
        if is_over(self.poll_ends()) {
            Late::Session
        } else if is_over(self.probe_ends()) {
            self.give_up_upgrade();
            Late::Probe
        } else {
            Late::Nothing
        }
    }

    /// Refuses what belongs to a session that polls, where it does not any more.
    pub(super) fn stays(&self) -> Result<(), Refused> {
        match self.upgrade {
            Upgrade::Moving => Err(Refused::Moved),
            _ => Ok(()),
        }
    }

    fn poll_ends(&self) -> Option<Instant> {
        match self.poll {
            Poll::Absent(since) | Poll::Answered(since) => Some(since + self.patience),
            Poll::Waiting => None,
        }
    }

    /// A client that moves ends its poll, which has its time.
    fn probe_ends(&self) -> Option<Instant> {
        match self.upgrade {
            Upgrade::Opened(since) | Upgrade::Agreed(since) => Some(since + PROBE_TIMEOUT),
            Upgrade::No | Upgrade::Moving => None,
        }
    }
}

#[cfg(test)]
#[path = "transport_tests.rs"]
mod tests;
