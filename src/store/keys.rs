//! The names of all keys and channels in Redis. No other code builds one.
//!
//! Keys of a room carry the hash tag `{room:R}`, keys of a user `{user:U}`, so that each room or user stays in one
//! slot. Ids are percent-encoded outside `A-Za-z0-9._@-`: no id can end a tag or run into the next part.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use uuid::Uuid;

use crate::protocol::ids::{RoomId, UserId};
use crate::room::Topic;

const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'.')
    .remove(b'_')
    .remove(b'@')
    .remove(b'-');

/// The keys of one room by their names in the scripts, in the order in which every room script gets them.
pub const ROOM_KEYS: [&str; 9] = [
    "meta", "members", "reads", "messages", "viewing", "ext", "sent_a", "sent_b", "events",
];
/// The keys of one room that `get_chat_list` reads.
pub const LIST_KEYS: [&str; 5] = ["meta", "members", "reads", "messages", "ext"];

/// Builds names under one installation's prefix.
#[derive(Debug, Clone)]
pub struct Keys {
    prefix: String,
}

impl Keys {
    pub fn new(prefix: impl Into<String>) -> Self {
        Self {
            prefix: prefix.into(),
        }
    }

    /// `chat:{room:R}:part`, the key that scripts call by this name.
    pub fn room(&self, room: RoomId, name: &str) -> String {
        format!("{}:{{room:{room}}}:{}", self.prefix, part(name))
    }

    /// Passes the keys of a room that scripts call by these names to `take`, one after the other, all written into one
    /// buffer.
    pub fn room_parts(&self, room: RoomId, names: &[&str], mut take: impl FnMut(&str)) {
        let mut key = self.room(room, "");
        let stem = key.len();
        for name in names {
            key.truncate(stem);
            key.push_str(part(name));
            take(&key);
        }
    }

    /// `chat:{room:R}:sent:<user>:<clientMessageId>`, where servers of version 0.1.0 remembered what was sent.
    pub fn sent_before(&self, room: RoomId, user: &UserId, client_message_id: &str) -> String {
        let (user, id) = (
            utf8_percent_encode(user.as_str(), ENCODED),
            utf8_percent_encode(client_message_id, ENCODED),
        );
        format!("{}:{{room:{room}}}:sent:{user}:{id}", self.prefix)
    }

    /// `chat:{user:U}:part`
    pub fn user(&self, user: &UserId, part: &str) -> String {
        format!(
            "{}:{{user:{}}}:{part}",
            self.prefix,
            utf8_percent_encode(user.as_str(), ENCODED)
        )
    }

    /// `chat:scripts`: the sets of scripts that were applied. Not one of the keys that a reset deletes.
    pub fn scripts(&self) -> String {
        format!("{}:scripts", self.prefix)
    }

    /// `chat:confirm`: written before a confirmation is awaited; its value has no meaning.
    pub fn confirm(&self) -> String {
        format!("{}:confirm", self.prefix)
    }

    /// `chat:scripts:answers:<nonce>`: a channel on which servers answer a question about scripts.
    pub fn answers(&self, nonce: &str) -> String {
        format!("{}{nonce}", self.answers_prefix())
    }

    /// Whether the channel is one for answers.
    pub fn is_answers(&self, channel: &str) -> bool {
        channel.starts_with(&self.answers_prefix())
    }

    fn answers_prefix(&self) -> String {
        format!("{}:scripts:answers:", self.prefix)
    }

    /// A SCAN pattern that matches every chat key of this installation.
    pub fn all_keys_pattern(&self) -> String {
        format!("{}:{{*", self.prefix)
    }

    pub fn channel(&self, topic: &Topic) -> String {
        match topic {
            Topic::Room(room) => self.room(*room, "events"),
            Topic::User(user) => self.user(user, "events"),
            Topic::Control => format!("{}:control", self.prefix),
            Topic::Answers(nonce) => self.answers(nonce),
            Topic::Server(server) => format!("{}:{{server:{server}}}:events", self.prefix),
        }
    }

