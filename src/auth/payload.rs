//! The claims of a token, read from the JSON that was signed.

use serde_json::{Map, Value};

use crate::protocol::surrogates::replace_halves;

/// Reads the claims. Half a surrogate pair, which JSON can write and no text can hold, becomes a NUL: a claim that
/// nobody looks at may have one, and a user id with a control character is refused anyway.
///
/// # Errors
/// What is no JSON object.
pub(super) fn claims(json: &str) -> serde_json::Result<Map<String, Value>> {
    serde_json::from_str(&replace_halves(json, "\\u0000"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn half_a_surrogate_pair_becomes_a_nul() {
        let claims = claims(r#"{"nam\udc00e": "\ud800", "id": "\ud83e\udd80"}"#).unwrap();
        assert_eq!(claims["id"], "🦀");
        assert_eq!(claims["nam\0e"], "\0");
    }
}
