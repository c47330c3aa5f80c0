//! What each event does, as stories of Alice, who has a phone and a laptop, and Bob, who has a phone. Carol is
//! connected too, and none of it concerns her.

use std::collections::HashSet;

use regex::Regex;

use crate::support::{
    Client, Frame, Mirror, Redis, Server, Value, code, entry, find_entry, json, names,
};

/// Alice's phone gets whole lists, the other devices are delta devices. `room` is Alice's and Bob's; it has no messages
/// yet.
struct Cast {
    server: Server,
    phone: Client,
    laptop: Client,
    bob: Client,
    carol: Client,
    room: String,
    _redis: Redis,
}

async fn cast() -> Cast {
    let redis = Redis::start().await;
    let server = Server::start(&redis).await;
    let mut phone = Client::connect(&server, "alice").await;
    let mut laptop = Client::connect_delta(&server, "alice").await;
    let mut bob = Client::connect_delta(&server, "bob").await;
    let carol = Client::connect_delta(&server, "carol").await;
    let room = phone.open_room(&["bob"]).await;
    laptop.settle().await;
    bob.settle().await;
    Cast {
        server,
        phone,
        laptop,
        bob,
        carol,
        room,
        _redis: redis,
    }
}

/// Every field of a message whose value is known beforehand, and the shape of the others.
#[track_caller]
fn assert_message(message: &Value, room: &str, seq: u64, sender: &str, content: &str) {
    assert_eq!(message["roomId"], room, "{message}");
    assert_eq!(message["seq"], seq, "{message}");
    assert_eq!(message["senderId"], sender, "{message}");
    assert_eq!(message["content"], content, "{message}");
    let id = message["id"].as_str().expect("an id");
    assert!((1..=64).contains(&id.len()), "{message}");
    assert_timestamp(&message["timestamp"]);
    if message["readBy"] != json!([]) {
        assert_eq!(
            message["readCount"],
            names(&message["readBy"]).len(),
            "{message}"
        );
    }
}

