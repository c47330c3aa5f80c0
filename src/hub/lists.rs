//! Whose chat list changed, and who is to get it again.

use std::sync::Arc;
use std::time::Instant;

use super::device::{Device, ListMode};
use super::refresh::Next;
use super::{Hub, State, User};
use crate::protocol::ids::UserId;

impl Hub {
    pub(super) fn list_changed(&self, state: &mut State, device: &Device) {
        if device.mode == ListMode::Full && device.set_list_due() {
            state.refresh.changed(&device.user);
            self.refresh_changed.notify_one();
        }
    }

    /// Whose chat list is to be sent again; waits for one. For a single taker.
    pub async fn next_refresh(&self) -> UserId {
        loop {
            let next = self.lock().refresh.next(Instant::now());
            match next {
                Next::Refresh(user) => return user,
                Next::WaitUntil(time) => tokio::select! {
                    () = tokio::time::sleep_until(time.into()) => {}
                    () = self.refresh_changed.notified() => {}
                },
                Next::Idle => self.refresh_changed.notified().await,
            }
        }
    }

    /// The devices of a user to which a whole list is due.
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

    /// A list could not be read or told: it is due again, after a rest.
    pub fn refresh_again(&self, devices: &[Arc<Device>]) {
        let mut state = self.lock();
        for device in devices {
            device.set_list_due();
            state.refresh.changed(&device.user);
        }
        self.refresh_changed.notify_one();
    }

    /// Every full device of the user is to get its list again.
    pub fn list_due(&self, user: &UserId) {
        let mut state = self.lock();
        for device in state
            .users
            .get(user)
            .map(|user| user.devices.clone())
            .unwrap_or_default()
        {
            self.list_changed(&mut state, &device);
        }
    }

    /// The delta devices of a user.
    pub fn delta_devices(&self, user: &UserId) -> Vec<Arc<Device>> {
        let delta = |user: &User| {
            user.devices
                .iter()
                .filter(|device| device.mode == ListMode::Delta)
                .cloned()
                .collect()
        };
        self.lock().users.get(user).map(delta).unwrap_or_default()
    }
}
