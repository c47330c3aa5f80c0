//! The harness: a Redis, a server and devices, each a real process or socket.
//!
//! Nothing here sleeps to let something happen: every wait is for a condition, bounded by [`PATIENCE`], and a wait that
//! fails prints the state instead.

pub(crate) mod client;
pub(crate) mod http;
pub(crate) mod mirror;
#[allow(dead_code, reason = "of the binaries that share this only one polls")]
pub(crate) mod polling;
pub(crate) mod raw;
pub(crate) mod redis;
pub(crate) mod relay;
#[allow(dead_code, reason = "of the binaries that share this only one imports")]
pub(crate) mod replaced;
pub(crate) mod rules;
pub(crate) mod server;
pub(crate) mod token;

use std::time::Duration;

use tokio::time::{Instant, sleep};

pub(crate) use self::{
    client::{Client, Frame},
    mirror::Mirror,
    polling::Polling,
    raw::RawSocket,
    redis::Redis,
    relay::Relay,
    server::Server,
};
pub(crate) use serde_json::{Value, json};

/// How long any wait lasts before it fails the test: far longer than one takes even on a busy machine, so that only a
/// hang reaches it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Polls `check` until it is true; for conditions that nothing announces.
pub(crate) async fn eventually(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !check().await {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// A TCP port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind to a free port");
    listener.local_addr().expect("the address bound to").port()
}

/// The `code` of an error, for assertions.
pub(crate) fn code(error: &Value) -> &str {
    error["code"].as_str().unwrap_or("(no code)")
}

/// A JSON array of strings as a sorted list, for comparing sets.
pub(crate) fn names(list: &Value) -> Vec<String> {
    let mut names: Vec<String> = list
        .as_array()
        .unwrap_or_else(|| panic!("not a list: {list}"))
        .iter()
        .map(|name| name.as_str().expect("a name").to_owned())
        .collect();
    names.sort();
    names
}

/// One room's entry of a chat list.
#[track_caller]
pub(crate) fn entry<'a>(list: &'a Value, room: &str) -> &'a Value {
    find_entry(list, room).unwrap_or_else(|| panic!("no room {room} in {list}"))
}

/// One room's entry of a chat list, if the list has it.
pub(crate) fn find_entry<'a>(list: &'a Value, room: &str) -> Option<&'a Value> {
    list.as_array()?
        .iter()
        .find(|entry| entry["roomId"] == room)
}
