//! Who is connected to this server, and who gets what: rooms and users → devices. No Redis, no I/O.

pub mod device;
pub mod feed;
pub mod interest;
pub mod published;
pub mod refresh;
pub mod snapshot;
pub mod work_set;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use self::device::{Close, Device, ListMode, QueueLimits, RoomFrame};
use self::feed::{Feed, Verdict};
use self::interest::Interest;
use self::published::{Change, RoomEvent, RoomGained};
use self::refresh::{Next, RefreshQueue};
use self::work_set::WorkSet;
use crate::error::ChatError;
use crate::protocol::event::{ChatEntry, Message, MessageRead};
use crate::protocol::frame::Frame;
use crate::protocol::ids::{DeviceId, MessageId, RoomId, UserId};
use crate::store::calls::Missed;
use crate::store::keys::Topic;
use crate::store::reply::{Marks, Page, Position};

/// The devices of this server and the rooms that they follow.
pub struct Hub {
    state: Mutex<State>,
    queue_limits: QueueLimits,
    pub interest: Arc<Interest>,
    /// Rooms of which something is missing.
    pub repairs: WorkSet<RoomId>,
    /// Users whose rooms are to be compared with the store's.
    pub recounts: WorkSet<UserId>,
    /// Entries that delta devices are to take anew.
    pub new_entries: WorkSet<(UserId, RoomId)>,
    refresh_changed: Notify,
}

struct State {
    users: HashMap<UserId, User>,
    rooms: HashMap<RoomId, Feed>,
    viewers: HashMap<RoomId, HashMap<DeviceId, UserId>>,
    refresh: RefreshQueue,
    /// Counts resets: what was read before one must not be shown after it.
    generation: u64,
    /// No new devices.
    closing: bool,
}

#[derive(Default)]
struct User {
    devices: Vec<Arc<Device>>,
    rooms: HashSet<RoomId>,
}

/// Why a device cannot be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    Server,
    User,
    Closing,
}

impl Hub {
    pub fn new(queue_limits: QueueLimits, refresh_interval: Duration) -> Self {
        let interest = Arc::new(Interest::default());
        interest.want(Topic::Control);
        Self {
            state: Mutex::new(State {
                users: HashMap::new(),
                rooms: HashMap::new(),
                viewers: HashMap::new(),
                refresh: RefreshQueue::new(refresh_interval),
                generation: 0,
                closing: false,
            }),
            queue_limits,
            interest,
            repairs: WorkSet::default(),
            recounts: WorkSet::default(),
            new_entries: WorkSet::default(),
            refresh_changed: Notify::new(),
        }
    }

    /// Takes a connection of a user. It holds its events back until its first snapshot is complete.
    pub fn register(
        &self,
        user: UserId,
        mode: ListMode,
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
        if known.is_none() {
            self.interest.want(Topic::User(user.clone()));
        }
        let device = Arc::new(Device::connecting(user.clone(), mode, self.queue_limits));
        let state = &mut *state;
        let known = state.users.entry(user).or_default();
        known.devices.push(device.clone());
        for room in &known.rooms {
            if let Some(feed) = state.rooms.get_mut(room) {
                feed.devices.insert(device.id, device.clone());
            }
        }
        Ok(device)
    }

