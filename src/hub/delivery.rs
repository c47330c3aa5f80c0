//! What was published goes to the devices concerned: encoded once, queued for each.

use super::device::{ListMode, RoomFrame};
use super::due::Priority;
use super::feed::{Feed, Verdict};
use super::published::{Change, RoomEvent, RoomGained};
use super::{Hub, State};
use crate::protocol::event::{ChatEntry, Message, MessageRead};
use crate::protocol::frame::Frame;
use crate::protocol::ids::{RoomId, UserId};

impl Hub {
    /// A user gained a room: their devices follow it from the event on, and are told.
    ///
    /// The event comes over the user's channel and, to the one who asked for the room, with the reply: the first counts.
    pub fn room_gained(&self, user: &UserId, gained: &RoomGained) {
        let mut state = self.lock();
        if !self.follow_one(&mut state, user, gained.room) {
            return;
        }
        let began_here = state
            .rooms
            .get_mut(&gained.room)
            .is_some_and(|feed| feed.begin_at(&gained.position));
        let entry_is_known = gained.fresh
            && (began_here
                || state
                    .rooms
                    .get(&gained.room)
                    .and_then(Feed::position)
                    .is_some_and(|at| *at == gained.position));
        if began_here {
            self.repairs.add(gained.room);
        }
        let entry = || {
            gained.facts.entry_for(
                user.as_str(),
                gained.room,
                &gained.position,
                gained.created_at_ms(),
            )
        };
        self.tell_entry(&mut state, user, gained, entry_is_known.then(entry));
    }

    pub(super) fn tell_entry(
        &self,
        state: &mut State,
        user: &UserId,
        gained: &RoomGained,
        entry: Option<ChatEntry>,
    ) {
        let frame = entry.map(|entry| Frame::event("chatEntry", &entry));
        let devices = state
            .users
            .get(user)
            .map(|user| user.devices.clone())
            .unwrap_or_default();
        for device in devices {
            match (device.mode, &frame) {
                (ListMode::Full, _) => self.list_changed(state, &device),
                (ListMode::Delta, Some(frame)) => {
                    let (room, rev) = (gained.room, gained.position.rev);
                    device.send_room_event(&RoomFrame {
                        room,
                        rev,
                        message_seq: None,
                        frame,
                        priority: Priority::High,
                    });
                }
                (ListMode::Delta, None) => {
                    device.await_entry(gained.room);
                    self.new_entries.add((user.clone(), gained.room));
                }
            }
        }
    }

    /// Something was published on a room's channel.
    pub fn room_event(&self, room: RoomId, event: RoomEvent) {
        self.deliver(&mut self.lock(), room, event);
    }

    pub(super) fn deliver(&self, state: &mut State, room: RoomId, event: RoomEvent) {
        let Some(feed) = state.rooms.get_mut(&room) else {
            return;
        };
        match feed.accept(&event) {
            Verdict::Deliver => {}
            Verdict::Drop => return,
            Verdict::Repair => {
                log::debug!(
                    "room {room}: an event is missing before rev {}",
                    event.position.rev
                );
                self.metrics.gap_shown_by_next_event();
                return self.repairs.add(room);
            }
        }
        let rev = event.position.rev;
        match event.change {
            Change::Message(message) => self.deliver_message(state, room, rev, &message),
            Change::Read {
                user,
                read_seq,
                message_id,
                to_members,
            } => {
                let read = MessageRead {
                    room_id: room,
                    user_id: user,
                    seq: read_seq,
                    message_id,
                };
                self.deliver_read(state, room, rev, &read, to_members);
            }
            Change::Unknown => {}
        }
        Self::advanced(state, room, rev);
    }

    pub(super) fn deliver_message(
        &self,
        state: &mut State,
        room: RoomId,
        rev: u64,
        message: &Message,
    ) {
        let Some(feed) = state.rooms.get(&room) else {
            return;
        };
        let frame = Frame::event("newMessage", message);
        let event = RoomFrame {
            room,
            rev,
            message_seq: Some(message.seq),
            frame: &frame,
            priority: Priority::of_fan_out(feed.devices.len()),
        };
        let mut due = false;
        for device in feed.devices.values() {
            device.send_room_event(&event);
            if device.mode == ListMode::Full && device.set_list_due() {
                state.refresh.changed(&device.user);
                due = true;
            }
        }
        self.metrics.message_for(feed.devices.len());
        if due {
            self.refresh_changed.notify_one();
        }
    }

    pub(super) fn deliver_read(
        &self,
        state: &mut State,
        room: RoomId,
        rev: u64,
        read: &MessageRead,
        to_members: bool,
    ) {
        let Some(feed) = state.rooms.get(&room) else {
            return;
        };
        let own = state
            .users
            .get(&read.user_id)
            .map(|user| user.devices.clone())
            .unwrap_or_default();
        let count = if to_members {
            feed.devices.len()
        } else {
            own.len()
        };
        let frame = Frame::event("messageRead", read);
        let event = RoomFrame {
            room,
            rev,
            message_seq: None,
            frame: &frame,
            priority: Priority::of_fan_out(count),
        };
        if to_members {
            feed.devices
                .values()
                .for_each(|device| device.send_room_event(&event));
        } else {
            own.iter().for_each(|device| device.send_room_event(&event));
        }
        self.metrics.read_for(count);
        own.iter()
            .for_each(|device| self.list_changed(state, device));
    }

    /// Snapshots that waited for this may be complete.
    pub(super) fn advanced(state: &State, room: RoomId, rev: u64) {
        if let Some(feed) = state.rooms.get(&room) {
            feed.devices
                .values()
                .for_each(|device| device.room_advanced(room, rev));
        }
    }
}
