//! One connection of a user: what waits to be written to it, in which order, and how much of it may wait.
//!
//! A snapshot (a chat list, a page of history) takes a round trip to read, while events go on. From the moment it is
//! asked for until it is complete the device holds its room events back; then each is put before or after the
//! snapshot, by whether the snapshot has it already. So a snapshot never hides a later event nor repeats an earlier one.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use tokio::sync::{Notify, oneshot};

use super::due::{Due, Outlet, Priority};
use crate::protocol::frame::Frame;
use crate::protocol::ids::{DeviceId, RoomId, UserId};
use crate::room::Position;

/// How a device learns that its chat list changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListMode {
    /// The whole list again.
    Full,
    /// New entries only; the device keeps count itself.
    Delta,
}

/// How much may wait for a device.
#[derive(Debug, Clone, Copy)]
pub struct QueueLimits {
    pub max_frames: usize,
    pub max_bytes: usize,
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

/// The rooms' positions at which a snapshot was read.
pub type Cuts = HashMap<RoomId, Position>;

/// Frames that go out after the events up to their cuts and before all later ones.
pub struct Section {
    pub cuts: Arc<Cuts>,
    pub frames: Vec<Frame>,
}

/// A connection, as the hub sees it.
pub struct Device {
    pub id: DeviceId,
    pub user: UserId,
    pub mode: ListMode,
    limits: QueueLimits,
    lane: Mutex<Lane>,
    /// Who writes for it. None for a device whose task writes itself.
    outlet: OnceLock<Weak<dyn Outlet>>,
    /// Where it says that something waits for the outlet.
    due: Arc<Due>,
    /// It stands there with this priority.
    is_due: PerPriority,
    /// Its task answers a request, and will write then.
    answering: AtomicBool,
    /// Something waits for the device's task: to be written, or the device is to be closed.
    woken: Notify,
    /// The queue has overflowed. Not told by `woken`: who waits for one would take the other's word.
    overflowed: Notify,
    /// A hold ended.
    freed: Notify,
    /// A room of the user's changed since the last whole list was begun.
    list_due: AtomicBool,
    /// A snapshot waits for events. Begins and is asked for under the hub's lock only, so that no event is missed.
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

#[derive(Default)]
struct Lane {
    queue: VecDeque<Frame>,
    /// Bytes in `queue` and in the hold.
    bytes: usize,
    hold: Option<Hold>,
    holds_begun: u64,
    /// Rooms that the device was not told of yet: their entries are still to be read.
    unknown: HashSet<RoomId>,
    close: Option<Close>,
}

#[derive(Default)]
struct Hold {
    /// Which hold this is: only who began it may end it.
    token: u64,
    /// The device has nothing yet: what its first list covers is not sent besides.
    first: bool,
    events: VecDeque<HeldEvent>,
    /// Bytes in `events`.
    bytes: usize,
    pending: Option<Pending>,
}

struct HeldEvent {
    room: RoomId,
    rev: u64,
    /// Of a message: its number. Messages that were fetched after a gap have no `rev` of their own.
    message_seq: Option<u64>,
    frame: Frame,
}

/// A snapshot that was read and waits for events that it covers but that have not arrived yet.
struct Pending {
    sections: Vec<Section>,
    waiting_for: HashMap<RoomId, u64>,
    done: oneshot::Sender<()>,
}

/// An event of a room, for the devices in it.
pub struct RoomFrame<'a> {
    pub room: RoomId,
    pub rev: u64,
    pub message_seq: Option<u64>,
    pub frame: &'a Frame,
    pub priority: Priority,
}

/// A queue keeps room for so many frames while it is empty.
const KEPT_FRAMES: usize = 4;

/// The token of the hold that a device is made with.
pub(super) const FIRST_HOLD: u64 = 1;

impl Device {
    /// A device that holds its events back until its first list is complete.
    pub fn connecting(user: UserId, mode: ListMode, limits: QueueLimits, due: Arc<Due>) -> Self {
        let hold = Hold {
            token: FIRST_HOLD,
            first: true,
            ..Hold::default()
        };
        Self {
            id: DeviceId::random(),
            user,
            mode,
            limits,
            lane: Mutex::new(Lane {
                hold: Some(hold),
                holds_begun: FIRST_HOLD,
                ..Lane::default()
            }),
            outlet: OnceLock::new(),
            due,
            is_due: PerPriority::default(),
            answering: AtomicBool::new(false),
            woken: Notify::new(),
            overflowed: Notify::new(),
            freed: Notify::new(),
            list_due: AtomicBool::new(false),
            awaits_events: AtomicBool::new(false),
        }
    }

