//! `sendMessage`: append one message.

use super::session::Session;
use crate::error::ChatError;
use crate::protocol::event::Ack;
use crate::protocol::frame::RequestId;
use crate::protocol::ids::RoomId;

/// Stores the message; the script publishes it. Only the ack is sent from here.
pub async fn handle(
    session: &Session,
    room: RoomId,
    content: &str,
    client_message_id: Option<&str>,
    id: Option<&RequestId>,
) -> Result<(), ChatError> {
    let sent = session
        .chat
        .store
        .send_message(room, &session.device.user, content, client_message_id)
        .await?;
    if id.is_some() {
        let result = Ack::Sent {
            id: sent.id,
            room_id: room,
            seq: sent.id.seq,
            timestamp: sent.id.timestamp(),
            duplicate: sent.duplicate,
        };
        session.send_all(Session::ack(id, &result));
    }
    Ok(())
}
