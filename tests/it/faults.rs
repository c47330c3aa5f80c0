//! The errors that clients get while Redis is away, hangs, refuses or loses connections; and that nothing is stored
//! twice.

use std::time::Duration;

use tokio::time::sleep;

use crate::support::{Client, Redis, Server, Value, code, eventually, http, json};

/// The contents of a room's messages.
async fn contents(device: &mut Client, room: &str) -> Vec<String> {
    let history = device.history(room).await;
    let content = |message: &Value| message["content"].as_str().expect("a text").to_owned();
    history.iter().map(content).collect()
}

fn times(contents: &[String], content: &str) -> usize {
    contents.iter().filter(|found| *found == content).count()
}

#[tokio::test]
async fn sends_over_connections_that_break_are_stored_once() {
    // Given Alice and Bob, and a Redis that drops its servers' connections all the time
    let redis = Redis::start().await;
    let server = Server::start(&redis).await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let mut bob = Client::connect_delta(&server, "bob").await;
    let room = alice.open_room(&["bob"]).await;
    bob.settle().await;
    let kill = async {
        for _ in 0..25 {
            let _: u64 = redis.run("CLIENT KILL TYPE normal SKIPME yes").await;
            let _: u64 = redis.run("CLIENT KILL TYPE pubsub SKIPME yes").await;
            sleep(Duration::from_millis(40)).await;
        }
    };

    // When she sends meanwhile, with and without client ids
    let send = async {
        let mut outcomes = Vec::new();
        for number in 0..200 {
            let mut data = json!({ "roomId": room, "content": format!("number {number}") });
            if number % 2 == 0 {
                data["clientMessageId"] = json!(format!("m-{number}"));
            }
            outcomes.push(alice.request("sendMessage", data).await);
            sleep(Duration::from_millis(5)).await;
        }
        outcomes
    };
    let (outcomes, ()) = tokio::join!(send, kill);

    // Then what has an id is stored, the rest is stored or of unknown outcome, and nothing is stored twice
    let stored = contents(&mut alice, &room).await;
    for (number, outcome) in outcomes.iter().enumerate() {
        let count = times(&stored, &format!("number {number}"));
        match outcome {
            Ok(_) => assert_eq!(count, 1, "number {number}"),
            Err(error) => {
                assert_eq!((number % 2, code(error)), (1, "TIMEOUT"), "{error}");
                assert!(count <= 1, "number {number} is there {count} times");
            }
        }
    }

    // And Bob, still connected, has received everything that is stored, in order
    let mut got = Vec::new();
    while got.len() < stored.len() {
        got.push(bob.until("newMessage", |_| true).await);
    }
    let got: Vec<&str> = got.iter().filter_map(|m| m["content"].as_str()).collect();
    assert_eq!(got, stored);
    bob.expect_nothing_of("newMessage").await;
}

#[tokio::test]
async fn while_redis_hangs_every_request_is_answered_and_devices_stay() {
    // Given a Redis that freezes in the middle of its work
    let redis = Redis::start().await;
    let server = Server::start(&redis).await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let room = alice.open_room(&["bob"]).await;
    redis.freeze();

    // When Alice has more requests in flight than fit in one round trip, then each is answered
    let mut asked = Vec::new();
    for number in 0..40 {
        let data = json!({ "roomId": room, "content": format!("number {number}") });
        asked.push(alice.ask("sendMessage", data).await);
    }
    let mut refusals = Vec::new();
    for id in asked {
        let refused = alice.answer(id).await.expect_err("Redis hangs");
        refusals.push(code(&refused).to_owned());
    }
    assert_eq!(refusals[0], "TIMEOUT");
    assert!(
        refusals.iter().any(|code| code == "UNAVAILABLE"),
        "{refusals:?}"
    );
    let ready = async || http::get(server.address, "/readyz").await.status;
    assert_eq!(ready().await, 503);

    // And when Redis resumes, everything works again, over the same connection
    redis.thaw();
    eventually("the server is ready again", async || ready().await == 200).await;
    alice.say(&room, "afterwards").await;
    let stored = contents(&mut alice, &room).await;
    for (number, code) in refusals.iter().enumerate() {
        let count = times(&stored, &format!("number {number}"));
        match code.as_str() {
            "UNAVAILABLE" => assert_eq!(count, 0, "number {number} was refused"),
            _ => assert!(count <= 1, "number {number} is there {count} times"),
        }
    }
    assert_eq!(stored.last().map(String::as_str), Some("afterwards"));
    assert!(
        !server.log.text().contains("closed the connection"),
        "{}",
        server.log
    );
}

#[tokio::test]
async fn a_master_that_became_a_replica_is_left_until_it_is_master_again() {
    let (redis, other) = (Redis::start().await, Redis::start_tcp().await);
    let server = Server::start(&redis).await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let room = alice.open_room(&["bob"]).await;
    alice.say(&room, "before").await;

    // When it is made a replica, then writes are refused and nothing is stored
    let _: String = redis
        .run(&format!("REPLICAOF 127.0.0.1 {}", other.port))
        .await;
    let data = json!({ "roomId": room, "content": "meanwhile" });
    alice.refused("sendMessage", data, "UNAVAILABLE").await;
    let gone = async || http::get(server.address, "/readyz").await.status == 503;
    eventually("the server gives it up", gone).await;

    // And when it is a master again, with the other's data, everything works again by itself
    let _: String = redis.run("REPLICAOF NO ONE").await;
    eventually("the server is ready again", async || {
        server.is_ready().await
    })
    .await;
    let room = alice.open_room(&["bob"]).await;
    alice.say(&room, "afterwards").await;
    assert_eq!(
        contents(&mut alice, &room).await.last().map(String::as_str),
        Some("afterwards")
    );
}