    /// Queues a frame that belongs to no room's order.
    pub fn send(&self, frame: Frame) {
        let mut lane = self.lock();
        lane.push(frame, self.limits);
        self.wake(&lane, Priority::High);
    }

    /// The room's entry is about to be read for this device: until it is there, no event of the room is sent.
    pub(super) fn await_entry(&self, room: RoomId) {
        self.lock().unknown.insert(room);
    }

    /// Queues an event of a room, or holds it back.
    pub fn send_room_event(&self, event: &RoomFrame) {
        let mut lane = self.lock();
        let unknown = lane.unknown.contains(&event.room);
        match &mut lane.hold {
            // An entry that is read after the event covers it.
            None if unknown => {}
            None => lane.push(event.frame.clone(), self.limits),
            Some(hold) => {
                hold.bytes += event.frame.len();
                hold.events.push_back(HeldEvent {
                    room: event.room,
                    rev: event.rev,
                    message_seq: event.message_seq,
                    frame: event.frame.clone(),
                });
                lane.count(event.frame.len(), self.limits);
            }
        }
        self.wake(&lane, event.priority);
    }

    /// Everything of the room up to `rev` has been queued or held: a snapshot that waited for it may be complete.
    pub fn room_advanced(&self, room: RoomId, rev: u64) {
        // Asked for each device of a room at each event, and hardly ever true.
        if !self.awaits_events.load(Ordering::Relaxed) {
            return;
        }
        let mut lane = self.lock();
        let Some(pending) = lane.hold.as_mut().and_then(|hold| hold.pending.as_mut()) else {
            return;
        };
        if pending
            .waiting_for
            .get(&room)
            .is_some_and(|wanted| *wanted <= rev)
        {
            pending.waiting_for.remove(&room);
            if pending.waiting_for.is_empty() {
                self.release(&mut lane);
            }
        }
    }

    /// Ends the connection; what waits is still written, unless the device is too slow to take it.
    pub fn close(&self, close: Close) {
        let mut lane = self.lock();
        lane.close.get_or_insert(close);
        self.wake(&lane, Priority::High);
    }

    /// From now on `outlet` writes what waits.
    pub fn opens(&self, outlet: Weak<dyn Outlet>) {
        // Set once: a device has one connection.
        let _ = self.outlet.set(outlet);
    }

    /// While a request is answered the device's task writes, so that an event and the answer behind it are one write.
    pub fn set_answering(&self, answering: bool) {
        self.answering.store(answering, Ordering::Relaxed);
    }

    pub fn is_answering(&self) -> bool {
        self.answering.load(Ordering::Relaxed)
    }

    /// Gives out what waits, in its order; tells whether to close after it.
    pub fn take(&self, frame: impl FnMut(Frame)) -> Option<Close> {
        let mut lane = self.lock();
        lane.bytes = lane.hold.as_ref().map_or(0, |hold| hold.bytes);
        lane.queue.drain(..).for_each(frame);
        if lane.queue.capacity() > KEPT_FRAMES {
            // A burst leaves a large buffer behind: thousands of idle devices must not keep theirs.
            lane.queue = VecDeque::new();
        }
        lane.close
    }

    /// It stands no more among those that are due. To be called before the queue is looked at: what comes later is due
    /// again.
    pub fn leave_due(&self, priority: Priority) {
        self.is_due.of(priority).store(false, Ordering::Release);
    }

    /// There is something that only the device's task can do.
    pub fn wake_task(&self) {
        self.woken.notify_one();
    }

    /// Resolves when there may be something to take. For a single taker.
    pub async fn woken(&self) {
        self.woken.notified().await;
    }

