//! Messages of a room as read from the store, and how far each member has read.

use super::Position;
use crate::protocol::event::Message;
use crate::protocol::ids::UserId;

/// How far each member has read, in rooms of at most 100 members.
#[derive(Debug, Clone, Default)]
pub struct Marks(pub Vec<(UserId, u64)>);

impl Marks {
    /// The members who have read the message with this number.
    pub fn read_by(&self, seq: u64) -> Vec<String> {
        self.0
            .iter()
            .filter(|(_, read_seq)| *read_seq >= seq)
            .map(|(user, _)| user.to_string())
            .collect()
    }
}

/// Messages of a room, oldest first, and the position at which they were read.
#[derive(Debug, Clone)]
pub struct Page {
    pub position: Position,
    pub has_more: bool,
    pub messages: Vec<Message>,
    /// The room has at most 100 members: their markers are listed.
    pub small: bool,
    pub marks: Marks,
}

/// What a server missed of a room.
pub enum Missed {
    /// The room does not exist.
    Gone,
    /// What was delivered is not a prefix of what is stored; this is the room's position now.
    Reset(Position),
    Page(Page),
}
