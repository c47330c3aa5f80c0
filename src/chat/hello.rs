//! `hello`, the first event on a connection: who the user is, and the limits that a client has to observe.

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::config::Limits;
use crate::protocol::event::{ClientLimits, Hello};
use crate::protocol::frame::Frame;
use crate::protocol::ids::{UserId, timestamp};
use crate::protocol::request::{EventName, PAGE_MAX};
use crate::store::clock::RedisClock;

/// Greets devices. What is the same for all of them is encoded once.
pub struct Greeter {
    limits: Box<RawValue>,
    events: Box<RawValue>,
    clock: RedisClock,
}

impl Greeter {
    /// `may_reset` says whether clients may delete all chats.
    pub fn new(limits: &Limits, may_reset: bool, clock: RedisClock) -> Self {
        let is_there = |name: &EventName| may_reset || *name != EventName::ResetRedisForDevelopment;
        let events = EventName::ALL.into_iter().filter(is_there);
        let events: Vec<&str> = events.map(EventName::text).collect();
        Self {
            limits: encoded(&for_clients(limits)),
            events: encoded(&events),
            clock,
        }
    }

    pub fn hello(&self, user: &UserId) -> Frame {
        let hello = Hello {
            user_id: user,
            server_time: timestamp(self.clock.now_ms()),
            version: env!("CARGO_PKG_VERSION"),
            limits: &self.limits,
            events: &self.events,
        };
        Frame::event("hello", &hello)
    }
}

fn for_clients(limits: &Limits) -> ClientLimits {
    ClientLimits {
        frame_bytes: limits.max_frame_bytes,
        content_bytes: limits.max_content_bytes,
        participants: limits.max_participants,
        rooms_per_user: limits.max_rooms_per_user,
        requests_per_sec: limits.max_requests_per_sec,
        request_burst: limits.max_request_burst,
        page_items: PAGE_MAX,
    }
}

/// Numbers and names can always be encoded.
fn encoded(value: &impl Serialize) -> Box<RawValue> {
    to_raw_value(value).unwrap_or_else(|_| RawValue::NULL.to_owned())
}
