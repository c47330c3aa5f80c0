//! `GET /ws`: who may come in, and the switch from HTTP to WebSocket.
//!
//! warp's own filter is not used: it reads each socket through a 128 KiB buffer and takes messages of 64 MiB.

use std::sync::Arc;

use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use hyper::upgrade::OnUpgrade;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use warp::reply::{Reply, Response};

use super::admission::{Denied, identify, list_mode, query_value};
use super::reply::json_reply;
use super::{Gateway, origin, socket};
use crate::auth;
use crate::error::{ChatError, ErrorCode};

/// An answer other than the switch.
struct Refusal {
    status: StatusCode,
    error: ChatError,
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        let status = match denied {
            Denied::Token(_) => StatusCode::UNAUTHORIZED,
            Denied::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Denied::TooManyOfUser => StatusCode::TOO_MANY_REQUESTS,
        };
        Self {
            status,
            error: denied.into(),
        }
    }
}

/// Switches to WebSocket, or says in `{"code","message"}` why not.
pub fn upgrade(
    gateway: &Arc<Gateway>,
    headers: &HeaderMap,
    query: &str,
    on_upgrade: Option<OnUpgrade>,
) -> Response {
    match admit(gateway, headers, query, on_upgrade) {
        Ok(response) => response,
        Err(refusal) => {
            gateway.metrics.refused(refusal.error.code);
            let mut response = json_reply(refusal.status, &refusal.error);
            if refusal.status == StatusCode::UPGRADE_REQUIRED {
                response
                    .headers_mut()
                    .insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            }
            response
        }
    }
}

fn admit(
    gateway: &Arc<Gateway>,
    headers: &HeaderMap,
    query: &str,
    on_upgrade: Option<OnUpgrade>,
) -> Result<Response, Refusal> {
    let (accept, on_upgrade) = websocket_key(headers).zip(on_upgrade).ok_or_else(|| {
        let text = "this is a WebSocket address: connect with a WebSocket client (version 13)";
        Refusal {
            status: StatusCode::UPGRADE_REQUIRED,
            error: ChatError::invalid_payload(text),
        }
    })?;
    if !origin::is_allowed(&gateway.origins, headers) {
        let error = ChatError::new(
            ErrorCode::Unauthorized,
            "pages of this origin may not use the server",
        );
        return Err(Refusal {
            status: StatusCode::FORBIDDEN,
            error,
        });
    }
    gateway
        .ready()
        .map_err(|why| Denied::Unavailable(why.message()))?;
    let mode = list_mode(query_value(query, "chatList")).map_err(|error| Refusal {
        status: StatusCode::BAD_REQUEST,
        error,
    })?;
    let identity = identify(gateway, headers, query, None).map_err(Denied::Token)?;
    let admitted = gateway.admit(&identity, mode)?;
    gateway.tasks.spawn(socket::serve_upgraded(
        gateway.clone(),
        admitted,
        on_upgrade,
    ));
    Ok(switch(accept, auth::offers_chat_subprotocol(headers)))
}

/// The answer to the client's key, if it asks for a WebSocket.
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
    if !has(CONNECTION, "upgrade")
        || !has(UPGRADE, "websocket")
        || !has(SEC_WEBSOCKET_VERSION, "13")
    {
        return None;
    }
    let key = headers.get(SEC_WEBSOCKET_KEY)?;
    HeaderValue::from_str(&derive_accept_key(key.as_bytes())).ok()
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
