//! Events held back while a snapshot is read, and how each is put before or after it. No locks, no I/O.
//!
//! A snapshot (a chat list, a page of history) takes a round trip to read, while events go on. From the moment it is
//! asked for until it is complete the device holds its room events back; then each is put before or after the
//! snapshot, by whether the snapshot has it already. So a snapshot never hides a later event nor repeats an earlier one.

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
}

#[derive(Default)]
pub(super) struct Hold {
    /// Which hold this is: only who began it may end it.
    pub token: u64,
    /// The device has nothing yet: what its first list covers is not sent besides.
    pub first: bool,
    pub events: VecDeque<HeldEvent>,
    pub pending: Option<Pending>,
}

pub(super) struct HeldEvent {
    pub room: RoomId,
    pub rev: u64,
    /// Of a message: its number. Messages that were fetched after a gap have no `rev` of their own.
    pub message_seq: Option<u64>,
    pub frame: Frame,
}

/// A snapshot that was read and waits for events that it covers but that have not arrived yet.
pub(super) struct Pending {
    pub sections: Vec<Section>,
    pub waiting_for: HashMap<RoomId, u64>,
    pub done: oneshot::Sender<()>,
}

impl Pending {
    /// Everything of the room up to `rev` has come. True if the snapshot waited for that, and now for nothing more.
    pub(super) fn room_advanced(&mut self, room: RoomId, rev: u64) -> bool {
        let reached = |wanted: &u64| *wanted <= rev;
        self.waiting_for.get(&room).is_some_and(reached) && self.room_settled(room)
    }

    /// All that will come of the room has come. True if the snapshot waited for that, and now for nothing more.
    pub(super) fn room_settled(&mut self, room: RoomId) -> bool {
        self.waiting_for.remove(&room).is_some() && self.waiting_for.is_empty()
    }
}

impl Hold {
    /// Gives out events and sections in their order; the pending snapshot's `done` comes back.
    ///
    /// A room that a section covers is no longer unknown.
    pub(super) fn queue_into(
        self,
        unknown: &mut HashSet<RoomId>,
        mut push: impl FnMut(Frame, Kind),
    ) -> Option<oneshot::Sender<()>> {
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
            unknown.retain(|room| !section.cuts.contains_key(room));
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
