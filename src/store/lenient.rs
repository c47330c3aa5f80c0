//! Fields of a reply, read as far as possible.

use redis::Value;

use crate::room::flaws::Reading;

/// Reads values, some of which may be flawed.
pub(super) trait Lenient {
    /// Notes that there are more or fewer fields than there should be.
    fn counted(&mut self, fields: usize, expected: usize);
    /// A text; empty if the value is not one.
    fn text(&mut self, name: &str, value: Value) -> String;
    /// A number; 0 if the value is not one.
    fn number(&mut self, name: &str, value: &Value) -> u64;
    /// A list of texts; empty if the value is not one.
    fn texts(&mut self, name: &str, value: Value) -> Vec<String>;
}

impl Lenient for Reading<'_> {
    fn counted(&mut self, fields: usize, expected: usize) {
        if fields != expected {
            self.note("fields", &format!("are {fields} in number, not {expected}"));
        }
    }

    fn text(&mut self, name: &str, value: Value) -> String {
        match value {
            Value::BulkString(bytes) => String::from_utf8(bytes).unwrap_or_else(|error| {
                self.note(name, "is not UTF-8");
                String::from_utf8_lossy(error.as_bytes()).into_owned()
            }),
            Value::SimpleString(text) => text,
            Value::Int(number) => {
                self.note(name, "is a number, not a text");
                number.to_string()
            }
            _ => {
                self.note(name, "is missing, or no text");
                String::new()
            }
        }
    }

    fn number(&mut self, name: &str, value: &Value) -> u64 {
        number(value).unwrap_or_else(|| {
            self.note(name, "is no number");
            0
        })
    }

    fn texts(&mut self, name: &str, value: Value) -> Vec<String> {
        let Value::Array(items) = value else {
            self.note(name, "are missing, or no list");
            return Vec::new();
        };
        let text = |item| self.text(name, item);
        items.into_iter().map(text).collect()
    }
}

/// A whole number that is not negative. Redis writes scores as texts; a fraction is truncated.
pub(super) fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        Value::BulkString(bytes) => {
            let text = std::str::from_utf8(bytes).ok()?;
            text.parse().ok().or_else(|| {
                let score: f64 = text.parse().ok()?;
                (score.is_finite() && score >= 0.0).then_some(score as u64)
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ids::{MessageId, RoomId};
    use crate::room::flaws::Flaws;

    #[test]
    fn a_text_is_read_as_well_as_it_can_be() {
        let mut flaws = Flaws::default();
        let mut reading = flaws.of(RoomId::random(), Some(MessageId { ms: 7, seq: 1 }));
        let bulk = |bytes: &[u8]| Value::BulkString(bytes.to_vec());
        assert_eq!(reading.text("content", bulk("café".as_bytes())), "café");
        assert_eq!(reading.text("content", bulk(b"cut \xc3")), "cut \u{fffd}");
        assert_eq!(reading.text("content", Value::Int(7)), "7");
        assert_eq!(reading.text("content", Value::Nil), "");
        assert_eq!(reading.text("content", Value::Array(Vec::new())), "");
        let what: Vec<&str> = flaws.0.iter().map(|flaw| &*flaw.what).collect();
        let expected = [
            "its content is not UTF-8",
            "its content is a number, not a text",
            "its content is missing, or no text",
            "its content is missing, or no text",
        ];
        assert_eq!(what, expected);
    }

    #[test]
    fn a_score_is_a_number() {
        let score = |text: &str| number(&Value::BulkString(text.into()));
        assert_eq!(score("12"), Some(12));
        assert_eq!(score("1.5"), Some(1));
        assert_eq!(score("1e3"), Some(1000));
        assert_eq!([score("inf"), score("-1"), score("x")], [None; 3]);
        assert_eq!(number(&Value::Int(-1)), None);
    }
}
