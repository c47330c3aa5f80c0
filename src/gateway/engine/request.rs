//! What an HTTP request asks of Engine.IO, and the answers that explain a refusal.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;
use serde_json::json;
use uuid::Uuid;

use super::transport::Refused;
use crate::gateway::admission::query_value;
use crate::gateway::connection::{Body, boxed};

/// A well-formed request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// A new session.
    Open(Begin),
    Poll(Uuid),
    Post(Uuid),
    Upgrade(Uuid),
}

/// How a session begins.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Begin {
    Polling,
    WebSocket,
}

/// What is wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Wrong {
    #[error("Transport unknown")]
    Transport,
    #[error("Session ID unknown")]
    Session,
    #[error("Bad handshake method")]
    Handshake,
    #[error("Bad request")]
    Request,
    #[error("Unsupported protocol version")]
    Version,
    /// No code is defined for it.
    #[error("no such request")]
    Other,
    #[error("the body is too large")]
    TooLarge,
}

impl From<Refused> for Wrong {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Overlap => Self::Other,
            Refused::Moved => Self::Request,
        }
    }
}

impl Wrong {
    /// The protocol's number for the error, if it has one.
    fn code(self) -> Option<&'static str> {
        match self {
            Self::Transport => Some("0"),
            Self::Session => Some("1"),
            Self::Handshake => Some("2"),
            Self::Request => Some("3"),
            Self::Version => Some("5"),
            Self::Other | Self::TooLarge => None,
        }
    }

    pub(super) fn response(self) -> Response<Body> {
        let status = match self {
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            _ => StatusCode::BAD_REQUEST,
        };
        let body = self
            .code()
            .map(|code| json!({"code": code, "message": self.to_string()}));
        let text = body.map(|body| body.to_string()).unwrap_or_default();
        respond(status, "application/json", Full::from(text))
    }
}

/// Reads the request's method and the query of its address.
pub(super) fn read(method: &Method, query: &str) -> Result<Asked, Wrong> {
    if query_value(query, "EIO") != Some("4") {
        return Err(Wrong::Version);
    }
    let polls = match query_value(query, "transport") {
        Some("polling") => true,
        Some("websocket") => false,
        _ => return Err(Wrong::Transport),
    };
    // An id that cannot be parsed is not a session's.
    let sid = query_value(query, "sid").map(|sid| Uuid::try_parse(sid).map_err(|_| Wrong::Session));
    match (method, sid.transpose()?, polls) {
        (&Method::GET, None, true) => Ok(Asked::Open(Begin::Polling)),
        (&Method::GET, None, false) => Ok(Asked::Open(Begin::WebSocket)),
        (_, None, _) => Err(Wrong::Handshake),
        (&Method::GET, Some(sid), true) => Ok(Asked::Poll(sid)),
        (&Method::GET, Some(sid), false) => Ok(Asked::Upgrade(sid)),
        (&Method::POST, Some(sid), true) => Ok(Asked::Post(sid)),
        _ => Err(Wrong::Other),
    }
}

/// An answer with packets, or the confirmation that packets were received.
pub(super) fn text<B>(body: B) -> Response<Body>
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    respond(StatusCode::OK, "text/plain; charset=UTF-8", body)
}

fn respond<B>(status: StatusCode, content_type: &'static str, body: B) -> Response<Body>
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut response = Response::new(boxed(body));
    *response.status_mut() = status;
    let fixed = [(CONTENT_TYPE, content_type), (CACHE_CONTROL, "no-store")];
    let fixed = fixed.map(|(name, value)| (name, HeaderValue::from_static(value)));
    response.headers_mut().extend(fixed);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_by_method_and_query() {
        let sid = Uuid::from_u128(7);
        let with_sid = |query: &str| format!("{query}&sid={}", sid.simple());
        let (polling, websocket) = ("EIO=4&transport=polling", "transport=websocket&t=x&EIO=4");
        let (get, post) = (&Method::GET, &Method::POST);
        let polls = Asked::Open(Begin::Polling);
        assert_eq!(read(get, polling), Ok(polls));
        let begins = Asked::Open(Begin::WebSocket);
        assert_eq!(read(get, websocket), Ok(begins));
        assert_eq!(read(get, &with_sid(polling)), Ok(Asked::Poll(sid)));
        assert_eq!(read(post, &with_sid(polling)), Ok(Asked::Post(sid)));
        assert_eq!(read(get, &with_sid(websocket)), Ok(Asked::Upgrade(sid)));
        assert_eq!(read(post, &with_sid(websocket)), Err(Wrong::Other));
        assert_eq!(read(&Method::DELETE, &with_sid(polling)), Err(Wrong::Other));
        assert_eq!(read(post, polling), Err(Wrong::Handshake));
        for sid in ["", "unknown", "é", "00000000-0000"] {
            let query = format!("{polling}&sid={sid}");
            assert_eq!(read(get, &query), Err(Wrong::Session), "{sid}");
        }
        assert_eq!(read(get, "EIO=4&transport=pigeon"), Err(Wrong::Transport));
        assert_eq!(read(get, "EIO=4"), Err(Wrong::Transport));
        for query in ["", "EIO=3&transport=polling", "transport=polling"] {
            assert_eq!(read(get, query), Err(Wrong::Version), "{query}");
        }
    }
}