    /// Resolves when the queue has overflowed.
    pub async fn overflowed(&self) {
        while self.lock().close != Some(Close::TooSlow) {
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
        let mut lane = self.lock();
        if lane.hold.is_some() {
            return None;
        }
        lane.holds_begun += 1;
        lane.hold = Some(Hold {
            token: lane.holds_begun,
            ..Hold::default()
        });
        Some(lane.holds_begun)
    }

    /// Whether the hold of this token goes on.
    pub(super) fn is_held(&self, token: u64) -> bool {
        self.lock()
            .hold
            .as_ref()
            .is_some_and(|hold| hold.token == token)
    }

    /// The snapshot is here. Queues it now, or when the events that it still waits for have come.
    pub(super) fn complete(
        &self,
        token: u64,
        sections: Vec<Section>,
        waiting_for: HashMap<RoomId, u64>,
    ) -> oneshot::Receiver<()> {
        let (done, receiver) = oneshot::channel();
        let mut lane = self.lock();
        if let Some(hold) = lane.hold.as_mut().filter(|hold| hold.token == token) {
            let ready = waiting_for.is_empty();
            hold.pending = Some(Pending {
                sections,
                waiting_for,
                done,
            });
            if ready {
                self.release(&mut lane);
            } else {
                self.awaits_events.store(true, Ordering::Relaxed);
            }
        }
        receiver
    }

    /// Ends this hold, if it goes on; a snapshot that still waits goes out as it is.
    pub(super) fn end_hold(&self, token: u64) {
        let mut lane = self.lock();
        if lane.hold.as_ref().is_some_and(|hold| hold.token == token) {
            self.release(&mut lane);
        }
    }

    /// Ends whatever hold there is: what it waits for will not come.
    pub(super) fn end_any_hold(&self) {
        let mut lane = self.lock();
        lane.unknown.clear();
        self.release(&mut lane);
    }

    fn release(&self, lane: &mut Lane) {
        let Some(hold) = lane.hold.take() else { return };
        self.awaits_events.store(false, Ordering::Relaxed);
        lane.bytes = lane.bytes.saturating_sub(hold.bytes);
        let mut unknown = std::mem::take(&mut lane.unknown);
        let done = hold.queue_into(&mut unknown, |frame| lane.push(frame, self.limits));
        lane.unknown = unknown;
        if let Some(done) = done {
            // Whoever waited may have gone: the frames are queued all the same.
            let _ = done.send(());
        }
        self.freed.notify_waiters();
        self.wake(lane, Priority::High);
    }

    fn wake(&self, lane: &Lane, priority: Priority) {
        match self.outlet.get() {
            Some(outlet) if lane.close.is_none() && !self.is_answering() => {
                if !self.is_due.of(priority).swap(true, Ordering::AcqRel) {
                    self.due.add(outlet.clone(), priority);
                }
            }
            _ => self.woken.notify_one(),
        }
        if lane.close == Some(Close::TooSlow) {
            self.overflowed.notify_one();
        }
    }

    /// Notes that a whole list is due. True if it was not due before.
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
        // Nothing in here panics half-way through a change.
        self.lane.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lane {
    fn push(&mut self, frame: Frame, limits: QueueLimits) {
        let len = frame.len();
        self.queue.push_back(frame);
        self.count(len, limits);
    }

    /// Counts a frame that was queued or held. Over the limit the device is closed and what waits is dropped.
    fn count(&mut self, len: usize, limits: QueueLimits) {
        self.bytes += len;
        let frames = self.queue.len() + self.hold.as_ref().map_or(0, |hold| hold.events.len());
        // One frame of any size may wait: a large answer is no sign of a slow reader.
        if frames > limits.max_frames
            || (self.bytes > limits.max_bytes && frames > 1)
            || self.close == Some(Close::TooSlow)
        {
            self.close = Some(Close::TooSlow);
            self.queue = VecDeque::new();
            self.bytes = 0;
            if let Some(hold) = &mut self.hold {
                (hold.events, hold.bytes) = (VecDeque::new(), 0);
            }
        }
    }
}

impl Hold {
    /// Gives out events and sections in their order; the pending snapshot's `done` comes back.
    ///
    /// A room that a section covers is no longer unknown.
    fn queue_into(
        self,
        unknown: &mut HashSet<RoomId>,
        mut push: impl FnMut(Frame),
    ) -> Option<oneshot::Sender<()>> {
        let Self {
            first,
            mut events,
            pending,
            ..
        } = self;
        let (sections, done) = pending.map_or((Vec::new(), None), |pending| {
            (pending.sections, Some(pending.done))
        });
        for section in sections {
            let mut later = VecDeque::new();
            for event in events {
                let unseen = first || unknown.contains(&event.room);
                match (event.is_covered_by(&section.cuts), unseen) {
                    (true, true) => {}
                    (true, false) => push(event.frame),
                    (false, _) => later.push_back(event),
                }
            }
            events = later;
            section.frames.into_iter().for_each(&mut push);
            unknown.retain(|room| !section.cuts.contains_key(room));
        }
        events
            .into_iter()
            .filter(|event| !unknown.contains(&event.room))
            .for_each(|event| push(event.frame));
        done
    }
}

impl HeldEvent {
    fn is_covered_by(&self, cuts: &Cuts) -> bool {
        cuts.get(&self.room)
            .is_some_and(|cut| match self.message_seq {
                Some(seq) => seq <= cut.seq,
                None => self.rev <= cut.rev,
            })
    }
}
