//! Users whose chat list has changed, and the devices that are to get it again.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Notify;

use super::device::{Device, ListMode};
use super::refresh::Next;
use super::{Hub, State, User, now};
use crate::protocol::ids::{RoomId, UserId};

impl Hub {
    pub(super) fn list_changed(&self, state: &mut State, device: &Device) {
        if device.mode == ListMode::Full && device.set_list_due() {
            state.refresh.changed(&device.user);
            self.refresh_changed.notify_one();
        }
    }

    /// The next user whose chat list is to be sent again; waits for one. For a single consumer.
    pub async fn next_refresh(&self) -> UserId {
        let next = |state: &mut State, now| Some(state.refresh.next(now));
        self.next_due(&self.refresh_changed, next).await
    }

    /// The next item of a queue; `changed` signals that there may be one. Never resolves where there is no queue.
    pub(super) async fn next_due<K>(
        &self,
        changed: &Notify,
        next: impl Fn(&mut State, Instant) -> Option<Next<K>>,
    ) -> K {
        loop {
            let next = next(&mut self.lock(), now());
            match next {
                Some(Next::Refresh(key)) => return key,
                Some(Next::WaitUntil(time)) => tokio::select! {
                    () = tokio::time::sleep_until(time.into()) => {}
                    () = changed.notified() => {}
                },
                Some(Next::Idle) | None => changed.notified().await,
            }
        }
    }

    /// The devices of a user for which a whole list is due.
    pub fn devices_due(&self, user: &UserId) -> Vec<Arc<Device>> {
        let due = |user: &User| {
            user.devices
                .iter()
                .filter(|device| device.is_list_due())
                .cloned()
                .collect()
        };
        self.lock().users.get(user).map(due).unwrap_or_default()
    }

    /// The whole list could not be read, or not be sent. A full device gets it after a pause, any other the entries
    /// that it still lacks.
    pub fn list_untold(&self, device: &Device) {
        match device.mode {
            ListMode::Full => {
                device.set_list_due();
                self.lock().refresh.changed(&device.user);
                self.refresh_changed.notify_one();
            }
            ListMode::Delta => {
                for room in device.unknown_rooms() {
                    self.new_entries.add((device.user.clone(), room));
                }
            }
        }
    }

    /// The device is to get the room's entry again.
    pub fn entry_outdated(&self, device: &Device, room: RoomId) {
        device.renew_entry(room);
        self.new_entries.add((device.user.clone(), room));
    }

    /// The devices of a user that are to get the room's entry.
    pub fn wanting_entry(&self, user: &UserId, room: RoomId) -> Vec<Arc<Device>> {
        let wanting = |user: &User| {
            user.devices
                .iter()
                .filter(|device| device.wants_entry(room))
                .cloned()
                .collect()
        };
        self.lock().users.get(user).map(wanting).unwrap_or_default()
    }
}
