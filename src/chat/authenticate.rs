//! `authenticate`: a fresh token extends the connection in place.

use super::session::Session;
use crate::error::{ChatError, ErrorCode};
use crate::protocol::event::Ack;
use crate::protocol::frame::RequestId;

/// Accepts the token if it is for the same user.
pub fn handle(session: &mut Session, token: &str, id: Option<&RequestId>) -> Result<(), ChatError> {
    let identity = session.chat.verifier.verify(token)?;
    if identity.user_id != session.device.user.as_str() {
        return Err(ChatError::new(
            ErrorCode::Unauthorized,
            "the token is of another user",
        ));
    }
    session.expires_at = identity.expires_at;
    let expires_at = identity
        .expires_at
        .map(|time| humantime::format_rfc3339_seconds(time).to_string());
    session.send_all(Session::ack(id, &Ack::Authenticated { expires_at }));
    Ok(())
}
