//! What the server tells a client: the payloads of its events and acks.

use serde::Serialize;
use serde_json::value::RawValue;

use super::ids::{MessageId, RoomId, UserId};

/// What a device is told first.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Hello<'a> {
    pub user_id: &'a UserId,
    pub server_time: String,
    pub version: &'static str,
    /// [`ClientLimits`].
    pub limits: &'a RawValue,
    /// The names of the events that it may send.
    pub events: &'a RawValue,
}

/// What a client has to keep to.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientLimits {
    pub frame_bytes: usize,
    pub content_bytes: usize,
    pub participants: usize,
    pub rooms_per_user: usize,
    /// 0 for any number.
    pub requests_per_sec: usize,
    pub request_burst: usize,
    pub page_items: u32,
}

/// One message, as in `newMessage`, `chatHistory` and a chat list entry.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    pub id: MessageId,
    pub room_id: RoomId,
    pub seq: u64,
    pub sender_id: String,
    pub content: String,
    pub timestamp: String,
    /// Who has read it; `[]` in rooms of more than 100 members.
    pub read_by: Vec<String>,
    pub read_count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_message_id: Option<String>,
    /// Set where the content was cut for a chat list.
    #[serde(skip_serializing_if = "is_false")]
    pub truncated: bool,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// A room as one of its members sees it in the chat list.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ChatEntry {
    pub room_id: RoomId,
    pub is_group_chat: bool,
    /// There is someone left to talk to.
    pub available: bool,
    pub last_message: Option<Message>,
    pub unread_cnt: u64,
    pub seq: u64,
    pub read_seq: u64,
    /// Two people's room: the other one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub friend_id: Option<String>,
    #[serde(flatten)]
    pub group: Option<Group>,
    /// Latest activity, Unix time in milliseconds: the order of the list.
    #[serde(skip)]
    pub active_at_ms: u64,
}

/// What only a group's chat list entry has.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Group {
    pub group_name: String,
    pub member_count: u64,
    /// The others; `[]` in rooms of more than 100 members.
    pub members: Vec<String>,
}

/// This user has read the room up to here.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageRead {
    pub room_id: RoomId,
    pub user_id: UserId,
    pub seq: u64,
    pub message_id: Option<MessageId>,
}

/// How a dev reset went.
#[derive(Debug, Clone, Serialize)]
pub struct RedisStatus {
    pub success: bool,
    pub message: &'static str,
}

/// Results of requests, as acks carry them.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
pub enum Ack {
    Initialized {
        room_id: RoomId,
        created: bool,
    },
    ChatList {
        rooms: usize,
    },
    Entered {
        room_id: RoomId,
        seq: u64,
        has_more: bool,
    },
    Left {},
    Sent {
        id: MessageId,
        room_id: RoomId,
        seq: u64,
        timestamp: String,
        duplicate: bool,
    },
    Marked {
        room_id: RoomId,
        read_seq: u64,
        unread_cnt: u64,
    },
    History {
        room_id: RoomId,
        messages: Vec<Message>,
        has_more: bool,
    },
    Authenticated {
        expires_at: Option<String>,
    },
    Reset {
        success: bool,
    },
}
