//! `GET /ws`: which clients are admitted, and the switch from HTTP to WebSocket.
//!
//! warp's own filter is not used: it reads each socket through a 128 KiB buffer and takes messages of 64 MiB.

use std::sync::Arc;
use std::time::Duration;

use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use hyper::upgrade::OnUpgrade;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use warp::reply::{Reply, Response};

use super::admission::{Denied, identify, preferences, query_value};
use super::reply::{json_reply, unavailable};
use super::{Gateway, origin, socket};
use crate::auth;
use crate::error::{ChatError, ErrorCode};
use crate::protocol::content::ContentShape;

/// An answer other than the switch.
struct Refusal {
    status: StatusCode,
    error: ChatError,
    /// When to come back, at the earliest.
    wait: Option<Duration>,
}

impl Refusal {
    fn no_upgrade() -> Self {
        let text = "this is a WebSocket address: connect with a WebSocket client (version 13)";
        Self {
            status: StatusCode::UPGRADE_REQUIRED,
            error: ChatError::invalid_payload(text),
            wait: None,
        }
    }

    fn reply(self, gateway: &Gateway) -> Response {
        gateway.metrics.refused(self.error.code);
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            return unavailable(self.wait, &self.error);
        }
        let mut response = json_reply(self.status, &self.error);
        if self.status == StatusCode::UPGRADE_REQUIRED {
            let headers = response.headers_mut();
            headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        }
        response
    }
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        let status = match denied {
            Denied::Token(_) => StatusCode::UNAUTHORIZED,
            Denied::Unavailable(_) | Denied::Busy(_) => StatusCode::SERVICE_UNAVAILABLE,
            Denied::TooManyOfUser => StatusCode::TOO_MANY_REQUESTS,
        };
        Self {
            status,
            wait: denied.wait(),
            error: denied.into(),
        }
    }
}

/// Switches to WebSocket, or explains a refusal in `{"code","message"}`.
pub fn upgrade(
    gateway: &Arc<Gateway>,
    headers: &HeaderMap,
    query: &str,
    on_upgrade: Option<OnUpgrade>,
) -> Response {
    let admitted = admit(gateway, headers, query, on_upgrade);
    admitted.unwrap_or_else(|refusal| refusal.reply(gateway))
}

/// Whether a request asks for a WebSocket in the required form.
pub(super) fn is_asked<B>(request: &Request<B>) -> bool {
    request.method() == Method::GET
        && request.extensions().get::<OnUpgrade>().is_some()
        && websocket_key(request.headers()).is_some()
}

/// The answer to a request for a WebSocket's path that does not ask for a WebSocket.
pub(super) fn no_upgrade(gateway: &Gateway) -> Response {
    Refusal::no_upgrade().reply(gateway)
}

fn admit(
    gateway: &Arc<Gateway>,
    headers: &HeaderMap,
    query: &str,
    on_upgrade: Option<OnUpgrade>,
) -> Result<Response, Refusal> {
    let asked = websocket_key(headers).zip(on_upgrade);
    let (accept, on_upgrade) = asked.ok_or_else(Refusal::no_upgrade)?;
    if !origin::is_allowed(&gateway.origins, headers) {
        let error = ChatError::new(
            ErrorCode::Unauthorized,
            "pages of this origin may not use the server",
        );
        return Err(Refusal {
            status: StatusCode::FORBIDDEN,
            error,
            wait: None,
        });
    }
    gateway.room()?;
    let (list_mode, content) = (
        query_value(query, "chatList"),
        query_value(query, "content"),
    );
    let preferences =
        preferences(list_mode, content, ContentShape::String).map_err(|error| Refusal {
            status: StatusCode::BAD_REQUEST,
            error,
            wait: None,
        })?;
    let identity = identify(gateway, headers, query, None).map_err(Denied::Token)?;
    let admitted = gateway.admit(&identity, preferences)?;
    gateway.tasks.spawn(socket::serve_upgraded(
        gateway.clone(),
        admitted,
        on_upgrade,
    ));
    Ok(switch(accept, auth::offers_chat_subprotocol(headers)))
}

/// The answer to the client's key, if it asks for a WebSocket (RFC 6455, 4.2.1).
pub(super) fn websocket_key(headers: &HeaderMap) -> Option<HeaderValue> {
    let has = |name, wanted: &str| {
        let values = headers
            .get_all(name)
            .iter()
            .filter_map(|value: &HeaderValue| value.to_str().ok());
        values
            .flat_map(|value| value.split(','))
            .any(|part| part.trim().eq_ignore_ascii_case(wanted))
    };
    if !has(CONNECTION, "upgrade") || !has(UPGRADE, "websocket") {
        return None;
    }
    let only = |name| {
        let mut values = headers.get_all(name).iter();
        values.next().filter(|_| values.next().is_none())
    };
    only(SEC_WEBSOCKET_VERSION).filter(|version| *version == "13")?;
    let key = only(SEC_WEBSOCKET_KEY)?.as_bytes();
    is_key(key).then(|| HeaderValue::from_str(&derive_accept_key(key)).ok())?
}

/// Whether this is the base64 of 16 bytes.
fn is_key(text: &[u8]) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    matches!(text.strip_suffix(b"=="), Some(digits) if digits.len() == 22 && digits.iter().all(is_digit))
}

/// The answer that switches to WebSocket.
pub(super) fn switch(accept: HeaderValue, select_chat: bool) -> Response {
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    if select_chat {
        headers.insert(
            SEC_WEBSOCKET_PROTOCOL,
            HeaderValue::from_static(auth::CHAT_SUBPROTOCOL),
        );
    }
    response
}
