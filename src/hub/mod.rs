//! Who is connected to this server, and who gets what: rooms and users → devices. No Redis, no I/O.

mod beats;
mod delivery;
pub mod device;
pub mod due;
mod histories;
pub mod hold;
pub mod interest;
pub mod lane;
mod lists;
#[cfg(test)]
mod property;
pub mod published;
pub mod refresh;
pub mod repair;
pub mod snapshot;
#[cfg(test)]
mod tests;
pub mod work;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use uuid::Uuid;

use self::beats::Beats;
use self::device::{Close, Device, Preferences};
use self::due::Due;
use self::interest::Interest;
use self::lane::QueueLimits;
use self::published::RoomEvent;
use self::refresh::RefreshQueue;
use self::work::Work;
use crate::metrics::HubMetrics;
use crate::protocol::content::ContentShape;
use crate::protocol::frame::Frame;
use crate::protocol::ids::{DeviceId, RoomId, UserId};
use crate::room::{Feed, Tick, Topic};

/// The devices of this server and the rooms that they follow.
pub struct Hub {
    state: Mutex<State>,
    queue_limits: QueueLimits,
    pub interest: Arc<Interest>,
    /// Rooms with something missing.
    pub repairs: Work<RoomId>,
    /// Rooms where something may be missing: to be compared with the store.
    pub doubts: Work<RoomId>,
    /// Users whose rooms are to be compared with the store's.
    pub recounts: Work<UserId>,
    /// Entries that delta devices are to get again.
    pub new_entries: Work<(UserId, RoomId)>,
    /// Names this server on its own channel.
    pub server: Uuid,
    /// Tells late events from lost ones.
    pub beats: Beats,
    /// Devices to be written to.
    pub due: Arc<Due>,
    refresh_changed: Notify,
    histories_changed: Notify,
    metrics: HubMetrics,
}

struct State {
    users: HashMap<UserId, User>,
    rooms: HashMap<RoomId, Followed>,
    /// Counts what happens, so that each event has a moment of its own.
    now: Tick,
    viewers: HashMap<RoomId, HashMap<DeviceId, UserId>>,
    refresh: RefreshQueue<UserId>,
    /// Rooms whose latest messages are to be sent again to those who view them; `None` where that is off.
    histories: Option<RefreshQueue<RoomId>>,
    /// Counts resets: what was read before one must not be shown after it.
    generation: u64,
    /// No new devices are taken.
    closing: bool,
}

/// A room that this server follows.
#[derive(Default)]
struct Followed {
    feed: Feed<RoomEvent>,
    devices: HashMap<DeviceId, Arc<Device>>,
}

#[derive(Default)]
struct User {
    devices: Vec<Arc<Device>>,
    rooms: HashSet<RoomId>,
    /// The user's channel was heard before: when it is heard again, rooms may have been gained meanwhile.
    was_heard: bool,
}

/// Why a device cannot be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    User,
    Closing,
}

/// The time by tokio's clock, which a test can pause and advance.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl State {
    /// The next moment.
    fn tick(&mut self) -> Tick {
        self.now.0 += 1;
        self.now
    }
}

impl Hub {
    pub fn new(queue_limits: QueueLimits, refresh_interval: Duration) -> Self {
        let interest = Arc::new(Interest::default());
        interest.want(Topic::Control);
        let server = Uuid::new_v4();
        interest.want(Topic::Server(server));
        Self {
            state: Mutex::new(State {
                users: HashMap::new(),
                rooms: HashMap::new(),
                now: Tick::default(),
                viewers: HashMap::new(),
                refresh: RefreshQueue::new(refresh_interval),
                histories: None,
                generation: 0,
                closing: false,
            }),
            queue_limits,
            interest,
            repairs: Work::default(),
            doubts: Work::default(),
            recounts: Work::default(),
            new_entries: Work::default(),
            server,
            beats: Beats::default(),
            due: Arc::default(),
            refresh_changed: Notify::new(),
            histories_changed: Notify::new(),
            metrics: HubMetrics::default(),
        }
    }

