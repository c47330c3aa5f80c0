//! Why a script call failed, and what the log and the client see of it.

use redis::{ParsingError, RedisError};

use crate::error::{ChatError, ErrorCode};
use crate::scripts::Script;

/// Why a script call produced no result; a script's or Redis's own message is kept as it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// Nothing was written.
    #[error("there is no connection to Redis")]
    Down,
    /// Nothing was written.
    #[error("too many calls to Redis were waiting")]
    Crowded,
    #[error("Redis did not answer in time")]
    TimedOut,
    /// The call ran, but its write is not as safe as an ack promises.
    #[error("neither disk nor replicas have confirmed it in time")]
    Unconfirmed,
    /// Redis refused, the script refused or failed, or the connection broke.
    #[error(transparent)]
    Redis(#[from] RedisError),
    /// The script returned something that does not match its header.
    #[error("it returned what the server cannot read: {0}")]
    Unreadable(ParsingError),
    /// An error of the caller.
    #[error("a room has at least one member")]
    NoMembers,
}

/// Logs a failure for the operator, unless it is a refusal by a rule.
pub(super) fn log_failure(script: Script, error: &CallError) {
    let name = script.name();
    match (error, ErrorCode::from(error)) {
        (CallError::Redis(error), ErrorCode::Unavailable) => {
            log::warn!("Redis refused {name}: {error}");
        }
        (error, ErrorCode::Internal) => log::error!("{name}.lua failed: {error}"),
        _ => {}
    }
}

impl From<&CallError> for ErrorCode {
    fn from(error: &CallError) -> Self {
        match error {
            CallError::Down | CallError::Crowded => Self::Unavailable,
            CallError::TimedOut | CallError::Unconfirmed => Self::Timeout,
            CallError::Redis(error) => of_redis(error),
            CallError::Unreadable(_) | CallError::NoMembers => Self::Internal,
        }
    }
}

impl CallError {
    /// Whether the call may have run.
    pub(super) fn is_of_unknown_outcome(&self) -> bool {
        match self {
            Self::TimedOut => true,
            Self::Redis(error) => is_lost(error),
            Self::Down
            | Self::Crowded
            | Self::Unconfirmed
            | Self::Unreadable(_)
            | Self::NoMembers => false,
        }
    }
}

/// The connection broke before an answer arrived.
fn is_lost(error: &RedisError) -> bool {
    error.is_timeout() || error.is_io_error() || error.is_connection_dropped()
}

fn of_redis(error: &RedisError) -> ErrorCode {
    if is_lost(error) {
        return ErrorCode::Timeout;
    }
    let code = error.code().and_then(ErrorCode::from_redis);
    code.unwrap_or(ErrorCode::Internal)
}

/// The one place where a failed call becomes the client's error.
impl From<&CallError> for ChatError {
    fn from(error: &CallError) -> Self {
        let code = ErrorCode::from(error);
        let text = match (code, error) {
            (ErrorCode::Internal, _) => "the server failed to do this; its log says why",
            // Nothing was stored.
            (ErrorCode::Unavailable, _) => {
                "the chat store cannot be used right now: nothing was stored, try again soon"
            }
            // The text comes from a rule.
            (code, CallError::Redis(error)) if code != ErrorCode::Timeout => {
                error.detail().unwrap_or_default()
            }
            // The command may have run.
            _ => {
                "the chat store did not answer in time: whether it was done is not known (a message can be sent again with the same clientMessageId)"
            }
        };
        Self::new(code, text)
    }
}
