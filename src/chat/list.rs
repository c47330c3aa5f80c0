//! `getChatList`, and the lists that devices get without asking.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, timeout_at};

use super::Chat;
use super::budget::{Exhausted, Share};
use super::session::Session;
use super::{entry_reads, list_reads};
use crate::error::{ChatError, ErrorCode};
use crate::hub::device::{Device, ListMode};
use crate::hub::hold::{Cuts, Section};
use crate::hub::lane::Kind;
use crate::hub::snapshot::Snapshot;
use crate::protocol::content::ContentShape;
use crate::protocol::event::{Ack, ChatEntry, Shown};
use crate::protocol::frame::{Frame, RequestId, ShapedFrames};
use crate::protocol::ids::{RoomId, UserId};
use crate::room::{PositionedEntry, Topic, pause_after};
use crate::store::lists::{LIST_CHUNK, ListChunk};

/// How long Redis may take to confirm a subscription.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(2);
/// Approximate bytes of an entry.
const ENTRY_BYTES: usize = 512;
/// The number of rooms assumed for a list where none is known.
const USUAL_ROOMS: usize = 32;

/// A chat list, and the positions of its rooms when it was read.
pub struct ChatList {
    pub rooms: usize,
    pub cuts: Arc<Cuts>,
    /// Encoded once for each shape in which a reader wants it.
    frames: ShapedFrames,
}

impl ChatList {
    pub fn new(read: Vec<PositionedEntry>, shapes: &[ContentShape]) -> Self {
        let cuts = read
            .iter()
            .map(|read| (read.entry.room_id, read.position.clone()))
            .collect();
        let mut entries: Vec<ChatEntry> = read.into_iter().map(|read| read.entry).collect();
        entries.sort_by_key(|entry| (std::cmp::Reverse(entry.active_at_ms), entry.room_id));
        let mut frames = ShapedFrames::of(entries.iter().flat_map(|entry| &entry.last_message));
        for shape in shapes {
            frames.get_or_encode(*shape, |shape| Frame::chat_list(&entries, shape));
        }
        Self {
            rooms: entries.len(),
            cuts: Arc::new(cuts),
            frames,
        }
    }

    /// The list in the shape that the reader has chosen.
    pub fn frame_for(&self, device: &Device) -> Option<Frame> {
        self.frames.get(device.shape).cloned()
    }
}

/// Sends the list to this device.
pub async fn handle(session: &Session, id: Option<&RequestId>) -> Result<(), ChatError> {
    let snapshot = Snapshot::begin(&session.chat.hub, &session.device).await;
    let ack = |rooms| {
        Session::ack(id, &Ack::ChatList { rooms })
            .into_iter()
            .collect()
    };
    let Session { chat, device, .. } = session;
    send_whole(chat, device, snapshot, Vec::new(), ack, None).await
}

/// Reads the whole list and queues it: `before`, the list, `after`.
///
/// With a `deadline`, a store that is temporarily unavailable is tried again until then.
pub async fn send_whole(
    chat: &Chat,
    device: &Arc<Device>,
    mut snapshot: Snapshot,
    before: Vec<Frame>,
    after: impl Fn(usize) -> Vec<Frame>,
    deadline: Option<Instant>,
) -> Result<(), ChatError> {
    loop {
        snapshot.reads_list();
        let list = read_until(chat, device, deadline).await?;
        let mut frames = before.clone();
        frames.extend(list.frame_for(device));
        frames.extend(after(list.rooms));
        let section = listing(&list.cuts, frames, Kind::Answer);
        let Err(overtaken) = snapshot.finish(vec![section]).await else {
            return Ok(());
        };
        snapshot = overtaken.read_again().await.ok_or_else(restless)?;
    }
}

async fn read_until(
    chat: &Chat,
    device: &Arc<Device>,
    deadline: Option<Instant>,
) -> Result<Arc<ChatList>, ChatError> {
    let mut times = 0;
    loop {
        let outcome = chat.list_reads.read(device).await;
        let error = match outcome.unwrap_or_else(|| Err(unavailable())) {
            Ok(list) => return Ok(list),
            Err(error) => error,
        };
        times += 1;
        let again_at = Instant::now() + pause_after(times);
        if !error.code.is_temporary() || deadline.is_none_or(|deadline| again_at >= deadline) {
            return Err(error);
        }
        tokio::time::sleep_until(again_at).await;
        chat.store.up().await;
    }
}

/// The list for this device, placed among the events.
pub fn section(list: &ChatList, device: &Device, kind: Kind) -> Option<Section> {
    let frame = list.frame_for(device)?;
    Some(listing(&list.cuts, vec![frame], kind))
}

fn listing(cuts: &Arc<Cuts>, frames: Vec<Frame>, kind: Kind) -> Section {
    Section {
        cuts: cuts.clone(),
        frames,
        kind,
        tells_rooms: true,
    }
}

