//! Rooms whose latest messages are to be sent again to the classic devices that view them: such a client renders from
//! the history it receives, not from single messages.

use std::sync::Arc;
use std::time::Duration;

use super::device::Device;
use super::{Hub, State};
use crate::protocol::ids::RoomId;

/// The shortest time between two pushes in one room.
pub(super) const INTERVAL: Duration = Duration::from_millis(250);

impl Hub {
    /// A message was sent in the room.
    pub(super) fn history_changed(&self, state: &mut State, room: RoomId) {
        if state.histories.is_none() || viewers_of(state, room).next().is_none() {
            return;
        }
        if let Some(histories) = &mut state.histories {
            histories.changed(&room);
            self.histories_changed.notify_one();
        }
    }

    /// The latest messages of the room could not be sent to all who view it: they are due again after a pause.
    pub fn history_untold(&self, room: RoomId) {
        self.history_changed(&mut self.lock(), room);
    }

    /// The next room whose latest messages are to be sent again; waits for one. For a single consumer.
    pub async fn next_history(&self) -> RoomId {
        let next = |state: &mut State, now| state.histories.as_mut().map(|queue| queue.next(now));
        self.next_due(&self.histories_changed, next).await
    }

    /// The classic devices that view the room.
    pub fn classic_viewers(&self, room: RoomId) -> Vec<Arc<Device>> {
        viewers_of(&self.lock(), room).cloned().collect()
    }

    /// Whether the device views the room.
    pub fn is_viewed_by(&self, room: RoomId, device: &Device) -> bool {
        let state = self.lock();
        let viewers = state.viewers.get(&room);
        viewers.is_some_and(|viewers| viewers.contains_key(&device.id))
    }
}

fn viewers_of(state: &State, room: RoomId) -> impl Iterator<Item = &Arc<Device>> {
    let viewers = state.viewers.get(&room).into_iter().flatten();
    let followed = state.rooms.get(&room);
    let device = move |(id, _)| followed?.devices.get(id);
    viewers
        .filter_map(device)
        .filter(|device| device.is_classic)
}
