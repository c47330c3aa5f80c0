//! Another Redis becomes the master: the server moves all its connections to it, and promises nothing that relies on
//! the former one.

use crate::support::{Client, Redis, Relay, Server, code, eventually, json};

/// Makes the one a replica of the other, and waits until it follows.
async fn follow(replica: &Redis, master: &Redis) {
    let _: String = replica
        .run(&format!("REPLICAOF 127.0.0.1 {}", master.port))
        .await;
    eventually("the replica follows", async || {
        let info: String = replica.run("INFO replication").await;
        info.contains("master_link_status:up")
    })
    .await;
}

/// The contents of the messages that Redis has of a room.
async fn stored(redis: &Redis, room: &str) -> String {
    let messages: Vec<(String, Vec<String>)> = redis
        .run(&format!("XRANGE chat:{{room:{room}}}:messages - +"))
        .await;
    format!("{messages:?}")
}

async fn send_until_done(device: &mut Client, room: &str, content: &str) {
    eventually("a message is sent", async || {
        let data = json!({ "roomId": room, "content": content, "clientMessageId": content });
        device.request("sendMessage", data).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn after_a_failover_a_server_whose_users_only_read_hears_the_new_master() {
    // Given two servers at an address that leads to a master, and a replica that takes its place
    let (first, second) = (Redis::start_tcp().await, Redis::start_tcp().await);
    follow(&second, &first).await;
    let relay = Relay::to(first.port).await;
    let one = Server::builder().env("REDIS_URL", &relay.url());
    let (one, other) = (one.clone().start().await, one.start().await);
    let mut alice = Client::connect_delta(&one, "alice").await;
    let mut bob = Client::connect_delta(&other, "bob").await;
    let room = alice.open_room(&["bob"]).await;
    alice.say(&room, "before").await;
    bob.until("newMessage", |message| message["content"] == "before")
        .await;

    // When the former master is made a replica that cannot follow: it runs, and publishes nothing
    let _: String = second.run("REPLICAOF NO ONE").await;
    let _: String = first.run("REPLICAOF 127.0.0.1 1").await;
    relay.lead_to(second.port);

    // Then Bob, who sends nothing, gets what Alice writes
    send_until_done(&mut alice, &room, "after").await;
    bob.until("newMessage", |message| message["content"] == "after")
        .await;

    // And both servers have moved: nobody listens to what is published at the former master
    for server in [&one, &other] {
        eventually("the server is ready", async || server.is_ready().await).await;
        assert!(
            server.log.text().contains("is back (subscriptions)"),
            "{}",
            server.log
        );
    }
    let channels: Vec<String> = first.run("PUBSUB SHARDCHANNELS").await;
    assert_eq!(channels, [""; 0]);
}

#[tokio::test]
async fn a_server_whose_address_leads_to_another_master_leaves_the_former_that_lives_on() {
    // Given a message that is promised to be on a replica
    let (first, second) = (Redis::start_tcp().await, Redis::start_tcp().await);
    let third = Redis::start_tcp().await;
    follow(&second, &first).await;
    follow(&third, &second).await;
    let relay = Relay::to(first.port).await;
    let server = Server::builder()
        .env("REDIS_URL", &relay.url())
        .env("DURABILITY", "replicas:1")
        .start()
        .await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let room = alice.open_room(&["bob"]).await;
    alice.say(&room, "before").await;

    // When the replica becomes a master, the former master does not know, and only the connection that confirms moves
    let _: String = second.run("REPLICAOF NO ONE").await;
    relay.lead_to(second.port);
    relay.cut_those_that_wrote("chat:confirm");

    // Then what is acked is on the new master
    let mut acked = Vec::new();
    for number in 0..20 {
        let content = format!("number-{number}");
        let data = json!({ "roomId": room, "content": content, "clientMessageId": content });
        if alice.request("sendMessage", data).await.is_ok() {
            acked.push(content);
        }
    }
    send_until_done(&mut alice, &room, "the-last").await;
    let there = stored(&second, &room).await;
    for content in acked.iter().map(String::as_str).chain(["the-last"]) {
        assert!(there.contains(content), "{content} is lost: {there}");
    }
}

/// A server that promises a replica where none exists.
async fn promising(redis: &Redis, timeout_ms: &str) -> Server {
    Server::on(redis)
        .env("DURABILITY", "replicas:1")
        .env("REDIS_CALL_TIMEOUT_MS", timeout_ms)
        .env("REDIS_CALLS_AT_ONCE", "1")
        .start()
        .await
}

#[tokio::test]
async fn each_message_of_a_batch_is_refused_for_its_own_reason() {
    // Given rooms of Alice and of others, and then a server that promises a replica that does not exist
    let redis = Redis::start().await;
    let server = Server::start(&redis).await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let room = alice.open_room(&["bob"]).await;
    let mut carol = Client::connect_delta(&server, "carol").await;
    let foreign = carol.open_room(&["bob"]).await;
    let promising = promising(&redis, "500").await;
    let mut alice = Client::connect_delta(&promising, "alice").await;

    // When she sends to both while a first message waits, so that the next messages share one round trip
    let mut asked = Vec::new();
    for room in [&room, &room, &foreign, &room, &foreign] {
        let data = json!({ "roomId": room, "content": "unsafe" });
        asked.push(alice.ask("sendMessage", data).await);
    }
    let mut codes = Vec::new();
    for id in asked {
        let refused = alice.answer(id).await.expect_err("no replica has it");
        codes.push(code(&refused).to_owned());
    }
    assert_eq!(
        codes,
        ["TIMEOUT", "TIMEOUT", "NOT_MEMBER", "TIMEOUT", "NOT_MEMBER"]
    );
}

#[tokio::test]
async fn who_waits_for_a_confirmation_keeps_nobody_from_calling() {
    // Given a single slot for calls, and a message that waits for a replica for a long time
    let redis = Redis::start().await;
    let server = Server::start(&redis).await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let room = alice.open_room(&["bob"]).await;
    let promising = promising(&redis, "50000").await;
    let mut alice = Client::connect_delta(&promising, "alice").await;
    let mut bob = Client::connect_delta(&promising, "bob").await;
    let data = json!({ "roomId": room, "content": "waiting" });
    let waiting = alice.ask("sendMessage", data).await;
    bob.until("newMessage", |message| message["content"] == "waiting")
        .await;

    // Then Bob is answered meanwhile
    tokio::select! {
        biased;
        _ = alice.answer(waiting) => panic!("it was answered before Bob"),
        history = bob.history(&room) => assert_eq!(history.len(), 1),
    }
}
