//! What the server sends to a client: the payloads of its events and acks.

use std::borrow::Cow;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::content::{ContentShape, Parts, ShownContent};
use super::ids::{MessageId, RoomId, UserId};
use crate::error::{ChatError, ErrorCode};

/// The first event that a device gets.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Hello<'a> {
    pub user_id: &'a UserId,
    pub server_time: String,
    pub version: &'static str,
    /// [`ClientLimits`].
    pub limits: &'a RawValue,
    /// The names of the events that the client may send.
    pub events: &'a RawValue,
}

/// The limits that a client has to observe.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientLimits {
    pub frame_bytes: usize,
    pub content_bytes: usize,
    pub participants: usize,
    pub rooms_per_user: usize,
    /// 0 means no limit.
    pub requests_per_sec: usize,
    pub request_burst: usize,
    pub page_items: u32,
}

/// One message, as in `newMessage`, `chatHistory` and a chat list entry. [`Shown`] is what devices get.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    pub id: MessageId,
    pub room_id: RoomId,
    pub seq: u64,
    pub sender_id: String,
    /// `type` on the wire.
    pub kind: Cow<'static, str>,
    /// The whole content as one text.
    pub content: String,
    /// The strings that it was sent as; `None` if it was one.
    pub parts: Option<Parts>,
    pub timestamp: String,
    /// The users who have read it; `[]` in rooms of more than 100 members.
    pub read_by: Vec<String>,
    pub read_count: u64,
    pub client_message_id: Option<String>,
    /// Set if the content was cut for a chat list.
    pub truncated: bool,
}

/// A room as one of its members sees it in the chat list. [`Shown`] is what devices get.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatEntry {
    pub room_id: RoomId,
    pub is_group_chat: bool,
    /// There is someone left to talk to.
    pub available: bool,
    pub last_message: Option<Message>,
    pub unread_cnt: u64,
    pub seq: u64,
    pub read_seq: u64,
    /// In a room of two: the other user.
    pub friend_id: Option<String>,
    pub group: Option<Group>,
    /// Latest activity, Unix time in milliseconds: the order of the list. Not shown.
    pub active_at_ms: u64,
}

/// What only a group's chat list entry has.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    pub group_name: String,
    pub member_count: u64,
    /// The others; `[]` in rooms of more than 100 members.
    pub members: Vec<String>,
}

/// Messages, or data that contains some, in the shape of contents that a device has chosen.
#[derive(Debug, Clone)]
pub struct Shown<T>(pub T, pub ContentShape);

impl Serialize for Shown<&Message> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(message, shape) = *self;
        let content = ShownContent {
            text: &message.content,
            parts: message.parts.as_ref(),
            shape,
        };
        let mut fields = serializer.serialize_struct("Message", 11)?;
        fields.serialize_field("id", &message.id)?;
        fields.serialize_field("roomId", &message.room_id)?;
        fields.serialize_field("seq", &message.seq)?;
        fields.serialize_field("senderId", &message.sender_id)?;
        fields.serialize_field("type", &message.kind)?;
        fields.serialize_field("content", &content)?;
        fields.serialize_field("timestamp", &message.timestamp)?;
        fields.serialize_field("readBy", &message.read_by)?;
        fields.serialize_field("readCount", &message.read_count)?;
        if let Some(id) = &message.client_message_id {
            fields.serialize_field("clientMessageId", id)?;
        }
        if message.truncated {
            fields.serialize_field("truncated", &true)?;
        }
        fields.end()
    }
}

impl Serialize for Shown<&ChatEntry> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(entry, shape) = *self;
        let last_message = entry.last_message.as_ref();
        let mut fields = serializer.serialize_struct("ChatEntry", 11)?;
        fields.serialize_field("roomId", &entry.room_id)?;
        fields.serialize_field("isGroupChat", &entry.is_group_chat)?;
        fields.serialize_field("available", &entry.available)?;
        fields.serialize_field(
            "lastMessage",
            &last_message.map(|message| Shown(message, shape)),
        )?;
        fields.serialize_field("unreadCnt", &entry.unread_cnt)?;
        fields.serialize_field("seq", &entry.seq)?;
        fields.serialize_field("readSeq", &entry.read_seq)?;
        if let Some(friend_id) = &entry.friend_id {
            fields.serialize_field("friendId", friend_id)?;
        }
        if let Some(group) = &entry.group {
            fields.serialize_field("groupName", &group.group_name)?;
            fields.serialize_field("memberCount", &group.member_count)?;
            fields.serialize_field("members", &group.members)?;
        }
        fields.end()
    }
}

impl<T> Serialize for Shown<&[T]>
where
    for<'a> Shown<&'a T>: Serialize,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(all, shape) = *self;
        serializer.collect_seq(all.iter().map(|one| Shown(one, shape)))
    }
}

impl Serialize for Shown<Vec<Message>> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Shown(&*self.0, self.1).serialize(serializer)
    }
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

/// The others in a room, sent to the device that has opened it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RoomMembers {
    pub room_id: RoomId,
    /// `[]` if there are more than are listed.
    pub members: Vec<String>,
}

/// A `status` about a message.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageStatus {
    pub message_id: MessageId,
}

/// An error as classic clients expect it: with an additional `status`.
#[derive(Debug, Clone, Serialize)]
pub struct ClassicError<'a> {
    status: &'static str,
    #[serde(flatten)]
    error: &'a ChatError,
    errors: [(); 0],
}

impl<'a> ClassicError<'a> {
    pub fn new(error: &'a ChatError) -> Self {
        let is_validation = matches!(
            error.code,
            ErrorCode::InvalidPayload | ErrorCode::InvalidJson
        );
        Self {
            status: match is_validation {
                true => "validation_error",
                false => "error",
            },
            error,
            errors: [],
        }
    }
}

/// The outcome of a dev reset.
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
        messages: Shown<Vec<Message>>,
        has_more: bool,
    },
    Authenticated {
        expires_at: Option<String>,
    },
    Reset {
        success: bool,
    },
}
