//! The content of a message: one text, even if it was sent as several strings, and the shape in which a device wants
//! it.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};
use serde::{Serialize, Serializer};

/// The type of a message that does not name one.
pub const TEXT: &str = "text";
/// The type of the server's own messages.
pub const SYSTEM: &str = "system";
/// Strings of one content, at most.
pub const STRINGS_MAX: usize = 20;

/// Bytes of a type's name, at most.
const KIND_MAX_BYTES: usize = 32;

/// Separates the strings of a content that is stored as one text.
const JOINT: char = '\n';

/// A message's type by its name, if it has one.
pub fn kind(name: Option<String>) -> Cow<'static, str> {
    match name {
        Some(name) if name != TEXT => Cow::Owned(name),
        _ => Cow::Borrowed(TEXT),
    }
}

/// Whether a type can have this name: 1 to 32 printable ASCII characters.
pub fn is_kind(name: &str) -> bool {
    let is_printable = name.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    is_printable && (1..=KIND_MAX_BYTES).contains(&name.len())
}

/// How a content that was sent as an array is divided into strings: the length of each in bytes. In the text they are
/// joined by line ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts(Box<[usize]>);

impl Parts {
    /// Reads `5,12`; `None` if the text is something else, or has too many numbers.
    pub fn parse(text: &str) -> Option<Self> {
        let number = |digits: &str| {
            let is_plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            is_plain.then(|| digits.parse().ok()).flatten()
        };
        // One more is enough to detect too many.
        let lengths = text.splitn(STRINGS_MAX + 1, ',').map(number);
        let lengths = lengths.collect::<Option<Box<[usize]>>>()?;
        (lengths.len() <= STRINGS_MAX).then_some(Self(lengths))
    }

    /// The strings of a text. Joined by line ends they give the text again, even if it differs from the one that was
    /// sent because it was cut, or changed by a rule.
    pub fn split<'a>(&self, text: &'a str) -> Vec<&'a str> {
        let mut strings = Vec::with_capacity(self.0.len());
        let mut rest = text;
        for len in &self.0[..self.0.len().saturating_sub(1)] {
            let fits = rest.is_char_boundary(*len) && rest[*len..].starts_with(JOINT);
            if !fits {
                break;
            }
            strings.push(&rest[..*len]);
            rest = &rest[*len + JOINT.len_utf8()..];
        }
        let left = self.0.len().max(1) - strings.len();
        strings.extend(rest.splitn(left, JOINT));
        strings
    }
}

/// The stored form.
impl fmt::Display for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, len) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            write!(f, "{len}")?;
        }
        Ok(())
    }
}

/// A content as a client sends it: a string, or an array of 1 to [`STRINGS_MAX`] strings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    pub text: String,
    /// `None` for a string.
    pub parts: Option<Parts>,
}

impl Content {
    /// The strings as they were sent.
    pub fn strings(&self) -> Vec<&str> {
        match &self.parts {
            Some(parts) => parts.split(&self.text),
            None => vec![&self.text],
        }
    }

    /// Whether the content is entirely empty.
    pub fn is_empty(&self) -> bool {
        match &self.parts {
            Some(Parts(lengths)) => lengths.iter().all(|len| *len == 0),
            None => self.text.is_empty(),
        }
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a string or an array of 1 to {STRINGS_MAX} strings")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Content, E> {
        self.visit_string(text.to_owned())
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Content, E> {
        Ok(Content { text, parts: None })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut strings: A) -> Result<Content, A::Error> {
        let (mut text, mut lengths) = (String::new(), Vec::new());
        while let Some(string) = strings.next_element::<Cow<'_, str>>()? {
            if lengths.len() == STRINGS_MAX {
                return Err(A::Error::invalid_length(STRINGS_MAX + 1, &self));
            }
            if !lengths.is_empty() {
                text.push(JOINT);
            }
            text.push_str(&string);
            lengths.push(string.len());
        }
        if lengths.is_empty() {
            return Err(A::Error::invalid_length(0, &self));
        }
        let parts = Some(Parts(lengths.into()));
        Ok(Content { text, parts })
    }
}

/// The shape of contents that a device has chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentShape {
    /// Each is a string; several strings are joined by line ends.
    String,
    /// Each is an array.
    Array,
    /// Each has the form in which it was sent.
    AsSent,
}

impl ContentShape {
    /// Every shape, in the order of the declaration.
    pub const ALL: [Self; 3] = [Self::String, Self::Array, Self::AsSent];

    /// The shape with this name.
    pub fn of(name: &str) -> Option<Self> {
        match name {
            "string" => Some(Self::String),
            "array" => Some(Self::Array),
            "as-sent" => Some(Self::AsSent),
            _ => None,
        }
    }

