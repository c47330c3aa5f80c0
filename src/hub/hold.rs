//! Events held back while a snapshot is read, and how each is placed before or after it. No locks, no I/O.
//!
//! Reading a snapshot (a chat list, a page of history) takes a round trip, and events go on meanwhile. From the moment
//! the snapshot is asked for until it is complete, the device holds its room events back; then each is placed before or
//! after the snapshot, depending on whether the snapshot covers it. So a snapshot never hides a later event nor repeats
//! an earlier one.
//!
//! How long a snapshot takes to read is not the device's fault, so a hold that reaches its limit does not close the
//! device. It releases its events instead: a device that has had its first list gets them now, since a later snapshot
//! may also be sent after them; a device that has not gets its list after them, so that the list covers them. In both
//! cases the snapshot is usable only if it was read after those events. One that was not is read again.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use tokio::sync::oneshot;

use super::lane::Kind;
use crate::protocol::frame::Frame;
use crate::protocol::ids::RoomId;
use crate::room::Position;

/// The rooms' positions at which a snapshot was read.
pub type Cuts = HashMap<RoomId, Position>;

/// Frames that go out after the events up to their cuts and before all later ones.
pub struct Section {
    pub cuts: Arc<Cuts>,
    pub frames: Vec<Frame>,
    /// Why they are sent.
    pub kind: Kind,
    /// The frames announce the rooms themselves: from then on the device knows them.
    pub tells_rooms: bool,
}

#[derive(Default)]
pub(super) struct Hold {
    /// Identifies the hold: only its initiator may end it.
    pub token: u64,
    /// The device has nothing yet: events that its first list covers are not sent separately.
    pub first: bool,
    events: VecDeque<HeldEvent>,
    /// The size of `events`.
    load: Load,
    /// The rooms of events that were released while the snapshot was read.
    let_go: HashMap<RoomId, Newest>,
    pub pending: Option<Pending>,
}

/// A number of frames, and their bytes.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Load {
    pub frames: usize,
    pub bytes: usize,
}

impl Load {
    pub(super) fn add(&mut self, bytes: usize) {
        self.frames += 1;
        self.bytes += bytes;
    }

    pub(super) fn remove(&mut self, bytes: usize) {
        self.frames -= 1;
        self.bytes -= bytes;
    }

    /// Whether either limit is exceeded; a single frame of any size never does.
    pub(super) fn exceeds(self, max_frames: usize, max_bytes: usize) -> bool {
        self.frames > max_frames || (self.bytes > max_bytes && self.frames > 1)
    }
}

/// The newest of a room's events that were released.
#[derive(Debug, Default, Clone, Copy)]
struct Newest {
    message_seq: u64,
    /// Of events that are not messages.
    rev: u64,
}

impl Newest {
    fn is_covered_by(self, cut: &Position) -> bool {
        self.message_seq <= cut.seq && self.rev <= cut.rev
    }
}

/// The snapshot cannot be placed: it was read before events that have been released, or it belongs to a history that no
/// longer exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overrun;

pub(super) struct HeldEvent {
    pub room: RoomId,
    pub rev: u64,
    /// The number of the message, if the event is one. Messages that were fetched after a gap have no `rev` of their
    /// own.
    pub message_seq: Option<u64>,
    pub frame: Frame,
}

/// A snapshot that has been read and waits for events that it covers but that have not arrived yet.
pub(super) struct Pending {
    pub sections: Vec<Section>,
    pub waiting_for: HashMap<RoomId, u64>,
    pub done: oneshot::Sender<Result<(), Overrun>>,
}

impl Pending {
    /// Everything in the room up to `rev` has arrived. True if the snapshot waited for that, and now waits for nothing
    /// more.
    pub(super) fn room_advanced(&mut self, room: RoomId, rev: u64) -> bool {
        if self.awaits_more(room, rev) {
            return false;
        }
        self.waiting_for.remove(&room).is_some() && self.waiting_for.is_empty()
    }

    /// Whether the snapshot waits for something in the room after `rev`.
    pub(super) fn awaits_more(&self, room: RoomId, rev: u64) -> bool {
        self.waiting_for
            .get(&room)
            .is_some_and(|wanted| *wanted > rev)
    }

