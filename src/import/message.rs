//! One message of the replaced server, parsed from its JSON.

use std::borrow::Cow;
use std::time::UNIX_EPOCH;

use serde_json::{Map, Value};

use super::members::Members;
use super::report::Why;
use crate::protocol::content::{self, Content, STRINGS_MAX, SYSTEM, is_kind};
use crate::protocol::ids::UserId;
use crate::protocol::request::ID_MAX_CHARS;
use crate::protocol::surrogates::replace_halves;

/// A message that has a time and can therefore be placed among the others.
#[derive(Debug)]
pub(super) struct OldMessage {
    /// A printable text, unless the message is refused because of it.
    pub(super) id: String,
    /// Unix time in milliseconds.
    pub(super) at_ms: u64,
    /// The members that have read it, including its sender, as indices.
    pub(super) readers: Vec<usize>,
    /// What is imported of it, or why nothing is.
    pub(super) said: Result<Said, Why>,
}

/// What was sent, and by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) sender: UserId,
    pub(super) kind: Cow<'static, str>,
    pub(super) content: Content,
}

/// Parses a message as stored in the list.
///
/// # Errors
/// The message cannot be placed among the others: why, and its id if it has one.
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

/// A lone surrogate, with which a JavaScript string can end, becomes the replacement character.
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

/// The readers that are members. Reads by other users move no marker.
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
        Value::Null => content::kind(None),
        Value::String(kind) if is_kind(&kind) && kind != SYSTEM => content::kind(Some(kind)),
        _ => return Err(Why::Type),
    };
    let content = read_content(content).ok_or(Why::NoContent)?;
    let strings = content.strings();
    for text in &strings {
        check(&kind, text)?;
    }
    // The line breaks between several strings do not count.
    let bytes = strings.iter().map(|text| text.len()).sum();
    if bytes > content_max_bytes {
        let at_most = content_max_bytes;
        return Err(Why::TooLarge { bytes, at_most });
    }
    Ok(Said {
        sender,
        kind,
        content,
    })
}

/// If an array is too long, its last string gets the rest.
fn read_content(mut content: Value) -> Option<Content> {
    if let Some(strings) = content.as_array_mut()
        && strings.len() > STRINGS_MAX
    {
        let rest = strings.split_off(STRINGS_MAX - 1);
        let rest: Option<Vec<&str>> = rest.iter().map(Value::as_str).collect();
        strings.push(rest?.join("\n").into());
    }
    serde_json::from_value(content).ok()
}

/// An image must be an address; a chat's history cannot hold an image inside the text.
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
        assert_eq!((&*said.content.text, &*said.kind), ("Hello", "text"));
        assert_eq!(said.content.parts, None);
    }

    #[test]
    fn a_message_of_later_versions_keeps_its_type_and_its_strings() {
        let text = json!({ "type": "text", "content": ["Hello", "José\n"] });
        let said = read(&message(text)).unwrap().said.unwrap();
        assert_eq!(
            (&*said.content.text, &*said.kind),
            ("Hello\nJosé\n", "text")
        );
        assert_eq!(said.content.strings(), ["Hello", "José\n"]);
        let image = json!({ "type": "image", "content": ["https://a.example/b.png"] });
        let said = read(&message(image)).unwrap().said.unwrap();
        assert_eq!(said.kind, "image");
        assert_eq!(said.content.strings(), ["https://a.example/b.png"]);
    }

    #[test]
    fn of_too_many_strings_none_is_lost() {
        let many: Vec<String> = (1..=22).map(|n| n.to_string()).collect();
        let said = read(&message(json!({ "content": many }))).unwrap().said;
        let content = said.unwrap().content;
        assert_eq!(content.text, many.join("\n"));
        assert_eq!(content.strings().len(), 20);
        assert_eq!(content.strings()[19], "20\n21\n22");
    }

    #[test]
    fn half_of_a_character_costs_itself_only() {
        let json = message(json!({}))
            .to_string()
            .replace("Hello", r"cut \ud83d");
        let members = Members::new(Vec::new());
        let said = parse(json.as_bytes(), &members, 100).unwrap().said.unwrap();
        assert_eq!(said.content.text, "cut \u{fffd}");
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
