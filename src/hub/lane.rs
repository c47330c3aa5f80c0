//! What waits for one device: its queue, and the events held back while a snapshot is read. No locks, no I/O.

use std::collections::{HashMap, HashSet, VecDeque};

use tokio::sync::oneshot;

use super::device::{Close, RoomFrame};
use super::hold::{HeldEvent, Hold, Load, Overrun, Pending, Section};
use crate::protocol::frame::Frame;
use crate::protocol::ids::RoomId;

/// How much may wait for a device.
#[derive(Debug, Clone, Copy)]
pub struct QueueLimits {
    /// Pushed frames. Beyond this the device is too slow. At most half as many are held back.
    pub max_frames: usize,
    /// Bytes of pushed frames. A single frame of any size may wait.
    pub max_bytes: usize,
    /// Bytes of answers. Beyond this the device's next request is not read.
    pub answers_max_bytes: usize,
}

/// Why a frame is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The device asked for it, if only by connecting: a device that reads it slowly is not closed for that.
    Answer,
    /// Something happened.
    Push,
}

/// What [`Lane::take`] gave out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// Some frames.
    Frames,
    /// Nothing was left, and everything taken before has been written. The connection is to be closed for this reason,
    /// if there is one.
    Nothing(Option<Close>),
}

/// Bytes handed out at once, not counting the last frame: what is still in the queue is counted and can be replaced.
const TAKEN_BYTES: usize = 128 * 1024;

/// What an answer takes in addition to its text.
const ANSWER_EXTRA_BYTES: usize = 512;

/// The number of frames for which an empty queue keeps capacity.
const KEPT_FRAMES: usize = 4;

/// The token of the hold that a lane is made with.
pub(super) const FIRST_HOLD: u64 = 1;

pub(super) struct Lane {
    limits: QueueLimits,
    queue: VecDeque<Waiting>,
    /// The size of the pushed frames in `queue`.
    pushed: Load,
    /// Bytes of the answers that are in `queue` or being written.
    answers: usize,
    /// Bytes of the answers that are being written.
    writing: usize,
    hold: Option<Hold>,
    holds_begun: u64,
    /// Rooms that the device has not been sent yet: their entries are still to be read.
    unknown: HashSet<RoomId>,
    /// Rooms whose entries are to be read for the device again.
    outdated: HashSet<RoomId>,
    /// Rooms that a list sent early, up to this message, without waiting for events that were still to arrive.
    told_early: HashMap<RoomId, u64>,
    close: Option<Close>,
}

struct Waiting {
    frame: Frame,
    kind: Kind,
}

impl Waiting {
    fn is_pushed_list(&self) -> bool {
        self.kind == Kind::Push && self.frame.is_chat_list()
    }

    fn is_pushed_history(&self) -> bool {
        self.kind == Kind::Push && self.frame.is_chat_history()
    }

    /// The kind that it is counted as. At most one pushed list waits, of any size; the same holds for histories.
    fn counts_as(&self) -> Option<Kind> {
        let is_one = self.is_pushed_list() || self.is_pushed_history();
        (!is_one).then_some(self.kind)
    }
}

/// What became of a complete snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Completed {
    /// It was queued, and its hold has ended.
    Queued,
    /// It waits for events.
    Waits,
    /// Its hold had ended before: it is dropped.
    Ended,
    /// It was read before events that the hold has released: it is dropped, and the hold continues.
    Overrun,
}

impl Lane {
    /// A lane that holds its events back until its first list is complete.
    pub(super) fn holding(limits: QueueLimits) -> Self {
        Self {
            limits,
            queue: VecDeque::new(),
            pushed: Load::default(),
            answers: 0,
            writing: 0,
            hold: Some(Hold::new(FIRST_HOLD, true)),
            holds_begun: FIRST_HOLD,
            unknown: HashSet::new(),
            outdated: HashSet::new(),
            told_early: HashMap::new(),
            close: None,
        }
    }

    /// Queues a frame, whatever is held back. A whole list replaces a pushed one that still waits: the frames queued
    /// since already precede it, and no device reads the same list twice.
    pub(super) fn push(&mut self, frame: Frame, kind: Kind) {
        if frame.is_chat_list() {
            self.queue.retain(|waiting| !waiting.is_pushed_list());
        }
        let waiting = Waiting { frame, kind };
        if waiting.is_pushed_history() {
            self.queue.retain(|waiting| !waiting.is_pushed_history());
        }
        match waiting.counts_as() {
            Some(Kind::Answer) => self.answers += answer_bytes(&waiting.frame),
            Some(Kind::Push) => self.pushed.add(waiting.frame.len()),
            None => {}
        }
        self.queue.push_back(waiting);
        self.check();
    }

