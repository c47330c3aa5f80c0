//! `leaveChat`: this device views no room.

use super::session::Session;
use crate::error::ChatError;
use crate::protocol::event::Ack;
use crate::protocol::frame::{Frame, RequestId};

/// Leaves the room that is viewed, if one is.
pub async fn handle(session: &mut Session, id: Option<&RequestId>) -> Result<(), ChatError> {
    leave_room(session).await?;
    session.send_all([Frame::status("leaved from all rooms")]);
    session.send_all(Session::ack(id, &Ack::Left {}));
    Ok(())
}

/// The device views no room any more, whether the store could be told or not: the lease ends by itself.
pub async fn leave_room(session: &mut Session) -> Result<(), ChatError> {
    let Some(room) = session.viewing.take() else {
        return Ok(());
    };
    session
        .chat
        .hub
        .set_viewing(&session.device, Some(room), None);
    session
        .chat
        .store
        .leave_chat(room, &session.device.user, session.device.id)
        .await
}
