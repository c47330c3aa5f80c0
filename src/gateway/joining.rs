//! How a Socket.IO client joins the default namespace, over either transport.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use serde::Deserialize;
use serde_json::json;

use super::Gateway;
use super::admission::{Admitted, Denied, identify, preferences, query_value};
use crate::error::{ChatError, ErrorCode};
use crate::hub::device::Preferences;
use crate::protocol::content::ContentShape;
use crate::protocol::event::ClassicError;
use crate::protocol::frame::{Frame, RequestId};
use crate::protocol::request::Request;
use crate::protocol::text::Text;

/// How long a client may take to join the namespace with its token.
pub(super) const JOIN_TIMEOUT: Duration = Duration::from_secs(5);

/// The packet that removes a client from the namespace: the client does not reconnect automatically.
pub(super) const DISCONNECT: &str = "1";

/// What classic clients look for when they are not admitted.
const TOKEN_EXPIRED: &str = "token expired";
const CONNECTION_FAILED: &str = "connection failed";

/// What a client may send when it joins.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Auth {
    token: Option<String>,
    chat_list: Option<String>,
    content: Option<String>,
}

impl Auth {
    /// Anything that is not an object of this kind is ignored.
    pub(super) fn parse(json: Option<&str>) -> Self {
        json.and_then(|json| serde_json::from_str(json).ok())
            .unwrap_or_default()
    }
}

/// Why a client is not admitted.
pub(super) struct Refused {
    error: ChatError,
    /// It is also reported in the replaced server's way.
    is_classic: bool,
}

impl Refused {
    /// Whether the client must stay away.
    pub(super) fn is_final(&self) -> bool {
        self.error.code != ErrorCode::Unavailable
    }

    /// The events that report it. Classic clients look for certain texts when a token is refused.
    pub(super) fn events(&self) -> Vec<Text> {
        if !self.is_classic {
            return Frame::error(None, &self.error)
                .socket_io()
                .into_iter()
                .collect();
        }
        let texts: &[&str] = match self.error.code {
            ErrorCode::TokenExpired => &[TOKEN_EXPIRED, CONNECTION_FAILED],
            ErrorCode::Unauthorized => &[CONNECTION_FAILED],
            _ => &[],
        };
        let texts = texts.iter().map(|text| Frame::error(None, text));
        let error = Frame::error(None, &ClassicError::new(&self.error));
        let frames = texts.chain([error]);
        frames.filter_map(|frame| frame.socket_io()).collect()
    }
}

/// Admits a client by the token in its `auth`, its request's headers or its URL.
pub(super) fn admit(
    gateway: &Arc<Gateway>,
    headers: &HeaderMap,
    query: &str,
    auth: &Auth,
) -> Result<Admitted, Refused> {
    let list_mode = auth.chat_list.as_deref();
    let list_mode = list_mode.or_else(|| query_value(query, "chatList"));
    let content = auth.content.as_deref();
    let content = content.or_else(|| query_value(query, "content"));
    let is_classic = list_mode != Some("delta");
    let refused = |error| Refused { error, is_classic };
    let preferences = preferences(list_mode, content, ContentShape::AsSent).map_err(refused)?;
    let preferences = Preferences {
        is_classic,
        ..preferences
    };
    let identity = identify(gateway, headers, query, auth.token.as_deref()).map_err(Denied::Token);
    identity
        .and_then(|identity| gateway.admit(&identity, preferences))
        .map_err(|denied| {
            let denied: ChatError = denied.into();
            gateway.metrics.refused(denied.code);
            refused(match denied.code {
                // The text that older clients know.
                ErrorCode::Unauthorized => ChatError::new(denied.code, CONNECTION_FAILED),
                _ => denied,
            })
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

/// The packet that confirms that the namespace is joined.
pub(super) fn joined(sid: &str) -> String {
    format!("0{{\"sid\":\"{sid}\"}}")
}

/// The packet that refuses any other namespace.
pub(super) fn invalid_namespace(namespace: &str) -> String {
    format!("4{namespace},{{\"message\":\"Invalid namespace\"}}")
}

/// The request that a packet with binary data represents.
pub(super) fn binary(id: Option<u64>) -> Request {
    Request {
        id: id.map(RequestId::SocketIo),
        event: None,
        body: Err(ChatError::invalid_payload("binary data is not accepted")),
    }
}
