//! What no later event reveals: a room's last event was lost, or the room was replaced by another, and nothing happens
//! in it.

use std::fs;

use crate::support::{
    Client, Mirror, Redis, Server, Value, code, eventually, json, redis::Monitor,
    server::repository,
};

/// The default would take half a minute.
const CHECK_MS: &str = "200";

async fn server_on(redis: &Redis) -> Server {
    let server = Server::on(redis).env("QUIET_ROOM_CHECK_MS", CHECK_MS);
    server.start().await
}

fn key(room: &str, part: &str) -> String {
    format!("chat:{{room:{room}}}:{part}")
}

/// Calls a room's script as a server would, but what it publishes in the room is lost.
pub(crate) async fn unheard(
    redis: &Redis,
    script: &str,
    room: &str,
    more_keys: &[&str],
    args: &[&str],
) {
    let path = repository().join(format!("lua/{script}.lua"));
    let text = fs::read_to_string(path).expect("a script");
    let text = text.replace("'SPUBLISH', events,", "'ECHO',");
    let parts = [
        "meta", "members", "reads", "messages", "viewing", "ext", "sent:a", "sent:b", "events",
    ];
    let mut call = redis::cmd("EVAL");
    call.arg(text).arg(parts.len() + more_keys.len());
    call.arg(parts.map(|part| key(room, part)).as_slice());
    call.arg(more_keys).arg(args);
    let done = call.exec_async(&mut redis.admin()).await;
    done.expect("a script that runs");
}

/// Checks that nothing more is fetched: three comparisons in a row without a repair.
async fn rests(redis: &Redis, monitor: &mut Monitor) {
    let sha = |script: &str| {
        let path = repository().join(format!("lua/{script}.lua"));
        let text = fs::read_to_string(path).expect("a script");
        redis::Script::new(&text).get_hash().to_owned()
    };
    let (compare, repair) = (sha("compare_rooms"), sha("sync_room"));
    monitor.commands(redis).await;
    let mut compared = 0;
    eventually("rooms were compared three times", async || {
        let commands = monitor.commands(redis).await;
        assert!(!commands.iter().any(|command| command.contains(&repair)));
        let comparisons = commands.iter().filter(|command| command.contains(&compare));
        compared += comparisons.count();
        compared >= 3
    })
    .await;
}

#[tokio::test]
async fn a_message_that_was_not_heard_arrives_once_and_in_its_place() {
    // Given Alice and Bob, on delta devices, in a room that has a message
    let redis = Redis::start().await;
    let server = server_on(&redis).await;
    let mut first = Client::connect_delta(&server, "alice").await;
    let room = first.open_room(&["bob"]).await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let mut bob = Client::connect_delta(&server, "bob").await;
    let mut books = [
        Mirror::new("alice", &alice.first_list),
        Mirror::new("bob", &bob.first_list),
    ];
    alice.say(&room, "one").await;

    // When a message is stored that no server is notified of, and nothing follows it
    let message = [
        "alice", "two", "", "", "0", "86400000", "16384", "0", "c1", "text", "",
    ];
    unheard(&redis, "send_message", &room, &[], &message).await;

    // Then both get it all the same, and then the next message too
    for (device, books) in [&mut alice, &mut bob].into_iter().zip(&mut books) {
        while books.room(&room).seq < 2 {
            books.apply(&device.next().await);
        }
    }
    rests(&redis, &mut redis.monitor().await).await;
    bob.say(&room, "three").await;
    for (device, books) in [&mut alice, &mut bob].into_iter().zip(&mut books) {
        for frame in device.settle().await {
            books.apply(&frame);
        }
        assert_eq!(books.room(&room).contents, ["one", "two", "three"]);
        books.assert_agrees(&device.list().await);
    }
}

#[tokio::test]
async fn a_mark_that_was_not_heard_arrives() {
    let redis = Redis::start().await;
    let server = server_on(&redis).await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let room = alice.open_room(&["bob"]).await;
    let said = alice.say(&room, "Hello").await;
    alice.settle().await;

    let id = said["id"].as_str().expect("an id");
    unheard(&redis, "mark_as_read", &room, &[], &["bob", id]).await;
    let by_bob = |read: &Value| read["userId"] == "bob" && read["seq"] == 1;
    alice.until("messageRead", by_bob).await;
}

/// A device of Alice's that is up to date in a room that has a message.
async fn settled(redis: &Redis) -> (Server, Client, String) {
    let server = server_on(redis).await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let room = alice.open_room(&["bob"]).await;
    for content in ["one", "two"] {
        alice.say(&room, content).await;
    }
    alice.settle().await;
    (server, alice, room)
}

/// Checks that a device is asked to reload the room, once, and then gets the messages in it.
async fn begins_anew(redis: &Redis, alice: &mut Client, room: &str, seq: u64) {
    let error = alice.until("error", |_| true).await;
    assert_eq!(code(&error), "HISTORY_RESET");
    assert_eq!(error["roomId"], *room);
    let entry = alice.until("chatEntry", |_| true).await;
    assert_eq!(
        (&entry["roomId"], &entry["seq"]),
        (&json!(room), &json!(seq))
    );
    rests(redis, &mut redis.monitor().await).await;
    alice.expect_nothing_of("error").await;
    alice.say(room, "again").await;
    let message = alice.until("newMessage", |_| true).await;
    assert_eq!(message["seq"], seq + 1);
}

#[tokio::test]
async fn a_room_that_was_rolled_back_begins_anew() {
    // Given a room whose last message Redis has lost, as after a failover
    let redis = Redis::start().await;
    let (_server, mut alice, room) = settled(&redis).await;
    let messages = key(&room, "messages");
    let last: Vec<(String, Vec<String>)> = redis
        .run(&format!("XREVRANGE {messages} + - COUNT 2"))
        .await;
    redis
        .run::<()>(&format!("XDEL {messages} {}", last[0].0))
        .await;
    let meta = key(&room, "meta");
    let head = format!("HSET {meta} rev 2 seq 1 last_id {}", last[1].0);
    redis.run::<()>(&head).await;

    begins_anew(&redis, &mut alice, &room, 1).await;
}

#[tokio::test]
async fn a_room_that_was_made_anew_begins_anew() {
    // Given a room that was deleted and made again, which nobody was notified of
    let redis = Redis::start().await;
    let (_server, mut alice, room) = settled(&redis).await;
    for part in ["meta", "members", "reads", "messages"] {
        redis.run::<()>(&format!("DEL {}", key(&room, part))).await;
    }
    let users = ["alice", "bob"].map(|user| {
        let part = |part: &str| format!("chat:{{user:{user}}}:{part}");
        [part("rooms"), part("events")]
    });
    let keys: Vec<&str> = users.as_flattened().iter().map(String::as_str).collect();
    let args = [&room, "direct", "", "n1", "1000", "10000", "alice", "bob"];
    unheard(&redis, "initialize_chat", &room, &keys, &args).await;

    begins_anew(&redis, &mut alice, &room, 0).await;
}

#[tokio::test]
async fn a_room_that_is_gone_is_told() {
    let redis = Redis::start().await;
    let (_server, mut alice, room) = settled(&redis).await;
    redis
        .run::<()>(&format!("DEL {}", key(&room, "meta")))
        .await;
    let error = alice.until("error", |_| true).await;
    assert_eq!(code(&error), "HISTORY_RESET");
    assert_eq!(error["roomId"], *room);
}
