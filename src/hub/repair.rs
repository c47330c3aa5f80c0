//! Gaps: what was missed of a room is fetched and delivered in its place.

use super::device::ListMode;
use super::feed::Feed;
use super::{Hub, State};
use crate::error::ChatError;
use crate::metrics::Caught;
use crate::protocol::event::MessageRead;
use crate::protocol::frame::Frame;
use crate::protocol::ids::{MessageId, RoomId};
use crate::room::Missed;
use crate::room::Topic;
use crate::room::{Marks, Page, Position};

impl Hub {
    /// From this moment every event of the topic arrives; what came before may be missing.
    pub fn heard(&self, topic: &Topic) {
        match topic {
            Topic::Room(room) => {
                if self.lock().rooms.get_mut(room).is_some_and(Feed::distrust) {
                    self.repairs.add(*room);
                }
            }
            Topic::User(user) => {
                // A user whose rooms were never listed is just connecting, and lists them next.
                if self
                    .lock()
                    .users
                    .get(user)
                    .is_some_and(|user| !user.rooms.is_empty())
                {
                    self.recounts.add(user.clone());
                }
            }
            Topic::Control | Topic::Answers(_) => {}
        }
    }

    /// The rooms in which nothing happened since the last call, with where they are. Left out are those that were never
    /// read yet and those under repair.
    pub fn quiet_rooms(&self) -> Vec<(RoomId, Position)> {
        let mut state = self.lock();
        let quiet = |(room, feed): (&RoomId, &mut Feed)| Some((*room, feed.take_quiet()?.clone()));
        state.rooms.iter_mut().filter_map(quiet).collect()
    }

    /// The store says that the room is not at `asked`. If for this server it still is, something was lost.
    pub fn differs(&self, room: RoomId, asked: &Position) {
        let mut state = self.lock();
        let Some(feed) = state.rooms.get_mut(&room) else {
            return;
        };
        if feed.position() == Some(asked) && feed.distrust() {
            log::debug!("room {room}: what came after rev {} is missing", asked.rev);
            self.metrics.gap_shown_by_comparison();
            self.repairs.add(room);
        }
    }

    /// The first snapshot of a room: what came while it was read goes on from there.
    pub(super) fn begin(&self, state: &mut State, room: RoomId, cut: &Position) {
        let early = state
            .rooms
            .get_mut(&room)
            .map(|feed| feed.begin_with(cut))
            .unwrap_or_default();
        for event in early {
            self.deliver(state, room, event);
        }
    }

    /// From where the room has to be repaired, if it has to be.
    pub fn repair_from(&self, room: RoomId) -> Option<Position> {
        self.lock().rooms.get(&room)?.repair_from().cloned()
    }

    /// What was fetched of the room after `from`. True if there is more to fetch.
    pub fn repair(&self, room: RoomId, from: &Position, missed: Missed) -> bool {
        let mut state = self.lock();
        let waiting_from = state.rooms.get(&room).and_then(Feed::repair_from);
        if waiting_from != Some(from) {
            // Another repair came first.
            return waiting_from.is_some();
        }
        match missed {
            Missed::Gone => {
                self.metrics.repaired(Caught::Gone);
                self.forget(&mut state, room);
            }
            Missed::Reset(head) => {
                self.metrics.repaired(Caught::Reset);
                self.tell_reset(&mut state, room);
                self.end_repair(&mut state, room, head);
            }
            Missed::Page(page) => return self.repair_page(&mut state, room, from, page),
        }
        false
    }

    fn repair_page(&self, state: &mut State, room: RoomId, from: &Position, page: Page) -> bool {
        for message in &page.messages {
            self.deliver_message(state, room, page.position.rev, message);
        }
        if page.has_more {
            let last_id = page
                .messages
                .last()
                .map_or(from.last_id, |message| message.id);
            let reached = Position {
                seq: last_id.seq,
                last_id,
                ..from.clone()
            };
            if let Some(feed) = state.rooms.get_mut(&room) {
                feed.repaired_up_to(reached);
            }
            return true;
        }
        let missed = page.position.rev > from.rev;
        self.metrics.repaired(match missed {
            true => Caught::Up,
            false => Caught::Nothing,
        });
        if missed {
            if page.small {
                self.deliver_marks(state, room, page.position.rev, from.seq, &page.marks);
            } else {
                // Only the entry tells how far a user has read, of those who read on another device meanwhile.
                self.tell_anew(state, room);
            }
        }
        self.end_repair(state, room, page.position);
        false
    }

    /// Where the members have read: state, safe to get twice. A message tells of the markers at or after it itself.
    fn deliver_marks(
        &self,
        state: &mut State,
        room: RoomId,
        rev: u64,
        before_seq: u64,
        marks: &Marks,
    ) {
        for (user, read_seq) in marks
            .0
            .iter()
            .filter(|(_, read_seq)| *read_seq <= before_seq)
        {
            let message_id: Option<MessageId> = None;
            let read = MessageRead {
                room_id: room,
                user_id: user.clone(),
                seq: *read_seq,
                message_id,
            };
            self.deliver_read(state, room, rev, &read, true);
        }
    }

    fn end_repair(&self, state: &mut State, room: RoomId, head: Position) {
        let rev = head.rev;
        let Some(feed) = state.rooms.get_mut(&room) else {
            return;
        };
        let buffered = feed.end_repair(head);
        Self::advanced(state, room, rev);
        for event in buffered {
            self.deliver(state, room, event);
        }
    }

    fn tell_reset(&self, state: &mut State, room: RoomId) {
        self.metrics.history_reset();
        if let Some(feed) = state.rooms.get(&room) {
            let frame = Frame::error(None, &ChatError::history_reset().in_room(room));
            feed.devices
                .values()
                .for_each(|device| device.push(frame.clone()));
        }
        self.tell_anew(state, room);
    }

    /// Every device in the room is to take its entry anew.
    fn tell_anew(&self, state: &mut State, room: RoomId) {
        let devices = state
            .rooms
            .get(&room)
            .map(|feed| feed.devices.values().cloned().collect::<Vec<_>>());
        for device in devices.unwrap_or_default() {
            match device.mode {
                ListMode::Full => self.list_changed(state, &device),
                ListMode::Delta => self.new_entries.add((device.user.clone(), room)),
            }
        }
    }

    /// The store has no such room any more.
    fn forget(&self, state: &mut State, room: RoomId) {
        self.tell_reset(state, room);
        let Some(feed) = state.rooms.remove(&room) else {
            return;
        };
        self.interest.unwant(Topic::Room(room));
        for device in feed.devices.values() {
            device.end_any_hold();
            if let Some(user) = state.users.get_mut(&device.user) {
                user.rooms.remove(&room);
            }
            // It may have been made again meanwhile.
            self.recounts.add(device.user.clone());
        }
    }
}