    /// From now on, and until a section covers the room, none of its events is sent.
    pub(super) fn await_entry(&mut self, room: RoomId) {
        self.unknown.insert(room);
    }

    /// Queues an event of a room, or holds it back.
    pub(super) fn push_room_event(&mut self, event: &RoomFrame) {
        let told = self.told_early.get(&event.room);
        if told.is_some_and(|told| event.message_seq.is_some_and(|seq| seq <= *told)) {
            return;
        }
        let unknown = self.unknown.contains(&event.room);
        match &mut self.hold {
            // An entry that is read after the event covers it.
            None if unknown => {}
            None => self.push(event.frame.clone(), Kind::Push),
            Some(hold) => {
                hold.keep(HeldEvent {
                    room: event.room,
                    rev: event.rev,
                    message_seq: event.message_seq,
                    frame: event.frame.clone(),
                });
                self.bound_hold();
            }
        }
    }

    /// Half of the queue is reserved for what arrives when a hold ends, so that its end closes no device that reads.
    fn bound_hold(&mut self) {
        let (max_frames, max_bytes) = (self.limits.max_frames / 2, self.limits.max_bytes / 2);
        let is_full = |hold: &&mut Hold| hold.load().exceeds(max_frames, max_bytes);
        let Some(hold) = self.hold.as_mut().filter(is_full) else {
            return;
        };
        for event in hold.let_go() {
            // An entry that is read after the event covers it.
            if !self.unknown.contains(&event.room) {
                self.push(event.frame, Kind::Push);
            }
        }
    }

    /// Everything in the room up to `rev` has been queued or held. True if a snapshot that waited for it has been
    /// queued.
    pub(super) fn room_advanced(&mut self, room: RoomId, rev: u64) -> bool {
        self.tell_pending(|pending| pending.room_advanced(room, rev))
    }

    /// The room was repaired up to `rev`, and everything the repair brought has been queued or held. A snapshot that
    /// waits for more than the store had is read again.
    pub(super) fn room_settled(&mut self, room: RoomId, rev: u64) {
        if let Some(hold) = &mut self.hold {
            hold.outdate(|pending| pending.awaits_more(room, rev));
        }
    }

    /// The room's history is a different one from here on; the frame `told` says so. A snapshot of it that still waits
    /// is read again.
    pub(super) fn room_reset(&mut self, room: RoomId, told: Frame) {
        self.told_early.remove(&room);
        if let Some(hold) = &mut self.hold {
            hold.room_reset(room);
        }
        self.push(told, Kind::Push);
    }

    /// The room no longer exists: nobody waits for its entry.
    pub(super) fn room_gone(&mut self, room: RoomId) -> bool {
        self.unknown.remove(&room);
        self.outdated.remove(&room);
        self.told_early.remove(&room);
        self.room_advanced(room, u64::MAX)
    }

    fn tell_pending(&mut self, tell: impl FnOnce(&mut Pending) -> bool) -> bool {
        let pending = self.hold.as_mut().and_then(|hold| hold.pending.as_mut());
        pending.is_some_and(tell) && self.release()
    }

    /// The room's entry is to be sent again, though the device knows the room.
    pub(super) fn renew_entry(&mut self, room: RoomId) {
        self.outdated.insert(room);
    }

    /// The rooms that the device has not been sent yet.
    pub(super) fn unknown_rooms(&self) -> Vec<RoomId> {
        self.unknown.iter().copied().collect()
    }

    /// Whether the room's entry is to be read for the device.
    pub(super) fn wants_entry(&self, room: RoomId) -> bool {
        self.unknown.contains(&room) || self.outdated.contains(&room)
    }

    /// The room's entry is about to be read for the device, or does not exist.
    pub(super) fn entry_asked(&mut self, room: RoomId) {
        self.outdated.remove(&room);
    }

    /// The user is no member of the room, or the room does not exist: none of its events will be sent.
    pub(super) fn forget_entry(&mut self, room: RoomId) {
        self.unknown.remove(&room);
    }

