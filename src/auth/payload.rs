//! The claims of a token, read from the JSON that was signed.

use std::borrow::Cow;

use serde_json::{Map, Value};

/// Reads the claims. Half a surrogate pair, which JSON can write and no text can hold, becomes a NUL: a claim that
/// nobody looks at may have one, and a user id with a control character is refused anyway.
///
/// # Errors
/// What is no JSON object.
pub(super) fn claims(json: &str) -> serde_json::Result<Map<String, Value>> {
    serde_json::from_str(&with_whole_characters(json))
}

/// The same JSON, with `\u0000` for each escape of half a surrogate pair.
fn with_whole_characters(json: &str) -> Cow<'_, str> {
    let mut text = String::new();
    let (mut copied, mut at) = (0, 0);
    // A backslash is in a string, or the text is no JSON, which the parser finds.
    while let Some(found) = json[at..].find('\\') {
        let start = at + found;
        at = match escaped_unit(json, start) {
            Some(0xD800..=0xDBFF)
                if matches!(escaped_unit(json, start + 6), Some(0xDC00..=0xDFFF)) =>
            {
                start + 12
            }
            Some(0xD800..=0xDFFF) => {
                text.push_str(&json[copied..start]);
                text.push_str("\\u0000");
                copied = start + 6;
                copied
            }
            _ => {
                let escaped = json[start + 1..].chars().next();
                start + 1 + escaped.map_or(0, char::len_utf8)
            }
        };
    }
    if copied == 0 {
        return json.into();
    }
    text.push_str(&json[copied..]);
    text.into()
}

/// The UTF-16 unit that is written as `\uXXXX` at this place.
fn escaped_unit(json: &str, at: usize) -> Option<u16> {
    let digits = json.get(at..at + 6)?.strip_prefix("\\u")?;
    let all_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    all_hex.then(|| u16::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn only_halves_of_surrogate_pairs_are_replaced() {
        for whole in [
            r#"{}"#,
            r#""\ud83e\udd80 \\ud800 \" \u0041""#,
            "\\",
            "\\u12",
        ] {
            assert!(matches!(with_whole_characters(whole), Cow::Borrowed(text) if text == whole));
        }
        for (half, text) in [
            (r#"\ud800"#, r#"\u0000"#),
            (r#"\uDFFFx"#, r#"\u0000x"#),
            (r#"\ud800\ud83e\udd80"#, r#"\u0000\ud83e\udd80"#),
            (r#"\\\ud800\n\udc00"#, r#"\\\u0000\n\u0000"#),
            (r#"\ud83e\u0041"#, r#"\u0000\u0041"#),
            (r#"é\ud800é"#, r#"é\u0000é"#),
            (r#"\é\ud800"#, r#"\é\u0000"#),
        ] {
            assert_eq!(with_whole_characters(half), text);
        }
        let claims = claims(r#"{"nam\udc00e": "\ud800", "id": "\ud83e\udd80"}"#).unwrap();
        assert_eq!(claims["id"], "🦀");
        assert_eq!(claims["nam\0e"], "\0");
    }
}
