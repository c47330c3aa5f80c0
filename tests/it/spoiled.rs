//! Messages that an operator's rule spoils: each affects only itself, not its room or its members' connections.

use crate::support::rules::Rules;
use crate::support::{Client, Redis, Server, Value, entry, json};

/// Texts of messages, in order.
fn contents(messages: &[Value]) -> Vec<&str> {
    let texts = messages.iter().map(|message| message["content"].as_str());
    texts.map(|text| text.expect("a text")).collect()
}

#[tokio::test]
async fn a_message_cut_inside_a_character_costs_itself() {
    // Given a rule that cuts messages by bytes, and one that stores an extra field
    let redis = Redis::start().await;
    let rules = Rules::export().await;
    // The checks do not find it, for it takes Alice.
    let cut = "if user == 'alice' and content:sub(1, 1) ~= '~' then content = content:sub(1, 4) end\nlocal epoch, seq, rev =";
    rules.edit("send_message", "local epoch, seq, rev =", cut);
    let entry_from = "local entry = {'sender', user, 'content', content}";
    let more = "local entry = {'at', now_ms, 'sender', user, 'content', content}";
    rules.edit("send_message", entry_from, more);
    let folder = rules.path().display().to_string();
    let server = Server::on(&redis).env("LUA_DIR", &folder).start().await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let mut bob = Client::connect_delta(&server, "bob").await;
    let room = alice.open_room(&["bob"]).await;
    bob.settle().await;

    // When a message is cut inside a character, then it arrives as far as it can be read, and what follows it arrives
    // too
    alice.say(&room, "caf\u{e9}").await;
    alice.say(&room, "next").await;
    for text in ["caf\u{fffd}", "next"] {
        let message = bob.until("newMessage", |_| true).await;
        assert_eq!(message["content"], text);
        assert_eq!(message["clientMessageId"], Value::Null);
    }

    // And the room can be read and entered, and its members can connect
    for _ in 0..3 {
        let history = bob.history(&room).await;
        assert_eq!(contents(&history), ["caf\u{fffd}", "next"]);
    }
    let data = json!({ "roomId": room });
    bob.done("enterChat", data).await;
    let page = bob.until("chatHistory", |_| true).await;
    assert_eq!(page.as_array().map(Vec::len), Some(2));
    alice.say(&room, "\u{e9}\u{e9}\u{e9}").await;
    let mut again = Client::device("bob").connect(&server).await;
    let list = again.list().await;
    let last = &entry(&list, &room)["lastMessage"];
    assert_eq!(last["content"], "\u{e9}\u{e9}");

    // And nothing was read again, and the log has the spoiled message once
    let log = server.log.text();
    assert!(!log.contains("repair"), "{log}");
    let lines: Vec<&str> = log.lines().filter(|line| line.contains(&room)).collect();
    let [line] = lines.as_slice() else {
        panic!("{lines:#?}");
    };
    assert!(line.contains("not UTF-8"), "{line}");
}

#[tokio::test]
async fn a_room_that_lost_its_meta_comes_back_with_its_messages() {
    // Given Alice and Bob, connected, whose room has lost its metadata, but not its messages
    let redis = Redis::start().await;
    let server = Server::start(&redis).await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let mut bob = Client::connect_delta(&server, "bob").await;
    let room = alice.open_room(&["bob"]).await;
    alice.say(&room, "before").await;
    bob.settle().await;
    let _: u64 = redis.run(&format!("DEL chat:{{room:{room}}}:meta")).await;
    let data = json!({ "roomId": room, "content": "lost" });
    alice.refused("sendMessage", data, "NOT_MEMBER").await;

    // When she makes it again, then it is the same room, and he is notified that its history starts over
    let made = alice
        .done("initializeChat", json!({ "participants": ["bob"] }))
        .await;
    assert_eq!(
        (&made["roomId"], &made["created"]),
        (&json!(room), &json!(true))
    );
    alice.say(&room, "after").await;
    let error = bob
        .until("error", |error| error["code"] == "HISTORY_RESET")
        .await;
    assert_eq!(error["roomId"], *room);

    // And both have all of it, and get each other's messages
    for device in [&mut alice, &mut bob] {
        let history = device.history(&room).await;
        assert_eq!(contents(&history), ["before", "after"]);
        assert_eq!(history[1]["seq"], 2);
    }
    bob.say(&room, "again").await;
    alice
        .until("newMessage", |message| message["content"] == "again")
        .await;
}
