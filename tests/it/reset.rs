//! `resetRedisForDevelopment`: handy while developing, harmless elsewhere.

use crate::support::{Client, Redis, Server, Value, eventually, json};

/// A room with a message in it, so that there is something to lose.
async fn talk(alice: &mut Client) -> String {
    let room = alice.open_room(&["bob"]).await;
    alice.say(&room, "Remember this").await;
    alice.enter(&room).await;
    alice.settle().await;
    room
}

#[tokio::test]
async fn a_reset_deletes_our_keys_and_no_others() {
    // Given two servers, a conversation on them, and keys of other applications in the same Redis, some of which look
    // much like ours
    let redis = Redis::start().await;
    let here = Server::on(&redis).env("KEY_PREFIX", "chat").start().await;
    let there = Server::on(&redis).env("KEY_PREFIX", "chat").start().await;
    let mut phone = Client::connect(&here, "alice").await;
    let mut laptop = Client::connect_delta(&here, "alice").await;
    let mut bob = Client::connect_delta(&there, "bob").await;
    let room = talk(&mut laptop).await;
    let foreign = [
        "session:1",
        "chats:{room:1}:meta",
        "chat2:x",
        "chat",
        "Chat:{room:1}:meta",
        "xchat:y",
    ];
    for key in foreign {
        redis.run::<()>(&format!("SET {key} theirs")).await;
    }
    bob.settle().await;
    phone.take_inbox();

    // When Alice resets on her laptop
    let done = laptop.done("resetRedisForDevelopment", Value::Null).await;

    // Then she gets an answer, and every device on either server has an empty list
    assert_eq!(done, json!({ "success": true }));
    let status = laptop.until("redisStatus", |_| true).await;
    assert_eq!(status["success"], true);
    assert!(status["message"].is_string());
    for device in [&mut phone, &mut laptop, &mut bob] {
        device.until("chatList", |list| *list == json!([])).await;
    }
    assert!(
        bob.take_inbox()
            .iter()
            .all(|frame| frame.event != "redisStatus")
    );

    // And our keys are gone, and the other keys are not
    let mut expected = foreign;
    expected.sort_unstable();
    assert_eq!(redis.dump().await.keys(), expected);

    // And the room no longer exists, and a new one can be made at once
    laptop
        .refused(
            "sendMessage",
            json!({ "roomId": room, "content": "x" }),
            "NOT_MEMBER",
        )
        .await;
    let opened = laptop
        .done("initializeChat", json!({ "participants": ["bob"] }))
        .await;
    assert_eq!(opened["created"], true);
    let again = opened["roomId"].as_str().expect("a room id").to_owned();
    bob.until("chatEntry", |entry| entry["roomId"] == again.as_str())
        .await;
    let sent = laptop.say(&again, "A new start").await;
    assert_eq!(sent["seq"], 1);
    assert_eq!(
        bob.until("newMessage", |_| true).await["content"],
        "A new start"
    );
    assert_eq!(bob.history(&again).await.len(), 1);
}

#[tokio::test]
async fn a_prefix_of_ones_own_bounds_the_reset() {
    // Given a prefix of the operator's, and a key that only seems to start with it
    let redis = Redis::start().await;
    let server = Server::on(&redis)
        .env("KEY_PREFIX", "app-1.x")
        .start()
        .await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    talk(&mut alice).await;
    assert!(
        redis
            .dump()
            .await
            .keys()
            .iter()
            .all(|key| key.starts_with("app-1.x:"))
    );
    redis.run::<()>("SET app-1yx:{room:1}:meta theirs").await;

    // When Alice resets, then those remain
    alice.done("resetRedisForDevelopment", Value::Null).await;
    alice.until("chatList", |list| *list == json!([])).await;
    assert_eq!(redis.dump().await.keys(), ["app-1yx:{room:1}:meta"]);
}

/// Checks that a reset is refused and touches nothing.
async fn assert_refused(redis: &Redis, server: &Server) {
    let mut alice = Client::connect_delta(server, "alice").await;
    let mut bob = Client::connect_delta(server, "bob").await;
    talk(&mut alice).await;
    alice.leave().await;
    alice.settle().await;
    bob.settle().await;
    let before = redis.dump().await;

    let done = alice.done("resetRedisForDevelopment", Value::Null).await;

    assert_eq!(done, json!({ "success": false }));
    let status = alice.expect("redisStatus").await;
    assert_eq!(status["success"], false);
    assert!(
        status["message"]
            .as_str()
            .is_some_and(|text| !text.is_empty())
    );
    before.assert_same(&redis.dump().await, "a refused reset");
    bob.expect_nothing().await;
}

#[tokio::test]
async fn a_reset_is_refused_in_production() {
    let redis = Redis::start().await;
    let server = Server::on(&redis)
        .env("APP_ENV", "production")
        .start()
        .await;
    assert_refused(&redis, &server).await;

    // Not even where development would be open
    let server = Server::on(&redis)
        .env("APP_ENV", "prod")
        .env("DEV_OPEN", "1")
        .start()
        .await;
    assert_refused(&redis, &server).await;
}

#[tokio::test]
async fn a_reset_is_refused_where_others_could_reach_the_server() {
    let redis = Redis::start().await;
    let server = Server::on(&redis).env("HOST", "0.0.0.0").start().await;
    assert_refused(&redis, &server).await;
}

#[tokio::test]
async fn an_open_development_server_may_allow_a_reset() {
    let redis = Redis::start().await;
    let server = Server::on(&redis)
        .env("HOST", "0.0.0.0")
        .env("DEV_OPEN", "1")
        .start()
        .await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    talk(&mut alice).await;
    let done = alice.done("resetRedisForDevelopment", Value::Null).await;
    assert_eq!(done, json!({ "success": true }));
    eventually("our keys are gone", async || {
        redis.dump().await.keys().is_empty()
    })
    .await;
}
