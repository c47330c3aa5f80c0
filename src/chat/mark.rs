//! `markAsRead`: move the caller's read marker.

use super::session::Session;
use crate::error::ChatError;
use crate::hub::snapshot::Snapshot;
use crate::protocol::event::{Ack, MessageStatus};
use crate::protocol::frame::{Frame, RequestId};
use crate::protocol::ids::{MessageId, RoomId};

/// Moves the marker, which the script publishes; then sends this device's `status` and ack.
pub async fn handle(
    session: &Session,
    room: RoomId,
    message: MessageId,
    id: Option<&RequestId>,
) -> Result<(), ChatError> {
    let snapshot = Snapshot::begin(&session.chat.hub, &session.device).await;
    let marked = session
        .chat
        .store
        .mark_as_read(room, &session.device.user, message)
        .await?;
    let unread_cnt = marked.position.seq.saturating_sub(marked.read_seq);
    let mut frames = vec![Frame::status(&format!("{message} marked"))];
    if session.device.is_classic {
        let message_id = message;
        frames.push(Frame::event("status", &MessageStatus { message_id }));
    }
    let result = Ack::Marked {
        room_id: room,
        read_seq: marked.read_seq,
        unread_cnt,
    };
    frames.extend(Session::ack(id, &result));
    let parts = vec![(marked.position, frames.clone())];
    if Session::finish(snapshot, room, parts).await.is_err() {
        // Nothing in them becomes outdated.
        session.send_all(frames);
    }
    Ok(())
}