#[tokio::test]
async fn an_ack_waits_for_as_many_replicas_as_promised() {
    // Given a master with one replica, and a server that promises one
    let (master, replica) = (Redis::start_tcp().await, Redis::start().await);
    let _: String = replica
        .run(&format!("REPLICAOF 127.0.0.1 {}", master.port))
        .await;
    eventually("the replica follows", async || {
        let info: String = master.run("INFO replication").await;
        info.contains("state=online")
    })
    .await;
    let server = Server::on(&master)
        .env("DURABILITY", "replicas:1")
        .env("REDIS_CALL_TIMEOUT_MS", "1500")
        .start()
        .await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let room = alice.open_room(&["bob"]).await;
    let message = |content: &str, id: &str| json!({ "roomId": room, "content": content, "clientMessageId": id });

    // When the replica follows, then sends are acked, and the messages are on the replica
    let sends = (0..50).map(|number| format!("m-{number}"));
    let mut asked = Vec::new();
    for id in sends {
        asked.push(alice.ask("sendMessage", message("safe", &id)).await);
    }
    for id in asked {
        alice.answer(id).await.expect("confirmed");
    }
    let stored: u64 = replica
        .run(&format!("XLEN chat:{{room:{room}}}:messages"))
        .await;
    assert_eq!(stored, 50);

    // When it does not, then no message is acked as safe, not even a duplicate
    replica.freeze();
    for _ in 0..2 {
        alice
            .refused("sendMessage", message("unsafe", "m-50"), "TIMEOUT")
            .await;
    }

    // And when it follows again, then the message is acked, and is stored once
    replica.thaw();
    let done = async || {
        let again = message("unsafe", "m-50");
        alice.request("sendMessage", again).await.is_ok()
    };
    eventually("it is confirmed", done).await;
    assert_eq!(times(&contents(&mut alice, &room).await, "unsafe"), 1);
}

#[tokio::test]
async fn fsync_wants_a_redis_that_syncs() {
    let redis = Redis::start().await;
    let exit = Server::on(&redis).env("DURABILITY", "fsync").run().await;
    assert_eq!(exit.code, Some(1), "{}", exit.stderr);
    assert!(
        exit.stderr.contains("appendfsync always"),
        "{}",
        exit.stderr
    );

    let _: String = redis.run("CONFIG SET appendonly yes").await;
    let _: String = redis.run("CONFIG SET appendfsync always").await;
    let server = Server::on(&redis).env("DURABILITY", "fsync").start().await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let room = alice.open_room(&["bob"]).await;
    alice.say(&room, "on disk").await;
}

#[tokio::test]
async fn who_sends_too_fast_is_told_and_nothing_of_it_is_stored() {
    let redis = Redis::start().await;
    let server = Server::on(&redis)
        .env("MAX_REQUESTS_PER_SEC", "1")
        .env("MAX_REQUEST_BURST", "10")
        .start()
        .await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let mut bob = Client::connect_delta(&server, "bob").await;
    let opened = alice
        .done("initializeChat", json!({ "participants": ["bob"] }))
        .await;
    let room = opened["roomId"].as_str().expect("a room id").to_owned();

    // When Alice sends thirty at once, then the first ones are done and the others refused
    let mut asked = Vec::new();
    for number in 0..30 {
        let data = json!({ "roomId": room, "content": format!("number {number}") });
        asked.push(alice.ask("sendMessage", data).await);
    }
    let (mut done, mut refused) = (Vec::new(), 0);
    for (number, id) in asked.into_iter().enumerate() {
        match alice.answer(id).await {
            Ok(_) => done.push(format!("number {number}")),
            Err(error) => {
                assert_eq!(
                    (code(&error), &error["event"]),
                    ("RATE_LIMITED", &json!("sendMessage"))
                );
                refused += 1;
            }
        }
    }
    assert!(
        done.len() >= 9 && refused >= 10,
        "{} done, {refused} refused",
        done.len()
    );

    // And she stays connected, others are not limited, and only the accepted ones are stored
    assert_eq!(contents(&mut bob, &room).await, done);
    eventually("she may send again", async || {
        let data = json!({ "roomId": room, "content": "slower" });
        alice.request("sendMessage", data).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn calls_wait_their_turn() {
    let redis = Redis::start().await;
    let server = Server::on(&redis)
        .env("REDIS_CALLS_AT_ONCE", "1")
        .start()
        .await;
    let mut devices = Vec::new();
    for number in 0..8 {
        devices.push(Client::connect_delta(&server, &format!("user-{number}")).await);
    }
    let room = devices[0].open_room(&["user-1", "user-2"]).await;
    let mut asked = Vec::new();
    for device in &mut devices[..3] {
        for number in 0..20 {
            let data = json!({ "roomId": room, "content": format!("{} {number}", device.user) });
            asked.push(device.ask("sendMessage", data).await);
        }
    }
    for (place, id) in asked.into_iter().enumerate() {
        devices[place / 20].answer(id).await.expect("sent");
    }
    assert_eq!(contents(&mut devices[0], &room).await.len(), 60);
}
