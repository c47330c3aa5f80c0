//! One connection of a user: who writes to it, who is woken when something waits for it, and why it is closed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use tokio::sync::{Notify, oneshot};

use super::due::{Due, Outlet, Priority};
use super::hold::{Overrun, Section};
use super::lane::{Completed, Kind, Lane, QueueLimits, Taken};
use crate::error::ChatError;
use crate::protocol::content::ContentShape;
use crate::protocol::event::ClassicError;
use crate::protocol::frame::{Frame, RequestId};
use crate::protocol::ids::{DeviceId, RoomId, UserId};

/// How a device learns that its chat list changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListMode {
    /// The whole list is sent again.
    Full,
    /// New entries only; the device keeps count itself.
    Delta,
}

/// How a device wants to be notified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preferences {
    pub list_mode: ListMode,
    pub content: ContentShape,
    /// The client may be one of the replaced server's, and is served in that server's way.
    pub is_classic: bool,
}

/// The preferences of a native device that specifies nothing else.
impl From<ListMode> for Preferences {
    fn from(list_mode: ListMode) -> Self {
        Self {
            list_mode,
            content: ContentShape::String,
            is_classic: false,
        }
    }
}

/// Why the server ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    TooSlow,
    TokenExpired,
    TooManyBadRequests,
    ShuttingDown,
    StoreUnavailable,
}

impl Close {
    /// The WebSocket close code.
    pub fn code(self) -> u16 {
        match self {
            Self::TooSlow => 4408,
            Self::TokenExpired => 4401,
            Self::TooManyBadRequests => 1008,
            Self::ShuttingDown => 1001,
            Self::StoreUnavailable => 1013,
        }
    }

    pub fn reason(self) -> &'static str {
        match self {
            Self::TooSlow => "too slow to read its queue",
            Self::TokenExpired => "token expired",
            Self::TooManyBadRequests => "too many bad requests",
            Self::ShuttingDown => "server shutting down",
            Self::StoreUnavailable => "chat store unavailable, try again later",
        }
    }
}

/// A connection, as the hub sees it.
pub struct Device {
    pub id: DeviceId,
    pub user: UserId,
    pub mode: ListMode,
    /// The shape in which it wants the contents of messages.
    pub shape: ContentShape,
    /// It is served in the replaced server's way.
    pub is_classic: bool,
    lane: Mutex<Lane>,
    /// What writes to it. `None` for a device whose task does the writing itself.
    outlet: OnceLock<Weak<dyn Outlet>>,
    /// Where it registers when something waits for the outlet.
    due: Arc<Due>,
    /// It is registered there with this priority.
    is_due: PerPriority,
    /// Its task is answering a request, and will write afterwards.
    answering: AtomicBool,
    /// Wakes the device's task: there is something to write, or the device is to be closed.
    woken: Notify,
    /// The queue has overflowed. Separate from `woken`: one waiter would otherwise consume the other's wake-up.
    overflowed: Notify,
    /// A hold has ended.
    freed: Notify,
    /// The next request may be read. Only notified while the device's task waits for it.
    may_ask: Notify,
    /// One of the user's rooms has changed since the last whole list was begun.
    list_due: AtomicBool,
    /// A snapshot waits for events. Set and read under the hub's lock only, so that no event is missed.
    awaits_events: AtomicBool,
}

#[derive(Default)]
struct PerPriority {
    high: AtomicBool,
    low: AtomicBool,
}

impl PerPriority {
    fn of(&self, priority: Priority) -> &AtomicBool {
        match priority {
            Priority::High => &self.high,
            Priority::Low => &self.low,
        }
    }
}

/// An event of a room, for the devices in it.
pub struct RoomFrame<'a> {
    pub room: RoomId,
    pub rev: u64,
    pub message_seq: Option<u64>,
    pub frame: &'a Frame,
    pub priority: Priority,
}

impl Device {
    /// A device that holds its events back until its first list is complete.
    pub fn connecting(
        user: UserId,
        preferences: impl Into<Preferences>,
        limits: QueueLimits,
        due: Arc<Due>,
    ) -> Self {
        let Preferences {
            list_mode,
            content,
            is_classic,
        } = preferences.into();
        Self {
            id: DeviceId::random(),
            user,
            mode: list_mode,
            shape: content,
            is_classic,
            lane: Mutex::new(Lane::holding(limits)),
            outlet: OnceLock::new(),
            due,
            is_due: PerPriority::default(),
            answering: AtomicBool::new(false),
            woken: Notify::new(),
            overflowed: Notify::new(),
            freed: Notify::new(),
            may_ask: Notify::new(),
            list_due: AtomicBool::new(false),
            awaits_events: AtomicBool::new(false),
        }
    }

