//! The error codes of the wire protocol, and the one table from Redis's and the scripts' codes to them.

use std::fmt;

use serde::Serialize;

use crate::auth::AuthError;

/// What went wrong, for programs. The same words in Lua, in Rust and on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ErrorCode {
    Unauthorized,
    TokenExpired,
    InvalidJson,
    UnknownEvent,
    InvalidPayload,
    MessageTooLarge,
    NotMember,
    MessageNotFound,
    TooManyParticipants,
    TooManyRooms,
    RateLimited,
    Rejected,
    Unavailable,
    Timeout,
    HistoryReset,
    Internal,
}

impl ErrorCode {
    /// Every code, in the order of the declaration.
    pub const ALL: [Self; 16] = [
        Self::Unauthorized,
        Self::TokenExpired,
        Self::InvalidJson,
        Self::UnknownEvent,
        Self::InvalidPayload,
        Self::MessageTooLarge,
        Self::NotMember,
        Self::MessageNotFound,
        Self::TooManyParticipants,
        Self::TooManyRooms,
        Self::RateLimited,
        Self::Rejected,
        Self::Unavailable,
        Self::Timeout,
        Self::HistoryReset,
        Self::Internal,
    ];

    /// Whether the request itself was at fault. Too many of these close the connection.
    pub fn is_bad_request(self) -> bool {
        !matches!(
            self,
            Self::TooManyRooms
                | Self::RateLimited
                | Self::Rejected
                | Self::Unavailable
                | Self::Timeout
                | Self::HistoryReset
                | Self::Internal
        )
    }

    /// Whether the same request may be done a moment later.
    pub fn is_temporary(self) -> bool {
        matches!(self, Self::Unavailable | Self::Timeout)
    }

    /// The code for the first word of a Redis error: a script's own, or one that Redis refuses with.
    ///
    /// `None` means that nobody foresaw it: a fault of ours, or a script that failed half-way.
    pub fn from_redis(word: &str) -> Option<Self> {
        Some(match word {
            "MESSAGE_TOO_LARGE" => Self::MessageTooLarge,
            "NOT_MEMBER" => Self::NotMember,
            "MESSAGE_NOT_FOUND" => Self::MessageNotFound,
            "TOO_MANY_PARTICIPANTS" => Self::TooManyParticipants,
            "TOO_MANY_ROOMS" => Self::TooManyRooms,
            "HISTORY_RESET" => Self::HistoryReset,
            "REJECTED" => Self::Rejected,
            "READONLY" | "OOM" | "MISCONF" | "LOADING" | "BUSY" | "NOREPLICAS" | "CLUSTERDOWN"
            | "MASTERDOWN" | "TRYAGAIN" | "NOAUTH" | "NOPERM" | "WRONGPASS" => Self::Unavailable,
            _ => return None,
        })
    }
}

/// The word on the wire.
impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// An error as a client gets it: `{code, message, event?, roomId?}`.
#[derive(Debug, Clone, Serialize, thiserror::Error)]
#[serde(rename_all = "camelCase")]
#[error("{code}: {message}")]
pub struct ChatError {
    pub code: ErrorCode,
    /// Plain English: what was wrong and what is accepted. Never a secret, a key name or a stack.
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room_id: Option<String>,
}

impl ChatError {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            event: None,
            room_id: None,
        }
    }

    /// A field of the payload is missing, ill-typed or out of range.
    pub fn invalid_payload(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidPayload, message)
    }

    /// The caller is not in the room, or there is no such room: no one learns which.
    pub fn not_member() -> Self {
        Self::new(
            ErrorCode::NotMember,
            "You do not have permission to join this chat.",
        )
    }

    pub fn message_not_found() -> Self {
        Self::new(
            ErrorCode::MessageNotFound,
            "There is no such message in this chat.",
        )
    }

    /// What a reader has of a room is not, or no longer, its history.
    pub fn history_reset() -> Self {
        Self::new(
            ErrorCode::HistoryReset,
            "This is no longer the history of this chat: load it again.",
        )
    }

    pub fn in_room(mut self, room: impl ToString) -> Self {
        self.room_id = Some(room.to_string());
        self
    }

    pub fn of_event(mut self, event: &str) -> Self {
        self.event = Some(event.to_owned());
        self
    }
}

impl From<AuthError> for ChatError {
    fn from(error: AuthError) -> Self {
        let code = match error {
            AuthError::Expired => ErrorCode::TokenExpired,
            AuthError::Missing | AuthError::Invalid(_) => ErrorCode::Unauthorized,
        };
        Self::new(code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_found_at_its_index() {
        for (index, code) in ErrorCode::ALL.into_iter().enumerate() {
            assert_eq!(code as usize, index, "{code}");
        }
    }
}
