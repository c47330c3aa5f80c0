//! One message of the replaced server, read from its JSON.

use std::time::UNIX_EPOCH;

use serde_json::{Map, Value};

use super::members::Members;
use super::report::Why;
use crate::protocol::ids::UserId;
use crate::protocol::surrogates::replace_halves;

/// Characters of an id that can be a message's `clientMessageId`, at most.
const ID_MAX_CHARS: usize = 64;
/// Characters of a type, at most.
const TYPE_MAX_CHARS: usize = 32;
/// The type of a message that tells none.
const TEXT: &str = "text";
/// The type that only a server gives to messages.
const SYSTEM: &str = "system";

/// A message that has a time, and so a place among the others.
#[derive(Debug)]
pub(super) struct OldMessage {
    /// A printable text, unless the message is refused for it.
    pub(super) id: String,
    /// Unix time in milliseconds.
    pub(super) at_ms: u64,
    /// The members that have read it, its sender among them, by their places.
    pub(super) readers: Vec<usize>,
    /// What is taken of it, or why nothing is.
    pub(super) said: Result<Said, Why>,
}

/// What was said, and by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) sender: UserId,
    /// The strings of an array are joined by line ends.
    pub(super) content: String,
    /// `None` for a text.
    pub(super) kind: Option<String>,
    /// The bytes of each string, where the content was an array.
    pub(super) parts: Option<Vec<usize>>,
}

/// Reads a message as the list holds it.
///
/// # Errors
/// It has no place among the others: why, and its id where there is one.
pub(super) fn parse(
    json: &[u8],
    members: &Members,
    content_max_bytes: usize,
) -> Result<OldMessage, (Option<String>, Why)> {
    let mut fields = fields(json).ok_or((None, Why::NotJson))?;
    let mut field = |name| fields.remove(name).unwrap_or_default();
    let id = match field("id") {
        Value::String(id) if !id.is_empty() => Some(id),
        _ => None,
    };
    let Some(at_ms) = time(&field("timestamp")) else {
        return Err((id, Why::NoTime));
    };
    let id = match id {
        Some(id) if is_id(&id) => id,
        id => return Err((id, Why::NoId)),
    };
    let sender = field("senderId").as_str().and_then(UserId::parse);
    let mut readers = readers(&field("readBy"), members);
    readers.extend(sender.as_ref().and_then(|sender| members.place(sender)));
    let said = match sender {
        Some(sender) => said(sender, field("type"), field("content"), content_max_bytes),
        None => Err(Why::NoSender),
    };
    Ok(OldMessage {
        id,
        at_ms,
        readers,
        said,
    })
}

/// The time of a message.
pub(super) fn time_of(json: &[u8]) -> Option<u64> {
    time(fields(json)?.get("timestamp")?)
}

/// Half of a character, which a text of JavaScript can end with, is shown as what cannot be read.
fn fields(json: &[u8]) -> Option<Map<String, Value>> {
    let json = std::str::from_utf8(json).ok()?;
    serde_json::from_str(&replace_halves(json, "\\ufffd")).ok()
}

fn time(timestamp: &Value) -> Option<u64> {
    let at = humantime::parse_rfc3339_weak(timestamp.as_str()?).ok()?;
    u64::try_from(at.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
}

fn is_id(id: &str) -> bool {
    id.chars().count() <= ID_MAX_CHARS && !id.chars().any(char::is_control)
}

/// Those of the list that are members. What others have read moves nobody's marker.
fn readers(read_by: &Value, members: &Members) -> Vec<usize> {
    let listed = read_by.as_array().into_iter().flatten();
    let place = |user: &Value| members.place(&UserId::parse(user.as_str()?)?);
    listed.filter_map(place).collect()
}

fn said(
    sender: UserId,
    kind: Value,
    content: Value,
    content_max_bytes: usize,
) -> Result<Said, Why> {
    let kind = match kind {
        Value::Null => TEXT.to_owned(),
        Value::String(kind) if is_type(&kind) => kind,
        _ => return Err(Why::Type),
    };
    let strings = match content {
        Value::String(text) => Strings::One(text),
        Value::Array(items) => Strings::Many(texts(items).ok_or(Why::NoContent)?),
        _ => return Err(Why::NoContent),
    };
    for text in strings.all() {
        check(&kind, text)?;
    }
    let (content, parts) = match strings {
        Strings::One(text) => (text, None),
        Strings::Many(texts) => (
            texts.join("\n"),
            Some(texts.iter().map(String::len).collect()),
        ),
    };
    let ends = parts
        .as_ref()
        .map_or(0, |parts: &Vec<usize>| parts.len() - 1);
    // The line ends between several strings do not count.
    let bytes = content.len() - ends;
    if bytes > content_max_bytes {
        let at_most = content_max_bytes;
        return Err(Why::TooLarge { bytes, at_most });
    }
    Ok(Said {
        sender,
        content,
        kind: Some(kind).filter(|kind| kind != TEXT),
        parts,
    })
}

/// A content in the shape in which it was sent.
enum Strings {
    One(String),
    Many(Vec<String>),
}

impl Strings {
    fn all(&self) -> &[String] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Many(texts) => texts,
        }
    }
}

