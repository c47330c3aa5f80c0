//! Which room a request makes or finds, and who may be in it.

use crate::support::{Client, Mirror, Redis, Server, Value, entry, json, names};

#[tokio::test]
async fn a_hundred_requests_from_both_sides_make_one_room() {
    // Given Alice and Bob with five devices each, over two servers
    let redis = Redis::start().await;
    let servers = [Server::start(&redis).await, Server::start(&redis).await];
    let mut devices = Vec::new();
    for number in 0..10 {
        let (user, other) = [("alice", "bob"), ("bob", "alice")][number % 2];
        devices.push((
            Client::connect_delta(&servers[number / 2 % 2], user).await,
            other,
        ));
    }

    // When each asks ten times for their room, all at once
    let mut asking = Vec::new();
    for (mut device, other) in devices {
        asking.push(tokio::spawn(async move {
            let mut asked = Vec::new();
            for _ in 0..10 {
                let data = json!({ "participants": [other] });
                asked.push(device.ask("initializeChat", data).await);
            }
            let mut opened = Vec::new();
            for id in asked {
                opened.push(device.answer(id).await.expect("a room"));
            }
            (device, opened)
        }));
    }
    let mut opened = Vec::new();
    let mut devices = Vec::new();
    for asked in asking {
        let (device, rooms) = asked.await.expect("answered");
        devices.push(device);
        opened.extend(rooms);
    }

    // Then there is one room, made once
    assert_eq!(opened.len(), 100);
    assert!(
        opened.iter().all(|it| it["roomId"] == opened[0]["roomId"]),
        "{opened:?}"
    );
    assert_eq!(opened.iter().filter(|it| it["created"] == true).count(), 1);
    for device in &mut devices {
        assert_eq!(device.list().await.as_array().expect("a list").len(), 1);
    }
}

#[tokio::test]
async fn groups_are_new_each_time_unless_the_client_names_them() {
    // Given Alice, and Bob, who will repeat her requests
    let redis = Redis::start().await;
    let server = Server::start(&redis).await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let mut bob = Client::connect_delta(&server, "bob").await;
    let group = json!({ "participants": ["alice", "bob", "carol"] });
    let named = json!({ "participants": ["alice", "bob", "carol"], "clientRoomId": "lunch-1" });

    // When Alice asks for the same group twice, then these are two groups
    let first = alice.done("initializeChat", group.clone()).await;
    let second = alice.done("initializeChat", group).await;
    assert_eq!(
        (&first["created"], &second["created"]),
        (&json!(true), &json!(true))
    );
    assert_ne!(first["roomId"], second["roomId"]);

    // When she names it, then the repeated request finds the one that the first made
    bob.settle().await;
    let made = alice.done("initializeChat", named.clone()).await;
    assert_eq!(made["created"], true);
    assert_eq!(bob.expect("chatEntry").await["roomId"], made["roomId"]);
    let again = alice.done("initializeChat", named.clone()).await;
    assert_eq!(again, json!({ "roomId": made["roomId"], "created": false }));
    bob.expect_nothing().await;

    // And the same name from Bob is a group of his own
    let bobs = bob.done("initializeChat", named).await;
    assert_eq!(bobs["created"], true);
    assert_ne!(bobs["roomId"], made["roomId"]);
}

#[tokio::test]
async fn a_group_is_made_once_however_often_its_request_races() {
    // Given two devices of Alice's on two servers
    let redis = Redis::start().await;
    let servers = [Server::start(&redis).await, Server::start(&redis).await];
    let mut phone = Client::connect_delta(&servers[0], "alice").await;
    let mut laptop = Client::connect_delta(&servers[1], "alice").await;

    // When both ask for the same named group ten times at once
    let data = json!({ "participants": ["bob", "carol"], "clientRoomId": "race" });
    let mut asked = Vec::new();
    for _ in 0..10 {
        asked.push((
            phone.ask("initializeChat", data.clone()).await,
            laptop.ask("initializeChat", data.clone()).await,
        ));
    }
    let mut opened = Vec::new();
    for (on_phone, on_laptop) in asked {
        opened.push(phone.answer(on_phone).await.expect("a group"));
        opened.push(laptop.answer(on_laptop).await.expect("a group"));
    }

    // Then it was made once
    assert!(
        opened.iter().all(|it| it["roomId"] == opened[0]["roomId"]),
        "{opened:?}"
    );
    assert_eq!(opened.iter().filter(|it| it["created"] == true).count(), 1);
}

