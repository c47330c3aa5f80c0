//! Where a request may carry its token.

use http::HeaderMap;
use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use percent_encoding::percent_decode_str;

/// The WebSocket subprotocol that the server selects when a client offers it.
pub const CHAT_SUBPROTOCOL: &str = "chat";

/// A token as it was presented, not yet checked.
#[derive(Clone, PartialEq, Eq)]
pub struct PresentedToken {
    /// The token, never empty.
    pub token: String,
    /// It came in the subprotocol list. The answer must then select [`CHAT_SUBPROTOCOL`].
    pub via_subprotocol: bool,
}

impl std::fmt::Debug for PresentedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A token is as good as a password until it expires.
        f.debug_struct("PresentedToken")
            .field("token", &"(not shown)")
            .field("via_subprotocol", &self.via_subprotocol)
            .finish()
    }
}

/// The first token of: header `token`, header `Authorization: Bearer …`, the subprotocol list
/// `chat, <token>`, and, where `allow_query` says so, `token=` in the query (percent-decoded).
///
/// An empty or unreadable one counts as not there.
#[must_use]
pub fn token_from_request(
    headers: &HeaderMap,
    query: Option<&str>,
    allow_query: bool,
) -> Option<PresentedToken> {
    let direct = |token: String| PresentedToken {
        token,
        via_subprotocol: false,
    };
    let via_subprotocol = |token: String| PresentedToken {
        token,
        via_subprotocol: true,
    };
    let query = query.filter(|_| allow_query);
    from_token_header(headers)
        .or_else(|| from_authorization(headers))
        .map(direct)
        .or_else(|| from_subprotocols(headers).map(via_subprotocol))
        .or_else(|| query.and_then(from_query).map(direct))
}

/// Whether the client offers [`CHAT_SUBPROTOCOL`], wherever its token is. If so, the answer to
/// the upgrade must select it.
#[must_use]
pub fn offers_chat_subprotocol(headers: &HeaderMap) -> bool {
    subprotocols(headers).any(|name| name == CHAT_SUBPROTOCOL)
}

fn from_token_header(headers: &HeaderMap) -> Option<String> {
    non_empty(headers.get("token")?.to_str().ok()?)
}

fn from_authorization(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.trim().split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| non_empty(token))?
}

fn from_subprotocols(headers: &HeaderMap) -> Option<String> {
    // Without `chat` in the list there would be nothing that the server could select.
    if !offers_chat_subprotocol(headers) {
        return None;
    }
    subprotocols(headers)
        .find(|name| *name != CHAT_SUBPROTOCOL)
        .and_then(non_empty)
}

fn from_query(query: &str) -> Option<String> {
    let value = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find_map(|(name, value)| (name == "token").then_some(value))?;
    non_empty(&percent_decode_str(value).decode_utf8().ok()?)
}

/// The header may come more than once, each time with a list.
fn subprotocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .map(str::trim)
        .filter(|name| !name.is_empty())
}

fn non_empty(text: &str) -> Option<String> {
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}