    /// Begins to hold room events back unless another snapshot does. Returns the token that ends the hold.
    pub(super) fn try_hold(&mut self) -> Option<u64> {
        if self.hold.is_some() {
            return None;
        }
        self.holds_begun += 1;
        self.hold = Some(Hold::new(self.holds_begun, false));
        Some(self.holds_begun)
    }

    /// Whether the hold with this token is still in place.
    pub(super) fn is_held(&self, token: u64) -> bool {
        self.hold.as_ref().is_some_and(|hold| hold.token == token)
    }

    /// The snapshot has been read. Queues it now, or once the events that it still waits for have arrived; then
    /// notifies `done`.
    pub(super) fn complete(
        &mut self,
        token: u64,
        sections: Vec<Section>,
        waiting_for: HashMap<RoomId, u64>,
        done: oneshot::Sender<Result<(), Overrun>>,
    ) -> Completed {
        let Some(hold) = self.hold.as_mut().filter(|hold| hold.token == token) else {
            return Completed::Ended;
        };
        if let Err(overrun) = hold.check(&sections) {
            // The snapshot's reader waits for this.
            let _ = done.send(Err(overrun));
            return Completed::Overrun;
        }
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

    /// Ends this hold; a snapshot that still waits is sent as it is. False if it had ended before.
    pub(super) fn end_hold(&mut self, token: u64) -> bool {
        self.is_held(token) && self.release()
    }

    /// Ends any hold: what it waits for will not arrive. False if there was none.
    pub(super) fn end_any_hold(&mut self) -> bool {
        self.unknown.clear();
        self.outdated.clear();
        self.told_early.clear();
        self.release()
    }

    fn release(&mut self) -> bool {
        let Some(hold) = self.hold.take() else {
            return false;
        };
        self.told_early.extend(hold.told_early(&self.unknown));
        let mut unknown = std::mem::take(&mut self.unknown);
        let done = hold.queue_into(&mut unknown, |frame, kind| self.push(frame, kind));
        self.unknown = unknown;
        if let Some(done) = done {
            // The task that waited may be gone: the frames are queued all the same.
            let _ = done.send(Ok(()));
        }
        true
    }

    /// Why the device is to be closed, if it is.
    pub(super) fn close_reason(&self) -> Option<Close> {
        self.close
    }

    /// Marks the device to be closed for this reason, unless it has one already.
    pub(super) fn close(&mut self, close: Close) {
        self.close.get_or_insert(close);
    }

    /// Hands out what is queued, in order and one part at a time. What was handed out before has been written.
    pub(super) fn take(&mut self, mut give: impl FnMut(Frame)) -> Taken {
        self.answers -= std::mem::take(&mut self.writing);
        let mut bytes = 0;
        let mut taken = Taken::Nothing(self.close);
        while bytes < TAKEN_BYTES
            && let Some(waiting) = self.queue.pop_front()
        {
            bytes += waiting.frame.len();
            match waiting.counts_as() {
                Some(Kind::Answer) => self.writing += answer_bytes(&waiting.frame),
                Some(Kind::Push) => self.pushed.remove(waiting.frame.len()),
                None => {}
            }
            give(waiting.frame);
            taken = Taken::Frames;
        }
        if self.queue.is_empty() && self.queue.capacity() > KEPT_FRAMES {
            // A burst leaves a large buffer behind: thousands of idle devices must not keep theirs.
            self.queue = VecDeque::new();
        }
        taken
    }

    /// Whether the device's next request may be read: not before most of what it asked for has been sent.
    pub(super) fn may_ask(&self) -> bool {
        self.answers <= self.limits.answers_max_bytes
    }

    /// If more was pushed than may wait, the device is closed and its queue is dropped.
    fn check(&mut self) {
        let QueueLimits {
            max_frames,
            max_bytes,
            ..
        } = self.limits;
        if self.pushed.exceeds(max_frames, max_bytes) || self.close == Some(Close::TooSlow) {
            self.close = Some(Close::TooSlow);
            self.queue = VecDeque::new();
            self.pushed = Load::default();
            self.answers = self.writing;
        }
    }
}

fn answer_bytes(frame: &Frame) -> usize {
    frame.len() + ANSWER_EXTRA_BYTES
}

#[cfg(test)]
#[path = "lane_tests.rs"]
mod tests;
