//! The worked edits of `lua/README.md`, as seen by clients of a server that runs them.

use std::fs;

use tempfile::TempDir;

use crate::support::server::Builder;
use crate::support::{Client, Mirror, Redis, Server, Value, entry, find_entry, json};
use crate::worked_edits::{
    ARCHIVES, NO_READ_MARKERS, SLOW_MODE, WELCOME, WORD_FILTER, edited, lua_folder,
};

/// A server that runs the scripts of `folder`.
fn with_rules(redis: &Redis, folder: &TempDir) -> Builder {
    Server::on(redis).env("LUA_DIR", &folder.path().display().to_string())
}

/// A folder with the delivered scripts and one edit.
fn rules_with(title: &str) -> TempDir {
    let folder = TempDir::with_prefix("chat-it-").unwrap();
    for file in fs::read_dir(lua_folder()).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "lua") {
            fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    for (file, text) in edited(&[title]) {
        fs::write(folder.path().join(file), text).unwrap();
    }
    folder
}

fn message(room: &str, content: &str) -> Value {
    json!({ "roomId": room, "content": content })
}

#[tokio::test]
async fn an_unwanted_word_is_refused_in_the_rule_s_own_words() {
    // Given a server with the word filter
    let (redis, rules) = (Redis::start().await, rules_with(WORD_FILTER));
    let server = with_rules(&redis, &rules).start().await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let mut bob = Client::connect_delta(&server, "bob").await;
    let room = alice.open_room(&["bob"]).await;

    // When Alice advertises, then she gets the reason as an error, and Bob gets nothing
    let data = message(&room, "Come to my Casino!");
    let error = alice.refused("sendMessage", data, "REJECTED").await;
    assert_eq!(
        error,
        json!({
            "code": "REJECTED", "message": "No advertising in this chat, please.",
            "event": "sendMessage", "roomId": room,
        })
    );
    bob.expect_nothing_of("newMessage").await;

    // And other messages pass
    alice.say(&room, "Come to dinner!").await;
    assert_eq!(
        bob.expect_any("newMessage").await["content"],
        "Come to dinner!"
    );
}

#[tokio::test]
async fn in_slow_mode_the_second_message_within_five_seconds_is_refused() {
    // Given a server with slow mode, and a room in which it is on
    let (redis, rules) = (Redis::start().await, rules_with(SLOW_MODE));
    let server = with_rules(&redis, &rules).start().await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let mut bob = Client::connect_delta(&server, "bob").await;
    let room = alice.open_room(&["bob"]).await;
    let ext = format!("chat:{{room:{room}}}:ext");
    let _: u64 = redis.run(&format!("HSET {ext} slow_secs 5")).await;

    // When Alice sends twice, then the second is refused
    let first = json!({ "roomId": room, "content": "One", "clientMessageId": "m-1" });
    let sent = alice.done("sendMessage", first.clone()).await;
    let data = message(&room, "Two");
    let error = alice.refused("sendMessage", data.clone(), "REJECTED").await;
    assert_eq!(
        error["message"],
        "This chat is in slow mode: wait a little before your next message."
    );

    // But the first one can be repeated, and Bob can send
    let again = alice.done("sendMessage", first).await;
    assert_eq!(
        (&again["id"], &again["duplicate"]),
        (&sent["id"], &json!(true))
    );
    bob.say(&room, "Hello").await;

    // When the five seconds are over, then she can send
    let sent_ms: u64 = redis.run(&format!("HGET {ext} slow:alice")).await;
    let _: u64 = redis
        .run(&format!("HSET {ext} slow:alice {}", sent_ms - 5000))
        .await;
    alice.done("sendMessage", data).await;
}

/// The welcome as the last message of an entry, and how many messages of the room are unread.
fn assert_welcomed(entry: &Value, unread: u64) {
    let last = &entry["lastMessage"];
    assert_eq!(last["content"], "Welcome!", "{entry}");
    assert_eq!(last["senderId"], "alice", "{entry}");
    assert_eq!(last["readBy"], json!(["alice"]), "{entry}");
    assert_eq!(entry["unreadCnt"], unread, "{entry}");
    assert_eq!(entry["seq"], 1, "{entry}");
}

