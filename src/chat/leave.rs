//! `leaveChat`: this device views no room.

use super::session::Session;
use crate::error::ChatError;
use crate::protocol::event::Ack;
use crate::protocol::frame::{Frame, RequestId};
use crate::protocol::ids::RoomId;

/// Leaves the room that the device views, if any.
pub async fn handle(session: &mut Session, id: Option<&RequestId>) -> Result<(), ChatError> {
    leave_all(session).await?;
    session.send_all([Frame::status("leaved from all rooms")]);
    session.send_all(Session::ack(id, &Ack::Left {}));
    Ok(())
}

/// The device views no room any more, whether or not the store learns of it: the lease expires on its own.
pub async fn leave_room(session: &mut Session) -> Result<(), ChatError> {
    let Some(room) = session.viewing.take() else {
        return Ok(());
    };
    session
        .chat
        .hub
        .set_viewing(&session.device, Some(room), None);
    leave_in_store(session, room).await
}

/// The device enters `next`: it leaves a room for which its earlier entry was not confirmed.
pub async fn leave_entered(session: &mut Session, next: RoomId) {
    let entered = session.entering.take().filter(|entered| *entered != next);
    if let Some(room) = entered
        && let Err(error) = leave_in_store(session, room).await
    {
        // Its lease expires on its own.
        log::debug!("a device could not leave a room that it may have entered: {error}");
    }
}

/// As [`leave_room`], including a room for which the device's entry was not confirmed.
pub async fn leave_all(session: &mut Session) -> Result<(), ChatError> {
    let entering = session.entering.take();
    let former = leave_room(session).await;
    if let Some(room) = entering {
        leave_in_store(session, room).await?;
    }
    former
}

async fn leave_in_store(session: &Session, room: RoomId) -> Result<(), ChatError> {
    session
        .chat
        .store
        .leave_chat(room, &session.device.user, session.device.id)
        .await
}
