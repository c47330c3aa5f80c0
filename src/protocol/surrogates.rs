//! Lone halves of surrogate pairs: JavaScript's strings and JSON can contain them, Rust's strings cannot.

use std::borrow::Cow;

/// Returns the same JSON with each escape of half a surrogate pair replaced by `instead`, such as `\u0000`.
pub fn replace_halves<'a>(json: &'a str, instead: &str) -> Cow<'a, str> {
    let mut text = String::new();
    let (mut copied, mut at) = (0, 0);
    // A backslash is inside a string; otherwise the text is not JSON, which the parser detects.
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
                text.push_str(instead);
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

/// The UTF-16 unit written as `\uXXXX` at this position.
fn escaped_unit(json: &str, at: usize) -> Option<u16> {
    let digits = json.get(at..at + 6)?.strip_prefix("\\u")?;
    let all_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    all_hex.then(|| u16::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_halves_of_surrogate_pairs_are_replaced() {
        for whole in [
            r#"{}"#,
            r#""\ud83e\udd80 \\ud800 \" \u0041""#,
            "\\",
            "\\u12",
        ] {
            assert!(
                matches!(replace_halves(whole, r"\u0000"), Cow::Borrowed(text) if text == whole)
            );
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
            assert_eq!(replace_halves(half, r"\u0000"), text);
        }
    }
}
