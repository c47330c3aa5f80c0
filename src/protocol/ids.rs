//! Ids in their wire form, checked once where they enter.

use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};
use uuid::Uuid;

/// Bytes of a user id, at most.
pub const USER_ID_MAX_BYTES: usize = 128;

/// A user's id: 1 to 128 bytes of UTF-8, no control characters. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(Arc<str>);

impl UserId {
    /// `None` if the text is not a valid user id.
    pub fn parse(text: &str) -> Option<Self> {
        let fits = (1..=USER_ID_MAX_BYTES).contains(&text.len());
        (fits && !text.chars().any(char::is_control)).then(|| Self(text.into()))
    }

    /// The id of a user that is different from all others.
    pub fn random() -> Self {
        Self(Uuid::new_v4().to_string().into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for UserId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// Names two people's rooms: a v5 UUID in this namespace.
const DIRECT_ROOMS: Uuid = Uuid::from_u128(0x2d2a_6a70_7c7b_5a0e_9d0a_6f0c_91c1_4d01);
/// Names groups that were created with a `clientRoomId`.
const NAMED_GROUPS: Uuid = Uuid::from_u128(0x2d2a_6a70_7c7b_5a0e_9d0a_6f0c_91c1_4d02);

/// A room's id: a UUID, lower case with hyphens on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomId(Uuid);

impl RoomId {
    /// `None` if the text is not a hyphenated UUID.
    pub fn parse(text: &str) -> Option<Self> {
        // The other spellings of a UUID (braces, no hyphens) differ in length.
        (text.len() == uuid::fmt::Hyphenated::LENGTH)
            .then(|| Uuid::try_parse(text).ok().map(Self))
            .flatten()
    }

    /// The id of a new group.
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }

    /// The id of the one room that these two share, whichever of them asks.
    pub fn direct(one: &UserId, other: &UserId) -> Self {
        let (first, second) = if one <= other {
            (one, other)
        } else {
            (other, one)
        };
        // No user id contains a NUL, so no two pairs give the same name.
        Self(Uuid::new_v5(
            &DIRECT_ROOMS,
            format!("{first}\0{second}").as_bytes(),
        ))
    }

    /// The id of the group that this user created with this `clientRoomId`.
    pub fn named_group(creator: &UserId, client_room_id: &str) -> Self {
        Self(Uuid::new_v5(
            &NAMED_GROUPS,
            format!("{creator}\0{client_room_id}").as_bytes(),
        ))
    }
}

impl fmt::Display for RoomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            self.0
                .as_hyphenated()
                .encode_lower(&mut Uuid::encode_buffer()),
        )
    }
}

impl Serialize for RoomId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(
            self.0
                .as_hyphenated()
                .encode_lower(&mut Uuid::encode_buffer()),
        )
    }
}

/// Digests of messages that were sent with a `clientMessageId`.
const SENT_MESSAGES: Uuid = Uuid::from_u128(0x2d2a_6a70_7c7b_5a0e_9d0a_6f0c_91c1_4d03);

/// What a room stores for a sender and a `clientMessageId`: the 16 bytes of a v5 UUID, however long both are.
///
/// 122 of the bits come from SHA-1, so two of a room's messages share them by chance once in 10^19 rooms of a billion.
/// A user who searches for a collision finds only pairs of their own making, since each name begins with the user's id:
/// the second message of such a pair is taken for the first, and no other user's message is affected.
pub fn sent_digest(sender: &UserId, client_message_id: &str) -> [u8; 16] {
    // No user id contains a NUL, so no two senders give the same name.
    let name = format!("{sender}\0{client_message_id}");
    Uuid::new_v5(&SENT_MESSAGES, name.as_bytes()).into_bytes()
}

/// One connection of a user; unique across all servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeviceId(Uuid);

impl DeviceId {
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }

    /// `None` if the text is not 32 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let simple = Uuid::try_parse(text).ok().filter(|_| text.len() == 32)?;
        Some(Self(simple))
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_simple().fmt(f)
    }
}

/// A message's id: the id of its stream entry, `ms-seq`. Orders the messages of one room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct MessageId {
    /// The time on Redis's clock when it was sent, Unix time in milliseconds.
    pub ms: u64,
    /// The message's number in its room, from 1.
    pub seq: u64,
}