    fn covers(&self, room: RoomId) -> bool {
        let covers = |section: &Section| section.cuts.contains_key(&room);
        self.sections.iter().any(covers)
    }
}

impl Hold {
    /// A hold with this `token`. `first` marks the hold of a device that has nothing yet.
    pub(super) fn new(token: u64, first: bool) -> Self {
        Self {
            token,
            first,
            ..Self::default()
        }
    }

    /// Holds an event back.
    pub(super) fn keep(&mut self, event: HeldEvent) {
        self.load.add(event.frame.len());
        self.events.push_back(event);
    }

    /// The size of what is held back.
    pub(super) fn load(&self) -> Load {
        self.load
    }

    /// Stops holding back what has arrived so far. Returns the events that the device is to get; a waiting snapshot is
    /// dropped.
    pub(super) fn let_go(&mut self) -> VecDeque<HeldEvent> {
        self.outdate(|_| true);
        for event in &self.events {
            let newest = self.let_go.entry(event.room).or_default();
            match event.message_seq {
                Some(seq) => newest.message_seq = newest.message_seq.max(seq),
                None => newest.rev = newest.rev.max(event.rev),
            }
        }
        self.load = Load::default();
        let events = std::mem::take(&mut self.events);
        if self.first { VecDeque::new() } else { events }
    }

    /// A waiting snapshot that is outdated is dropped, and read again.
    pub(super) fn outdate(&mut self, is_outdated: impl FnOnce(&Pending) -> bool) {
        if let Some(pending) = self.pending.take_if(|pending| is_outdated(pending)) {
            // The device that waited may have disconnected.
            let _ = pending.done.send(Err(Overrun));
        }
    }

    /// The room's history is a different one from here on: events of the former one that are held back are void.
    pub(super) fn room_reset(&mut self, room: RoomId) {
        let load = &mut self.load;
        self.events.retain(|event| {
            let stays = event.room != room;
            if !stays {
                load.remove(event.frame.len());
            }
            stays
        });
        self.let_go.remove(&room);
        self.outdate(|pending| pending.covers(room));
    }

    /// The rooms that are new for the device and whose last messages have not arrived yet, with the number of the last
    /// one.
    pub(super) fn told_early(&self, unknown: &HashSet<RoomId>) -> HashMap<RoomId, u64> {
        let Some(pending) = &self.pending else {
            return HashMap::new();
        };
        let cuts = pending.sections.iter().flat_map(|section| &*section.cuts);
        let is_early = |room| pending.waiting_for.contains_key(room);
        cuts.filter(|(room, _)| is_early(room) && (self.first || unknown.contains(room)))
            .map(|(room, cut)| (*room, cut.seq))
            .collect()
    }

    /// Whether the snapshot was read before something that was released. The next one will have been read after it.
    pub(super) fn check(&mut self, sections: &[Section]) -> Result<(), Overrun> {
        let is_after = |(room, newest): (RoomId, Newest)| {
            let mut cuts = sections
                .iter()
                .filter_map(|section| section.cuts.get(&room));
            let is_told = !self.first || cuts.clone().next().is_some();
            is_told && cuts.all(|cut| newest.is_covered_by(cut))
        };
        let let_go = std::mem::take(&mut self.let_go);
        let_go
            .into_iter()
            .all(is_after)
            .then_some(())
            .ok_or(Overrun)
    }

    /// Queues events and sections in order; returns the pending snapshot's `done`.
    ///
    /// A room that a section covers is no longer unknown.
    pub(super) fn queue_into(
        self,
        unknown: &mut HashSet<RoomId>,
        mut push: impl FnMut(Frame, Kind),
    ) -> Option<oneshot::Sender<Result<(), Overrun>>> {
        let Self {
            first,
            mut events,
            pending,
            ..
        } = self;
        let (sections, done) = pending.map_or((Vec::new(), None), |pending| {
            (pending.sections, Some(pending.done))
        });
        for section in sections {
            let mut later = VecDeque::new();
            for event in events {
                let unseen = first || unknown.contains(&event.room);
                match (event.is_covered_by(&section.cuts), unseen) {
                    (true, true) => {}
                    (true, false) => push(event.frame, Kind::Push),
                    (false, _) => later.push_back(event),
                }
            }
            events = later;
            for frame in section.frames {
                push(frame, section.kind);
            }
            if section.tells_rooms {
                unknown.retain(|room| !section.cuts.contains_key(room));
            }
        }
        events
            .into_iter()
            .filter(|event| !unknown.contains(&event.room))
            .for_each(|event| push(event.frame, Kind::Push));
        done
    }
}

