//! `sendMessage`: append one message, or several that a device has sent in a row.

use super::session::Session;
use crate::error::ChatError;
use crate::protocol::event::Ack;
use crate::protocol::frame::RequestId;
use crate::protocol::ids::RoomId;
use crate::store::calls::{NewMessage, Sent};

/// Stores the message, which the script publishes. Only the ack is sent from here.
pub async fn handle(
    session: &Session,
    message: NewMessage<'_>,
    id: Option<&RequestId>,
) -> Result<(), ChatError> {
    let store = &session.chat.store;
    let (room, user) = (message.room, &session.device.user);
    let sent = store.send(user, &message).await?;
    acknowledge(session, room, &sent, id);
    Ok(())
}

/// Stores messages in order, in one round trip. Each is answered as if it had come alone.
pub async fn handle_all(
    session: &Session,
    messages: &[(NewMessage<'_>, Option<&RequestId>)],
) -> Vec<Result<(), ChatError>> {
    let all: Vec<NewMessage<'_>> = messages.iter().map(|(message, _)| *message).collect();
    let outcomes = session
        .chat
        .store
        .send_messages(&session.device.user, &all)
        .await;
    let answer = |(outcome, (message, id)): (Result<Sent, ChatError>, &(NewMessage<'_>, _))| {
        let sent = outcome.map_err(|error| error.in_room(message.room))?;
        acknowledge(session, message.room, &sent, *id);
        Ok(())
    };
    outcomes.into_iter().zip(messages).map(answer).collect()
}

fn acknowledge(session: &Session, room: RoomId, sent: &Sent, id: Option<&RequestId>) {
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
}
