//! Putting a snapshot into a device's queue at its place among the events.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::Hub;
use super::device::Device;
use super::feed::Snapshot as Standing;
use super::hold::Section;
use super::lane::FIRST_HOLD;
use crate::protocol::ids::RoomId;

/// How long events that a snapshot covers may take to arrive before they count as lost.
const LATE: Duration = Duration::from_millis(300);
/// How long a snapshot waits for a repair before it goes out without.
const REPAIR: Duration = Duration::from_secs(2);

/// A snapshot of a device that is being read: until it is finished, or dropped, room events are held back.
pub struct Snapshot {
    hub: Arc<Hub>,
    device: Arc<Device>,
    generation: u64,
    token: u64,
}

/// The snapshot was overtaken: read it again.
#[derive(Debug, PartialEq, Eq)]
pub struct Stale;

impl Snapshot {
    /// Waits until the device has no other snapshot open.
    pub async fn begin(hub: &Arc<Hub>, device: &Arc<Device>) -> Self {
        let token = device.hold().await;
        Self::held(hub, device, token)
    }

    /// `None` if the device has another snapshot open.
    pub fn try_begin(hub: &Arc<Hub>, device: &Arc<Device>) -> Option<Self> {
        device
            .try_hold()
            .map(|token| Self::held(hub, device, token))
    }

    /// The first snapshot of a device that was just registered: it has been holding its events back since.
    pub fn first(hub: &Arc<Hub>, device: &Arc<Device>) -> Self {
        Self::held(hub, device, FIRST_HOLD)
    }

    fn held(hub: &Arc<Hub>, device: &Arc<Device>, token: u64) -> Self {
        let generation = hub.lock().generation;
        Self {
            hub: hub.clone(),
            device: device.clone(),
            generation,
            token,
        }
    }

    /// The same snapshot, to be read again after a [`Stale`].
    pub async fn renew(&mut self) {
        self.generation = self.hub.lock().generation;
        // A reset ends all holds.
        if !self.device.is_held(self.token) {
            self.token = self.device.hold().await;
        }
    }

    pub fn device(&self) -> &Arc<Device> {
        &self.device
    }

    /// Queues the sections, each after the events that it covers. Resolves when they are queued.
    pub async fn finish(&mut self, sections: Vec<Section>) -> Result<(), Stale> {
        let (rooms, mut queued) = {
            let mut state = self.hub.lock();
            if state.generation != self.generation {
                return Err(Stale);
            }
            let mut waiting_for: HashMap<RoomId, u64> = HashMap::new();
            for (room, cut) in sections.iter().flat_map(|section| section.cuts.iter()) {
                self.hub.begin(&mut state, *room, cut);
                let Some(feed) = state.rooms.get_mut(room) else {
                    continue;
                };
                match feed.compare(cut) {
                    Standing::Covered => {}
                    Standing::Stale => return Err(Stale),
                    Standing::Ahead => drop(waiting_for.insert(*room, cut.rev)),
                    Standing::Foreign => {
                        feed.distrust();
                        self.hub.repairs.add(*room);
                        waiting_for.insert(*room, cut.rev);
                    }
                }
                if feed.repair_from().is_some() {
                    self.hub.repairs.add(*room);
                }
            }
            let rooms: Vec<RoomId> = waiting_for.keys().copied().collect();
            (
                rooms,
                self.device.complete(self.token, sections, waiting_for),
            )
        };
        if tokio::time::timeout(LATE, &mut queued).await.is_err() {
            self.repair(&rooms);
            let _ = tokio::time::timeout(REPAIR, &mut queued).await;
        }
        Ok(())
    }

    fn repair(&self, rooms: &[RoomId]) {
        let mut state = self.hub.lock();
        for room in rooms {
            if state
                .rooms
                .get_mut(room)
                .is_some_and(super::feed::Feed::distrust)
            {
                self.hub.repairs.add(*room);
            }
        }
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        self.device.end_hold(self.token);
    }
}