    /// Counts the hub's work in these metrics.
    pub fn counting(mut self, metrics: HubMetrics) -> Self {
        self.metrics = metrics;
        self
    }

    /// Has the latest messages of a room sent again to classic devices that view it, whenever a message is sent there.
    pub fn pushing_histories(self, is_on: bool) -> Self {
        self.lock().histories = is_on.then(|| RefreshQueue::new(histories::INTERVAL));
        self
    }

    /// The number of users with a device here, and the number of rooms followed.
    pub fn size(&self) -> (usize, usize) {
        let state = self.lock();
        (state.users.len(), state.rooms.len())
    }

    /// Takes a user's connection, to which `hello` is sent first. It holds its events back until its first snapshot is
    /// complete.
    pub fn register(
        &self,
        user: UserId,
        preferences: impl Into<Preferences>,
        hello: Frame,
        max_per_user: usize,
    ) -> Result<Arc<Device>, Full> {
        let mut state = self.lock();
        if state.closing {
            return Err(Full::Closing);
        }
        let known = state.users.get(&user);
        if known.is_some_and(|known| known.devices.len() >= max_per_user) {
            return Err(Full::User);
        }
        let topic = Topic::User(user.clone());
        // This is also so while the channel of a device that has just left is still being unsubscribed.
        let was_heard = known.map_or_else(|| self.interest.hears(&topic), |known| known.was_heard);
        if known.is_none() {
            self.interest.want(topic);
        }
        let device = Device::connecting(
            user.clone(),
            preferences,
            self.queue_limits,
            self.due.clone(),
        );
        device.answer(hello);
        let device = Arc::new(device);
        let state = &mut *state;
        let known = state.users.entry(user).or_default();
        known.was_heard = was_heard;
        known.devices.push(device.clone());
        for room in &known.rooms {
            if let Some(followed) = state.rooms.get_mut(room) {
                followed.devices.insert(device.id, device.clone());
            }
        }
        Ok(device)
    }

    /// The connection has closed.
    pub fn unregister(&self, device: &Device) {
        let mut state = self.lock();
        let state = &mut *state;
        let Some(user) = state.users.get_mut(&device.user) else {
            return;
        };
        user.devices.retain(|other| other.id != device.id);
        let last = user.devices.is_empty();
        for room in &user.rooms {
            let Some(followed) = state.rooms.get_mut(room) else {
                continue;
            };
            followed.devices.remove(&device.id);
            if followed.devices.is_empty() {
                state.rooms.remove(room);
                self.interest.unwant(Topic::Room(*room));
            }
        }
        if last {
            state.users.remove(&device.user);
            self.interest.unwant(Topic::User(device.user.clone()));
        }
    }

    /// The rooms of a user that this server follows.
    pub fn rooms_of(&self, user: &UserId) -> Vec<RoomId> {
        self.lock()
            .users
            .get(user)
            .map(|user| user.rooms.iter().copied().collect())
            .unwrap_or_default()
    }

    /// Whether this server follows the room for the user.
    pub fn follows(&self, user: &UserId, room: RoomId) -> bool {
        let state = self.lock();
        state
            .users
            .get(user)
            .is_some_and(|user| user.rooms.contains(&room))
    }

    /// The user's devices follow these rooms too. Rooms that are new for the user are announced to all devices but the
    /// `readers`, which are reading them.
    pub fn follow(&self, user: &UserId, rooms: &[RoomId], readers: &[DeviceId]) {
        let mut state = self.lock();
        for room in rooms {
            if self.follow_one(&mut state, user, *room) {
                self.tell_unread(&mut state, user, *room, readers);
            }
        }
    }