impl MessageId {
    /// Before the first message of any room.
    pub const NONE: Self = Self { ms: 0, seq: 0 };

    /// `None` if the text is not `digits-digits`, each within u64.
    pub fn parse(text: &str) -> Option<Self> {
        let (ms, seq) = text.split_once('-')?;
        let digits = |part: &str| {
            part.bytes()
                .all(|b| b.is_ascii_digit())
                .then(|| part.parse().ok())
                .flatten()
        };
        Some(Self {
            ms: digits(ms)?,
            seq: digits(seq)?,
        })
    }

    /// When it was sent.
    pub fn timestamp(self) -> String {
        timestamp(self.ms)
    }
}

/// Unix time in milliseconds in its wire form: ISO 8601, UTC, milliseconds.
pub fn timestamp(ms: u64) -> String {
    // After the year 9999 the text does not have this form; an id that large is not one of ours.
    const YEAR_9999_MS: u64 = 253_402_300_799_999;
    let since_epoch = std::time::Duration::from_millis(ms.min(YEAR_9999_MS));
    humantime::format_rfc3339_millis(std::time::UNIX_EPOCH + since_epoch).to_string()
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

impl Serialize for MessageId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn user(text: &str) -> UserId {
        UserId::parse(text).unwrap()
    }

    #[test]
    fn user_ids_are_bounded_and_printable() {
        assert!(UserId::parse("").is_none());
        assert!(UserId::parse(&"x".repeat(128)).is_some());
        assert!(UserId::parse(&"x".repeat(129)).is_none());
        assert!(UserId::parse("a\u{7}b").is_none());
        assert!(UserId::parse("auth0|{🦀}:x").is_some());
    }

    #[test]
    fn two_people_share_one_room_id() {
        assert_eq!(
            RoomId::direct(&user("alice"), &user("bob")),
            RoomId::direct(&user("bob"), &user("alice"))
        );
        assert_ne!(
            RoomId::direct(&user("ab"), &user("c")),
            RoomId::direct(&user("a"), &user("bc"))
        );
        assert_ne!(
            RoomId::named_group(&user("a"), "b"),
            RoomId::direct(&user("a"), &user("b"))
        );
    }

    #[test]
    fn a_digest_is_of_the_sender_and_the_id() {
        let digest = sent_digest(&user("ab"), "c");
        assert_eq!(digest, sent_digest(&user("ab"), "c"));
        for (sender, id) in [("ab", "d"), ("a", "bc"), ("abc", ""), ("b", "c")] {
            assert_ne!(digest, sent_digest(&user(sender), id), "{sender}, {id}");
        }
        assert_ne!(
            RoomId(Uuid::from_bytes(digest)),
            RoomId::named_group(&user("ab"), "c")
        );
    }

    #[test]
    fn room_ids_are_hyphenated_uuids() {
        let room = RoomId::random();
        assert_eq!(RoomId::parse(&room.to_string()), Some(room));
        assert_eq!(RoomId::parse(&room.to_string().to_uppercase()), Some(room));
        assert!(RoomId::parse("lobby").is_none());
        assert!(RoomId::parse(&room.to_string().replace('-', "")).is_none());
    }

    #[test]
    fn message_ids_are_two_numbers() {
        assert_eq!(
            MessageId::parse("1700000000000-7"),
            Some(MessageId {
                ms: 1_700_000_000_000,
                seq: 7
            })
        );
        for bad in [
            "",
            "-",
            "1",
            "1-",
            "-1",
            "1-2-3",
            "+1-2",
            "1 -2",
            "18446744073709551616-1",
        ] {
            assert_eq!(MessageId::parse(bad), None, "{bad}");
        }
        assert_eq!(
            MessageId {
                ms: 1_700_000_000_123,
                seq: 1
            }
            .timestamp(),
            "2023-11-14T22:13:20.123Z"
        );
        assert_eq!(
            MessageId {
                ms: u64::MAX,
                seq: 1
            }
            .timestamp(),
            "9999-12-31T23:59:59.999Z"
        );
    }
}