#[tokio::test]
async fn a_group_begins_with_a_welcome_for_everyone() {
    for full in [true, false] {
        // Given Alice on two devices, Bob on one of each kind; Carol is offline
        let (redis, rules) = (Redis::start().await, rules_with(WELCOME));
        let server = with_rules(&redis, &rules).start().await;
        let mut alice = match full {
            true => Client::connect(&server, "alice").await,
            false => Client::connect_delta(&server, "alice").await,
        };
        let mut tablet = Client::connect_delta(&server, "alice").await;
        let mut phone = Client::connect_delta(&server, "bob").await;
        let mut laptop = Client::connect(&server, "bob").await;
        let mut books = Mirror::new("bob", &phone.first_list);

        // When Alice makes a group, then her device has it, with the welcome, before it gets the ack
        let data = json!({ "participants": ["bob", "carol"], "name": "Book club" });
        let made = alice.done("initializeChat", data).await;
        assert_eq!(made["created"], true);
        let room = made["roomId"].as_str().unwrap().to_owned();
        let frames = alice.take_inbox();
        let told = frames.iter().find_map(|frame| match frame.event.as_str() {
            "chatList" => find_entry(&frame.data, &room),
            "chatEntry" => Some(&frame.data),
            _ => None,
        });
        assert_welcomed(told.expect("an entry before the ack"), 0);

        // And all other devices have it too, and for their users it is unread
        assert_welcomed(&tablet.expect("chatEntry").await, 0);
        let told = phone.expect("chatEntry").await;
        assert_welcomed(&told, 1);
        books.apply(&crate::support::Frame::new("chatEntry", told));
        let lists_it = |list: &Value| find_entry(list, &room).is_some();
        let list = laptop.until("chatList", lists_it).await;
        assert_welcomed(entry(&list, &room), 1);
        let mut carol = Client::connect(&server, "carol").await;
        assert_welcomed(entry(&carol.first_list, &room), 1);

        // And nobody gets it a second time, as a message
        for device in [&mut alice, &mut tablet, &mut phone, &mut laptop, &mut carol] {
            device.expect_nothing_of("newMessage").await;
            let history = device.history(&room).await;
            assert_eq!(history.len(), 1);
            assert_eq!(history[0]["content"], "Welcome!");
        }

        // When Alice sends more, then everything continues from there
        alice.say(&room, "Hello").await;
        for device in [&mut alice, &mut tablet, &mut laptop, &mut carol] {
            let next = device.expect_any("newMessage").await;
            assert_eq!(
                (&next["content"], &next["seq"]),
                (&json!("Hello"), &json!(2))
            );
        }
        let frames = phone.settle().await;
        frames.iter().for_each(|frame| books.apply(frame));
        books.assert_agrees(&phone.list().await);
        assert_eq!(books.room(&room).contents, ["Hello"]);
    }
}

#[tokio::test]
async fn without_read_markers_only_one_s_own_devices_are_told() {
    // Given a room without read markers; Bob is on a phone, a tablet and a laptop
    let (redis, rules) = (Redis::start().await, rules_with(NO_READ_MARKERS));
    let server = with_rules(&redis, &rules).start().await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let mut phone = Client::connect_delta(&server, "bob").await;
    let mut tablet = Client::connect_delta(&server, "bob").await;
    let mut laptop = Client::connect(&server, "bob").await;
    let room = alice.open_room(&["bob"]).await;
    let ext = format!("chat:{{room:{room}}}:ext");
    let _: u64 = redis.run(&format!("HSET {ext} receipts off")).await;
    tablet.settle().await;
    let mut books = Mirror::new("bob", &tablet.list().await);

    // When Alice writes and Bob marks it as read on his phone, then his devices are notified
    let sent = alice.say(&room, "One").await;
    let marked = phone.mark(&room, &sent["id"]).await;
    assert_eq!(
        marked,
        json!({ "roomId": room, "readSeq": 1, "unreadCnt": 0 })
    );
    laptop
        .until("chatList", |list| {
            entry(list, &room)["seq"] == 1 && entry(list, &room)["unreadCnt"] == 0
        })
        .await;

    // When he views the room while she writes, and leaves, then they are notified too
    phone.enter(&room).await;
    alice.say(&room, "Two").await;
    phone.leave().await;
    let frames = tablet.settle().await;
    frames.iter().for_each(|frame| books.apply(frame));
    assert_eq!(books.read_seq(&room), 2);
    books.assert_agrees(&tablet.list().await);

    // But Alice learns nothing of it from any event, page or list
    let frames = alice.settle().await;
    assert!(frames.iter().all(|frame| frame.event != "messageRead"));
    let mut told: Vec<Value> = frames
        .into_iter()
        .filter(|frame| frame.event == "newMessage")
        .map(|frame| frame.data)
        .collect();
    told.extend(alice.history(&room).await);
    told.push(entry(&alice.list().await, &room)["lastMessage"].clone());
    alice
        .done("initializeChat", json!({ "participants": ["bob"] }))
        .await;
    told.push(alice.expect_any("chatEntry").await["lastMessage"].clone());
    alice.enter(&room).await;
    let page = alice.expect_any("chatHistory").await;
    told.extend(page.as_array().unwrap().iter().cloned());
    assert_eq!(told.len(), 2 + 2 + 1 + 1 + 2);
    for message in told {
        assert_eq!(message["readBy"], json!([]), "{message}");
        assert_eq!(message["readCount"], 1, "{message}");
    }
}

#[tokio::test]
async fn an_archive_keeps_more_than_the_server_s_setting() {
    // Given a server that keeps 100 messages, an archive, and a group that is not one
    let (redis, rules) = (Redis::start().await, rules_with(ARCHIVES));
    let server = with_rules(&redis, &rules)
        .env("HISTORY_MAX_MESSAGES", "100")
        .start()
        .await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let mut kept = Vec::new();
    for name in ["archive of 2025", "not an archive"] {
        let data = json!({ "participants": ["bob", "carol"], "name": name });
        let made = alice.done("initializeChat", data).await;
        let room = made["roomId"].as_str().unwrap().to_owned();

        // When 350 messages are sent in each
        for number in 0..350 {
            alice.say(&room, &number.to_string()).await;
        }
        kept.push(alice.history(&room).await.len());
    }

    // Then the archive has them all
    assert_eq!(kept[0], 350);
    assert!((100..=200).contains(&kept[1]), "{kept:?}");
}
