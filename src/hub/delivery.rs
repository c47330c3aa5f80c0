//! Delivers what was published to the devices concerned: encoded once, queued for each.

use std::sync::Arc;

use super::device::{Device, ListMode, RoomFrame};
use super::due::Priority;
use super::published::{Change, RoomEvent, RoomGained};
use super::{Hub, State};
use crate::protocol::event::{ChatEntry, Message, MessageRead, Shown};
use crate::protocol::frame::{Frame, ShapedFrames};
use crate::protocol::ids::{DeviceId, RoomId, UserId};
use crate::room::{Feed, Reason, Verdict};

impl Hub {
    /// A user gained a room: their devices follow it from this event on, and are notified.
    ///
    /// The event arrives on the user's channel and, for the user who asked for the room, with the reply: the first one
    /// counts.
    pub fn room_gained(&self, user: &UserId, gained: &RoomGained) {
        let mut state = self.lock();
        let is_new = self.follow_one(&mut state, user, gained.room);
        let now = state.tick();
        let begun = state
            .rooms
            .get_mut(&gained.room)
            .and_then(|followed| followed.feed.begin_at(&gained.position, now));
        // A room that is followed but has not begun may be one that was deleted and is being created again.
        if !is_new && begun.is_none() {
            return;
        }
        if let Some(begun) = begun {
            self.decide_on(&mut state, gained.room, begun.early, begun.overflowed);
            // Events between this one and the subscription are lost; until then, the subscription itself asks.
            if self.is_heard(&state, gained.room) {
                self.doubts.add(gained.room);
            }
        }
        let entry_is_known = gained.fresh
            && state
                .rooms
                .get(&gained.room)
                .and_then(|followed| followed.feed.position())
                .is_some_and(|at| *at == gained.position);
        let entry = || {
            gained.facts.clone().entry_for(
                user.as_str(),
                gained.room,
                &gained.position,
                gained.created_at_ms(),
            )
        };
        if entry_is_known {
            self.tell_entry(&mut state, user, gained, &entry());
        } else {
            self.tell_unread(&mut state, user, gained.room, &[]);
        }
    }

    /// The room is new for the user, and the event holds everything that a device needs to show it.
    fn tell_entry(&self, state: &mut State, user: &UserId, gained: &RoomGained, entry: &ChatEntry) {
        let mut frames = ShapedFrames::of(&entry.last_message);
        let encode = |shape| Frame::event("chatEntry", &Shown(entry, shape));
        for device in devices_of(state, user) {
            match device.mode {
                ListMode::Full => self.list_changed(state, &device),
                ListMode::Delta => device.send_room_event(&RoomFrame {
                    room: gained.room,
                    rev: gained.position.rev,
                    message_seq: None,
                    frame: frames.get_or_encode(device.shape, encode),
                    priority: Priority::High,
                }),
            }
        }
    }

    /// The room is new for the user, and its entry has to be read. The `readers` do that themselves.
    pub(super) fn tell_unread(
        &self,
        state: &mut State,
        user: &UserId,
        room: RoomId,
        readers: &[DeviceId],
    ) {
        for device in devices_of(state, user) {
            let reads = readers.contains(&device.id);
            if device.mode == ListMode::Delta {
                device.await_entry(room);
            }
            match device.mode {
                _ if reads => {}
                ListMode::Full => self.list_changed(state, &device),
                ListMode::Delta => self.new_entries.add((user.clone(), room)),
            }
        }
    }

    /// Something was published on a room's channel.
    pub fn room_event(&self, room: RoomId, event: RoomEvent) {
        self.deliver(&mut self.lock(), room, event);
    }

    fn deliver(&self, state: &mut State, room: RoomId, event: RoomEvent) {
        let now = state.tick();
        let Some(followed) = state.rooms.get_mut(&room) else {
            return;
        };
        match followed.feed.accept(event, now) {
            Verdict::Deliver(event) => self.hand_out(state, room, event),
            Verdict::Nothing => {}
            Verdict::Repair(reason) => {
                self.metrics.gap_shown_by_next_event();
                self.order_repair(room, reason);
            }
        }
    }

    /// Decides on kept events, in order. If `overflowed` is set, there were more of them.
    pub(super) fn decide_on(
        &self,
        state: &mut State,
        room: RoomId,
        events: Vec<RoomEvent>,
        overflowed: bool,
    ) {
        for event in events {
            self.deliver(state, room, event);
        }
        if overflowed {
            self.break_off(state, room, Reason::Overflow);
        }
    }

    /// Marks the room as missing something, unless that is known already.
    pub(super) fn break_off(&self, state: &mut State, room: RoomId, reason: Reason) {
        let feed = state
            .rooms
            .get_mut(&room)
            .map(|followed| &mut followed.feed);
        if feed.is_some_and(Feed::break_off) {
            self.order_repair(room, reason);
        }
    }

    pub(super) fn order_repair(&self, room: RoomId, reason: Reason) {
        log::debug!("room {room} has to be repaired: {reason}");
        self.repairs.add(room);
    }

    pub(super) fn is_heard(&self, state: &State, room: RoomId) -> bool {
        state
            .rooms
            .get(&room)
            .is_some_and(|followed| followed.feed.is_heard())
    }

    fn hand_out(&self, state: &mut State, room: RoomId, event: RoomEvent) {
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
        let Some(followed) = state.rooms.get(&room) else {
            return;
        };
        let mut frames = ShapedFrames::of([message]);
        let encode = |shape| Frame::event("newMessage", &Shown(message, shape));
        let priority = Priority::of_fan_out(followed.devices.len());
        let mut due = false;
        for device in followed.devices.values() {
            device.send_room_event(&RoomFrame {
                room,
                rev,
                message_seq: Some(message.seq),
                frame: frames.get_or_encode(device.shape, encode),
                priority,
            });
            if device.mode == ListMode::Full && device.set_list_due() {
                state.refresh.changed(&device.user);
                due = true;
            }
        }
        self.metrics.message_for(followed.devices.len());
        if due {
            self.refresh_changed.notify_one();
        }
        self.history_changed(state, room);
    }

    pub(super) fn deliver_read(
        &self,
        state: &mut State,
        room: RoomId,
        rev: u64,
        read: &MessageRead,
        to_members: bool,
    ) {
        let Some(followed) = state.rooms.get(&room) else {
            return;
        };
        let own = devices_of(state, &read.user_id);
        let count = if to_members {
            followed.devices.len()
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
            followed
                .devices
                .values()
                .for_each(|device| device.send_room_event(&event));
        } else {
            own.iter().for_each(|device| device.send_room_event(&event));
        }
        self.metrics.read_for(count);
        own.iter()
            .for_each(|device| self.list_changed(state, device));
    }

    /// Snapshots that waited for this event may be complete.
    pub(super) fn advanced(state: &State, room: RoomId, rev: u64) {
        if let Some(followed) = state.rooms.get(&room) {
            followed
                .devices
                .values()
                .for_each(|device| device.room_advanced(room, rev));
        }
    }
}

fn devices_of(state: &State, user: &UserId) -> Vec<Arc<Device>> {
    state
        .users
        .get(user)
        .map(|user| user.devices.clone())
        .unwrap_or_default()
}