    /// An error in the form that this device understands: the answer to a request, or an event.
    pub fn error_frame(&self, id: Option<&RequestId>, error: &ChatError) -> Frame {
        match self.is_classic {
            true => Frame::error(id, &ClassicError::new(error)),
            false => Frame::error(id, error),
        }
    }

    /// Queues an answer that belongs to no room's order.
    pub fn answer(&self, frame: Frame) {
        self.send(frame, Kind::Answer);
    }

    /// Queues something that the device did not ask for and that belongs to no room's order.
    pub fn push(&self, frame: Frame) {
        self.send(frame, Kind::Push);
    }

    fn send(&self, frame: Frame, kind: Kind) {
        let mut lane = self.lock();
        lane.push(frame, kind);
        self.wake(&lane, Priority::High);
    }

    /// The room's entry is about to be read for this device: until the entry has arrived, no event of the room is sent.
    pub(super) fn await_entry(&self, room: RoomId) {
        self.lock().await_entry(room);
    }

    /// Queues an event of a room, or holds it back.
    pub fn send_room_event(&self, event: &RoomFrame) {
        let mut lane = self.lock();
        lane.push_room_event(event);
        self.wake(&lane, event.priority);
    }

    /// Everything in the room up to `rev` has been queued or held: a snapshot that waited for it may be complete.
    pub fn room_advanced(&self, room: RoomId, rev: u64) {
        // Checked for each device of a room at each event, and hardly ever true.
        if !self.awaits_events.load(Ordering::Relaxed) {
            return;
        }
        let mut lane = self.lock();
        if lane.room_advanced(room, rev) {
            self.hold_ended(&lane);
        }
    }

    /// The room was repaired up to `rev`: a snapshot that waits for more is read again.
    pub(super) fn room_settled(&self, room: RoomId, rev: u64) {
        self.lock().room_settled(room, rev);
    }

    /// The room's history is a different one from here on; the frame `told` says so.
    pub(super) fn room_reset(&self, room: RoomId, told: Frame) {
        let mut lane = self.lock();
        lane.room_reset(room, told);
        self.wake(&lane, Priority::High);
    }

    /// The room no longer exists.
    pub(super) fn room_gone(&self, room: RoomId) {
        let mut lane = self.lock();
        if lane.room_gone(room) {
            self.hold_ended(&lane);
        }
    }

    /// The room's entry is to be read again for this device, which already knows the room.
    pub fn renew_entry(&self, room: RoomId) {
        self.lock().renew_entry(room);
    }

    /// The rooms that the device has not been sent yet.
    pub(super) fn unknown_rooms(&self) -> Vec<RoomId> {
        self.lock().unknown_rooms()
    }

    /// Whether the room's entry is to be read for this device.
    pub fn wants_entry(&self, room: RoomId) -> bool {
        self.lock().wants_entry(room)
    }

    /// The room's entry is about to be read for this device: only what arrives from now on makes it outdated again.
    pub fn entry_asked(&self, room: RoomId) {
        self.lock().entry_asked(room);
    }

    /// The device's user has no entry for the room.
    pub fn forget_entry(&self, room: RoomId) {
        self.lock().forget_entry(room);
    }

    /// Ends the connection; what is queued is still written, unless the device is too slow to take it.
    pub fn close(&self, close: Close) {
        let mut lane = self.lock();
        lane.close(close);
        self.wake(&lane, Priority::High);
    }

    /// Why the connection is to be closed, if it is.
    pub fn closing(&self) -> Option<Close> {
        self.lock().close_reason()
    }

    /// From now on `outlet` writes what is queued.
    pub fn opens(&self, outlet: Weak<dyn Outlet>) {
        // Set once: a device has one connection.
        let _ = self.outlet.set(outlet);
    }

    /// While a request is being answered the device's task writes, so that an event and the answer after it are one
    /// write.
    pub fn set_answering(&self, answering: bool) {
        self.answering.store(answering, Ordering::Relaxed);
    }

