//! Gaps: what is missing from a room is fetched and delivered in its place.

use super::device::ListMode;
use super::{Followed, Hub, State};
use crate::error::ChatError;
use crate::metrics::Caught;
use crate::protocol::event::MessageRead;
use crate::protocol::ids::{MessageId, RoomId};
use crate::room::{Feed, Marks, Missed, Page, Position, Reason, Topic};

/// Whether what was delivered is a prefix of what is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum History {
    TheSame,
    Another,
}

/// What remains of a repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// There is more to fetch.
    GoesOn,
    Ended,
}

impl Hub {
    /// From this moment every event of the topic arrives; earlier ones may be missing.
    pub fn heard(&self, topic: &Topic) {
        match topic {
            Topic::Room(room) => {
                let mut state = self.lock();
                let now = state.tick();
                let followed = state.rooms.get_mut(room);
                if followed.is_some_and(|followed| followed.feed.heard(now)) {
                    self.doubts.add(*room);
                }
            }
            Topic::User(user) => {
                // The first time, the user is just connecting, and lists the rooms next.
                let mut state = self.lock();
                let known = state.users.get_mut(user);
                if known.is_some_and(|known| std::mem::replace(&mut known.was_heard, true)) {
                    self.recounts.add(user.clone());
                }
            }
            Topic::Control | Topic::Server(_) | Topic::Answers(_) => {}
        }
    }

    /// The rooms in which nothing has happened since the last call, with their positions. Rooms that were never read
    /// and rooms under repair are left out.
    pub fn quiet_rooms(&self) -> Vec<(RoomId, Position)> {
        let mut state = self.lock();
        let quiet = |(room, followed): (&RoomId, &mut Followed)| {
            Some((*room, followed.feed.take_quiet()?.clone()))
        };
        state.rooms.iter_mut().filter_map(quiet).collect()
    }

    /// The positions of these rooms. Rooms that were never read and rooms under repair are left out.
    pub fn positions(&self, rooms: &[RoomId]) -> Vec<(RoomId, Position)> {
        let state = self.lock();
        let position =
            |room: &RoomId| Some((*room, state.rooms.get(room)?.feed.live_at()?.clone()));
        rooms.iter().filter_map(position).collect()
    }

    /// The store is not at `asked`, and everything it had published by then has arrived. If this server is still at
    /// `asked`, something was lost.
    pub fn differs(&self, room: RoomId, asked: &Position) {
        let mut state = self.lock();
        let live = state.rooms.get(&room).map(|followed| &followed.feed);
        if live.and_then(Feed::live_at) == Some(asked) {
            self.metrics.gap_shown_by_comparison();
            self.break_off(&mut state, room, Reason::Lost);
        }
    }

    /// The store is about to be asked for what is missing from the room; returns the position to ask from. `None` if
    /// nothing is missing.
    pub fn ask_repair(&self, room: RoomId) -> Option<Position> {
        let mut state = self.lock();
        let now = state.tick();
        state.rooms.get_mut(&room)?.feed.ask(now)
    }

    /// What was fetched of the room after `from`. `times` counts the repairs in a row, this one included.
    pub fn repair(&self, room: RoomId, from: &Position, missed: Missed, times: u32) -> Repair {
        let mut state = self.lock();
        let followed = state.rooms.get(&room);
        if !followed.is_some_and(|followed| followed.feed.awaits(from)) {
            // The room was left, or all chats were deleted.
            return Repair::Ended;
        }
        match missed {
            Missed::Gone => {
                self.metrics.repaired(Caught::Gone);
                self.forget(&mut state, room);
            }
            Missed::Reset(head) => {
                self.metrics.repaired(Caught::Reset);
                self.tell_reset(&mut state, room);
                self.end_repair(&mut state, room, head, History::Another, times);
            }
            Missed::Page(page) => return self.repair_page(&mut state, room, from, page, times),
        }
        Repair::Ended
    }

