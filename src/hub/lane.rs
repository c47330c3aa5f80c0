//! What waits for one device: its queue, and the events held back while a snapshot is read. No locks, no I/O.

use std::collections::{HashMap, HashSet, VecDeque};

use tokio::sync::oneshot;

use super::device::{Close, RoomFrame};
use super::hold::{HeldEvent, Hold, Pending, Section};
use crate::protocol::frame::Frame;
use crate::protocol::ids::RoomId;

/// How much may wait for a device.
#[derive(Debug, Clone, Copy)]
pub struct QueueLimits {
    pub max_frames: usize,
    pub max_bytes: usize,
}

/// A queue keeps room for so many frames while it is empty.
const KEPT_FRAMES: usize = 4;

/// The token of the hold that a lane is made with.
pub(super) const FIRST_HOLD: u64 = 1;

pub(super) struct Lane {
    limits: QueueLimits,
    queue: VecDeque<Frame>,
    /// Bytes in `queue` and in the hold.
    bytes: usize,
    hold: Option<Hold>,
    holds_begun: u64,
    /// Rooms that the device was not told of yet: their entries are still to be read.
    unknown: HashSet<RoomId>,
    close: Option<Close>,
}

/// Whether a snapshot that is complete was queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Completed {
    /// It was, and its hold has ended.
    Queued,
    /// It waits for events.
    Waits,
    /// Its hold had ended before: it is dropped.
    Ended,
}

impl Lane {
    /// A lane that holds its events back until its first list is complete.
    pub(super) fn holding(limits: QueueLimits) -> Self {
        let hold = Hold {
            token: FIRST_HOLD,
            first: true,
            ..Hold::default()
        };
        Self {
            limits,
            queue: VecDeque::new(),
            bytes: 0,
            hold: Some(hold),
            holds_begun: FIRST_HOLD,
            unknown: HashSet::new(),
            close: None,
        }
    }

    /// Queues a frame, whatever is held back.
    pub(super) fn push(&mut self, frame: Frame) {
        let len = frame.len();
        self.queue.push_back(frame);
        self.count(len);
    }

    /// From now on, and until a section covers the room, none of its events is sent.
    pub(super) fn await_entry(&mut self, room: RoomId) {
        self.unknown.insert(room);
    }

    /// Queues an event of a room, or holds it back.
    pub(super) fn push_room_event(&mut self, event: &RoomFrame) {
        let unknown = self.unknown.contains(&event.room);
        match &mut self.hold {
            // An entry that is read after the event covers it.
            None if unknown => {}
            None => self.push(event.frame.clone()),
            Some(hold) => {
                hold.bytes += event.frame.len();
                hold.events.push_back(HeldEvent {
                    room: event.room,
                    rev: event.rev,
                    message_seq: event.message_seq,
                    frame: event.frame.clone(),
                });
                self.count(event.frame.len());
            }
        }
    }

    /// Everything of the room up to `rev` has been queued or held. True if a snapshot that waited for it has been queued.
    pub(super) fn room_advanced(&mut self, room: RoomId, rev: u64) -> bool {
        let complete = self
            .hold
            .as_mut()
            .and_then(|hold| hold.pending.as_mut())
            .is_some_and(|pending| pending.room_advanced(room, rev));
        complete && self.release()
    }

    /// Begins to hold room events back unless another snapshot does. Gives the token that ends the hold.
    pub(super) fn try_hold(&mut self) -> Option<u64> {
        if self.hold.is_some() {
            return None;
        }
        self.holds_begun += 1;
        self.hold = Some(Hold {
            token: self.holds_begun,
            ..Hold::default()
        });
        Some(self.holds_begun)
    }

    /// Whether the hold of this token goes on.
    pub(super) fn is_held(&self, token: u64) -> bool {
        self.hold.as_ref().is_some_and(|hold| hold.token == token)
    }

    /// The snapshot is here. Queues it now, or when the events that it still waits for have come; then `done` is told.
    pub(super) fn complete(
        &mut self,
        token: u64,
        sections: Vec<Section>,
        waiting_for: HashMap<RoomId, u64>,
        done: oneshot::Sender<()>,
    ) -> Completed {
        let Some(hold) = self.hold.as_mut().filter(|hold| hold.token == token) else {
            return Completed::Ended;
        };
        let ready = waiting_for.is_empty();
        hold.pending = Some(Pending {
            sections,
            waiting_for,
            done,
        });
        if !ready {
            return Completed::Waits;
        }
        self.release();
        Completed::Queued
    }

    /// Ends this hold; a snapshot that still waits goes out as it is. False if it had ended before.
    pub(super) fn end_hold(&mut self, token: u64) -> bool {
        self.is_held(token) && self.release()
    }

    /// Ends whatever hold there is: what it waits for will not come. False if there was none.
    pub(super) fn end_any_hold(&mut self) -> bool {
        self.unknown.clear();
        self.release()
    }

    fn release(&mut self) -> bool {
        let Some(hold) = self.hold.take() else {
            return false;
        };
        self.bytes = self.bytes.saturating_sub(hold.bytes);
        let mut unknown = std::mem::take(&mut self.unknown);
        let done = hold.queue_into(&mut unknown, |frame| self.push(frame));
        self.unknown = unknown;
        if let Some(done) = done {
            // Whoever waited may have gone: the frames are queued all the same.
            let _ = done.send(());
        }
        true
    }

    /// Why the device is to be closed, if it is.
    pub(super) fn close_reason(&self) -> Option<Close> {
        self.close
    }

    /// The device is to be closed, for this reason unless there is one already.
    pub(super) fn close(&mut self, close: Close) {
        self.close.get_or_insert(close);
    }

    /// Gives out what waits in the queue, in its order.
    pub(super) fn take(&mut self, frame: impl FnMut(Frame)) {
        self.bytes = self.hold.as_ref().map_or(0, |hold| hold.bytes);
        self.queue.drain(..).for_each(frame);
        if self.queue.capacity() > KEPT_FRAMES {
            // A burst leaves a large buffer behind: thousands of idle devices must not keep theirs.
            self.queue = VecDeque::new();
        }
    }

    /// Counts a frame that was queued or held. Over the limit the device is closed and what waits is dropped.
    fn count(&mut self, len: usize) {
        self.bytes += len;
        let frames = self.queue.len() + self.hold.as_ref().map_or(0, |hold| hold.events.len());
        // One frame of any size may wait: a large answer is no sign of a slow reader.
        if frames > self.limits.max_frames
            || (self.bytes > self.limits.max_bytes && frames > 1)
            || self.close == Some(Close::TooSlow)
        {
            self.close = Some(Close::TooSlow);
            self.queue = VecDeque::new();
            self.bytes = 0;
            if let Some(hold) = &mut self.hold {
                (hold.events, hold.bytes) = (VecDeque::new(), 0);
            }
        }
    }
}
