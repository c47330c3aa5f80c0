//! `getChatList`, and the lists that devices get unasked.

use std::sync::Arc;
use std::time::Duration;

use super::Chat;
use super::session::Session;
use crate::error::{ChatError, ErrorCode};
use crate::hub::device::{Device, ListMode};
use crate::hub::hold::{Cuts, Section};
use crate::hub::lane::Kind;
use crate::hub::snapshot::Snapshot;
use crate::protocol::event::{Ack, ChatEntry};
use crate::protocol::frame::{Frame, RequestId};
use crate::protocol::ids::{RoomId, UserId};
use crate::room::PositionedEntry;
use crate::room::Topic;
use crate::store::calls::LIST_CHUNK;

/// How long Redis may take to confirm a subscription.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(2);

/// A chat list, and where its rooms were when it was read.
pub struct ChatList {
    pub entries: Vec<ChatEntry>,
    pub cuts: Arc<Cuts>,
}

impl ChatList {
    fn new(read: Vec<PositionedEntry>) -> Self {
        let cuts = read
            .iter()
            .map(|read| (read.entry.room_id, read.position.clone()))
            .collect();
        let mut entries: Vec<ChatEntry> = read.into_iter().map(|read| read.entry).collect();
        entries.sort_by_key(|entry| (std::cmp::Reverse(entry.active_at_ms), entry.room_id));
        Self {
            entries,
            cuts: Arc::new(cuts),
        }
    }