    /// Whether a content with these parts, or with none, is shown as an array.
    pub fn is_array(self, parts: Option<&Parts>) -> bool {
        match self {
            Self::String => false,
            Self::Array => true,
            Self::AsSent => parts.is_some(),
        }
    }
}

/// A content in the shape that a device has chosen.
pub(super) struct ShownContent<'a> {
    pub text: &'a str,
    pub parts: Option<&'a Parts>,
    pub shape: ContentShape,
}

impl Serialize for ShownContent<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !self.shape.is_array(self.parts) {
            return serializer.serialize_str(self.text);
        }
        match self.parts {
            Some(parts) => parts.split(self.text).serialize(serializer),
            None => [self.text].serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn content(json: &str) -> Option<Content> {
        serde_json::from_str(json).ok()
    }

    fn shown(content: &Content, shape: ContentShape) -> String {
        let shown = ShownContent {
            text: &content.text,
            parts: content.parts.as_ref(),
            shape,
        };
        serde_json::to_string(&shown).unwrap()
    }

    #[test]
    fn a_content_is_shown_in_the_shape_that_a_device_has_chosen() {
        use ContentShape::{Array, AsSent, String};
        let string = content(r#""a\nb""#).unwrap();
        let array = content(r#"["a\nb","","ü"]"#).unwrap();
        for (content, shape, json) in [
            (&string, String, r#""a\nb""#),
            (&string, AsSent, r#""a\nb""#),
            (&string, Array, r#"["a\nb"]"#),
            (&array, String, r#""a\nb\n\nü""#),
            (&array, AsSent, r#"["a\nb","","ü"]"#),
            (&array, Array, r#"["a\nb","","ü"]"#),
        ] {
            assert_eq!(shown(content, shape), json, "{shape:?}");
        }
        for (index, shape) in ContentShape::ALL.into_iter().enumerate() {
            assert_eq!(shape as usize, index);
        }
    }

    #[test]
    fn only_strings_and_short_arrays_of_strings_are_contents() {
        let many = |count| serde_json::to_string(&vec!["x"; count]).unwrap();
        assert!(content(&many(STRINGS_MAX)).is_some());
        for json in [
            &many(STRINGS_MAX + 1),
            "[]",
            "7",
            "null",
            "{}",
            "[7]",
            "[[\"a\"]]",
            "[null]",
        ] {
            assert_eq!(content(json), None, "{json}");
        }
        for (json, is_empty) in [
            (r#""""#, true),
            (r#"["",""]"#, true),
            (r#""\n""#, false),
            (r#"["\n"]"#, false),
            (r#"["","x"]"#, false),
        ] {
            assert_eq!(content(json).unwrap().is_empty(), is_empty, "{json}");
        }
    }

    #[test]
    fn a_text_that_is_not_the_one_that_was_sent_is_split_all_the_same() {
        let parts = Parts::parse("5,3,2").unwrap();
        for (text, strings) in [
            ("Hello\nyou\nxx", vec!["Hello", "you", "xx"]),
            // Cut for a list
            ("Hello\nyo", vec!["Hello", "yo"]),
            ("Hel", vec!["Hel"]),
            ("", vec![""]),
            // Changed by a rule
            ("***\nyou\nxx", vec!["***", "you", "xx"]),
            ("Hello\nyou\nxx\nyy", vec!["Hello", "you", "xx\nyy"]),
            ("Hellü\nyou", vec!["Hellü", "you"]),
        ] {
            assert_eq!(parts.split(text), strings, "{text:?}");
        }
        for text in [
            "",
            ",",
            "5,",
            "5,x",
            "-1",
            "+1",
            "5, 6",
            "99999999999999999999",
        ] {
            assert_eq!(Parts::parse(text), None, "{text:?}");
        }
        assert_eq!(Parts::parse(&["1"; STRINGS_MAX + 1].join(",")), None);
        assert_eq!(parts.to_string(), "5,3,2");
    }

    proptest! {
        #[test]
        fn no_character_is_lost(text in "[a\\nü]{0,30}", lengths in prop::collection::vec(0..9_usize, 1..6)) {
            let parts = Parts(lengths.into());
            let strings = parts.split(&text);
            prop_assert!(strings.len() <= parts.0.len());
            prop_assert_eq!(strings.join("\n"), text);
        }

        #[test]
        fn what_was_sent_comes_back(sent in prop::collection::vec("[a\\nü]{0,5}", 1..=STRINGS_MAX)) {
            let json = serde_json::to_string(&sent).unwrap();
            let content = content(&json).unwrap();
            let parts = Parts::parse(&content.parts.unwrap().to_string()).unwrap();
            prop_assert_eq!(parts.split(&content.text), sent);
        }
    }
}