    /// The connection is gone.
    pub fn unregister(&self, device: &Device) {
        let mut state = self.lock();
        let state = &mut *state;
        let Some(user) = state.users.get_mut(&device.user) else {
            return;
        };
        user.devices.retain(|other| other.id != device.id);
        let last = user.devices.is_empty();
        for room in &user.rooms {
            let Some(feed) = state.rooms.get_mut(room) else {
                continue;
            };
            feed.devices.remove(&device.id);
            if feed.devices.is_empty() {
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

    /// The user's devices follow these rooms too. Gives back those that are new for the user.
    pub fn follow(&self, user: &UserId, rooms: &[RoomId]) -> Vec<RoomId> {
        let mut state = self.lock();
        rooms
            .iter()
            .copied()
            .filter(|room| self.follow_one(&mut state, user, *room))
            .collect()
    }

    fn follow_one(&self, state: &mut State, user: &UserId, room: RoomId) -> bool {
        let Some(known) = state.users.get_mut(user) else {
            return false;
        };
        if !known.rooms.insert(room) {
            return false;
        }
        let feed = state.rooms.entry(room).or_insert_with(|| {
            self.interest.want(Topic::Room(room));
            Feed::default()
        });
        feed.devices.extend(
            known
                .devices
                .iter()
                .map(|device| (device.id, device.clone())),
        );
        true
    }

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

    fn tell_entry(
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
                    });
                }
                (ListMode::Delta, None) => self.new_entries.add((user.clone(), gained.room)),
            }
        }
    }

    /// Something was published on a room's channel.
    pub fn room_event(&self, room: RoomId, event: RoomEvent) {
        self.deliver(&mut self.lock(), room, event);
    }

    fn deliver(&self, state: &mut State, room: RoomId, event: RoomEvent) {
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

    fn deliver_message(&self, state: &mut State, room: RoomId, rev: u64, message: &Message) {
        let Some(feed) = state.rooms.get(&room) else {
            return;
        };
        let frame = Frame::event("newMessage", message);
        let event = RoomFrame {
            room,
            rev,
            message_seq: Some(message.seq),
            frame: &frame,
        };
        let mut due = false;
        for device in feed.devices.values() {
            device.send_room_event(&event);
            if device.mode == ListMode::Full && device.set_list_due() {
                state.refresh.changed(&device.user);
                due = true;
            }
        }
        if due {
            self.refresh_changed.notify_one();
        }
    }

    fn deliver_read(
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
        let frame = Frame::event("messageRead", read);
        let event = RoomFrame {
            room,
            rev,
            message_seq: None,
            frame: &frame,
        };
        let own = state
            .users
            .get(&read.user_id)
            .map(|user| user.devices.clone())
            .unwrap_or_default();
        if to_members {
            feed.devices
                .values()
                .for_each(|device| device.send_room_event(&event));
        } else {
            own.iter().for_each(|device| device.send_room_event(&event));
        }
        own.iter()
            .for_each(|device| self.list_changed(state, device));
    }

    /// Snapshots that waited for this may be complete.
    fn advanced(state: &State, room: RoomId, rev: u64) {
        if let Some(feed) = state.rooms.get(&room) {
            feed.devices
                .values()
                .for_each(|device| device.room_advanced(room, rev));
        }
    }

    fn list_changed(&self, state: &mut State, device: &Device) {
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
            Topic::Control => {}
        }
    }

    /// From where the room has to be repaired, if it has to be.
    pub fn repair_from(&self, room: RoomId) -> Option<Position> {
        self.lock().rooms.get(&room)?.repair_from().cloned()
    }

    /// What was fetched after a gap. True if there is more to fetch.
    pub fn repair(&self, room: RoomId, missed: Missed) -> bool {
        let mut state = self.lock();
        match missed {
            Missed::Gone => self.forget(&mut state, room),
            Missed::Reset(head) => {
                self.tell_reset(&mut state, room);
                self.end_repair(&mut state, room, head);
            }
            Missed::Page(page) => return self.repair_page(&mut state, room, page),
        }
        false
    }

    fn repair_page(&self, state: &mut State, room: RoomId, page: Page) -> bool {
        let Some(from) = state.rooms.get(&room).and_then(Feed::repair_from).cloned() else {
            return false;
        };
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
                ..from
            };
            if let Some(feed) = state.rooms.get_mut(&room) {
                feed.repaired_up_to(reached);
            }
            return true;
        }
        if page.position.rev > from.rev {
            self.deliver_marks(state, room, page.position.rev, from.seq, &page.marks);
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
        let Some(feed) = state.rooms.get(&room) else {
            return;
        };
        let frame = Frame::error(None, &ChatError::history_reset().in_room(room));
        for device in feed.devices.values().cloned().collect::<Vec<_>>() {
            device.send(frame.clone());
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
        }
    }

    /// All chats are gone: every device gets an empty chat list.
    pub fn reset(&self) {
        let mut state = self.lock();
        state.generation += 1;
        for room in std::mem::take(&mut state.rooms).into_keys() {
            self.interest.unwant(Topic::Room(room));
        }
        state.viewers.clear();
        let empty: [ChatEntry; 0] = [];
        let frame = Frame::event("chatList", &empty);
        for user in state.users.values_mut() {
            user.rooms.clear();
            for device in &user.devices {
                device.end_any_hold();
                device.send(frame.clone());
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

    /// Ends all connections and takes no new ones.
    pub fn close_all(&self) {
        let mut state = self.lock();
        state.closing = true;
        for device in state.users.values().flat_map(|user| &user.devices) {
            device.close(Close::ShuttingDown);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code of ours panics while it holds the lock; if some ever does, serving on beats serving nobody.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