    pub fn frame(&self) -> Frame {
        Frame::chat_list(&self.entries)
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
    send_whole(&session.chat, &session.device, snapshot, Vec::new(), ack)
        .await
        .map(drop)
}

/// Reads the whole list and queues it: `before`, the list, `after`.
pub async fn send_whole(
    chat: &Chat,
    device: &Device,
    mut snapshot: Snapshot,
    before: Vec<Frame>,
    after: impl Fn(usize) -> Vec<Frame>,
) -> Result<(), ChatError> {
    loop {
        device.clear_list_due();
        let list = read(chat, &device.user).await?;
        let mut frames = before.clone();
        frames.push(list.frame());
        frames.extend(after(list.entries.len()));
        if snapshot
            .finish(vec![Section {
                cuts: list.cuts,
                frames,
                kind: Kind::Answer,
            }])
            .await
            .is_ok()
        {
            return Ok(());
        }
        snapshot.renew().await;
    }
}

/// Reads a user's whole list, in chunks; rooms that this server does not follow yet are followed first.
pub async fn read(chat: &Chat, user: &UserId) -> Result<ChatList, ChatError> {
    let known = chat.hub.rooms_of(user);
    // Another device of the user may have begun to follow them a moment ago.
    wait_until_heard(chat, &known).await?;
    let (first, rest) = known.split_at(known.len().min(LIST_CHUNK));
    let chunk = chat.store.get_chat_list(user, first, true).await?;
    let mut read: Vec<PositionedEntry> = chunk.entries.into_iter().flatten().collect();
    chat.hub.follow(user, &chunk.index);
    // Also those that another device of the user has begun to follow since `known` was taken.
    let mut new = chunk.index;
    new.retain(|room| !known.contains(room));
    wait_until_heard(chat, &new).await?;
    let others: Vec<RoomId> = rest.iter().chain(&new).copied().collect();
    for rooms in others.chunks(LIST_CHUNK) {
        read.extend(
            chat.store
                .get_chat_list(user, rooms, false)
                .await?
                .entries
                .into_iter()
                .flatten(),
        );
    }
    Ok(ChatList::new(read))
}

/// Resolves when every event of the user's own channel arrives.
pub async fn follow_user(chat: &Chat, user: &UserId) -> Result<(), ChatError> {
    bounded(async {
        // No longer wanted: the device has gone, nobody waits for its events.
        let _ = chat.hub.interest.heard(&Topic::User(user.clone())).await;
    })
    .await
}

async fn wait_until_heard(chat: &Chat, rooms: &[RoomId]) -> Result<(), ChatError> {
    bounded(async {
        for room in rooms {
            let _ = chat.hub.interest.heard(&Topic::Room(*room)).await;
        }
    })
    .await
}

async fn bounded(heard: impl Future<Output = ()>) -> Result<(), ChatError> {
    tokio::time::timeout(SUBSCRIBE_TIMEOUT, heard)
        .await
        .map_err(|_| {
            ChatError::new(
                ErrorCode::Unavailable,
                "the chat store cannot be used right now: try again soon",
            )
        })
}

/// Sends the whole list to the user's full devices to which it is due: read once, encoded once.
///
/// Devices that are busy with a snapshot of their own get theirs after it; what changes meanwhile is due again later.
pub async fn refresh(chat: &Chat, user: &UserId) -> Result<(), ChatError> {
    let (mut free, mut busy) = (Vec::new(), Vec::new());
    for device in chat.hub.devices_due(user) {
        match Snapshot::try_begin(&chat.hub, &device) {
            Some(snapshot) => free.push(snapshot),
            None => busy.push(device),
        }
    }
    send_to_all(chat, user, free).await?;
    let mut freed = Vec::new();
    for device in busy {
        let snapshot = Snapshot::begin(&chat.hub, &device).await;
        // It may have asked for its list itself.
        if device.is_list_due() {
            freed.push(snapshot);
        }
    }
    send_to_all(chat, user, freed).await
}

async fn send_to_all(
    chat: &Chat,
    user: &UserId,
    mut snapshots: Vec<Snapshot>,
) -> Result<(), ChatError> {
    if snapshots.is_empty() {
        return Ok(());
    }
    let devices: Vec<Arc<Device>> = snapshots
        .iter()
        .map(|snapshot| snapshot.device().clone())
        .collect();
    devices.iter().for_each(|device| device.clear_list_due());
    let list = match read(chat, user).await {
        Ok(list) => list,
        Err(error) => {
            chat.hub.refresh_again(&devices);
            return Err(error);
        }
    };
    let frame = list.frame();
    let finished = snapshots.iter_mut().map(|snapshot| {
        snapshot.finish(vec![Section {
            cuts: list.cuts.clone(),
            frames: vec![frame.clone()],
            kind: Kind::Push,
        }])
    });
    if futures_util::future::join_all(finished)
        .await
        .iter()
        .any(Result::is_err)
    {
        chat.hub.refresh_again(&devices);
    }
    Ok(())
}

/// Sends one room's entry to the user's delta devices.
pub async fn send_entry(chat: &Chat, user: &UserId, room: RoomId) -> Result<(), ChatError> {
    for device in chat.hub.delta_devices(user) {
        let mut snapshot = Snapshot::begin(&chat.hub, &device).await;
        let chunk = chat.store.get_chat_list(user, &[room], false).await?;
        let Some(read) = chunk.entries.into_iter().flatten().next() else {
            continue;
        };
        let frames = vec![Frame::event("chatEntry", &read.entry)];
        let cuts = Arc::new(Cuts::from([(room, read.position)]));
        if snapshot
            .finish(vec![Section {
                cuts,
                frames,
                kind: Kind::Push,
            }])
            .await
            .is_err()
        {
            chat.hub.new_entries.add((user.clone(), room));
        }
    }
    Ok(())
}

/// Compares the rooms that this server follows for a user with the store's: some may have been gained unheard.
pub async fn recount(chat: &Chat, user: &UserId) -> Result<(), ChatError> {
    let index = chat.store.get_chat_list(user, &[], true).await?.index;
    for room in chat.hub.follow(user, &index) {
        chat.hub.new_entries.add((user.clone(), room));
        chat.hub.list_due(user);
    }
    Ok(())
}

/// Whether the device takes whole lists.
pub fn is_full(device: &Device) -> bool {
    device.mode == ListMode::Full
}
