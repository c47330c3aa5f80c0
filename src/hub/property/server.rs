//! What drives the hub in a server, with the plain store in place of Redis: a short form of `upkeep` and `chat::list`.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

use super::store::Store;
use super::wire::Wire;
use crate::chat::list::ChatList;
use crate::chat::list_reads::{ListReads, Turn};
use crate::error::{ChatError, ErrorCode};
use crate::hub::Hub;
use crate::hub::device::Device;
use crate::hub::hold::{Cuts, Section};
use crate::hub::lane::{Kind, QueueLimits};
use crate::hub::repair::Repair;
use crate::hub::snapshot::Snapshot;
use crate::protocol::content::ContentShape;
use crate::protocol::event::Shown;
use crate::protocol::frame::Frame;
use crate::protocol::ids::{DeviceId, RoomId, UserId};
use crate::room::{Position, PositionedEntry, Topic, Turn as RoomTurn};

pub(super) const QUIET_ROOM_CHECK: Duration = Duration::from_secs(30);
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(2);
const FENCE_TIMEOUT: Duration = Duration::from_secs(5);
/// More calls than any case needs: beyond it the caller gets no more answers, so that a storm ends.
const CALLS_MAX: usize = 20_000;
/// The devices of a case read so late that the bounds of their queues must not matter.
const LIMITS: QueueLimits = QueueLimits {
    max_frames: usize::MAX,
    max_bytes: usize::MAX,
    answers_max_bytes: usize::MAX,
};

/// The calls that the store gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Call {
    List,
    Page,
    Sync,
    Compare,
    Make,
    Beat,
}

/// One server, its store and the link between them.
pub(super) struct Server {
    pub hub: Arc<Hub>,
    pub store: RefCell<Store>,
    pub wire: Wire,
    pub calls: RefCell<BTreeMap<Call, usize>>,
    /// How long a call takes to reach the store, and its answer to return.
    pub latency: Cell<(Duration, Duration)>,
    /// Answers that were given up because they were overtaken again and again.
    pub given_up: Cell<usize>,
    /// The store refuses every call.
    pub refuses: Cell<bool>,
    list_reads: ListReads,
}

impl Server {
    pub(super) fn start() -> Rc<Self> {
        let server = Rc::new(Self {
            hub: Arc::new(Hub::new(LIMITS, REFRESH_INTERVAL)),
            store: RefCell::default(),
            wire: Wire::new(),
            calls: RefCell::default(),
            latency: Cell::default(),
            given_up: Cell::default(),
            refuses: Cell::default(),
            list_reads: ListReads::default(),
        });
        server.wire.reconnect(&server.hub);
        let running = server.clone();
        spawn_local(async move { running.run().await });
        server
    }

    async fn run(self: &Rc<Self>) {
        tokio::join!(
            self.wire.subscribe(&self.hub),
            self.wire.listen(&self.hub),
            self.beat(),
            self.work_off(
                || self.hub.repairs.take(),
                |server, turn| async move {
                    server.repair(&turn).await;
                    server.hub.repairs.done(&turn.thing);
                }
            ),
            self.work_off(
                || self.hub.recounts.take(),
                |server, RoomTurn { thing: user, .. }| async move {
                    match server.read_list(&user, &[], true).await {
                        Ok((index, _)) => server.hub.follow(&user, &index, &[]),
                        Err(_) => server.hub.recounts.add(user.clone()),
                    }
                    server.hub.recounts.done(&user);
                }
            ),
            self.work_off(
                || self.hub.new_entries.take(),
                |server, RoomTurn { thing, .. }| async move {
                    if server.send_entry(&thing.0, thing.1).await.is_err() {
                        server.hub.new_entries.add(thing.clone());
                    }
                    server.hub.new_entries.done(&thing);
                }
            ),
            self.work_off(
                || self.list_reads.take(),
                |server, turn: Turn| async move {
                    let outcome = server.read_whole(&turn.user, &turn.begin()).await;
                    server.list_reads.end(turn, &outcome.map(Arc::new));
                }
            ),
            self.work_off(
                || self.hub.next_refresh(),
                |server, user| async move { server.refresh(&user).await }
            ),
            self.compare_doubtful_rooms(),
            self.compare_quiet_rooms(),
        );
    }