    /// These rooms of the user do not exist, or are not the user's: they are no longer followed, unless something was
    /// heard of them since.
    pub fn unfollow(&self, user: &UserId, rooms: &[RoomId]) {
        let mut state = self.lock();
        let State {
            users, rooms: all, ..
        } = &mut *state;
        let Some(user) = users.get_mut(user) else {
            return;
        };
        for room in rooms {
            let Some(followed) = all.get_mut(room) else {
                continue;
            };
            if followed.feed.position().is_some() || !user.rooms.remove(room) {
                continue;
            }
            for device in &user.devices {
                followed.devices.remove(&device.id);
                device.room_gone(*room);
            }
            if followed.devices.is_empty() {
                all.remove(room);
                self.interest.unwant(Topic::Room(*room));
            }
        }
    }

    /// The user is no longer in the room: their devices get nothing of it from now on, and those with whole lists get a
    /// new list.
    pub fn room_left(&self, user: &UserId, room: RoomId) {
        let mut state = self.lock();
        let State { users, rooms, .. } = &mut *state;
        let Some(user) = users
            .get_mut(user)
            .filter(|user| user.rooms.contains(&room))
        else {
            return;
        };
        user.rooms.remove(&room);
        let devices = user.devices.to_vec();
        if let Some(followed) = rooms.get_mut(&room) {
            for device in &devices {
                followed.devices.remove(&device.id);
                device.room_gone(room);
            }
            if followed.devices.is_empty() {
                rooms.remove(&room);
                self.interest.unwant(Topic::Room(room));
            }
        }
        for device in &devices {
            self.list_changed(&mut state, device);
        }
    }

    /// False if the user follows the room already, or has no device here.
    fn follow_one(&self, state: &mut State, user: &UserId, room: RoomId) -> bool {
        let Some(known) = state.users.get_mut(user) else {
            return false;
        };
        if !known.rooms.insert(room) {
            return false;
        }
        let followed = state.rooms.entry(room).or_insert_with(|| {
            self.interest.want(Topic::Room(room));
            Followed::default()
        });
        let devices = known.devices.iter();
        followed
            .devices
            .extend(devices.map(|device| (device.id, device.clone())));
        true
    }

    /// All chats are gone: every device gets an empty chat list.
    pub fn reset(&self) {
        let mut state = self.lock();
        state.generation += 1;
        for room in std::mem::take(&mut state.rooms).into_keys() {
            self.interest.unwant(Topic::Room(room));
        }
        state.viewers.clear();
        let frame = Frame::chat_list(&[], ContentShape::String);
        for user in state.users.values_mut() {
            user.rooms.clear();
            for device in &user.devices {
                device.end_any_hold();
                device.push(frame.clone());
            }
        }
    }

    /// The device views this room from now on, or none.
    pub fn set_viewing(&self, device: &Device, from: Option<RoomId>, to: Option<RoomId>) {
        let mut state = self.lock();
        if let Some(room) = from
            && let Some(viewers) = state.viewers.get_mut(&room)
        {
            viewers.remove(&device.id);
            if viewers.is_empty() {
                state.viewers.remove(&room);
            }
        }
        if let Some(room) = to {
            state
                .viewers
                .entry(room)
                .or_default()
                .insert(device.id, device.user.clone());
        }
    }

    /// The rooms that devices of this server view, and which devices.
    pub fn viewers(&self) -> Vec<(RoomId, Vec<(DeviceId, UserId)>)> {
        let list = |viewers: &HashMap<DeviceId, UserId>| {
            viewers
                .iter()
                .map(|(id, user)| (*id, user.clone()))
                .collect()
        };
        self.lock()
            .viewers
            .iter()
            .map(|(room, viewers)| (*room, list(viewers)))
            .collect()
    }

    /// Closes all connections and takes no new ones.
    pub fn close_all(&self) {
        let mut state = self.lock();
        state.closing = true;
        for device in state.users.values().flat_map(|user| &user.devices) {
            device.close(Close::ShuttingDown);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code of ours panics while it holds the lock; if some ever does, it is better to go on serving than to
        // serve nobody.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
