//! `enterChat`: this device views a room, and has read all of it.

use super::leave;
use super::session::Session;
use crate::error::ChatError;
use crate::hub::snapshot::Snapshot;
use crate::protocol::event::Ack;
use crate::protocol::frame::{Frame, RequestId};
use crate::protocol::ids::RoomId;
use crate::room::Position;

/// Sends the latest messages to this device, then its `status` and ack. A former room is left.
pub async fn handle(
    session: &mut Session,
    room: RoomId,
    limit: u32,
    id: Option<&RequestId>,
) -> Result<(), ChatError> {
    let device = &session.device;
    let snapshot = Snapshot::begin(&session.chat.hub, device).await;
    let entered = session
        .chat
        .store
        .enter_chat(room, &device.user, device.id, limit)
        .await?;
    if session.viewing != Some(room) {
        if let Err(error) = leave::leave_room(session).await {
            // Its lease ends by itself.
            log::debug!("a device could not leave its former room: {error}");
        }
        session
            .chat
            .hub
            .set_viewing(&session.device, None, Some(room));
        session.viewing = Some(room);
    }
    let before = entered.page.position;
    let after = Position {
        rev: entered.rev_after,
        ..before.clone()
    };
    let history = Frame::event("chatHistory", &entered.page.messages);
    let mut last = vec![Frame::status(&format!("{room} entered"))];
    let result = Ack::Entered {
        room_id: room,
        seq: before.seq,
        has_more: entered.page.has_more,
    };
    last.extend(Session::ack(id, &result));
    // The marker's own event comes between the two.
    session
        .finish(snapshot, room, vec![(before, vec![history]), (after, last)])
        .await;
    Ok(())
}