impl HeldEvent {
    fn is_covered_by(&self, cuts: &Cuts) -> bool {
        cuts.get(&self.room)
            .is_some_and(|cut| match self.message_seq {
                Some(seq) => seq <= cut.seq,
                None => self.rev <= cut.rev,
            })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::device::RoomFrame;
    use super::super::due::Priority;
    use super::super::lane::{Completed, FIRST_HOLD, Lane, QueueLimits, Taken};
    use super::*;
    use crate::protocol::ids::MessageId;

    const LIMITS: QueueLimits = QueueLimits {
        max_frames: 20,
        max_bytes: 2_000,
        answers_max_bytes: 1_000,
    };
    /// More events than the queue takes.
    const MANY: u64 = 3 * LIMITS.max_frames as u64;

    /// A message in the room with this number; the change before it had the same number.
    fn message(lane: &mut Lane, room: RoomId, seq: u64) {
        lane.push_room_event(&RoomFrame {
            room,
            rev: seq,
            message_seq: Some(seq),
            frame: &Frame::status(&seq.to_string()),
            priority: Priority::High,
        });
    }

    fn read(lane: &mut Lane, room: RoomId, rev: u64) {
        lane.push_room_event(&RoomFrame {
            room,
            rev,
            message_seq: None,
            frame: &Frame::status(&format!("r{rev}")),
            priority: Priority::High,
        });
    }

    fn snapshot(room: RoomId, seq: u64) -> Vec<Section> {
        let position = Position {
            epoch: "e".into(),
            rev: seq,
            seq,
            last_id: MessageId { ms: 1, seq },
        };
        vec![Section {
            cuts: Arc::new(Cuts::from([(room, position)])),
            frames: vec![Frame::status("snapshot")],
            kind: Kind::Answer,
            tells_rooms: true,
        }]
    }

    /// Completes a snapshot that has nothing to wait for.
    fn complete(lane: &mut Lane, token: u64, sections: Vec<Section>) -> Completed {
        lane.complete(token, sections, HashMap::new(), oneshot::channel().0)
    }

    /// The texts of the queued frames.
    fn taken(lane: &mut Lane) -> Vec<String> {
        let mut all = Vec::new();
        let text = |frame: Frame| {
            let text = frame.native().unwrap().as_str().into_owned();
            let frame: serde_json::Value = serde_json::from_str(&text).unwrap();
            frame["data"].as_str().unwrap().to_owned()
        };
        while lane.take(|frame| all.push(text(frame))) == Taken::Frames {}
        all
    }

    fn numbers(numbers: impl Iterator<Item = u64>) -> Vec<String> {
        numbers.map(|number| number.to_string()).collect()
    }

    #[test]
    fn a_first_list_that_takes_long_closes_nobody_and_covers_what_was_not_held() {
        // Given a device whose first list takes so long that more arrives than its queue takes
        let (mut lane, room) = (Lane::holding(LIMITS), RoomId::random());
        (1..=MANY).for_each(|seq| message(&mut lane, room, seq));
        assert_eq!(lane.close_reason(), None);
        // When it was read before some of that, then it is unusable, and nothing is sent
        let early = snapshot(room, MANY / 2);
        assert_eq!(complete(&mut lane, FIRST_HOLD, early), Completed::Overrun);
        assert_eq!(taken(&mut lane), Vec::<String>::new());
        // When it is read again, then it precedes all that it does not cover
        message(&mut lane, room, MANY + 1);
        let late = snapshot(room, MANY);
        assert_eq!(complete(&mut lane, FIRST_HOLD, late), Completed::Queued);
        let last = (MANY + 1).to_string();
        assert_eq!(taken(&mut lane), ["snapshot".to_owned(), last]);
    }

    #[test]
    fn a_first_list_without_a_room_of_which_something_was_not_held_is_read_again() {
        let (mut lane, room, other) = (Lane::holding(LIMITS), RoomId::random(), RoomId::random());
        (1..=MANY).for_each(|seq| message(&mut lane, room, seq));
        let without = snapshot(other, MANY);
        assert_eq!(complete(&mut lane, FIRST_HOLD, without), Completed::Overrun);
        // The user is no member if the room is not in the next one either
        let again = snapshot(other, MANY);
        assert_eq!(complete(&mut lane, FIRST_HOLD, again), Completed::Queued);
        assert_eq!(taken(&mut lane)[0], "snapshot");
    }

    #[test]
    fn a_later_snapshot_that_takes_long_does_not_keep_events_back() {
        // Given a device that reads, and whose page takes so long that more arrives than its queue takes
        let (mut lane, room) = (Lane::holding(LIMITS), RoomId::random());
        lane.end_hold(FIRST_HOLD);
        let token = lane.try_hold().unwrap();
        let mut got = Vec::new();
        for seq in 1..=MANY {
            message(&mut lane, room, seq);
            got.extend(taken(&mut lane));
        }
        read(&mut lane, room, MANY + 1);
        assert_eq!(lane.close_reason(), None);
        assert!(got.len() as u64 > MANY / 2, "{got:?}");
        // When the page was read before some of that, then it is unusable
        let early = snapshot(room, MANY / 2);
        assert_eq!(complete(&mut lane, token, early), Completed::Overrun);
        // When it is read again, then it follows what it covers, and each event is sent once
        let late = snapshot(room, MANY + 1);
        assert_eq!(complete(&mut lane, token, late), Completed::Queued);
        got.extend(taken(&mut lane));
        let mut expected = numbers(1..=MANY);
        expected.extend([format!("r{}", MANY + 1), "snapshot".to_owned()]);
        assert_eq!(got, expected);
    }

    #[test]
    fn what_comes_of_other_rooms_does_not_outdate_a_page() {
        let (mut lane, room, other) = (Lane::holding(LIMITS), RoomId::random(), RoomId::random());
        lane.end_hold(FIRST_HOLD);
        let token = lane.try_hold().unwrap();
        for seq in 1..=MANY {
            message(&mut lane, other, seq);
            taken(&mut lane);
        }
        let page = snapshot(room, 1);
        assert_eq!(complete(&mut lane, token, page), Completed::Queued);
    }

    #[test]
    fn a_snapshot_that_waits_for_too_long_is_read_again() {
        // Given a page that waits for the room's third message
        let (mut lane, room, other) = (Lane::holding(LIMITS), RoomId::random(), RoomId::random());
        lane.end_hold(FIRST_HOLD);
        let token = lane.try_hold().unwrap();
        let (done, mut told) = oneshot::channel();
        let waiting_for = HashMap::from([(room, 3)]);
        let page = snapshot(room, 3);
        assert_eq!(
            lane.complete(token, page, waiting_for, done),
            Completed::Waits
        );
        // When more events of another room arrive meanwhile than may be held back
        for seq in 1..=MANY {
            message(&mut lane, other, seq);
            taken(&mut lane);
        }
        // Then its reader is notified, and it holds the room's events for the next one
        assert_eq!(told.try_recv(), Ok(Err(Overrun)));
        message(&mut lane, room, 4);
        let page = snapshot(room, 3);
        assert_eq!(complete(&mut lane, token, page), Completed::Queued);
        let got = taken(&mut lane);
        assert_eq!(
            (got[0].as_str(), got[got.len() - 1].as_str()),
            ("snapshot", "4")
        );
    }

    #[test]
    fn the_end_of_a_hold_closes_nobody() {
        let (mut lane, room) = (Lane::holding(LIMITS), RoomId::random());
        lane.end_hold(FIRST_HOLD);
        let token = lane.try_hold().unwrap();
        let half = LIMITS.max_frames as u64 / 2;
        (1..=half).for_each(|seq| message(&mut lane, room, seq));
        assert_eq!(taken(&mut lane), Vec::<String>::new());
        lane.end_hold(token);
        (half + 1..=2 * half).for_each(|seq| message(&mut lane, room, seq));
        assert_eq!(lane.close_reason(), None);
        assert_eq!(taken(&mut lane), numbers(1..=2 * half));
    }
}