    pub fn is_answering(&self) -> bool {
        self.answering.load(Ordering::Relaxed)
    }

    /// Hands out what is queued, in order and one part at a time: call it again until nothing is left.
    ///
    /// What was handed out before counts as written, so the caller must have written it. For a single consumer.
    pub fn take(&self, frame: impl FnMut(Frame)) -> Taken {
        let mut lane = self.lock();
        let could_ask = lane.may_ask();
        let taken = lane.take(frame);
        if !could_ask && lane.may_ask() {
            self.may_ask.notify_one();
        }
        taken
    }

    /// Resolves when enough of the device's answers has been written for its next request to be read.
    ///
    /// For the device's task only.
    pub async fn may_ask(&self) {
        while !self.lock().may_ask() {
            self.may_ask.notified().await;
        }
    }

    /// Removes the device from those that are due. To be called before the queue is read: anything that arrives later
    /// makes it due again.
    pub fn leave_due(&self, priority: Priority) {
        self.is_due.of(priority).store(false, Ordering::Release);
    }

    /// There is something that only the device's task can do.
    pub fn wake_task(&self) {
        self.woken.notify_one();
    }

    /// Resolves when there may be something to take. For a single consumer.
    pub async fn woken(&self) {
        self.woken.notified().await;
    }

    /// Resolves when the queue has overflowed.
    pub async fn overflowed(&self) {
        while self.lock().close_reason() != Some(Close::TooSlow) {
            self.overflowed.notified().await;
        }
    }

    /// Begins to hold room events back; waits while another snapshot does.
    ///
    /// Returns the token that ends the hold.
    pub(super) async fn hold(&self) -> u64 {
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if let Some(token) = self.try_hold() {
                return token;
            }
            freed.await;
        }
    }

    /// Begins to hold room events back unless another snapshot does.
    pub(super) fn try_hold(&self) -> Option<u64> {
        self.lock().try_hold()
    }

    /// Whether the hold with this token is still in place.
    pub(super) fn is_held(&self, token: u64) -> bool {
        self.lock().is_held(token)
    }

    /// The snapshot has been read. Queues it now, or once the events that it still waits for have arrived.
    pub(super) fn complete(
        &self,
        token: u64,
        sections: Vec<Section>,
        waiting_for: HashMap<RoomId, u64>,
    ) -> oneshot::Receiver<Result<(), Overrun>> {
        let (done, receiver) = oneshot::channel();
        let mut lane = self.lock();
        match lane.complete(token, sections, waiting_for, done) {
            Completed::Queued => self.hold_ended(&lane),
            Completed::Waits => self.awaits_events.store(true, Ordering::Relaxed),
            Completed::Ended | Completed::Overrun => {}
        }
        receiver
    }

    /// Ends this hold if it is still in place; a snapshot that still waits is sent as it is.
    pub(super) fn end_hold(&self, token: u64) {
        let mut lane = self.lock();
        if lane.end_hold(token) {
            self.hold_ended(&lane);
        }
    }

    /// Ends any hold: what it waits for will not arrive.
    pub(super) fn end_any_hold(&self) {
        let mut lane = self.lock();
        if lane.end_any_hold() {
            self.hold_ended(&lane);
        }
    }

    fn hold_ended(&self, lane: &Lane) {
        self.awaits_events.store(false, Ordering::Relaxed);
        self.freed.notify_waiters();
        self.wake(lane, Priority::High);
    }

    fn wake(&self, lane: &Lane, priority: Priority) {
        match self.outlet.get() {
            Some(outlet) if lane.close_reason().is_none() && !self.is_answering() => {
                if !self.is_due.of(priority).swap(true, Ordering::AcqRel) {
                    self.due.add(outlet.clone(), priority);
                }
            }
            _ => self.woken.notify_one(),
        }
        if lane.close_reason() == Some(Close::TooSlow) {
            self.overflowed.notify_one();
        }
    }

    /// Marks a whole list as due. True if none was due before.
    pub(super) fn set_list_due(&self) -> bool {
        !self.list_due.swap(true, Ordering::Relaxed)
    }

    /// A whole list is about to be read.
    pub fn clear_list_due(&self) {
        self.list_due.store(false, Ordering::Relaxed);
    }

    pub fn is_list_due(&self) -> bool {
        self.list_due.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Lane> {
        // No code under this lock panics halfway through a change.
        self.lane.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
