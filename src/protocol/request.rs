//! What a client asks for: frames and payloads, whose shape is checked before anything else happens.
//!
//! The maximum length of a content and size of a room are rules, and those belong to the scripts. Before a script is
//! called, the size of a frame bounds both.

use std::borrow::Cow;
use std::collections::HashSet;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::content::{self, Content, SYSTEM};
use super::frame::RequestId;
use super::ids::{MessageId, RoomId, UserId};
use crate::error::{ChatError, ErrorCode};

/// Messages in a page of history if the client does not specify a number.
pub const PAGE_DEFAULT: u32 = 50;
/// Messages in a page of history, at most.
pub const PAGE_MAX: u32 = 100;

/// Characters of an id chosen by a client, at most.
pub const ID_MAX_CHARS: usize = 64;
/// Characters of a group's name, at most.
pub const NAME_MAX_CHARS: usize = 128;

/// A client event with its payload.
#[derive(Debug, Clone, PartialEq)]
pub enum ClientEvent {
    InitializeChat {
        participants: Vec<UserId>,
        name: Option<String>,
        client_room_id: Option<String>,
    },
    GetChatList,
    EnterChat {
        room: RoomId,
        limit: u32,
    },
    LeaveChat,
    SendMessage(SendMessage),
    MarkAsRead {
        room: RoomId,
        message: MessageId,
    },
    GetHistory {
        room: RoomId,
        cursor: Cursor,
        limit: u32,
    },
    Authenticate {
        token: String,
    },
    ResetRedisForDevelopment,
}

/// What `sendMessage` asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct SendMessage {
    pub room: RoomId,
    /// The message's type.
    pub kind: Cow<'static, str>,
    pub content: Content,
    pub client_message_id: Option<String>,
}

/// The name of a client event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventName {
    SendMessage,
    MarkAsRead,
    EnterChat,
    LeaveChat,
    InitializeChat,
    GetChatList,
    GetHistory,
    Authenticate,
    ResetRedisForDevelopment,
}

impl EventName {
    /// Every name, in the order of the declaration.
    pub const ALL: [Self; 9] = [
        Self::SendMessage,
        Self::MarkAsRead,
        Self::EnterChat,
        Self::LeaveChat,
        Self::InitializeChat,
        Self::GetChatList,
        Self::GetHistory,
        Self::Authenticate,
        Self::ResetRedisForDevelopment,
    ];

    /// The name in its wire form.
    pub fn text(self) -> &'static str {
        match self {
            Self::SendMessage => "sendMessage",
            Self::MarkAsRead => "markAsRead",
            Self::EnterChat => "enterChat",
            Self::LeaveChat => "leaveChat",
            Self::InitializeChat => "initializeChat",
            Self::GetChatList => "getChatList",
            Self::GetHistory => "getHistory",
            Self::Authenticate => "authenticate",
            Self::ResetRedisForDevelopment => "resetRedisForDevelopment",
        }
    }

    /// The event with this name.
    pub fn of(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|name| name.text() == text)
    }
}

impl ClientEvent {
    pub fn name(&self) -> EventName {
        match self {
            Self::InitializeChat { .. } => EventName::InitializeChat,
            Self::GetChatList => EventName::GetChatList,
            Self::EnterChat { .. } => EventName::EnterChat,
            Self::LeaveChat => EventName::LeaveChat,
            Self::SendMessage(_) => EventName::SendMessage,
            Self::MarkAsRead { .. } => EventName::MarkAsRead,
            Self::GetHistory { .. } => EventName::GetHistory,
            Self::Authenticate { .. } => EventName::Authenticate,
            Self::ResetRedisForDevelopment => EventName::ResetRedisForDevelopment,
        }
    }

    /// The room that the event concerns, if the client named one.
    pub fn room(&self) -> Option<RoomId> {
        match self {
            Self::EnterChat { room, .. }
            | Self::SendMessage(SendMessage { room, .. })
            | Self::MarkAsRead { room, .. }
            | Self::GetHistory { room, .. } => Some(*room),
            _ => None,
        }
    }
}

/// The place of a page of history.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cursor {
    Latest,
    Before(MessageId),
    After(MessageId),
}

/// What a device asks for, over either protocol.
#[derive(Debug)]
pub struct Request {
    /// Present if an ack is requested.
    pub id: Option<RequestId>,
    /// The event's name as it was sent, if it was sent as a string.
    pub event: Option<String>,
    pub body: Result<ClientEvent, ChatError>,
}

impl Request {
    /// Whether it is a well-formed `sendMessage`.
    pub fn is_message(&self) -> bool {
        matches!(self.body, Ok(ClientEvent::SendMessage(_)))
    }
}

#[derive(Deserialize)]
struct RawFrame<'a> {
    #[serde(borrow)]
    event: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
}

