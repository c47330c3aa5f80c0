//! The channels that a server listens to.

use uuid::Uuid;

use crate::protocol::ids::{RoomId, UserId};

/// A channel of Redis pub/sub.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Topic {
    /// What happens in a room.
    Room(RoomId),
    /// What concerns one user: the rooms they gain.
    User(UserId),
    /// What concerns all servers: a reset, a question about scripts.
    Control,
    /// The answers to one asker, by the nonce in the channel's name.
    Answers(String),
    /// What a server publishes to itself: numbers, by which it knows what has arrived.
    Server(Uuid),
}
