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
use tokio::sync::OwnedSemaphorePermit;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use warp::reply::{Reply, Response};

use super::routes::json_reply;
use super::{Gateway, socket};
use crate::auth::{self, AuthError, Identity};
use crate::chat::session::Session;
use crate::error::{ChatError, ErrorCode};
use crate::hub::Full;
use crate::hub::device::ListMode;
use crate::protocol::ids::UserId;

/// An answer other than the switch.
struct Refusal {
    status: StatusCode,
    error: ChatError,
}

impl Refusal {
    fn new(status: StatusCode, code: ErrorCode, message: &str) -> Self {
        Self {
            status,
            error: ChatError::new(code, message),
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
        Refusal::new(
            StatusCode::UPGRADE_REQUIRED,
            ErrorCode::InvalidPayload,
            text,
        )
    })?;
    gateway.ready().map_err(|why| {
        Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            ErrorCode::Unavailable,
            why.message(),
        )
    })?;
    let mode = list_mode(query)?;
    let identity = identify(gateway, headers, query).map_err(|error| Refusal {
        status: StatusCode::UNAUTHORIZED,
        error: error.into(),
    })?;
    let (session, seat) = take_seat(gateway, &identity, mode)?;
    gateway
        .tasks
        .spawn(socket::serve(gateway.clone(), session, seat, on_upgrade));
    Ok(switch(accept, auth::offers_chat_subprotocol(headers)))
}

fn websocket_key(headers: &HeaderMap) -> Option<HeaderValue> {
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

fn list_mode(query: &str) -> Result<ListMode, Refusal> {
    match query
        .split('&')
        .find_map(|pair| pair.strip_prefix("chatList="))
    {
        None | Some("full") => Ok(ListMode::Full),
        Some("delta") => Ok(ListMode::Delta),
        Some(_) => {
            let text = "\"chatList\" must be full or delta";
            Err(Refusal::new(
                StatusCode::BAD_REQUEST,
                ErrorCode::InvalidPayload,
                text,
            ))
        }
    }
}

fn identify(gateway: &Gateway, headers: &HeaderMap, query: &str) -> Result<Identity, AuthError> {
    let presented = auth::token_from_request(headers, Some(query), gateway.allow_query_token);
    let Some(presented) = presented else {
        let in_address = query.split('&').any(|pair| pair.starts_with("token="));
        return Err(match in_address {
            true => {
                AuthError::Invalid("this server takes none in the address, send it in a header")
            }
            false => AuthError::Missing,
        });
    };
    gateway.chat.verifier.verify(&presented.token)
}

fn take_seat(
    gateway: &Arc<Gateway>,
    identity: &Identity,
    mode: ListMode,
) -> Result<(Session, OwnedSemaphorePermit), Refusal> {
    let full = |full| match full {
        Full::User => Refusal::new(
            StatusCode::TOO_MANY_REQUESTS,
            ErrorCode::RateLimited,
            "this user has too many connections",
        ),
        Full::Server => Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            ErrorCode::Unavailable,
            "the server has too many connections",
        ),
        Full::Closing => Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            ErrorCode::Unavailable,
            "the server is shutting down",
        ),
    };
    let seat = gateway
        .seats
        .clone()
        .try_acquire_owned()
        .map_err(|_| full(Full::Server))?;
    let unfit = || Refusal {
        status: StatusCode::UNAUTHORIZED,
        error: AuthError::Invalid("the user id does not fit").into(),
    };
    let user = UserId::parse(&identity.user_id).ok_or_else(unfit)?;
    let max_per_user = gateway.limits.max_connections_per_user;
    let session =
        Session::open(gateway.chat.clone(), user, identity, mode, max_per_user).map_err(full)?;
    Ok((session, seat))
}

fn switch(accept: HeaderValue, select_chat: bool) -> Response {
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