#[tokio::test]
async fn repeated_names_and_ones_own_are_ignored() {
    let redis = Redis::start().await;
    let server = Server::start(&redis).await;
    let mut alice = Client::connect_delta(&server, "alice").await;

    // When Alice lists Bob three times and herself twice, then that is a room of two
    let direct = json!({ "participants": ["bob", "alice", "bob", "alice", "bob"] });
    let opened = alice.done("initializeChat", direct).await;
    let entry = alice.expect("chatEntry").await;
    assert_eq!(
        (&entry["isGroupChat"], &entry["friendId"]),
        (&json!(false), &json!("bob"))
    );

    // And the same room as without the repetition
    let plain = alice
        .done("initializeChat", json!({ "participants": ["bob"] }))
        .await;
    assert_eq!(
        plain,
        json!({ "roomId": opened["roomId"], "created": false })
    );
}

#[tokio::test]
async fn odd_ids_work_from_end_to_end() {
    // Given users with ids that could break a key, a pattern or a frame
    let redis = Redis::start().await;
    let server = Server::start(&redis).await;
    let longest = "x".repeat(128);
    let emoji = "👩‍🚀".repeat(11);
    let ids = [
        "auth0|5f7c8ec7c33c6c004bbafe82",
        "alice@example.com",
        "{alice}",
        "}{",
        "{room:1}",
        "a:b:c",
        "100%",
        "%41",
        "%",
        "a b",
        " ",
        "a/b/../c",
        "*",
        "?[a-z]",
        "\\",
        "\"",
        "'",
        "<b>",
        "日本語",
        "ünï",
        "o'neil; DROP",
        "null",
        "0",
        "-1",
        "__proto__",
        "é\u{301}",
        &emoji,
        &longest,
    ];
    let mut alice = Client::connect_delta(&server, "alice").await;
    let mut books = Mirror::new("alice", &alice.first_list);
    for id in ids {
        // When one of them opens a chat with Alice and sends, enters and marks
        let mut odd = Client::connect_delta(&server, id).await;
        let opened = odd
            .done("initializeChat", json!({ "participants": ["alice"] }))
            .await;
        let room = opened["roomId"].as_str().expect("a room id").to_owned();
        assert_eq!(
            opened["created"], true,
            "{id:?} shares a room with someone else"
        );
        let first = odd.say(&room, "Hello").await;
        odd.enter(&room).await;
        let reply = alice.say(&room, "Hello yourself").await;
        odd.leave().await;
        odd.mark(&room, &first["id"]).await;

        // Then each sees the other by the right name
        let alices = alice.list().await;
        assert_eq!(entry(&alices, &room)["friendId"], id);
        assert_eq!(entry(&odd.list().await, &room)["friendId"], "alice");
        let history = odd.history(&room).await;
        assert_eq!(history[0]["senderId"], id);
        assert_eq!(history[1]["id"], reply["id"]);
        let mut both = ["alice".to_owned(), id.to_owned()];
        both.sort();
        assert_eq!(names(&history[1]["readBy"]), both);

        // And the room is found again from Alice's side
        let found = alice
            .done("initializeChat", json!({ "participants": [id] }))
            .await;
        assert_eq!(found, json!({ "roomId": room, "created": false }));
    }

    // And Alice's delta device has counted all of them correctly
    alice
        .settle()
        .await
        .iter()
        .for_each(|frame| books.apply(frame));
    books.assert_agrees(&alice.list().await);
}

#[tokio::test]
async fn ids_that_are_too_long_or_not_printable_are_no_participants() {
    let redis = Redis::start().await;
    let server = Server::start(&redis).await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let before = redis.dump().await;
    let too_long = "x".repeat(129);
    let too_many_bytes = "é".repeat(65);
    for id in [
        "",
        "a\nb",
        "\u{0}",
        "tab\t",
        "\u{7f}",
        "\u{85}",
        "\u{1b}[31m",
        &too_long,
        &too_many_bytes,
    ] {
        let data = json!({ "participants": ["bob", id] });
        let error = alice
            .refused("initializeChat", data, "INVALID_PAYLOAD")
            .await;
        assert!(
            error["message"]
                .as_str()
                .is_some_and(|text| text.contains("participants"))
        );
    }
    before.assert_same(&redis.dump().await, "an id that is none");
}

