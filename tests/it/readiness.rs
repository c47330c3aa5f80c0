//! `/readyz` says yes only where everything that the chat needs is allowed, and otherwise says what is missing.

use crate::support::{Client, Redis, Server, Value, eventually, free_port, http, json, token};

/// A user with these rights.
async fn permit(redis: &Redis, rights: &str) {
    let set = format!("ACL SETUSER chat-server reset on >secret {rights}");
    let _: String = redis.run(&set).await;
}

async fn server(redis: &Redis) -> Server {
    let url = format!("redis://chat-server:secret@127.0.0.1:{}", redis.port);
    let port = free_port().to_string();
    let server = Server::builder().env("REDIS_URL", &url);
    server.env("PORT", &port).start_unready().await
}

/// What `/readyz` answers once it says this about Redis's rights.
async fn readyz(server: &Server, rights: bool) -> Value {
    let mut answer = json!(null);
    eventually("the rights are known", async || {
        let got = http::get(server.address, "/readyz").await;
        let status = got.status;
        answer = got.json();
        let known = answer["missingRights"].is_array() || status == 200;
        assert_eq!(answer["status"] == "ready", status == 200);
        known && answer["checks"]["rights"] == rights
    })
    .await;
    answer
}

#[tokio::test]
async fn a_server_whose_redis_user_may_too_little_is_not_ready_and_says_what_is_missing() {
    let redis = Redis::start_tcp().await;
    let cases = [
        // Only the keys: users made in Redis 7 have no channels unless the rule grants them.
        ("~chat:* +@all", "SSUBSCRIBE", Some("roomChannels")),
        ("~other:* &chat:* +@all", "ZADD", Some("userKeys")),
        (
            "~chat:{room:* ~chat:scripts &chat:* +@all",
            "ZADD",
            Some("userKeys"),
        ),
        ("%R~chat:* &chat:* +@all", "XADD", Some("roomKeys")),
        (
            "~chat:* &chat:control &chat:{user:* +@all",
            "SPUBLISH",
            Some("roomChannels"),
        ),
        ("~chat:* &chat:* +@all -zadd", "ZADD", Some("roomKeys")),
        (
            "~chat:* &chat:* +@all -spublish",
            "SPUBLISH",
            Some("roomChannels"),
        ),
        (
            "~chat:* &chat:* +@all -ssubscribe",
            "SSUBSCRIBE",
            Some("userChannels"),
        ),
        ("~chat:* &chat:* +@all -multi", "MULTI", None),
        ("~chat:* &chat:* +@all -time", "TIME", None),
    ];
    for (rights, command, on) in cases {
        permit(&redis, rights).await;
        let server = server(&redis).await;
        if rights.contains("~other:*") {
            // It may not even check which set of scripts is applied.
            let no_entry = async || server.log.text().contains("cannot use Redis");
            eventually("it is told", no_entry).await;
            assert!(!server.is_ready().await, "{rights}");
            continue;
        }
        let answer = readyz(&server, false).await;
        let mut right = json!({ "command": command });
        if let Some(on) = on {
            right["on"] = json!(on);
        }
        let missing = answer["missingRights"].as_array().expect("a list");
        assert!(missing.contains(&right), "{rights}: {answer}");
        assert!(!answer.to_string().contains("chat:"), "{answer}");
        let told = async || server.log.text().contains(command);
        eventually("it is in the log", told).await;
    }
}

#[tokio::test]
async fn rights_that_are_taken_and_given_while_a_server_runs_are_noticed_and_told_once() {
    // Given a server without a right that it needs
    let redis = Redis::start_tcp().await;
    permit(&redis, "~chat:* &chat:* +@all -xadd").await;
    let server = server(&redis).await;
    let answer = readyz(&server, false).await;
    let missing = json!([{ "command": "XADD", "on": "roomKeys" }]);
    assert_eq!(answer["missingRights"], missing);

    // When it gets the right, then it accepts clients
    let _: String = redis.run("ACL SETUSER chat-server +xadd").await;
    let answer = readyz(&server, true).await;
    assert_eq!(answer["missingRights"], json!(null));
    server.ready().await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let room = alice.open_room(&["bob"]).await;
    alice.say(&room, "allowed").await;

    // And its log has a line for each change
    let log = server.log.text();
    assert_eq!(log.matches("does not allow its user").count(), 1, "{log}");
    assert_eq!(log.matches("allows its user all").count(), 1, "{log}");
}

#[tokio::test]
async fn a_channel_that_redis_refuses_costs_no_other_channel_anything() {
    // Given a server that may not subscribe to the channel of one user
    let redis = Redis::start_tcp().await;
    permit(&redis, "~chat:* &chat:* +@all").await;
    let server = server(&redis).await;
    server.ready().await;
    let mut bob = Client::connect_delta(&server, "bob").await;
    let room = bob.open_room(&["carol"]).await;
    let channels = "resetchannels &chat:control &chat:scripts:* &chat:{server:* &chat:{room:* &chat:{user:bob* &chat:{user:nobody*";
    let _: String = redis
        .run(&format!("ACL SETUSER chat-server {channels}"))
        .await;
    eventually("the server is ready", async || server.is_ready().await).await;

    // When a device of that user tries to connect
    let mut monitor = redis.monitor().await;
    let refused = async || server.log.text().contains("Redis refuses subscriptions");
    let alices = token::of("alice");
    let connecting = async {
        loop {
            http::upgrade(server.address, "/ws", &[("token", &alices)]).await;
        }
    };
    tokio::select! {
        () = connecting => {}
        () = eventually("it was refused", refused) => {}
    }

    // Then the server does not subscribe again to what others listen to
    bob.say(&room, "undisturbed").await;
    let asked = monitor.commands(&redis).await;
    let again = asked.iter().filter(|command| command.contains("user:bob"));
    let again: Vec<_> = again.filter(|c| c.contains("SSUBSCRIBE")).collect();
    assert!(again.is_empty(), "{again:?}");
    assert_eq!(
        server.log.text().matches("refuses subscriptions").count(),
        1
    );
}