fn texts(items: Vec<Value>) -> Option<Vec<String>> {
    let text = |item| match item {
        Value::String(text) => Some(text),
        _ => None,
    };
    let texts: Option<Vec<String>> = items.into_iter().map(text).collect();
    texts.filter(|texts| !texts.is_empty())
}

fn is_type(kind: &str) -> bool {
    let printable = kind.bytes().all(|byte| byte.is_ascii_graphic());
    (1..=TYPE_MAX_CHARS).contains(&kind.len()) && printable && kind != SYSTEM
}

/// An image is an address; a picture within the text is none that a chat's history can hold.
fn check(kind: &str, text: &str) -> Result<(), Why> {
    let begins = |with: &str| {
        text.get(..with.len())
            .is_some_and(|beginning| beginning.eq_ignore_ascii_case(with))
    };
    if begins("data:image/") || kind == "image" && begins("data:") {
        return Err(Why::DataImage { bytes: text.len() });
    }
    if kind == "image" && !begins("http://") && !begins("https://") {
        return Err(Why::ImageNoUrl);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn read(message: &Value) -> Result<OldMessage, (Option<String>, Why)> {
        let users = ["alice", "bob"].map(|user| UserId::parse(user).unwrap());
        let members = Members::new(users.to_vec());
        parse(message.to_string().as_bytes(), &members, 100)
    }

    fn message(changes: Value) -> Value {
        let mut message = json!({
            "id": "m-1", "senderId": "alice", "content": "Hello",
            "timestamp": "2024-08-20T10:15:00.250Z", "readBy": ["alice", "bob", "carol", 7],
        });
        for (name, value) in changes.as_object().unwrap() {
            message[name] = value.clone();
        }
        message
    }

    fn refused(changes: Value) -> Why {
        read(&message(changes)).unwrap().said.unwrap_err()
    }

    #[test]
    fn a_message_of_the_first_versions_is_a_text() {
        let read = read(&message(json!({}))).unwrap();
        assert_eq!((&*read.id, read.at_ms), ("m-1", 1_724_148_900_250));
        assert_eq!(read.readers, [0, 1, 0]);
        let said = read.said.unwrap();
        assert_eq!(
            (&*said.content, said.kind, said.parts),
            ("Hello", None, None)
        );
    }

    #[test]
    fn a_message_of_later_versions_keeps_its_type_and_its_strings() {
        let text = json!({ "type": "text", "content": ["Hello", "José\n"] });
        let said = read(&message(text)).unwrap().said.unwrap();
        assert_eq!((&*said.content, said.kind), ("Hello\nJosé\n", None));
        assert_eq!(said.parts, Some(vec![5, 6]));
        let image = json!({ "type": "image", "content": ["https://a.example/b.png"] });
        let said = read(&message(image)).unwrap().said.unwrap();
        assert_eq!(said.kind.as_deref(), Some("image"));
        assert_eq!(said.parts, Some(vec![23]));
    }

    #[test]
    fn half_of_a_character_costs_itself_only() {
        let json = message(json!({}))
            .to_string()
            .replace("Hello", r"cut \ud83d");
        let members = Members::new(Vec::new());
        let said = parse(json.as_bytes(), &members, 100).unwrap().said.unwrap();
        assert_eq!(said.content, "cut \u{fffd}");
    }

    #[test]
    fn what_cannot_be_taken_says_why() {
        let long = "x".repeat(101);
        for (changes, why) in [
            (
                json!({ "content": long }),
                Why::TooLarge {
                    bytes: 101,
                    at_most: 100,
                },
            ),
            (json!({ "content": [] }), Why::NoContent),
            (json!({ "content": ["a", 1] }), Why::NoContent),
            (json!({ "content": null }), Why::NoContent),
            (
                json!({ "content": "data:image/png;base64,AA" }),
                Why::DataImage { bytes: 24 },
            ),
            (
                json!({ "type": "image", "content": "Data:x" }),
                Why::DataImage { bytes: 6 },
            ),
            (
                json!({ "type": "image", "content": ["/a.png"] }),
                Why::ImageNoUrl,
            ),
            (json!({ "type": "system" }), Why::Type),
            (json!({ "type": 1 }), Why::Type),
            (json!({ "senderId": "" }), Why::NoSender),
        ] {
            assert_eq!(refused(changes), why);
        }
    }

    #[test]
    fn what_has_no_place_says_why() {
        let unplaced = |changes| read(&message(changes)).unwrap_err();
        let id = || Some("m-1".to_owned());
        assert_eq!(
            unplaced(json!({ "timestamp": "soon" })),
            (id(), Why::NoTime)
        );
        assert_eq!(unplaced(json!({ "timestamp": 5 })), (id(), Why::NoTime));
        assert_eq!(unplaced(json!({ "id": 5 })), (None, Why::NoId));
        assert_eq!(unplaced(json!({ "id": "" })).1, Why::NoId);
        let members = Members::new(Vec::new());
        for broken in ["", "{", "[]", "null", "\"x\"", "\u{0}"] {
            let outcome = parse(broken.as_bytes(), &members, 100);
            assert_eq!(outcome.unwrap_err(), (None, Why::NotJson), "{broken}");
        }
    }
}