    /// The topic of a channel name; `None` if the channel is not one of this installation's.
    pub fn topic(&self, channel: &str) -> Option<Topic> {
        let rest = channel.strip_prefix(&self.prefix)?.strip_prefix(':')?;
        if rest == "control" {
            return Some(Topic::Control);
        }
        if let Some(nonce) = channel.strip_prefix(&self.answers_prefix()) {
            return Some(Topic::Answers(nonce.to_owned()));
        }
        let (kind, id) = rest
            .strip_prefix('{')?
            .strip_suffix("}:events")?
            .split_once(':')?;
        match kind {
            "room" => RoomId::parse(id).map(Topic::Room),
            "user" => UserId::parse(&percent_decode_str(id).decode_utf8().ok()?).map(Topic::User),
            "server" => Uuid::parse_str(id).ok().map(Topic::Server),
            _ => None,
        }
    }
}

/// The keys of the NestJS server that this one replaces. An import reads them; nothing writes them.
pub mod replaced {
    /// A SCAN pattern that matches every key of its rooms.
    pub const ROOMS_PATTERN: &str = "chat:*";
    /// A SCAN pattern that matches every key of its users.
    pub const USERS_PATTERN: &str = "user:*:chats";

    /// The parts of a room that the server stores.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Part {
        /// A set of user ids.
        Users,
        /// A list of messages.
        Messages,
        /// A text.
        Name,
    }

    impl Part {
        const ALL: [Self; 3] = [Self::Users, Self::Messages, Self::Name];

        fn text(self) -> &'static str {
            match self {
                Self::Users => "users",
                Self::Messages => "messages",
                Self::Name => "name",
            }
        }
    }

    /// `chat:<roomId>:users`, `…:messages` or `…:name`
    pub fn room(id: &str, part: Part) -> String {
        format!("chat:{id}:{}", part.text())
    }

    /// The room id and the part of a key; `None` if it is not a key of a room.
    pub fn of_room(key: &str) -> Option<(&str, Part)> {
        let rest = key.strip_prefix("chat:")?;
        let found = Part::ALL.into_iter().find_map(|part| {
            let id = rest.strip_suffix(part.text())?.strip_suffix(':')?;
            Some((id, part))
        });
        // Keys of an installation of this server have braces in this place.
        found.filter(|(id, _)| !id.is_empty() && !id.starts_with('{'))
    }

    /// The user of `user:<userId>:chats`.
    pub fn of_user(key: &str) -> Option<&str> {
        let id = key.strip_prefix("user:")?.strip_suffix(":chats")?;
        Some(id).filter(|id| !id.is_empty() && !id.starts_with('{'))
    }

    /// Whether keys under this prefix would mix with those of the replaced server.
    pub fn shares_prefix(key_prefix: &str) -> bool {
        ["chat", "user"].contains(&key_prefix)
    }
}

/// The suffix of the room key that scripts call by this name.
fn part(name: &str) -> &str {
    match name {
        "sent_a" => "sent:a",
        "sent_b" => "sent:b",
        name => name,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ids_cannot_leave_their_place() {
        let keys = Keys::new("chat");
        let user = UserId::parse("a}:{b*?|ü@x.y").unwrap();
        assert_eq!(
            keys.user(&user, "rooms"),
            "chat:{user:a%7D%3A%7Bb%2A%3F%7C%C3%BC@x.y}:rooms"
        );
    }

    #[test]
    fn a_key_of_the_replaced_server_tells_whose_it_is() {
        use replaced::{Part, of_room, of_user, room};
        for part in [Part::Users, Part::Messages, Part::Name] {
            assert_eq!(of_room(&room("r:1", part)), Some(("r:1", part)));
        }
        assert_eq!(of_user("user:u:1:chats"), Some("u:1"));
        let ours = Keys::new("chat");
        for key in [
            ours.room(RoomId::random(), "messages"),
            ours.scripts(),
            "chat::users".to_owned(),
            "chat:r:other".to_owned(),
        ] {
            assert_eq!(of_room(&key), None, "{key}");
        }
        let alice = UserId::parse("alice").unwrap();
        assert_eq!(of_user(&Keys::new("user").user(&alice, "chats")), None);
    }

    #[test]
    fn a_channel_tells_its_topic() {
        let keys = Keys::new("app.1");
        for topic in [
            Topic::Control,
            Topic::Answers("5c1d".to_owned()),
            Topic::Server(Uuid::new_v4()),
            Topic::Room(RoomId::random()),
            Topic::User(UserId::parse("auth0|{🦀}:x %41").unwrap()),
        ] {
            assert_eq!(keys.topic(&keys.channel(&topic)), Some(topic));
        }
        assert_eq!(Keys::new("chat").topic("chat2:control"), None);
    }
}