#[tokio::test]
async fn a_thousand_may_be_in_a_room_and_no_more() {
    // Given Alice, and Zoe, who is the last of a thousand
    let redis = Redis::start().await;
    let server = Server::start(&redis).await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let mut zoe = Client::connect_delta(&server, "zoe").await;
    let mut others: Vec<String> = (1..=998).map(|number| format!("user-{number}")).collect();
    others.push("zoe".into());
    let before = redis.dump().await;

    // When Alice asks for a room of 1,001, then that is too many and writes nothing
    let mut too_many = others.clone();
    too_many.push("one-more".into());
    let data = json!({ "participants": too_many });
    alice
        .refused("initializeChat", data, "TOO_MANY_PARTICIPANTS")
        .await;
    before.assert_same(&redis.dump().await, "a room too large");

    // When it is 1,000 including herself, repetitions not counted, then it works
    let mut repeated = others.clone();
    repeated.extend(["alice".into(), "zoe".into(), "user-1".into()]);
    let opened = alice
        .done("initializeChat", json!({ "participants": repeated }))
        .await;
    let entry = zoe.expect("chatEntry").await;
    assert_eq!(entry["roomId"], opened["roomId"]);
    assert_eq!(entry["memberCount"], 1000);
    assert_eq!(entry["members"], json!([]));
    assert_eq!(entry["groupName"], "Group (1000)");
    let room = entry["roomId"].as_str().expect("a room id").to_owned();
    alice.say(&room, "Hello all").await;
    assert_eq!(zoe.expect("newMessage").await["content"], "Hello all");
}

#[tokio::test]
async fn a_large_room_counts_readers_without_naming_them() {
    // Given a room of 101 with Alice, Bob on two devices, and Carol
    let redis = Redis::start().await;
    let server = Server::start(&redis).await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let mut bob = Client::connect_delta(&server, "bob").await;
    let mut bobs_tablet = Client::connect_delta(&server, "bob").await;
    let mut carol = Client::connect_delta(&server, "carol").await;
    let others: Vec<String> = (4..=101).map(|number| format!("user-{number}")).collect();
    let mut participants = vec!["bob".to_owned(), "carol".to_owned()];
    participants.extend(others);
    let opened = alice
        .done("initializeChat", json!({ "participants": participants }))
        .await;
    let room = opened["roomId"].as_str().expect("a room id").to_owned();
    for device in [&mut alice, &mut bob, &mut bobs_tablet, &mut carol] {
        device.settle().await;
    }

    // When Alice sends, then one member has read it, and nobody is named
    let sent = alice.say(&room, "Hello all").await;
    let message = carol.expect("newMessage").await;
    assert_eq!(
        (&message["readBy"], &message["readCount"]),
        (&json!([]), &json!(1))
    );

    // When Bob marks it, then his own devices are notified, and nobody else's
    for device in [&mut alice, &mut bob, &mut bobs_tablet] {
        device.settle().await;
    }
    let marked = bob.mark(&room, &sent["id"]).await;
    assert_eq!(
        (&marked["readSeq"], &marked["unreadCnt"]),
        (&json!(1), &json!(0))
    );
    let read = json!({ "roomId": room, "userId": "bob", "seq": 1, "messageId": sent["id"] });
    assert_eq!(bobs_tablet.expect("messageRead").await, read);
    assert_eq!(bob.until("messageRead", |_| true).await, read);
    alice.expect_nothing().await;
    carol.expect_nothing().await;

    // And the history counts him
    let history = alice.history(&room).await;
    assert_eq!(
        (&history[0]["readBy"], &history[0]["readCount"]),
        (&json!([]), &json!(2))
    );

    // When Carol enters, and leaves after another message, then she has read both
    carol.enter(&room).await;
    alice.say(&room, "Hello again").await;
    carol.leave().await;
    let list = carol.list().await;
    assert_eq!(entry(&list, &room)["unreadCnt"], 0);
    let counts: Vec<Value> = alice
        .history(&room)
        .await
        .iter()
        .map(|message| message["readCount"].clone())
        .collect();
    assert_eq!(counts, [json!(3), json!(2)]);
}

#[tokio::test]
async fn a_room_of_exactly_a_hundred_names_its_readers() {
    let redis = Redis::start().await;
    let server = Server::start(&redis).await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let mut bob = Client::connect_delta(&server, "bob").await;
    let mut participants = vec!["bob".to_owned()];
    participants.extend((3..=100).map(|number| format!("user-{number}")));
    let opened = alice
        .done("initializeChat", json!({ "participants": participants }))
        .await;
    let room = opened["roomId"].as_str().expect("a room id").to_owned();
    assert_eq!(
        bob.expect("chatEntry").await["members"]
            .as_array()
            .map(Vec::len),
        Some(99)
    );
    alice.say(&room, "Hello").await;
    assert_eq!(names(&bob.expect("newMessage").await["readBy"]), ["alice"]);
    bob.enter(&room).await;
    let read = alice
        .until("messageRead", |read| read["userId"] == "bob")
        .await;
    assert_eq!(read["seq"], 1);
}
