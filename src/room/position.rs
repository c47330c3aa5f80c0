//! A room's position in its history.

use std::sync::Arc;

use crate::protocol::ids::MessageId;

/// Every change has a number, `rev`; every message one of its own, `seq`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// Set when the room was created: another epoch means another history.
    pub epoch: Arc<str>,
    pub rev: u64,
    pub seq: u64,
    /// The newest message, [`MessageId::NONE`] if there is none.
    pub last_id: MessageId,
}

impl Position {
    /// Whether nothing lies between this position and `next`.
    pub fn is_followed_by(&self, next: &Self) -> bool {
        self.epoch == next.epoch && self.rev + 1 == next.rev
    }
}
