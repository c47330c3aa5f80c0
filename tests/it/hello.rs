//! `hello`, the first event of every connection.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::support::{Client, Polling, Redis, Server, Value, json};

/// Unix time in milliseconds.
fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap();
    since.as_millis().try_into().unwrap()
}

const EVENTS: [&str; 8] = [
    "sendMessage",
    "markAsRead",
    "enterChat",
    "leaveChat",
    "initializeChat",
    "getChatList",
    "getHistory",
    "authenticate",
];

#[tokio::test]
async fn it_comes_first_and_once_and_says_what_a_client_has_to_keep_to() {
    // Given a server in production with limits of its own
    let redis = Redis::start().await;
    let server = Server::on(&redis)
        .env("APP_ENV", "production")
        .env("MAX_FRAME_BYTES", "5000")
        .env("MAX_CONTENT_BYTES", "900")
        .env("MAX_PARTICIPANTS", "7")
        .env("MAX_ROOMS_PER_USER", "11")
        .env("MAX_REQUESTS_PER_SEC", "40")
        .env("MAX_REQUEST_BURST", "60")
        .start()
        .await;

    // When a device connects, then it gets that before everything else
    let mut alice = Client::connect(&server, "alice \"é\"").await;
    let mut hello = alice.hello.clone();
    let time = hello.as_object_mut().unwrap().remove("serverTime");
    let limits = json!({
        "frameBytes": 5000, "contentBytes": 900, "participants": 7, "roomsPerUser": 11,
        "requestsPerSec": 40, "requestBurst": 60, "pageItems": 100
    });
    assert_eq!(
        hello,
        json!({
            "userId": "alice \"é\"", "version": env!("CARGO_PKG_VERSION"), "limits": limits, "events": EVENTS
        })
    );

    // And the time is that of Redis, within what a loaded machine may lose
    let (secs, _): (u64, u64) = redis.run("TIME").await;
    let time = time.unwrap();
    let time = humantime::parse_rfc3339(time.as_str().unwrap()).unwrap();
    let apart = millis(time).abs_diff(secs * 1000);
    assert!(u128::from(apart) < Duration::from_secs(60).as_millis());

    // And whatever else happens, it is not sent again
    let room = alice.open_room(&["bob"]).await;
    alice.say(&room, "Hello").await;
    alice.expect_nothing_of("hello").await;
}

#[tokio::test]
async fn developers_may_also_reset_and_socket_io_is_greeted_alike() {
    let redis = Redis::start().await;
    let server = Server::start(&redis).await;
    let native = Client::connect(&server, "alice").await.hello.clone();
    let events: Vec<&str> = EVENTS
        .into_iter()
        .chain(["resetRedisForDevelopment"])
        .collect();
    assert_eq!(native["events"], json!(events));

    let polling = Polling::joined(&server, "alice").await;
    let packets = polling.poll_until("42[\"chatList\"").await;
    let events: Vec<_> = packets
        .iter()
        .filter_map(|it| it.strip_prefix("42"))
        .collect();
    let [name, mut data]: [Value; 2] = serde_json::from_str(events[0]).unwrap();
    data["serverTime"] = native["serverTime"].clone();
    assert_eq!((name, data), (json!("hello"), native));
    assert!(events[1..].iter().all(|it| !it.contains("hello")));
}
