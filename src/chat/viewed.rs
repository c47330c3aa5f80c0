//! The latest messages of a room, sent again to the classic devices that view it (`CLASSIC_HISTORY`).

use std::sync::Arc;

use futures_util::future::join_all;

use super::Chat;
use super::list::{begin_all, cover_all, finish_all};
use crate::error::{ChatError, ErrorCode};
use crate::hub::hold::Cuts;
use crate::hub::snapshot::Snapshot;
use crate::protocol::frame::{Frame, ShapedFrames};
use crate::protocol::ids::{RoomId, UserId};
use crate::protocol::request::{Cursor, PAGE_DEFAULT};
use crate::room::Page;
use crate::store::calls::PAGE_MAX_BYTES;

/// Sends the room's latest messages to the classic devices that view it: read once, encoded once for each shape.
///
/// Devices that are busy with a snapshot of their own get theirs after it.
pub async fn push(chat: &Chat, room: RoomId) -> Result<(), ChatError> {
    let (free, busy) = begin_all(chat, chat.hub.classic_viewers(room));
    send(chat, room, free).await?;
    let begin = busy.iter().map(|device| Snapshot::begin(&chat.hub, device));
    let freed = join_all(begin).await;
    send(chat, room, freed).await
}

async fn send(chat: &Chat, room: RoomId, mut snapshots: Vec<Snapshot>) -> Result<(), ChatError> {
    // A device may have left meanwhile and begun to view another room, whose messages it now renders.
    snapshots.retain(|snapshot| chat.hub.is_viewed_by(room, snapshot.device()));
    if snapshots.is_empty() {
        return Ok(());
    }
    let share = chat.answers.take(PAGE_MAX_BYTES).await?;
    let Some(page) = read(chat, room, &snapshots).await? else {
        return Ok(());
    };
    let mut frames = ShapedFrames::of(&page.messages);
    for snapshot in &snapshots {
        let encode = |shape| Frame::chat_history(&page.messages, shape);
        frames.get_or_encode(snapshot.device().shape, encode);
    }
    cover_all(chat, share, &mut frames).await?;
    let cuts = Arc::new(Cuts::from([(room, page.position)]));
    let overtaken = finish_all(snapshots, &cuts, |device| frames.get(device.shape).cloned());
    if !overtaken.await.is_empty() {
        chat.hub.history_untold(room);
    }
    Ok(())
}

/// The latest messages, as read by the first of the devices' users who is still a member.
async fn read(
    chat: &Chat,
    room: RoomId,
    snapshots: &[Snapshot],
) -> Result<Option<Page>, ChatError> {
    let mut users: Vec<&UserId> = snapshots.iter().map(|it| &it.device().user).collect();
    users.sort_unstable();
    users.dedup();
    for user in users {
        let page = chat
            .store
            .get_history(room, user, Cursor::Latest, PAGE_DEFAULT);
        match page.await {
            Err(error) if error.code == ErrorCode::NotMember => {}
            outcome => return outcome.map(Some),
        }
    }
    Ok(None)
}
