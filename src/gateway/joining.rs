//! How a Socket.IO client joins the default namespace, whatever carries its packets.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use serde::Deserialize;
use serde_json::json;

use super::Gateway;
use super::admission::{Admitted, Denied, identify, preferences, query_value};
use crate::error::{ChatError, ErrorCode};
use crate::protocol::content::ContentShape;
use crate::protocol::frame::RequestId;
use crate::protocol::request::Request;

/// How long a client may take to join the namespace with its token.
pub(super) const JOIN_TIMEOUT: Duration = Duration::from_secs(5);

/// The packet that ends a client's stay in the namespace: it does not come back by itself.
pub(super) const DISCONNECT: &str = "1";

/// What a client may send along when it joins.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Auth {
    token: Option<String>,
    chat_list: Option<String>,
    content: Option<String>,
}

impl Auth {
    /// What is no object of this kind counts as nothing.
    pub(super) fn parse(json: Option<&str>) -> Self {
        json.and_then(|json| serde_json::from_str(json).ok())
            .unwrap_or_default()
    }
}

/// Lets a client in, by the token of its `auth`, its request's headers or its address.
pub(super) fn admit(
    gateway: &Arc<Gateway>,
    headers: &HeaderMap,
    query: &str,
    auth: &Auth,
) -> Result<Admitted, ChatError> {
    let list_mode = auth.chat_list.as_deref();
    let list_mode = list_mode.or_else(|| query_value(query, "chatList"));
    let content = auth.content.as_deref();
    let content = content.or_else(|| query_value(query, "content"));
    let preferences = preferences(list_mode, content, ContentShape::AsSent)?;
    let identity = identify(gateway, headers, query, auth.token.as_deref()).map_err(Denied::Token);
    identity
        .and_then(|identity| gateway.admit(&identity, preferences))
        .map_err(|denied| {
            let denied: ChatError = denied.into();
            gateway.metrics.refused(denied.code);
            match denied.code {
                // As clients of old know it.
                ErrorCode::Unauthorized => {
                    ChatError::new(ErrorCode::Unauthorized, "connection failed")
                }
                _ => denied,
            }
        })
}

/// The Engine.IO packet that opens a session, with the transports that it may move to.
pub(super) fn opening(gateway: &Gateway, sid: &str, upgrades: &[&str]) -> String {
    let open = json!({
        "sid": sid,
        "upgrades": upgrades,
        "pingInterval": gateway.timing.ping_interval.as_millis(),
        "pingTimeout": gateway.timing.ping_timeout.as_millis(),
        "maxPayload": gateway.limits.max_frame_bytes,
    });
    format!("0{open}")
}

/// The packet that says that the namespace is joined.
pub(super) fn joined(sid: &str) -> String {
    format!("0{{\"sid\":\"{sid}\"}}")
}

/// The packet that refuses any other namespace.
pub(super) fn invalid_namespace(namespace: &str) -> String {
    format!("4{namespace},{{\"message\":\"Invalid namespace\"}}")
}

/// The request that a packet with binary data stands for.
pub(super) fn binary(id: Option<u64>) -> Request {
    Request {
        id: id.map(RequestId::SocketIo),
        event: None,
        body: Err(ChatError::invalid_payload("binary data is not accepted")),
    }
}
