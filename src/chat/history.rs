//! `getHistory`: a page of messages. Marks nothing as read.

use super::list::restless;
use super::session::Session;
use crate::error::ChatError;
use crate::hub::snapshot::Snapshot;
use crate::protocol::event::{Ack, Shown};
use crate::protocol::frame::{Frame, RequestId};
use crate::protocol::ids::RoomId;
use crate::protocol::request::Cursor;
use crate::store::calls::PAGE_MAX_BYTES;

/// Sends the page: in the ack if one is requested, else as `chatHistory`.
pub async fn handle(
    session: &Session,
    room: RoomId,
    cursor: Cursor,
    limit: u32,
    id: Option<&RequestId>,
) -> Result<(), ChatError> {
    let Session { chat, device, .. } = session;
    let mut snapshot = Snapshot::begin(&chat.hub, device).await;
    loop {
        let share = chat.answers.take(PAGE_MAX_BYTES).await?;
        let page = chat
            .store
            .get_history(room, &device.user, cursor, limit)
            .await?;
        let frame = match id {
            Some(id) => Frame::ack(
                id,
                &Ack::History {
                    room_id: room,
                    messages: Shown(page.messages, device.shape),
                    has_more: page.has_more,
                },
            ),
            None => Frame::chat_history(&page.messages, device.shape),
        };
        let frame = share.cover(frame).await?;
        let parts = vec![(page.position, vec![frame])];
        let Err(overtaken) = Session::finish(snapshot, room, parts).await else {
            return Ok(());
        };
        snapshot = overtaken.read_again().await.ok_or_else(restless)?;
    }
}
