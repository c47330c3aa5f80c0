//! Frames of the native door: how an event, an ack or an error becomes text.

use serde::Serialize;
use serde_json::value::RawValue;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::event::Ack;
use crate::error::ChatError;

/// One encoded frame. Cloning shares the bytes: an event is encoded once for all its devices.
#[derive(Debug, Clone)]
pub struct Frame(Utf8Bytes);

impl Frame {
    /// `{"event": name, "data": data}`
    pub fn event(name: &'static str, data: &impl Serialize) -> Self {
        #[derive(Serialize)]
        struct Event<'a, T> {
            event: &'static str,
            data: &'a T,
        }
        Self::encode(&Event { event: name, data })
    }

    /// `{"event": "ack", "id": id, "data": result}`
    pub fn ack(id: &RequestId, result: &Ack) -> Self {
        #[derive(Serialize)]
        struct AckFrame<'a> {
            event: &'static str,
            id: &'a RawValue,
            data: &'a Ack,
        }
        Self::encode(&AckFrame {
            event: "ack",
            id: &id.0,
            data: result,
        })
    }

    /// `{"event": "error", "id"?: id, "data": error}`
    pub fn error(id: Option<&RequestId>, error: &ChatError) -> Self {
        #[derive(Serialize)]
        struct ErrorFrame<'a> {
            event: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            id: Option<&'a RawValue>,
            data: &'a ChatError,
        }
        Self::encode(&ErrorFrame {
            event: "error",
            id: id.map(|id| &*id.0),
            data: error,
        })
    }

    /// A human-readable `status`.
    pub fn status(text: &str) -> Self {
        Self::event("status", &text)
    }

    fn encode(value: &impl Serialize) -> Self {
        // Our own types: string keys, no maps that could fail. An empty frame would still be a frame.
        Self(serde_json::to_string(value).unwrap_or_default().into())
    }

    /// Bytes on the wire, without the WebSocket header.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn into_text(self) -> Utf8Bytes {
        self.0
    }
}

/// The `id` of a native request: a string or an integer, given back as it came.
#[derive(Debug, Clone)]
pub struct RequestId(Box<RawValue>);

/// Bytes of a request id as JSON, at most.
const REQUEST_ID_MAX_BYTES: usize = 256;

impl RequestId {
    /// `None` where the value is neither a string nor an integer, or is too long.
    pub fn parse(raw: &RawValue) -> Option<Self> {
        let text = raw.get();
        let string = || serde_json::from_str::<String>(text).is_ok();
        let integer = || {
            serde_json::from_str::<i64>(text).is_ok() || serde_json::from_str::<u64>(text).is_ok()
        };
        (text.len() <= REQUEST_ID_MAX_BYTES && (string() || integer()))
            .then(|| Self(raw.to_owned()))
    }
}