/// ISO 8601, UTC, milliseconds.
#[track_caller]
fn assert_timestamp(timestamp: &Value) {
    let pattern = Regex::new(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$").expect("a pattern");
    assert!(
        timestamp
            .as_str()
            .is_some_and(|text| pattern.is_match(text)),
        "{timestamp}"
    );
}

#[tokio::test]
async fn a_new_chat_appears_on_every_device_of_both() {
    // Given Alice on two devices, Bob and Carol on one each, and no room
    let redis = Redis::start().await;
    let server = Server::start(&redis).await;
    let mut phone = Client::connect(&server, "alice").await;
    let mut laptop = Client::connect_delta(&server, "alice").await;
    let mut bob = Client::connect_delta(&server, "bob").await;
    let mut carol = Client::connect_delta(&server, "carol").await;
    assert_eq!(phone.first_list, json!([]));

    // When Alice opens a chat with Bob on her phone
    let opened = phone
        .done("initializeChat", json!({ "participants": ["bob"] }))
        .await;

    // Then her phone has the list and the status, in this order, before the ack
    let room = opened["roomId"].as_str().expect("a room id").to_owned();
    assert_eq!(opened, json!({ "roomId": room, "created": true }));
    let sent = phone.take_inbox();
    let list = sent
        .iter()
        .position(|frame| find_entry(&frame.data, &room).is_some());
    let status = Frame::new("status", json!(format!("{room} initialized")));
    let status = sent.iter().position(|frame| *frame == status);
    assert!(list.is_some() && list < status, "{sent:?}");

    // And her laptop and Bob's phone learn of the room, each from its own side
    for (device, friend) in [(&mut laptop, "bob"), (&mut bob, "alice")] {
        let entry = device.expect("chatEntry").await;
        assert_eq!(entry["roomId"], room.as_str());
        assert_eq!(entry["isGroupChat"], false);
        assert_eq!(entry["available"], true);
        assert_eq!(entry["friendId"], friend);
        assert_eq!(entry["lastMessage"], Value::Null);
        assert_eq!((&entry["unreadCnt"], &entry["seq"]), (&json!(0), &json!(0)));
        assert_eq!(entry["readSeq"], 0);
        device.expect_nothing().await;
    }

    // And Carol learns nothing
    carol.expect_nothing().await;
}

#[tokio::test]
async fn a_chat_that_exists_comes_back_to_the_caller_alone() {
    // Given a chat of Alice and Bob
    let mut cast = cast().await;

    // When Bob opens it from his side
    let opened = cast
        .bob
        .done("initializeChat", json!({ "participants": ["alice"] }))
        .await;

    // Then it is the same room, and only Bob is notified, before the ack
    assert_eq!(opened, json!({ "roomId": cast.room, "created": false }));
    let sent = cast.bob.take_inbox();
    assert_eq!(sent.len(), 2, "{sent:?}");
    assert_eq!(sent[0].event, "chatEntry");
    assert_eq!(sent[0].data["roomId"], cast.room.as_str());
    assert_eq!(
        sent[1],
        Frame::new("status", json!(format!("{} initialized", cast.room)))
    );
    cast.laptop.expect_nothing().await;
    cast.phone.expect_nothing().await;
    cast.carol.expect_nothing().await;
}

#[tokio::test]
async fn a_group_has_its_name_and_its_members() {
    // Given Alice, Bob and Carol
    let mut cast = cast().await;

    // When Alice makes a group of the three
    let request = json!({ "participants": ["bob", "carol", "bob", "alice"], "name": "Lunch" });
    let opened = cast.laptop.done("initializeChat", request).await;

    // Then Carol sees the group, its name and the others in it
    assert_eq!(opened["created"], true);
    let entry = cast.carol.expect("chatEntry").await;
    assert_eq!(entry["roomId"], opened["roomId"]);
    assert_eq!(entry["isGroupChat"], true);
    assert_eq!(entry["groupName"], "Lunch");
    assert_eq!(entry["memberCount"], 3);
    assert_eq!(names(&entry["members"]), ["alice", "bob"]);
    assert_eq!(entry.get("friendId"), None);

    // And a group without a name is named by its size
    cast.bob.settle().await;
    cast.bob
        .done(
            "initializeChat",
            json!({ "participants": ["alice", "carol"] }),
        )
        .await;
    assert_eq!(cast.bob.expect("chatEntry").await["groupName"], "Group (3)");
}

#[tokio::test]
async fn the_chat_list_comes_to_the_device_that_asks() {
    // Given two chats of Alice's, the one with Carol opened before that with Bob
    let redis = Redis::start().await;
    let server = Server::start(&redis).await;
    let mut laptop = Client::connect_delta(&server, "alice").await;
    let mut tablet = Client::connect_delta(&server, "alice").await;
    let with_carol = laptop
        .done("initializeChat", json!({ "participants": ["carol"] }))
        .await;
    let with_bob = laptop
        .done("initializeChat", json!({ "participants": ["bob"] }))
        .await;
    let with_carol = with_carol["roomId"].as_str().expect("a room id");
    let with_bob = with_bob["roomId"].as_str().expect("a room id");
    laptop.take_inbox();

    // When a message is sent to Carol and the laptop asks for the list
    laptop.say(with_carol, "Hello Carol").await;
    laptop.expect_any("newMessage").await;
    let answer = laptop.done("getChatList", Value::Null).await;

    // Then it comes before the ack, the room with the latest activity first
    assert_eq!(answer, json!({ "rooms": 2 }));
    let sent = laptop.take_inbox();
    assert_eq!(sent.len(), 1, "{sent:?}");
    assert_eq!(sent[0].event, "chatList");
    let rooms: Vec<_> = sent[0].data.as_array().expect("a list").iter().collect();
    assert_eq!(rooms.len(), 2);
    assert_eq!(rooms[0]["roomId"], with_carol);
    assert_eq!(rooms[1]["roomId"], with_bob);
    assert_message(
        &rooms[0]["lastMessage"],
        with_carol,
        1,
        "alice",
        "Hello Carol",
    );
    assert_eq!(rooms[1]["lastMessage"], Value::Null);

    // And no list goes to her other device
    tablet.expect_nothing_of("chatList").await;
}

#[tokio::test]
async fn a_long_last_message_is_cut_at_a_character() {
    // Given a message of 600 bytes, two for each character
    let mut cast = cast().await;
    cast.bob.say(&cast.room, &"é".repeat(300)).await;
    cast.bob
        .say(&cast.room, &format!("x{}", "é".repeat(300)))
        .await;

    // When Alice asks for the list
    let list = cast.laptop.list().await;

    // Then the content is cut to 512 bytes or the last whole character before
    let last = &entry(&list, &cast.room)["lastMessage"];
    assert_eq!(last["content"], format!("x{}", "é".repeat(255)));
    assert_eq!(last["truncated"], true);

    // And one of exactly 512 bytes is whole
    cast.bob.say(&cast.room, &"é".repeat(256)).await;
    let list = cast.laptop.list().await;
    let last = &entry(&list, &cast.room)["lastMessage"];
    assert_eq!(last["content"], "é".repeat(256));
    assert_eq!(last.get("truncated"), None);
}

#[tokio::test]
async fn entering_a_room_shows_its_history_and_reads_it() {
    // Given two messages of Bob's that Alice has not read
    let mut cast = cast().await;
    cast.bob.say(&cast.room, "Hi").await;
    let second = cast.bob.say(&cast.room, "Lunch?").await;
    for device in [&mut cast.phone, &mut cast.laptop, &mut cast.bob] {
        device.settle().await;
    }

    // When Alice enters the room on her laptop
    let entered = cast.laptop.enter(&cast.room).await;

    // Then the laptop has the history, the read mark and the status, in this order
    assert_eq!(
        entered,
        json!({ "roomId": cast.room, "seq": 2, "hasMore": false })
    );
    let sent = cast.laptop.settle().await;
    let events: Vec<_> = sent.iter().map(|frame| frame.event.as_str()).collect();
    assert_eq!(
        events
            .iter()
            .filter(|event| **event == "messageRead")
            .count(),
        1,
        "{events:?}"
    );
    let at = |event| {
        events
            .iter()
            .position(|other| *other == event)
            .expect("it came")
    };
    assert_eq!(at("chatHistory"), 0, "{events:?}");
    assert!(at("status") > 0, "{events:?}");
    assert_eq!(sent[at("status")].data, format!("{} entered", cast.room));
    let history = sent[0].data.as_array().expect("messages");
    assert_eq!(history.len(), 2);
    assert_message(&history[0], &cast.room, 1, "bob", "Hi");
    assert_message(&history[1], &cast.room, 2, "bob", "Lunch?");
    assert_eq!(names(&history[1]["readBy"]), ["alice", "bob"]);

    // And every device of both learns how far Alice has read, and Carol nothing
    let read = json!({
        "roomId": cast.room, "userId": "alice", "seq": 2, "messageId": second["id"],
    });
    assert_eq!(sent[at("messageRead")].data, read);
    assert_eq!(cast.bob.expect("messageRead").await, read);
    assert_eq!(cast.phone.expect("messageRead").await, read);
    cast.bob.expect_nothing().await;
    cast.phone.expect_nothing().await;
    cast.carol.expect_nothing().await;

    // And entering again reads nothing more, so no read mark is sent
    cast.laptop.enter(&cast.room).await;
    cast.bob.expect_nothing().await;
}

#[tokio::test]
async fn entering_shows_the_last_fifty_or_as_many_as_asked_for() {
    // Given 60 messages
    let mut cast = cast().await;
    for number in 1..=60 {
        cast.bob.say(&cast.room, &format!("number {number}")).await;
    }
    cast.laptop.settle().await;

    // When Alice enters
    let entered = cast.laptop.enter(&cast.room).await;

    // Then she sees the last 50, oldest first, and that there is more
    assert_eq!(entered["hasMore"], true);
    let history = cast.laptop.expect("chatHistory").await;
    let history = history.as_array().expect("messages");
    assert_eq!(history.len(), 50);
    assert_eq!(
        (&history[0]["seq"], &history[49]["seq"]),
        (&json!(11), &json!(60))
    );

    // And fewer if she asks for fewer
    cast.laptop.settle().await;
    cast.laptop
        .done("enterChat", json!({ "roomId": cast.room, "limit": 3 }))
        .await;
    let history = cast.laptop.expect("chatHistory").await;
    assert_eq!(history.as_array().expect("messages").len(), 3);
}

#[tokio::test]
async fn leaving_ends_the_reading_along() {
    // Given Alice in the room
    let mut cast = cast().await;
    cast.laptop.enter(&cast.room).await;
    cast.laptop.settle().await;

    // When she leaves
    let left = cast.laptop.done("leaveChat", Value::Null).await;

    // Then she gets the status before the ack, and nobody else does
    assert_eq!(left, json!({}));
    let status = Frame::new("status", json!("leaved from all rooms"));
    assert_eq!(cast.laptop.take_inbox(), std::slice::from_ref(&status));
    cast.bob.expect_nothing().await;
    cast.phone.expect_nothing().await;

    // And what Bob sends from now on is unread
    cast.bob.say(&cast.room, "Still there?").await;
    assert_eq!(
        names(&cast.laptop.expect("newMessage").await["readBy"]),
        ["bob"]
    );
    assert_eq!(entry(&cast.laptop.list().await, &cast.room)["unreadCnt"], 1);

    // And leaving while in no room is not an error
    cast.laptop.settle().await;
    cast.laptop.leave().await;
    assert_eq!(cast.laptop.next().await, status);
}

#[tokio::test]
async fn a_message_reaches_every_device_of_every_member() {
    // Given a chat of Alice and Bob
    let mut cast = cast().await;

    // When Alice sends from her phone
    let request = json!({ "roomId": cast.room, "content": "Hello Bob", "clientMessageId": "m-1" });
    let ack = cast.phone.done("sendMessage", request).await;

    // Then all devices of both get it, including the one that sent it
    assert_eq!(
        (&ack["roomId"], &ack["seq"]),
        (&json!(cast.room), &json!(1))
    );
    assert_eq!(ack["duplicate"], false);
    assert_timestamp(&ack["timestamp"]);
    for device in [&mut cast.phone, &mut cast.laptop, &mut cast.bob] {
        let message = device.expect("newMessage").await;
        assert_message(&message, &cast.room, 1, "alice", "Hello Bob");
        assert_eq!(message["id"], ack["id"]);
        assert_eq!(message["timestamp"], ack["timestamp"]);
        assert_eq!(message["clientMessageId"], "m-1");
        assert_eq!(names(&message["readBy"]), ["alice"]);
    }

    // And the phone's chat list follows, with nothing unread for the sender
    let room = cast.room.clone();
    let holds = |list: &Value| find_entry(list, &room).is_some_and(|entry| entry["seq"] == 1);
    let list = cast.phone.until("chatList", holds).await;
    assert_eq!(entry(&list, &cast.room)["unreadCnt"], 0);
    assert_eq!(entry(&list, &cast.room)["readSeq"], 1);
    assert_message(
        &entry(&list, &cast.room)["lastMessage"],
        &room,
        1,
        "alice",
        "Hello Bob",
    );

    // And it is one unread message for Bob, and nothing for Carol
    assert_eq!(entry(&cast.bob.list().await, &cast.room)["unreadCnt"], 1);
    for device in [
        &mut cast.phone,
        &mut cast.laptop,
        &mut cast.bob,
        &mut cast.carol,
    ] {
        device.expect_nothing().await;
    }
}

#[tokio::test]
async fn whoever_views_the_room_reads_at_once() {
    // Given Bob in the room, and Alice not
    let mut cast = cast().await;
    cast.bob.enter(&cast.room).await;
    cast.bob.settle().await;

    // When Alice sends
    cast.laptop.say(&cast.room, "You see this").await;

    // Then the message says that both have read it, and no read mark follows
    for device in [&mut cast.laptop, &mut cast.bob] {
        let message = device.expect("newMessage").await;
        assert_eq!(names(&message["readBy"]), ["alice", "bob"]);
        assert_eq!(message["readCount"], 2);
        device.expect_nothing().await;
    }
    assert_eq!(entry(&cast.bob.list().await, &cast.room)["unreadCnt"], 0);
}

#[tokio::test]
async fn a_repeated_send_is_stored_once() {
    // Given a message that Alice sent with a client id
    let mut cast = cast().await;
    let request = json!({ "roomId": cast.room, "content": "Once", "clientMessageId": "c-1" });
    let first = cast.laptop.done("sendMessage", request.clone()).await;
    for device in [&mut cast.phone, &mut cast.laptop, &mut cast.bob] {
        device.settle().await;
    }

    // When the same request comes again, from another device of hers
    let again = cast.phone.done("sendMessage", request.clone()).await;

    // Then it is answered like the first one, and nobody gets it twice
    assert_eq!(again["duplicate"], true);
    for field in ["id", "roomId", "seq", "timestamp"] {
        assert_eq!(again[field], first[field], "{field}");
    }
    for device in [&mut cast.phone, &mut cast.laptop, &mut cast.bob] {
        device.expect_nothing().await;
    }
    assert_eq!(cast.bob.history(&cast.room).await.len(), 1);

    // And the same id from Bob is a message of his own
    let bobs = cast.bob.done("sendMessage", request).await;
    assert_eq!(
        (&bobs["duplicate"], &bobs["seq"]),
        (&json!(false), &json!(2))
    );
}

#[tokio::test]
async fn a_read_mark_goes_to_all_devices_and_never_back() {
    // Given three messages of Bob's
    let mut cast = cast().await;
    let first = cast.bob.say(&cast.room, "one").await;
    let second = cast.bob.say(&cast.room, "two").await;
    cast.bob.say(&cast.room, "three").await;
    for device in [&mut cast.phone, &mut cast.laptop, &mut cast.bob] {
        device.settle().await;
    }

    // When Alice marks the second as read on her laptop
    let ack = cast.laptop.mark(&cast.room, &second["id"]).await;

    // Then one is left, and all devices of both learn how far she has read
    assert_eq!(
        ack,
        json!({ "roomId": cast.room, "readSeq": 2, "unreadCnt": 1 })
    );
    let read = json!({
        "roomId": cast.room, "userId": "alice", "seq": 2, "messageId": second["id"],
    });
    let id = second["id"].as_str().expect("an id");
    let status = format!("{id} marked");
    let sent = cast.laptop.settle().await;
    assert_eq!(sent.len(), 2, "{sent:?}");
    assert!(
        sent.contains(&Frame::new("messageRead", read.clone())),
        "{sent:?}"
    );
    assert!(
        sent.contains(&Frame::new("status", json!(status))),
        "{sent:?}"
    );
    assert_eq!(cast.phone.expect("messageRead").await, read);
    assert_eq!(cast.bob.expect("messageRead").await, read);
    cast.carol.expect_nothing().await;

    // And her phone's list says one is left
    let room = cast.room.clone();
    let one = |list: &Value| find_entry(list, &room).is_some_and(|entry| entry["unreadCnt"] == 1);
    cast.phone.until("chatList", one).await;

    // When she marks the first one after that
    let ack = cast.laptop.mark(&cast.room, &first["id"]).await;

    // Then nothing goes back, and nobody is notified
    assert_eq!(
        ack,
        json!({ "roomId": cast.room, "readSeq": 2, "unreadCnt": 1 })
    );
    cast.bob.expect_nothing().await;

    // And the history says who has read what
    let history = cast.bob.history(&cast.room).await;
    let read_by: Vec<_> = history
        .iter()
        .map(|message| names(&message["readBy"]).len())
        .collect();
    assert_eq!(read_by, [2, 2, 1]);
}

#[tokio::test]
async fn marking_something_else_is_refused() {
    // Given a message in Alice's chat with Bob, and another of Bob's with Carol
    let mut cast = cast().await;
    cast.bob.say(&cast.room, "to Alice").await;
    let elsewhere = cast.bob.open_room(&["carol"]).await;
    let other = cast.bob.say(&elsewhere, "to Carol").await;

    // When Alice marks a message that is not in her room, then it is not found
    for id in [
        json!("1-1"),
        json!("99999999999999-1"),
        json!("0-0"),
        other["id"].clone(),
    ] {
        let data = json!({ "roomId": cast.room, "messageId": id });
        let error = cast
            .laptop
            .refused("markAsRead", data, "MESSAGE_NOT_FOUND")
            .await;
        assert_eq!(error["event"], "markAsRead");
    }
    assert_eq!(entry(&cast.laptop.list().await, &cast.room)["unreadCnt"], 1);
}

#[tokio::test]
async fn history_comes_in_pages_and_marks_nothing() {
    // Given ten messages of Bob's
    let mut cast = cast().await;
    let mut ids = Vec::new();
    for number in 1..=10 {
        ids.push(cast.bob.say(&cast.room, &format!("number {number}")).await["id"].clone());
    }
    cast.bob.settle().await;
    cast.laptop.settle().await;
    let seqs = |page: &Value| -> Vec<u64> {
        let messages = page["messages"].as_array().expect("messages");
        messages
            .iter()
            .map(|message| message["seq"].as_u64().expect("a seq"))
            .collect()
    };

    // When Alice asks for the latest, for what came before and for what came after
    let room = cast.room.clone();
    let latest = cast
        .laptop
        .done("getHistory", json!({ "roomId": room, "limit": 4 }))
        .await;
    let page = json!({ "roomId": room, "before": ids[3], "limit": 2 });
    let before = cast.laptop.done("getHistory", page).await;
    let page = json!({ "roomId": room, "after": ids[3], "limit": 2 });
    let after = cast.laptop.done("getHistory", page).await;
    let end = cast
        .laptop
        .done("getHistory", json!({ "roomId": room, "after": ids[9] }))
        .await;
    let start = cast
        .laptop
        .done("getHistory", json!({ "roomId": room, "before": ids[0] }))
        .await;
    let all = cast
        .laptop
        .done("getHistory", json!({ "roomId": room }))
        .await;

    // Then each page is oldest first, without the message that the request names
    assert_eq!(
        (seqs(&latest), &latest["hasMore"]),
        (vec![7, 8, 9, 10], &json!(true))
    );
    assert_eq!(
        (seqs(&before), &before["hasMore"]),
        (vec![2, 3], &json!(true))
    );
    assert_eq!(
        (seqs(&after), &after["hasMore"]),
        (vec![5, 6], &json!(true))
    );
    assert_eq!((seqs(&end), &end["hasMore"]), (vec![], &json!(false)));
    assert_eq!((seqs(&start), &start["hasMore"]), (vec![], &json!(false)));
    assert_eq!(
        (seqs(&all), &all["hasMore"]),
        ((1..=10).collect(), &json!(false))
    );
    assert_eq!(all["roomId"], room.as_str());
    assert_message(&all["messages"][0], &room, 1, "bob", "number 1");

    // And nobody is notified of anything, and nothing is marked as read
    cast.laptop.expect_nothing().await;
    cast.bob.expect_nothing().await;
    assert_eq!(entry(&cast.laptop.list().await, &room)["unreadCnt"], 10);

    // And without an id the page comes as an event
    cast.laptop
        .emit("getHistory", json!({ "roomId": room, "limit": 1 }))
        .await;
    let page = cast.laptop.expect("chatHistory").await;
    assert_eq!(page.as_array().expect("messages").len(), 1);
    assert_eq!(page[0]["seq"], 10);
}

#[tokio::test]
async fn a_page_of_history_ends_at_256_kib() {
    // Given 20 messages of 16 KiB each
    let mut cast = cast().await;
    let long = "x".repeat(16 * 1024);
    for _ in 0..20 {
        cast.bob.say(&cast.room, &long).await;
    }

    // When Alice asks for 100
    let page = cast
        .laptop
        .done("getHistory", json!({ "roomId": cast.room, "limit": 100 }))
        .await;

    // Then the page holds the latest that fit, and page by page she gets them all
    let messages = page["messages"].as_array().expect("messages");
    assert!(
        (15..=17).contains(&messages.len()),
        "{} messages",
        messages.len()
    );
    assert_eq!(messages[messages.len() - 1]["seq"], 20);
    assert_eq!(page["hasMore"], true);
    let seqs: Vec<_> = cast.laptop.history(&cast.room).await;
    let seqs: Vec<_> = seqs.iter().map(|message| message["seq"].as_u64()).collect();
    assert_eq!(seqs, (1..=20).map(Some).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_is_read_on_one_device_is_read_on_the_other() {
    // Given three messages that neither of Alice's devices has read
    let mut cast = cast().await;
    for text in ["one", "two", "three"] {
        cast.bob.say(&cast.room, text).await;
    }
    let room = cast.room.clone();
    let unread = |count: u64| {
        let room = room.clone();
        move |list: &Value| find_entry(list, &room).is_some_and(|it| it["unreadCnt"] == count)
    };
    cast.phone.until("chatList", unread(3)).await;
    let mut books = Mirror::new("alice", &cast.laptop.list().await);
    cast.laptop.settle().await;

    // When she enters the room on her phone
    cast.phone.enter(&room).await;

    // Then the laptop's own count drops to zero, and so does the phone's list
    let read = cast.laptop.expect("messageRead").await;
    books.apply(&Frame::new("messageRead", read));
    assert_eq!(books.read_seq(&room), 3);
    cast.phone.until("chatList", unread(0)).await;
}

#[tokio::test]
async fn each_device_views_a_room_of_its_own() {
    // Given two chats of Alice's, one open on her phone, the other on her laptop
    let mut cast = cast().await;
    let with_carol = cast.laptop.open_room(&["carol"]).await;
    cast.phone.enter(&cast.room).await;
    cast.laptop.enter(&with_carol).await;

    // When a message is sent in both, then both are read at once
    cast.bob.say(&cast.room, "to the phone").await;
    cast.carol.say(&with_carol, "to the laptop").await;
    let list = cast.laptop.list().await;
    assert_eq!(entry(&list, &cast.room)["unreadCnt"], 0);
    assert_eq!(entry(&list, &with_carol)["unreadCnt"], 0);

    // When the laptop moves on to the chat with Bob, and both send more
    cast.laptop.enter(&cast.room).await;
    cast.bob.say(&cast.room, "to both").await;
    cast.carol.say(&with_carol, "to nobody").await;

    // Then only the room that it left has unread messages
    let list = cast.laptop.list().await;
    assert_eq!(entry(&list, &cast.room)["unreadCnt"], 0);
    assert_eq!(entry(&list, &with_carol)["unreadCnt"], 1);

    // When the laptop leaves, then the phone still views its room
    cast.laptop.leave().await;
    cast.bob.say(&cast.room, "to the phone again").await;
    assert_eq!(entry(&cast.laptop.list().await, &cast.room)["unreadCnt"], 0);

    // When the phone disconnects, then no device of Alice's views it
    cast.phone.disconnect().await;
    let mut readers = Vec::new();
    for attempt in 1..=1000 {
        let text = format!("Anyone there? {attempt}");
        cast.bob.say(&cast.room, &text).await;
        let message = cast
            .bob
            .until("newMessage", |it| it["content"] == text.as_str())
            .await;
        readers = names(&message["readBy"]);
        if readers == ["bob"] {
            break;
        }
    }
    assert_eq!(readers, ["bob"], "the phone's view outlived it");
}

#[tokio::test]
async fn a_second_login_changes_nothing_for_the_first() {
    // Given Alice's phone in the room
    let mut cast = cast().await;
    cast.phone.enter(&cast.room).await;
    cast.phone.settle().await;

    // When she logs in on a tablet, looks around and disconnects again
    let mut tablet = Client::connect_delta(&cast.server, "alice").await;
    assert!(find_entry(&tablet.first_list, &cast.room).is_some());
    tablet
        .done("getHistory", json!({ "roomId": cast.room }))
        .await;
    cast.phone.expect_nothing().await;
    tablet.leave().await;
    tablet.disconnect().await;

    // Then the phone has not been affected: it is still connected and still in the room
    cast.phone.expect_nothing().await;
    cast.bob.say(&cast.room, "Hello phone").await;
    let message = cast.phone.expect("newMessage").await;
    assert_eq!(names(&message["readBy"]), ["alice", "bob"]);
}

#[tokio::test]
async fn a_full_device_gets_its_list_after_every_change() {
    // Given Alice's phone, which gets whole lists
    let mut cast = cast().await;
    let room = cast.room.clone();
    let at = |seq: u64, unread: u64| {
        let room = room.clone();
        move |list: &Value| {
            find_entry(list, &room).is_some_and(|it| it["seq"] == seq && it["unreadCnt"] == unread)
        }
    };

    // When Bob sends once, then the list shows it
    cast.bob.say(&room, "first").await;
    let list = cast.phone.until("chatList", at(1, 1)).await;
    assert_message(
        &entry(&list, &room)["lastMessage"],
        &room,
        1,
        "bob",
        "first",
    );

    // When he sends thirty more as fast as he can
    for number in 2..=31 {
        cast.bob.say(&room, &format!("number {number}")).await;
    }

    // Then fewer lists than messages come, and the last one holds the last of them
    let list = cast.phone.until("chatList", at(31, 31)).await;
    assert_eq!(entry(&list, &room)["lastMessage"]["content"], "number 31");
    let lists = cast
        .phone
        .take_inbox()
        .iter()
        .filter(|it| it.event == "chatList")
        .count();
    assert!(lists < 30, "{lists} lists for 30 messages");

    // When Alice reads them on another device, then the list shows that too
    cast.laptop.enter(&room).await;
    cast.phone.until("chatList", at(31, 0)).await;

    // And a new group of Carol's is in the next list
    let group = cast.carol.open_room(&["alice", "bob"]).await;
    cast.phone
        .until("chatList", |list| find_entry(list, &group).is_some())
        .await;
}

#[tokio::test]
async fn a_delta_device_keeps_count_itself() {
    // Given Alice's laptop and its mirror of the rooms
    let mut cast = cast().await;
    let mut books = Mirror::new("alice", &cast.laptop.list().await);
    cast.laptop.settle().await;

    // When all kinds of things happen
    let first = cast.bob.say(&cast.room, "one").await;
    cast.bob.say(&cast.room, "two").await;
    cast.laptop.mark(&cast.room, &first["id"]).await;
    let group = cast.carol.open_room(&["alice", "bob"]).await;
    cast.carol.say(&group, "hello all").await;
    cast.phone.enter(&group).await;
    cast.carol.say(&group, "seen on the phone").await;
    cast.bob.say(&cast.room, "three").await;

    // Then the laptop's own count is right, and no list came unrequested
    let came = cast.laptop.settle().await;
    came.iter().for_each(|frame| books.apply(frame));
    assert!(
        came.iter().all(|frame| frame.event != "chatList"),
        "{came:?}"
    );
    assert_eq!(books.read_seq(&cast.room), 1);
    assert_eq!(books.room(&cast.room).contents, ["one", "two", "three"]);
    assert_eq!(books.read_seq(&group), 2);
    books.assert_agrees(&cast.laptop.list().await);
}

#[tokio::test]
async fn connecting_while_messages_flow_leaves_no_gap() {
    // Given Bob, who sends without a pause
    let Cast {
        _redis,
        server,
        mut bob,
        room,
        ..
    } = cast().await;
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let sending_room = room.clone();
    let sending = tokio::spawn(async move {
        let mut sent = 0;
        while stopped.try_recv().is_err() {
            sent += 1;
            bob.say(&sending_room, &format!("number {sent}")).await;
            bob.take_inbox();
        }
        (bob, sent)
    });

    // When Alice connects again and again meanwhile
    let mut devices = Vec::new();
    for _ in 0..20 {
        let device = Client::connect_delta(&server, "alice").await;
        let books = Mirror::new("alice", &device.first_list);
        devices.push((device, books));
    }
    stop.send(()).expect("Bob listens");
    let (_bob, sent) = sending.await.expect("Bob is done");

    // Then each device got every message sent after its list, in order and once
    for (mut device, mut books) in devices {
        while books.room(&room).seq < sent {
            books.apply(&device.next().await);
        }
        device
            .settle()
            .await
            .iter()
            .for_each(|frame| books.apply(frame));
        assert_eq!(books.room(&room).seq, sent);
    }
}

#[tokio::test]
async fn what_one_device_sends_takes_effect_in_its_order() {
    // Given Alice, who does not wait for answers
    let mut cast = cast().await;
    let mut asked = Vec::new();
    for number in 0..100 {
        let data = json!({ "roomId": cast.room, "content": format!("{number}") });
        asked.push(cast.laptop.ask("sendMessage", data).await);
    }

    // When all are answered, then the messages are stored in the order in which she sent them
    let mut seqs = Vec::new();
    for id in asked {
        seqs.push(
            cast.laptop.answer(id).await.expect("sent")["seq"]
                .as_u64()
                .expect("a seq"),
        );
    }
    assert_eq!(seqs, (1..=100).collect::<Vec<_>>());
    for number in 0..100 {
        assert_eq!(
            cast.bob.expect("newMessage").await["content"],
            format!("{number}")
        );
    }
}

#[tokio::test]
async fn errors_and_acks_carry_the_request_they_belong_to() {
    // Given Carol, who is not in Alice's and Bob's room
    let mut cast = cast().await;
    let data = json!({ "roomId": cast.room, "content": "Let me in" });

    // When she sends there with an id, then the answer is an error that says why
    let error = cast
        .carol
        .refused("sendMessage", data.clone(), "NOT_MEMBER")
        .await;
    assert_eq!(
        error["message"],
        "You do not have permission to join this chat."
    );
    assert_eq!(error["event"], "sendMessage");

    // When she does so without one, then the error comes as an event
    cast.carol.emit("sendMessage", data).await;
    let error = cast.carol.expect("error").await;
    assert_eq!(code(&error), "NOT_MEMBER");
    assert_eq!(error["event"], "sendMessage");

    // And nobody else receives it
    cast.carol.expect_nothing().await;
    cast.bob.expect_nothing().await;
    cast.laptop.expect_nothing().await;
}

#[tokio::test]
async fn history_tells_what_everyone_was_told() {
    // Given a conversation with readers coming and going
    let mut cast = cast().await;
    cast.bob.enter(&cast.room).await;
    cast.laptop.say(&cast.room, "seen by both").await;
    cast.bob.leave().await;
    cast.laptop.say(&cast.room, "seen by Alice").await;

    // When both request the history, then they get the same
    let alices = cast.laptop.history(&cast.room).await;
    let bobs = cast.bob.history(&cast.room).await;
    assert_eq!(alices, bobs);
    assert_eq!(names(&alices[0]["readBy"]), ["alice", "bob"]);
    assert_eq!(names(&alices[1]["readBy"]), ["alice"]);

    // And the messages that came as events have the same ids and times
    let told: Vec<_> = cast.laptop.settle().await;
    let told: Vec<_> = told
        .iter()
        .filter(|frame| frame.event == "newMessage")
        .collect();
    assert_eq!(told.len(), 2);
    for (event, stored) in told.iter().zip(&alices) {
        for field in ["id", "roomId", "seq", "senderId", "content", "timestamp"] {
            assert_eq!(event.data[field], stored[field], "{field}");
        }
    }
    let ids: HashSet<_> = alices
        .iter()
        .map(|message| message["id"].to_string())
        .collect();
    assert_eq!(ids.len(), 2);
}