/// The error for a client that asks for something that changes faster than it can be read.
pub fn restless() -> ChatError {
    ChatError::new(
        ErrorCode::Unavailable,
        "this changes faster than it can be read: try again soon",
    )
}

/// Reads a list for all who asked for it; rooms that this server does not follow yet are followed first, and announced
/// to the user's other devices.
pub async fn work_off(chat: &Chat, turn: list_reads::Turn) {
    let outcome = read(chat, &turn).await;
    chat.list_reads.end(turn, &outcome.map(Arc::new));
}

async fn read(chat: &Chat, turn: &list_reads::Turn) -> Result<ChatList, ChatError> {
    let (user, readers) = (&turn.user, turn.begin());
    let known = chat.hub.rooms_of(user);
    // The size of the list is known once it is read: more is taken then.
    let share = chat
        .answers
        .take(known.len().max(USUAL_ROOMS) * ENTRY_BYTES)
        .await?;
    // Another device of the user may have begun to follow them a moment ago.
    wait_until_heard(chat, &known).await?;
    let (first, rest) = known.split_at(known.len().min(LIST_CHUNK));
    let chunk = read_chunk(chat, user, first, true).await?;
    let mut read = Vec::new();
    take_entries(chat, user, first, chunk.entries, &mut read);
    chat.hub.follow(user, &chunk.index, &readers);
    let is_known: HashSet<RoomId> = known.iter().copied().collect();
    let mut new = chunk.index;
    new.retain(|room| !is_known.contains(room));
    wait_until_heard(chat, &new).await?;
    let others: Vec<RoomId> = rest.iter().chain(&new).copied().collect();
    for rooms in others.chunks(LIST_CHUNK) {
        let chunk = read_chunk(chat, user, rooms, false).await?;
        take_entries(chat, user, rooms, chunk.entries, &mut read);
    }
    let mut list = ChatList::new(read, &turn.shapes());
    cover_all(chat, share, &mut list.frames).await?;
    Ok(list)
}

/// Makes the frames own their part of the memory for answers, of which `share` was taken for them.
pub(super) async fn cover_all(
    chat: &Chat,
    share: Share,
    frames: &mut ShapedFrames,
) -> Result<(), Exhausted> {
    let mut share = Some(share);
    for slot in frames.slots_mut() {
        let Some(frame) = slot.take() else { continue };
        let share = match share.take() {
            Some(share) => share,
            None => chat.answers.take(frame.len()).await?,
        };
        *slot = Some(share.cover(frame).await?);
    }
    Ok(())
}

/// Reads a part of a list, in turn with all others.
async fn read_chunk(
    chat: &Chat,
    user: &UserId,
    rooms: &[RoomId],
    want_index: bool,
) -> Result<ListChunk, ChatError> {
    let outcome = chat.entry_reads.read(user, rooms, want_index).await;
    outcome.unwrap_or_else(|| Err(unavailable()))
}

/// Makes a call that reads parts of lists, and hands out its result.
pub async fn make_call(chat: &Chat, turn: entry_reads::Turn) {
    let outcome = chat.store.get_chat_lists(&turn.call).await;
    chat.entry_reads.end(turn, outcome);
}

/// Adds the entries that exist; rooms without one are no longer followed.
fn take_entries(
    chat: &Chat,
    user: &UserId,
    rooms: &[RoomId],
    entries: Vec<Option<PositionedEntry>>,
    read: &mut Vec<PositionedEntry>,
) {
    let mut missing = Vec::new();
    for (room, entry) in rooms.iter().zip(entries) {
        match entry {
            Some(entry) => read.push(entry),
            None => missing.push(*room),
        }
    }
    chat.hub.unfollow(user, &missing);
}

/// Resolves when every event of the user's own channel arrives.
pub async fn follow_user(chat: &Chat, user: &UserId, deadline: Instant) -> Result<(), ChatError> {
    bounded(deadline, async {
        // No longer wanted: the device has disconnected, and nobody waits for its events.
        let _ = chat.hub.interest.heard(&Topic::User(user.clone())).await;
    })
    .await
}

async fn wait_until_heard(chat: &Chat, rooms: &[RoomId]) -> Result<(), ChatError> {
    bounded(Instant::now() + SUBSCRIBE_TIMEOUT, async {
        for room in rooms {
            let _ = chat.hub.interest.heard(&Topic::Room(*room)).await;
        }
    })
    .await
}

async fn bounded(deadline: Instant, heard: impl Future<Output = ()>) -> Result<(), ChatError> {
    timeout_at(deadline, heard).await.map_err(|_| unavailable())
}

/// The error for a client that asks while the store is unavailable or overloaded.
pub fn unavailable() -> ChatError {
    ChatError::new(
        ErrorCode::Unavailable,
        "the chat store cannot be used right now: try again soon",
    )
}