/// Reads one text frame: `{"event": string, "data"?: any, "id"?: string or integer}`.
pub fn parse_frame(text: &str) -> Request {
    let frame = match serde_json::from_str::<RawFrame>(text) {
        Ok(frame) => frame,
        Err(error) => {
            return Request {
                id: None,
                event: None,
                body: Err(frame_error(text, &error)),
            };
        }
    };
    let id = match frame.id.map(RequestId::parse) {
        None => None,
        Some(Some(id)) => Some(id),
        Some(None) => {
            let error = ChatError::invalid_payload(
                "\"id\" must be a string or an integer, at most 256 bytes",
            );
            return Request {
                id: None,
                event: None,
                body: Err(error),
            };
        }
    };
    let Some(event) = frame
        .event
        .and_then(|raw| serde_json::from_str::<String>(raw.get()).ok())
    else {
        let error = ChatError::invalid_payload("\"event\" must be a string: the name of the event");
        return Request {
            id,
            event: None,
            body: Err(error),
        };
    };
    let body = parse_event(&event, frame.data);
    Request {
        id,
        event: Some(event),
        body,
    }
}

fn frame_error(text: &str, error: &serde_json::Error) -> ChatError {
    // A wrong type is detected before a syntax error that comes later.
    let is_json = error.is_data() && serde_json::from_str::<IgnoredAny>(text).is_ok();
    if is_json {
        ChatError::invalid_payload(
            "a frame must be an object: {\"event\": string, \"data\"?: any, \"id\"?: string or integer}",
        )
    } else {
        ChatError::new(ErrorCode::InvalidJson, "the frame is not JSON")
    }
}

/// Reads an event's payload; the same for both protocols. Unknown fields are ignored, `null` counts as absent.
pub fn parse_event(event: &str, data: Option<&RawValue>) -> Result<ClientEvent, ChatError> {
    let name = EventName::of(event)
        .ok_or_else(|| ChatError::new(ErrorCode::UnknownEvent, "there is no event of this name"))?;
    let fields = || Fields::parse(data);
    Ok(match name {
        EventName::InitializeChat => initialize_chat(&fields()?)?,
        EventName::GetChatList => ClientEvent::GetChatList,
        EventName::EnterChat => {
            let fields = fields()?;
            ClientEvent::EnterChat {
                limit: fields.limit()?,
                room: fields.room()?,
            }
        }
        EventName::LeaveChat => ClientEvent::LeaveChat,
        EventName::SendMessage => send_message(&fields()?)?,
        EventName::MarkAsRead => {
            let fields = fields()?;
            let message = fields
                .message_id("messageId", fields.message_id)?
                .ok_or_else(|| missing("messageId"))?;
            ClientEvent::MarkAsRead {
                room: fields.room()?,
                message: message.ok_or_else(ChatError::message_not_found)?,
            }
        }
        EventName::GetHistory => get_history(&fields()?)?,
        EventName::Authenticate => {
            let token = string("token", fields()?.token)?.ok_or_else(|| missing("token"))?;
            ClientEvent::Authenticate { token }
        }
        EventName::ResetRedisForDevelopment => ClientEvent::ResetRedisForDevelopment,
    })
}

fn initialize_chat(fields: &Fields) -> Result<ClientEvent, ChatError> {
    let wrong = || {
        ChatError::invalid_payload(
            "\"participants\" must be an array of user ids: strings of 1 to 128 bytes without control characters",
        )
    };
    let raw = fields.participants.ok_or_else(|| missing("participants"))?;
    let listed: Vec<String> = serde_json::from_str(raw.get()).map_err(|_| wrong())?;
    let mut seen = HashSet::with_capacity(listed.len());
    let mut participants = Vec::with_capacity(listed.len());
    for text in &listed {
        let user = UserId::parse(text).ok_or_else(wrong)?;
        if seen.insert(user.clone()) {
            participants.push(user);
        }
    }
    let name = string("name", fields.name)?;
    if name
        .as_ref()
        .is_some_and(|name| !(1..=NAME_MAX_CHARS).contains(&name.chars().count()))
    {
        return Err(ChatError::invalid_payload(
            "\"name\" must have 1 to 128 characters",
        ));
    }
    Ok(ClientEvent::InitializeChat {
        participants,
        name,
        client_room_id: client_id("clientRoomId", fields.client_room_id)?,
    })
}

fn send_message(fields: &Fields) -> Result<ClientEvent, ChatError> {
    let raw = fields.content.ok_or_else(|| missing("content"))?;
    let content: Content = serde_json::from_str(raw.get()).map_err(|_| {
        ChatError::invalid_payload("\"content\" must be a string or an array of 1 to 20 strings")
    })?;
    if content.is_empty() {
        return Err(ChatError::invalid_payload("\"content\" must not be empty"));
    }
    let client_message_id = client_id("clientMessageId", fields.client_message_id)?;
    Ok(ClientEvent::SendMessage(SendMessage {
        room: fields.room()?,
        kind: kind(fields)?,
        content,
        client_message_id,
    }))
}

