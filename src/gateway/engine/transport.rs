//! The rules of one long-polling session: which request may begin, how and when a poll is answered, at which moment a
//! WebSocket takes over, and how long each of these may take. Without I/O, and without the packets themselves.
//!
//! At most one poll is in progress. It waits until there are packets for it; then its answer is in transit until the
//! connection has taken all of it. A WebSocket that was agreed on takes over when no poll is in progress any more, so
//! that everything sent before precedes everything sent over it. A post only counts once its whole body has arrived, so
//! none is ever in progress.

use std::time::Duration;

use tokio::time::Instant;

/// How long a WebSocket may take to replace long-polling, from its opening until its client announces that it moves.
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
    /// No poll, since this time.
    Absent(Instant),
    Waiting,
    /// The answer has been in transit since this time.
    Answered(Instant),
}

#[derive(Debug, PartialEq, Eq)]
enum Upgrade {
    No,
    /// A WebSocket was opened at this time; it is not known yet whether it carries anything.
    Opened(Instant),
    /// The WebSocket works: the client ends its polling and will announce that it moves.
    Agreed(Instant),
    /// The client has announced it.
    Moving,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// A poll is already in progress. It is impossible to tell which one is to get what, so the session ends.
    Overlap,
    /// The session moves, or has moved, to WebSocket.
    Moved,
}

/// How a poll is to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// No poll is waiting.
    Nothing,
    /// Packets, as soon as there are any.
    Packets,
    /// Packets or, if there are none, a noop at once: the client waits for it, to end its polling.
    PacketsOrNoop,
    /// A noop: the packets are sent over the WebSocket.
    Noop,
}

/// What ends because its time is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Late {
    Nothing,
    /// The attempt to replace long-polling; polling continues.
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

    /// The waiting poll was given its answer.
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
            // The first WebSocket is kept.
            _ => Err(Refused::Moved),
        }
    }

    /// The WebSocket carries packets, as the client has verified.
    pub(super) fn agree(&mut self) {
        if let Upgrade::Opened(since) = self.upgrade {
            self.upgrade = Upgrade::Agreed(since);
        }
    }

    pub(super) fn is_agreed(&self) -> bool {
        matches!(self.upgrade, Upgrade::Agreed(_))
    }

    /// The client moves to the WebSocket.
    pub(super) fn begin_move(&mut self) {
        self.upgrade = Upgrade::Moving;
    }

    /// The attempt failed; long-polling continues.
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

    /// Whether an answer is in transit.
    pub(super) fn is_answering(&self) -> bool {
        matches!(self.poll, Poll::Answered(_))
    }

    /// When to call [`Self::pass`], at the latest. `None` if a poll waits and no WebSocket is being tried: the
    /// session's pings end its wait.
    pub(super) fn deadline(&self) -> Option<Instant> {
        [self.poll_ends(), self.probe_ends()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Ends what is overdue at `now`.
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

    /// Refuses what belongs to a polling session, if the session no longer polls.
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

    /// A client that moves ends its poll, which has its own time limit.
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