    async fn work_off<T, Take: Future<Output = T>, Work: Future<Output = ()> + 'static>(
        self: &Rc<Self>,
        take: impl Fn() -> Take,
        work: impl Fn(Rc<Self>, T) -> Work,
    ) {
        loop {
            let thing = take().await;
            spawn_local(work(self.clone(), thing));
        }
    }

    /// Calls the store: it reads when the call arrives, and the answer takes time too.
    pub(super) async fn call<T>(
        &self,
        call: Call,
        read: impl FnOnce(&mut Store) -> T,
    ) -> Result<T, ChatError> {
        *self.calls.borrow_mut().entry(call).or_default() += 1;
        if self.is_storm() {
            return std::future::pending().await;
        }
        let (there, back) = self.latency.get();
        sleep(there).await;
        if self.refuses.get() {
            return Err(ChatError::new(ErrorCode::Unavailable, "refused"));
        }
        let answer = read(&mut self.store.borrow_mut());
        sleep(back).await;
        Ok(answer)
    }

    pub(super) fn give_up(&self) {
        self.given_up.set(self.given_up.get() + 1);
    }

    /// How often the store was called, not counting the beats.
    pub(super) fn calls(&self) -> usize {
        let calls = self.calls.borrow();
        calls.values().sum::<usize>() - self.calls_of(Call::Beat)
    }

    pub(super) fn calls_of(&self, call: Call) -> usize {
        self.calls.borrow().get(&call).copied().unwrap_or_default()
    }

    pub(super) fn is_storm(&self) -> bool {
        self.calls() > CALLS_MAX
    }

    async fn beat(&self) {
        loop {
            let number = self.hub.beats.next().await;
            let publish = |_: &mut Store| self.wire.beat(&self.hub, number);
            // A refused beat is followed by the next number.
            let _ = self.call(Call::Beat, publish).await;
        }
    }

    async fn repair(&self, turn: &RoomTurn<RoomId>) {
        let room = turn.thing;
        match timeout(
            SUBSCRIBE_TIMEOUT,
            self.hub.interest.heard(&Topic::Room(room)),
        )
        .await
        {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return,
            Err(_) => return self.hub.repairs.add(room),
        }
        while let Some(from) = self.hub.ask_repair(room) {
            let Ok(missed) = self
                .call(Call::Sync, |store| store.missed(room, &from))
                .await
            else {
                return self.hub.repairs.add(room);
            };
            if self.hub.repair(room, &from, missed, turn.times) == Repair::Ended {
                return;
            }
        }
    }

    async fn compare_doubtful_rooms(&self) {
        loop {
            let rooms = self.hub.doubts.take_several(128).await;
            if !self.compare(&self.hub.positions(&rooms)).await {
                rooms.iter().for_each(|room| self.hub.doubts.add(*room));
            }
            rooms.iter().for_each(|room| self.hub.doubts.done(room));
        }
    }

    async fn compare_quiet_rooms(&self) {
        loop {
            sleep(QUIET_ROOM_CHECK).await;
            self.compare(&self.hub.quiet_rooms()).await;
        }
    }

    async fn compare(&self, rooms: &[(RoomId, Position)]) -> bool {
        if rooms.is_empty() {
            return true;
        }
        let elsewhere = |store: &mut Store| {
            let mut rooms = rooms.to_vec();
            rooms.retain(|(room, at)| store.is_elsewhere(*room, at));
            rooms
        };
        let Ok(changed) = self.call(Call::Compare, elsewhere).await else {
            return false;
        };
        if changed.is_empty() {
            return true;
        }
        let fence = self.hub.beats.ask();
        let passed = timeout(FENCE_TIMEOUT, self.hub.beats.passed(fence)).await;
        for (room, at) in changed.iter().filter(|_| passed.is_ok()) {
            self.hub.differs(*room, at);
        }
        passed.is_ok()
    }

    async fn read_list(
        &self,
        user: &UserId,
        rooms: &[RoomId],
        with_index: bool,
    ) -> Result<(Vec<RoomId>, Vec<PositionedEntry>), ChatError> {
        let (index, entries) = self
            .call(Call::List, |store| {
                let index = if with_index {
                    store.index(user)
                } else {
                    Vec::new()
                };
                let entry = |room: &RoomId| store.entry(user, *room);
                (index, rooms.iter().map(entry).collect::<Vec<_>>())
            })
            .await?;
        let missing = rooms.iter().zip(&entries);
        let missing: Vec<RoomId> = missing
            .filter_map(|(room, entry)| entry.is_none().then_some(*room))
            .collect();
        self.hub.unfollow(user, &missing);
        Ok((index, entries.into_iter().flatten().collect()))
    }

    async fn read_whole(&self, user: &UserId, readers: &[DeviceId]) -> Result<ChatList, ChatError> {
        let known = self.hub.rooms_of(user);
        self.wait_until_heard(&known).await?;
        let (first, rest) = known.split_at(known.len().min(1));
        let (mut new, mut read) = self.read_list(user, first, true).await?;
        self.hub.follow(user, &new, readers);
        new.retain(|room| !known.contains(room));
        self.wait_until_heard(&new).await?;
        for room in rest.iter().chain(&new) {
            read.extend(self.read_list(user, &[*room], false).await?.1);
        }
        Ok(ChatList::new(read, &[ContentShape::String]))
    }

    async fn wait_until_heard(&self, rooms: &[RoomId]) -> Result<(), ChatError> {
        let heard = rooms.iter().map(async |room| {
            // No longer wanted: nobody waits for its events.
            let _ = self.hub.interest.heard(&Topic::Room(*room)).await;
        });
        let heard = timeout(SUBSCRIBE_TIMEOUT, join_all(heard)).await;
        heard
            .map(drop)
            .map_err(|_| ChatError::new(ErrorCode::Unavailable, "not heard"))
    }

    /// One reading of the user's list, shared with everyone who asks for it now.
    pub(super) async fn list(&self, device: &Arc<Device>) -> Result<Arc<ChatList>, ChatError> {
        let outcome = self.list_reads.read(device).await;
        outcome.unwrap_or_else(|| Err(ChatError::new(ErrorCode::Unavailable, "ended")))
    }

    async fn refresh(&self, user: &UserId) {
        let begin = async |device: Arc<Device>| {
            let snapshot = Snapshot::begin(&self.hub, &device).await;
            if device.is_list_due() {
                // A list that is not finished is due again.
                let _ = self.send_due_list(snapshot).await;
            }
        };
        join_all(self.hub.devices_due(user).into_iter().map(begin)).await;
    }

    async fn send_due_list(&self, mut snapshot: Snapshot) -> Option<()> {
        snapshot.reads_list();
        let list = self.list(snapshot.device()).await.ok()?;
        let section = section(&list.cuts, list.frame_for(snapshot.device())?, Kind::Push);
        snapshot.finish(vec![section]).await.ok()
    }

    async fn send_entry(&self, user: &UserId, room: RoomId) -> Result<(), ChatError> {
        let send = async |device: Arc<Device>| {
            let snapshot = Snapshot::begin(&self.hub, &device).await;
            match device.wants_entry(room) {
                true => self.send_entry_to(user, room, snapshot).await,
                false => Ok(()),
            }
        };
        let wanting = self.hub.wanting_entry(user, room);
        let sent = join_all(wanting.into_iter().map(send)).await;
        sent.into_iter().collect()
    }

    async fn send_entry_to(
        &self,
        user: &UserId,
        room: RoomId,
        snapshot: Snapshot,
    ) -> Result<(), ChatError> {
        let device = snapshot.device().clone();
        device.entry_asked(room);
        let read = self.read_list(user, &[room], false).await;
        let read = read.inspect_err(|_| device.renew_entry(room))?;
        let Some(read) = read.1.into_iter().next() else {
            device.forget_entry(room);
            return Ok(());
        };
        let cuts = Arc::new(Cuts::from([(room, read.position)]));
        let frame = Frame::event("chatEntry", &Shown(&read.entry, device.shape));
        let finished = snapshot.finish(vec![section(&cuts, frame, Kind::Push)]);
        if finished.await.is_err() {
            self.hub.entry_outdated(&device, room);
        }
        Ok(())
    }
}

pub(super) fn section(cuts: &Arc<Cuts>, frame: Frame, kind: Kind) -> Section {
    Section {
        cuts: cuts.clone(),
        frames: vec![frame],
        kind,
        tells_rooms: true,
    }
}