fn kind(fields: &Fields) -> Result<Cow<'static, str>, ChatError> {
    let name = content::kind(string("type", fields.kind)?);
    if !content::is_kind(&name) {
        return Err(ChatError::invalid_payload(
            "\"type\" must have 1 to 32 printable ASCII characters",
        ));
    }
    if name == SYSTEM {
        return Err(ChatError::invalid_payload(
            "\"type\" must not be \"system\": such messages are the server's",
        ));
    }
    Ok(name)
}

fn get_history(fields: &Fields) -> Result<ClientEvent, ChatError> {
    let before = fields.message_id("before", fields.before)?;
    let after = fields.message_id("after", fields.after)?;
    let limit = fields.limit()?;
    let room = fields.room()?;
    // An id that is not one of ours is not in this room's history.
    let cursor = match (before, after) {
        (Some(_), Some(_)) => {
            return Err(ChatError::invalid_payload(
                "\"before\" and \"after\" exclude each other",
            ));
        }
        (Some(before), None) => Cursor::Before(before.ok_or_else(ChatError::message_not_found)?),
        (None, Some(after)) => {
            Cursor::After(after.ok_or_else(|| ChatError::history_reset().in_room(room))?)
        }
        (None, None) => Cursor::Latest,
    };
    Ok(ClientEvent::GetHistory {
        room,
        cursor,
        limit,
    })
}

/// All fields of all payloads, unparsed until they are needed.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Fields<'a> {
    #[serde(borrow)]
    participants: Option<&'a RawValue>,
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    client_room_id: Option<&'a RawValue>,
    #[serde(borrow)]
    room_id: Option<&'a RawValue>,
    #[serde(borrow)]
    limit: Option<&'a RawValue>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    client_message_id: Option<&'a RawValue>,
    #[serde(borrow)]
    message_id: Option<&'a RawValue>,
    #[serde(borrow)]
    before: Option<&'a RawValue>,
    #[serde(borrow)]
    after: Option<&'a RawValue>,
    #[serde(borrow)]
    token: Option<&'a RawValue>,
}

impl<'a> Fields<'a> {
    fn parse(data: Option<&'a RawValue>) -> Result<Self, ChatError> {
        let wrong = || ChatError::invalid_payload("\"data\" must be an object");
        let text = data.ok_or_else(wrong)?.get();
        // A struct can be read from an array as well, but only an object is accepted.
        if !text.starts_with('{') {
            return Err(wrong());
        }
        serde_json::from_str(text)
            .map_err(|_| ChatError::invalid_payload("\"data\" names a field twice"))
    }

    fn room(&self) -> Result<RoomId, ChatError> {
        let text = short_string("roomId", self.room_id)?.ok_or_else(|| missing("roomId"))?;
        RoomId::parse(&text).ok_or_else(ChatError::not_member)
    }

    /// `Some(None)` is a string that is not one of our ids.
    fn message_id(
        &self,
        field: &str,
        raw: Option<&RawValue>,
    ) -> Result<Option<Option<MessageId>>, ChatError> {
        Ok(short_string(field, raw)?.map(|text| MessageId::parse(&text)))
    }

    fn limit(&self) -> Result<u32, ChatError> {
        let Some(raw) = self.limit else {
            return Ok(PAGE_DEFAULT);
        };
        serde_json::from_str(raw.get())
            .ok()
            .filter(|limit| (1..=PAGE_MAX).contains(limit))
            .ok_or_else(|| ChatError::invalid_payload("\"limit\" must be an integer from 1 to 100"))
    }
}

fn missing(field: &str) -> ChatError {
    ChatError::invalid_payload(format!("\"{field}\" is missing"))
}

fn string(field: &str, raw: Option<&RawValue>) -> Result<Option<String>, ChatError> {
    raw.map(|raw| serde_json::from_str(raw.get()))
        .transpose()
        .map_err(|_| ChatError::invalid_payload(format!("\"{field}\" must be a string")))
}

fn short_string(field: &str, raw: Option<&RawValue>) -> Result<Option<String>, ChatError> {
    let text = string(field, raw)?;
    match text {
        Some(text) if text.chars().count() > ID_MAX_CHARS => Err(ChatError::invalid_payload(
            format!("\"{field}\" must have at most {ID_MAX_CHARS} characters"),
        )),
        text => Ok(text),
    }
}

fn client_id(field: &str, raw: Option<&RawValue>) -> Result<Option<String>, ChatError> {
    let text = string(field, raw)?;
    let good = |text: &String| {
        (1..=ID_MAX_CHARS).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
    };
    match text {
        Some(text) if !good(&text) => Err(ChatError::invalid_payload(format!(
            "\"{field}\" must have 1 to {ID_MAX_CHARS} printable ASCII characters without spaces"
        ))),
        text => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_at_its_index_and_by_its_text() {
        for (index, name) in EventName::ALL.into_iter().enumerate() {
            assert_eq!(name as usize, index, "{name:?}");
            assert_eq!(EventName::of(name.text()), Some(name));
        }
        assert_eq!(EventName::of("newMessage"), None);
    }
}
