//! `resetRedisForDevelopment`: delete all chats, in development only.

use super::session::Session;
use crate::error::ChatError;
use crate::protocol::event::{Ack, RedisStatus};
use crate::protocol::frame::{Frame, RequestId};

/// Resets, or refuses with an error; every connected device then gets an empty list through the control channel.
pub async fn handle(session: &Session, id: Option<&RequestId>) -> Result<(), ChatError> {
    let status = if session.chat.reset_allowed {
        session.chat.store.reset().await?;
        log::warn!(
            "all chats were deleted by user {}",
            session.device.user.as_str().escape_debug()
        );
        RedisStatus {
            success: true,
            message: "Redis has been reset",
        }
    } else {
        RedisStatus {
            success: false,
            message: "only a server in development that listens on loopback can be reset",
        }
    };
    session.send_all([Frame::event("redisStatus", &status)]);
    session.send_all(Session::ack(
        id,
        &Ack::Reset {
            success: status.success,
        },
    ));
    Ok(())
}
