//! Places a snapshot among the events in a device's queue.
//!
//! A [`Snapshot`] is one that has begun: it is being read, and its device holds room events back. [`Snapshot::finish`]
//! ends it. One that cannot be placed comes back as [`Overtaken`], and has to be read again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::device::Device;
use super::hold::{Overrun, Section};
use super::lane::FIRST_HOLD;
use super::{Hub, State};
use crate::protocol::ids::RoomId;
use crate::room::{Position, Reason, Standing, Tick, pause_after};

/// How long a snapshot waits for the events that it covers, and for repairs, before it is sent without them.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many times a snapshot is read again, at most.
const READ_AGAIN_MAX: u32 = 4;

/// A snapshot of a device that is being read: until it is finished or dropped, room events are held back.
pub struct Snapshot {
    hub: Arc<Hub>,
    device: Arc<Device>,
    generation: u64,
    token: u64,
    /// The moment before it was asked for.
    asked: Tick,
    times: u32,
    /// It is of the whole list, and has not been sent yet.
    owes_list: bool,
}

/// The snapshot was overtaken by what happened while it was read: it has to be read again.
pub struct Overtaken(Snapshot);

/// What a snapshot waits for.
struct Waiting {
    queued: oneshot::Receiver<Result<(), Overrun>>,
    /// Rooms whose events up to this `rev` have not arrived yet.
    ahead: Vec<(RoomId, u64)>,
}

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
        let (generation, asked) = hub.moment();
        Self {
            hub: hub.clone(),
            device: device.clone(),
            generation,
            token,
            asked,
            times: 1,
            owes_list: false,
        }
    }

    /// The whole list is about to be read. If this snapshot is not finished, what it would have sent is sent later.
    pub fn reads_list(&mut self) {
        self.owes_list = true;
    }

    pub fn device(&self) -> &Arc<Device> {
        &self.device
    }

    /// Queues each section after the events that it covers. Resolves when all are queued.
    pub async fn finish(mut self, sections: Vec<Section>) -> Result<(), Overtaken> {
        let outcome = match self.hub.place(&self, sections) {
            Ok(waiting) => self.wait(waiting).await,
            Err(Stale) => Err(Overrun),
        };
        if outcome.is_err() {
            return Err(Overtaken(self));
        }
        self.owes_list = false;
        Ok(())
    }

    async fn wait(&self, waiting: Waiting) -> Result<(), Overrun> {
        let Waiting { queued, ahead } = waiting;
        let lost = async {
            if ahead.is_empty() {
                return std::future::pending().await;
            }
            let fence = self.hub.beats.ask();
            self.hub.beats.passed(fence).await;
            self.hub.lost(&ahead);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            biased;
            // An error means that the device holds nothing back any more.
            told = queued => told.unwrap_or(Ok(())),
            () = lost => Ok(()),
            () = tokio::time::sleep(PATIENCE) => {
                log::debug!("a snapshot goes out before events that it covers");
                Ok(())
            }
        }
    }
}

impl Overtaken {
    /// The same snapshot, to be read again; `None` if it was read often enough. From the second time on it pauses
    /// first.
    pub async fn read_again(self) -> Option<Snapshot> {
        let mut snapshot = self.0;
        if snapshot.times > READ_AGAIN_MAX {
            log::warn!("a snapshot was overtaken {READ_AGAIN_MAX} times in a row: it is given up");
            return None;
        }
        // The first time, whatever overtook it has just happened, and will not happen again.
        tokio::time::sleep(pause_after(snapshot.times - 1)).await;
        // A reset ends all holds.
        if !snapshot.device.is_held(snapshot.token) {
            snapshot.token = snapshot.device.hold().await;
        }
        (snapshot.generation, snapshot.asked) = snapshot.hub.moment();
        snapshot.times += 1;
        Some(snapshot)
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        self.device.end_hold(self.token);
        if self.owes_list {
            self.hub.list_untold(&self.device);
        }
    }
}

struct Stale;

impl Hub {
    /// Which history of resets this is, and the current moment.
    fn moment(&self) -> (u64, Tick) {
        let mut state = self.lock();
        (state.generation, state.tick())
    }

    fn place(&self, snapshot: &Snapshot, sections: Vec<Section>) -> Result<Waiting, Stale> {
        let mut state = self.lock();
        if state.generation != snapshot.generation {
            return Err(Stale);
        }
        let mut waiting_for: HashMap<RoomId, u64> = HashMap::new();
        let mut ahead = Vec::new();
        for (room, cut) in sections.iter().flat_map(|section| section.cuts.iter()) {
            let standing = self.stand(&mut state, *room, cut, snapshot.asked);
            if matches!(standing, Standing::Ahead | Standing::SetBack) {
                // Of two sections the later may have been read first.
                let wanted = waiting_for.entry(*room).or_default();
                *wanted = (*wanted).max(cut.rev);
            }
            match standing {
                Standing::Covered => {}
                Standing::Stale => return Err(Stale),
                Standing::Ahead => ahead.push((*room, cut.rev)),
                Standing::SetBack => {}
            }
        }
        // Under the hub's lock: no event may get in between.
        let queued = snapshot
            .device
            .complete(snapshot.token, sections, waiting_for);
        Ok(Waiting { queued, ahead })
    }

    fn stand(&self, state: &mut State, room: RoomId, cut: &Position, asked: Tick) -> Standing {
        self.begin(state, room, cut, asked);
        let Some(followed) = state.rooms.get_mut(&room) else {
            return Standing::Covered;
        };
        let standing = followed.feed.compare(cut, asked);
        if standing == Standing::SetBack {
            self.order_repair(room, Reason::SetBack);
        }
        standing
    }

    /// The first snapshot of a room: what arrived while it was read continues from there.
    fn begin(&self, state: &mut State, room: RoomId, cut: &Position, asked: Tick) {
        let now = state.tick();
        let Some(followed) = state.rooms.get_mut(&room) else {
            return;
        };
        let Some(begun) = followed.feed.begin_at(cut, now) else {
            return;
        };
        if followed.feed.was_heard_since(asked) {
            self.doubts.add(room);
        }
        self.decide_on(state, room, begun.early, begun.overflowed);
    }

    /// Everything published up to these `rev`s has arrived, or never will.
    fn lost(&self, ahead: &[(RoomId, u64)]) {
        let mut state = self.lock();
        for (room, rev) in ahead {
            let is_behind = |at: &Position| at.rev < *rev;
            let live = state.rooms.get(room);
            if live.is_some_and(|followed| followed.feed.live_at().is_some_and(is_behind)) {
                self.metrics.gap_shown_by_comparison();
                self.break_off(&mut state, *room, Reason::Lost);
            }
        }
    }
}
