//! What a room is, and how one of its members sees it.

use super::Position;
use crate::protocol::event::{ChatEntry, Group, Message};
use crate::protocol::ids::RoomId;

/// A chat list entry with the position at which it was read.
#[derive(Debug, Clone)]
pub struct PositionedEntry {
    pub entry: ChatEntry,
    pub position: Position,
}

/// What a room is, apart from what happens in it.
#[derive(Debug, Clone)]
pub struct RoomFacts {
    pub is_group: bool,
    pub name: String,
    pub member_count: u64,
    /// All members, in rooms of at most 100; otherwise empty.
    pub members: Vec<String>,
}

impl RoomFacts {
    /// How `user` sees the room at a position, without any message data yet.
    pub fn entry_for(
        self,
        user: &str,
        room: RoomId,
        position: &Position,
        created_at_ms: u64,
    ) -> ChatEntry {
        let mut others = self.members;
        others.retain(|member| member != user);
        let (friend_id, group) = if self.is_group {
            let group_name = match self.name.as_str() {
                "" => format!("Group ({})", self.member_count),
                _ => self.name,
            };
            let group = Group {
                group_name,
                member_count: self.member_count,
                members: others,
            };
            (None, Some(group))
        } else {
            (others.into_iter().next(), None)
        };
        ChatEntry {
            room_id: room,
            is_group_chat: self.is_group,
            available: self.member_count > 1,
            last_message: None,
            unread_cnt: position.seq,
            seq: position.seq,
            read_seq: 0,
            friend_id,
            group,
            active_at_ms: position.last_id.ms.max(created_at_ms),
        }
    }
}

/// A room as chat lists show it: the same for all its members, except for how far each has read.
#[derive(Debug, Clone)]
pub struct ListedRoom {
    pub id: RoomId,
    pub facts: RoomFacts,
    pub position: Position,
    /// There is someone left to talk to.
    pub available: bool,
    pub last_message: Option<Message>,
    /// Latest activity, Unix time in milliseconds.
    pub active_at_ms: u64,
}

impl ListedRoom {
    /// The entry of a member who has read up to `read_seq`.
    pub fn entry_for(self, user: &str, read_seq: u64) -> PositionedEntry {
        let position = self.position;
        let base = self
            .facts
            .entry_for(user, self.id, &position, self.active_at_ms);
        let entry = ChatEntry {
            available: self.available,
            last_message: self.last_message,
            unread_cnt: position.seq.saturating_sub(read_seq),
            read_seq,
            active_at_ms: self.active_at_ms,
            ..base
        };
        PositionedEntry { entry, position }
    }
}