    fn repair_page(
        &self,
        state: &mut State,
        room: RoomId,
        from: &Position,
        page: Page,
        times: u32,
    ) -> Repair {
        for message in &page.messages {
            self.deliver_message(state, room, page.position.rev, message);
        }
        if page.has_more {
            let Some(last) = page.messages.last() else {
                log::warn!("room {room}: Redis says that there is more to repair, but not what");
                self.repairs.add(room);
                return Repair::Ended;
            };
            let reached = Position {
                seq: last.seq,
                last_id: last.id,
                ..from.clone()
            };
            if let Some(followed) = state.rooms.get_mut(&room) {
                followed.feed.repaired_up_to(reached);
            }
            return Repair::GoesOn;
        }
        let missed = page.position.rev > from.rev;
        self.metrics.repaired(match missed {
            true => Caught::Up,
            false => Caught::Nothing,
        });
        if missed {
            if page.small {
                self.deliver_marks(state, room, page.position.rev, &page.marks);
            } else {
                // Only the entry shows how far a user has read if they read on another device meanwhile.
                self.tell_anew(state, room);
            }
        }
        self.end_repair(state, room, page.position, History::TheSame, times);
        Repair::Ended
    }

    /// Where the members have read: state that is safe to receive twice. Messages carry markers too, but not to devices
    /// whose list sent the messages before the markers moved.
    fn deliver_marks(&self, state: &mut State, room: RoomId, rev: u64, marks: &Marks) {
        for (user, read_seq) in &marks.0 {
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

    fn end_repair(
        &self,
        state: &mut State,
        room: RoomId,
        head: Position,
        history: History,
        times: u32,
    ) {
        let (rev, now) = (head.rev, state.tick());
        let Some(followed) = state.rooms.get_mut(&room) else {
            return;
        };
        let anew = history == History::Another;
        let repaired = followed.feed.end_repair(head, anew, now);
        Self::advanced(state, room, rev);
        if repaired.strays > 0 && times == 1 {
            log::warn!(
                "room {room}: {} published events are not in its history, which ends at rev {rev}: they are dropped",
                repaired.strays
            );
        }
        self.decide_on(state, room, repaired.kept, repaired.overflowed);
        Self::settled(state, room);
        if repaired.doubtful {
            self.doubts.add(room);
        }
    }

    /// Snapshots that wait for more than the store had are read again.
    fn settled(state: &State, room: RoomId) {
        let Some(followed) = state.rooms.get(&room) else {
            return;
        };
        if let Some(at) = followed.feed.position() {
            let devices = followed.devices.values();
            devices.for_each(|device| device.room_settled(room, at.rev));
        }
    }

    fn tell_reset(&self, state: &mut State, room: RoomId) {
        self.metrics.history_reset();
        if let Some(followed) = state.rooms.get(&room) {
            let error = ChatError::history_reset().in_room(room);
            for device in followed.devices.values() {
                device.room_reset(room, device.error_frame(None, &error));
            }
        }
        self.tell_anew(state, room);
    }

    /// Every device in the room is to get its entry again.
    fn tell_anew(&self, state: &mut State, room: RoomId) {
        let devices = state
            .rooms
            .get(&room)
            .map(|followed| followed.devices.values().cloned().collect::<Vec<_>>());
        for device in devices.unwrap_or_default() {
            match device.mode {
                ListMode::Full => self.list_changed(state, &device),
                ListMode::Delta => self.entry_outdated(&device, room),
            }
        }
    }

    /// The room no longer exists in the store.
    fn forget(&self, state: &mut State, room: RoomId) {
        self.tell_reset(state, room);
        let Some(followed) = state.rooms.remove(&room) else {
            return;
        };
        self.interest.unwant(Topic::Room(room));
        for device in followed.devices.values() {
            device.room_gone(room);
            if let Some(user) = state.users.get_mut(&device.user) {
                user.rooms.remove(&room);
            }
            // It may have been created again meanwhile.
            self.recounts.add(device.user.clone());
        }
    }
}
