//! What devices ask for, and what they are answered.

use std::sync::Arc;

use ::metrics::Counter;

use super::{counter, label};
use crate::error::ErrorCode;
use crate::protocol::request::EventName;

const NAMES: usize = EventName::ALL.len();
const CODES: usize = ErrorCode::ALL.len();

/// One counter for each event and result.
#[derive(Debug, Clone)]
pub struct RequestMetrics(Arc<Counters>);

#[derive(Debug)]
struct Counters {
    done: [Counter; NAMES],
    refused: [[Counter; CODES]; NAMES],
    /// Of requests without a name that an event has.
    other: [Counter; CODES],
}

impl RequestMetrics {
    pub(super) fn register() -> Self {
        let count = |event: &str, result: String| {
            counter(
                "chat_requests_total",
                "Requests that were answered, by the name of the event and \"ok\" or the error code.",
                &[label("event", event), label("result", result)],
            )
        };
        let refused =
            |event: &str| ErrorCode::ALL.map(|code: ErrorCode| count(event, code.to_string()));
        Self(Arc::new(Counters {
            done: EventName::ALL.map(|name| count(name.text(), "ok".to_owned())),
            refused: EventName::ALL.map(|name| refused(name.text())),
            other: refused("other"),
        }))
    }

    pub fn done(&self, event: EventName) {
        self.0.done[event as usize].increment(1);
    }

    /// `event` is the name as it was sent, if there was one.
    pub fn refused(&self, event: Option<&str>, code: ErrorCode) {
        let counters = match event.and_then(EventName::of) {
            Some(name) => &self.0.refused[name as usize],
            None => &self.0.other,
        };
        counters[code as usize].increment(1);
    }
}
