//! What a room is, and how one of its members sees it.

use super::Position;
use crate::protocol::event::{ChatEntry, Group};
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
    /// Everyone, in rooms of at most 100 members; else none.
    pub members: Vec<String>,
}

impl RoomFacts {
    /// How `user` sees the room at a position, with nothing said about its messages yet.
    pub fn entry_for(
        &self,
        user: &str,
        room: RoomId,
        position: &Position,
        created_at_ms: u64,
    ) -> ChatEntry {
        let others: Vec<String> = self
            .members
            .iter()
            .filter(|member| *member != user)
            .cloned()
            .collect();
        let group_name = || match self.name.as_str() {
            "" => format!("Group ({})", self.member_count),
            name => name.to_owned(),
        };
        let friend_id = (!self.is_group).then(|| others.first().cloned()).flatten();
        let group = self.is_group.then(|| Group {
            group_name: group_name(),
            member_count: self.member_count,
            members: others,
        });
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
