//! `enterChat`: this device views a room, and has read all of it.

use super::leave;
use super::list::restless;
use super::session::Session;
use crate::error::{ChatError, ErrorCode};
use crate::hub::snapshot::Snapshot;
use crate::protocol::event::{Ack, Shown};
use crate::protocol::frame::{Frame, RequestId};
use crate::protocol::ids::RoomId;
use crate::room::Position;
use crate::store::calls::{Entered, PAGE_MAX_BYTES};

/// Sends the latest messages to this device, then its `status` and ack. A former room is left.
pub async fn handle(
    session: &mut Session,
    room: RoomId,
    limit: u32,
    id: Option<&RequestId>,
) -> Result<(), ChatError> {
    let mut snapshot = Snapshot::begin(&session.chat.hub, &session.device).await;
    loop {
        let share = session.chat.answers.take(PAGE_MAX_BYTES).await?;
        let entered = enter(session, room, limit).await?;
        let before = entered.page.position;
        let after = Position {
            rev: entered.rev_after,
            ..before.clone()
        };
        let history = Frame::event(
            "chatHistory",
            &Shown(&*entered.page.messages, session.device.shape),
        );
        let history = share.cover(history).await?;
        let mut last = vec![Frame::status(&format!("{room} entered"))];
        let result = Ack::Entered {
            room_id: room,
            seq: before.seq,
            has_more: entered.page.has_more,
        };
        last.extend(Session::ack(id, &result));
        // The marker's own event comes between the two.
        let parts = vec![(before, vec![history]), (after, last)];
        let Err(overtaken) = Session::finish(snapshot, room, parts).await else {
            return Ok(());
        };
        snapshot = overtaken.read_again().await.ok_or_else(restless)?;
    }
}

/// The device views the room; it leaves the one that it viewed before.
async fn enter(session: &mut Session, room: RoomId, limit: u32) -> Result<Entered, ChatError> {
    leave::leave_entered(session, room).await;
    // Should the connection end meanwhile, this is what there is to leave.
    session.entering = Some(room);
    let Session { chat, device, .. } = session;
    let entered = chat
        .store
        .enter_chat(room, &device.user, device.id, limit)
        .await;
    let entered = match entered {
        Ok(entered) => entered,
        Err(error) => {
            if error.code != ErrorCode::Timeout {
                session.entering = None;
            }
            return Err(error);
        }
    };
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
    session.entering = None;
    Ok(entered)
}
