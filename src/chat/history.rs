//! `getHistory`: a page of messages. Marks nothing as read.

use super::session::Session;
use crate::error::ChatError;
use crate::hub::snapshot::Snapshot;
use crate::protocol::event::Ack;
use crate::protocol::frame::{Frame, RequestId};
use crate::protocol::ids::RoomId;
use crate::protocol::request::Cursor;

/// Sends the page: in the ack where one is asked for, else as `chatHistory`.
pub async fn handle(
    session: &Session,
    room: RoomId,
    cursor: Cursor,
    limit: u32,
    id: Option<&RequestId>,
) -> Result<(), ChatError> {
    let snapshot = Snapshot::begin(&session.chat.hub, &session.device).await;
    let page = session
        .chat
        .store
        .get_history(room, &session.device.user, cursor, limit)
        .await?;
    let frame = match id {
        Some(id) => Frame::ack(
            id,
            &Ack::History {
                room_id: room,
                messages: page.messages,
                has_more: page.has_more,
            },
        ),
        None => Frame::event("chatHistory", &page.messages),
    };
    session
        .finish(snapshot, room, vec![(page.position, vec![frame])])
        .await;
    Ok(())
}