/// Sends the whole list to those of the user's full devices for which it is due: read once, encoded once.
///
/// Devices that are busy with a snapshot of their own get theirs after it; a change meanwhile makes it due again later.
pub async fn refresh(chat: &Chat, user: &UserId) -> Result<(), ChatError> {
    let (free, busy) = begin_all(chat, chat.hub.devices_due(user));
    send_to_all(chat, free).await?;
    let mut freed = Vec::new();
    for device in busy {
        let snapshot = Snapshot::begin(&chat.hub, &device).await;
        // It may have asked for its list itself.
        if device.is_list_due() {
            freed.push(snapshot);
        }
    }
    send_to_all(chat, freed).await
}

/// Begins snapshots for the devices that have none open; returns those and the other devices.
pub(super) fn begin_all(
    chat: &Chat,
    devices: Vec<Arc<Device>>,
) -> (Vec<Snapshot>, Vec<Arc<Device>>) {
    let (mut free, mut busy) = (Vec::new(), Vec::new());
    for device in devices {
        match Snapshot::try_begin(&chat.hub, &device) {
            Some(snapshot) => free.push(snapshot),
            None => busy.push(device),
        }
    }
    (free, busy)
}

fn devices_of(snapshots: &[Snapshot]) -> Vec<Arc<Device>> {
    let device = |snapshot: &Snapshot| snapshot.device().clone();
    snapshots.iter().map(device).collect()
}

async fn send_to_all(chat: &Chat, mut snapshots: Vec<Snapshot>) -> Result<(), ChatError> {
    if snapshots.is_empty() {
        return Ok(());
    }
    snapshots.iter_mut().for_each(Snapshot::reads_list);
    let devices = devices_of(&snapshots);
    let reads = devices.iter().map(|device| chat.list_reads.read(device));
    let outcome = join_all(reads).await.pop().flatten();
    let list = outcome.unwrap_or_else(|| Err(unavailable()))?;
    // Where it cannot be placed it is due again.
    finish_all(snapshots, &list.cuts, |device| list.frame_for(device)).await;
    Ok(())
}

/// Queues the same unrequested snapshot for all. Returns the devices whose snapshots were overtaken.
pub(super) async fn finish_all(
    snapshots: Vec<Snapshot>,
    cuts: &Arc<Cuts>,
    frame_for: impl Fn(&Device) -> Option<Frame>,
) -> Vec<Arc<Device>> {
    let finish = |snapshot: Snapshot| async {
        let device = snapshot.device().clone();
        let frames = frame_for(&device).into_iter().collect();
        let section = listing(cuts, frames, Kind::Push);
        let outcome = snapshot.finish(vec![section]).await;
        outcome.is_err().then_some(device)
    };
    let finished = join_all(snapshots.into_iter().map(finish)).await;
    finished.into_iter().flatten().collect()
}

/// Sends one room's entry to those of the user's devices that are to get it.
pub async fn send_entry(chat: &Chat, user: &UserId, room: RoomId) -> Result<(), ChatError> {
    let (free, busy) = begin_all(chat, chat.hub.wanting_entry(user, room));
    send_entry_to_all(chat, user, room, free).await?;
    let mut freed = Vec::new();
    for device in busy {
        let snapshot = Snapshot::begin(&chat.hub, &device).await;
        // Its list may have included it.
        if device.wants_entry(room) {
            freed.push(snapshot);
        }
    }
    send_entry_to_all(chat, user, room, freed).await
}

async fn send_entry_to_all(
    chat: &Chat,
    user: &UserId,
    room: RoomId,
    snapshots: Vec<Snapshot>,
) -> Result<(), ChatError> {
    if snapshots.is_empty() {
        return Ok(());
    }
    let devices = devices_of(&snapshots);
    devices.iter().for_each(|device| device.entry_asked(room));
    let chunk = match read_chunk(chat, user, &[room], false).await {
        Ok(chunk) => chunk,
        Err(error) => {
            devices.iter().for_each(|device| device.renew_entry(room));
            return Err(error);
        }
    };
    let Some(read) = chunk.entries.into_iter().flatten().next() else {
        chat.hub.unfollow(user, &[room]);
        devices.iter().for_each(|device| device.forget_entry(room));
        return Ok(());
    };
    let PositionedEntry { entry, position } = read;
    let mut frames = ShapedFrames::of(&entry.last_message);
    for device in &devices {
        let encode = |shape| Frame::event("chatEntry", &Shown(&entry, shape));
        frames.get_or_encode(device.shape, encode);
    }
    let cuts = Arc::new(Cuts::from([(room, position)]));
    let frame_for = |device: &Device| frames.get(device.shape).cloned();
    for device in finish_all(snapshots, &cuts, frame_for).await {
        chat.hub.entry_outdated(&device, room);
    }
    Ok(())
}

/// Compares the rooms that this server follows for a user with the store's: the user may have gained some unheard.
pub async fn recount(chat: &Chat, user: &UserId) -> Result<(), ChatError> {
    let index = read_chunk(chat, user, &[], true).await?.index;
    chat.hub.follow(user, &index, &[]);
    Ok(())
}

/// Whether the device takes whole lists.
pub fn is_full(device: &Device) -> bool {
    device.mode == ListMode::Full
}
