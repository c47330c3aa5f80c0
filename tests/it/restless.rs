//! Rooms that change in ways that no server expects: rolled back, recreated, deleted, with events that are not theirs.
//! Whatever happens, every request is answered, and no server queries the store again and again.

use std::collections::HashSet;

use crate::{
    figures::Figures,
    support::{Client, Redis, Server, Value, code, eventually, json},
};

/// How often the script has been called so far.
async fn calls(redis: &Redis) -> u64 {
    let stats: String = redis.run("INFO commandstats").await;
    let calls = stats
        .lines()
        .find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
    let calls = calls.and_then(|rest| rest.split(',').next());
    calls.map_or(0, |calls| calls.parse().expect("a number"))
}

/// Checks that the servers come to rest: they make only a few calls in a time in which they could have made many.
async fn comes_to_rest(redis: &Redis) {
    let before = calls(redis).await;
    // Each round trip of these is a chance for the servers' next call.
    for _ in 0..20_000 {
        let _: String = redis.run("PING").await;
    }
    let calls = calls(redis).await - before;
    assert!(calls < 100, "{calls} calls while nobody asks for anything");
}

async fn meta(redis: &Redis, room: &str, field: &str) -> String {
    redis
        .run(&format!("HGET chat:{{room:{room}}}:meta {field}"))
        .await
}

#[tokio::test]
async fn a_room_that_was_set_back_goes_on_from_where_it_is() {
    // Given a room that Redis saved at its fifth message, and a device that connected at the seventh
    let mut redis = Redis::with_options(&["--save", ""]);
    redis.appear().await;
    let server = Server::start(&redis).await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let room = alice.open_room(&["bob"]).await;
    for number in 1..=5 {
        alice.say(&room, &format!("kept {number}")).await;
    }
    let _: () = redis.run("SAVE").await;
    for number in 6..=7 {
        alice.say(&room, &format!("lost {number}")).await;
    }
    alice.disconnect().await;
    let mut alice = Client::connect_delta(&server, "alice").await;

    // When Redis is killed and comes back as it was saved
    redis.kill_9().await;
    redis.appear().await;

    // Then she is notified, and receives the room again, as it is now
    let told = alice.expect_any("error").await;
    assert_eq!(code(&told), "HISTORY_RESET");
    let entry = alice
        .until("chatEntry", |entry| entry["roomId"] == room.as_str())
        .await;
    assert_eq!(entry["seq"], 5);

    // And nobody queries anything again and again, lists are answered, new devices can connect, and the chat goes on
    comes_to_rest(&redis).await;
    assert_eq!(alice.list().await[0]["seq"], 5);
    let again = Client::connect_delta(&server, "alice").await;
    assert_eq!(again.first_list[0]["seq"], 5);
    alice.say(&room, "after").await;
    let message = alice.expect_any("newMessage").await;
    assert_eq!(
        (&message["seq"], &message["content"]),
        (&json!(6), &json!("after"))
    );
}

#[tokio::test]
async fn events_that_are_not_the_room_s_are_dropped_and_the_room_goes_on() {
    let redis = Redis::start().await;
    let server = Server::start(&redis).await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let mut bob = Client::connect_delta(&server, "bob").await;
    let room = alice.open_room(&["bob"]).await;
    alice.say(&room, "first").await;
    let (epoch, rev) = (
        meta(&redis, &room, "epoch").await,
        meta(&redis, &room, "rev").await,
    );
    let rev: u64 = rev.parse().expect("a number");

    // When events are published with a rev far ahead, of another epoch, and with one that was passed long ago
    for (epoch, rev) in [(epoch.as_str(), rev + 1000), ("1-x", rev + 1), (&epoch, 1)] {
        let stray = json!({
            "event": "message", "epoch": epoch, "rev": rev, "seq": 2, "id": "1795380167638-2",
            "sender": "alice", "content": "stray", "readBy": ["alice"], "readCount": 1,
        });
        let publish = redis::cmd("SPUBLISH")
            .arg(format!("chat:{{room:{room}}}:events"))
            .arg(stray.to_string())
            .exec_async(&mut redis.admin())
            .await;
        publish.expect("an event");
    }

    // Then nobody queries the room again and again, and it goes on without them
    alice.say(&room, "second").await;
    let second = |message: &Value| message["content"] == "second";
    let frames = bob.until("newMessage", second).await;
    assert_eq!(frames["seq"], 2);
    comes_to_rest(&redis).await;
    for frame in bob.settle().await {
        assert_ne!(frame.data["content"], "stray");
    }
}

#[tokio::test]
async fn a_room_is_told_to_everybody_whoever_finds_it_first() {
    // Given a device of Alice's that only listens, and others that read her list again and again
    const ROOMS: usize = 100;
    let redis = Redis::start().await;
    let server = Server::start(&redis).await;
    let mut quiet = Client::connect_delta(&server, "alice").await;
    let mut maker = Client::connect_delta(&server, "bob").await;
    let mut askers = Vec::new();
    for _ in 0..4 {
        askers.push(Client::connect_delta(&server, "alice").await);
    }

    // When rooms are made meanwhile
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let asking = askers.into_iter().map(|mut asker| {
        let stopped = stopped.clone();
        async move {
            while !*stopped.borrow() {
                asker.done("getChatList", Value::Null).await;
                asker.take_inbox();
            }
        }
    });
    let making = async {
        let mut rooms = Vec::new();
        for _ in 0..ROOMS {
            rooms.push(maker.open_room(&["alice", "carol"]).await);
        }
        stop.send_replace(true);
        rooms
    };
    let (rooms, _) = tokio::join!(making, futures_util::future::join_all(asking));

    // Then the listener is notified of each of them
    let mut told = HashSet::new();
    while told.len() < ROOMS {
        let entry = quiet.expect_any("chatEntry").await;
        told.insert(entry["roomId"].as_str().expect("an id").to_owned());
    }
    assert!(rooms.iter().all(|room| told.contains(room)));
}

#[tokio::test]
async fn rooms_that_vanish_take_no_answer_about_others_with_them() {
    // Given a device with a room that remains and many that an operator deletes
    let redis = Redis::start().await;
    let server = Server::on(&redis)
        .env("QUIET_ROOM_CHECK_MS", "100")
        .start()
        .await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let stays = alice.open_room(&["bob"]).await;
    alice.say(&stays, "I stay").await;
    let mut going = Vec::new();
    for number in 0..100 {
        going.push(
            alice
                .open_room(&["carol", &format!("friend-{number}")])
                .await,
        );
    }

    let rooms = async || Figures::of(&server).await.get("chat_rooms", &[]);
    let before = rooms().await;

    // When they are deleted while she sends requests
    let deleting = async {
        for room in &going {
            for part in ["meta", "members", "reads", "messages"] {
                let _: u64 = redis.run(&format!("DEL chat:{{room:{room}}}:{part}")).await;
            }
            let _: u64 = redis
                .run(&format!("ZREM chat:{{user:alice}}:rooms {room}"))
                .await;
        }
        eventually("the server has found them gone", async || {
            rooms().await == before - 100.0
        })
        .await;
    };
    let mut asked = 0;
    let asking = async {
        loop {
            let page = alice.done("getHistory", json!({ "roomId": stays })).await;
            assert_eq!(page["messages"][0]["content"], "I stay");
            asked += 1;
            alice.take_inbox();
        }
    };
    tokio::select! {
        () = deleting => {}
        () = asking => {}
    }

    // Then each of her requests was answered
    assert!(asked > 0);
    let list = alice.list().await;
    let list = list.as_array().expect("a list");
    assert!(list.iter().any(|entry| entry["roomId"] == stays.as_str()));
    assert!(
        !list
            .iter()
            .any(|entry| going.iter().any(|room| entry["roomId"] == room.as_str()))
    );
}

#[tokio::test]
async fn a_device_that_leaves_while_it_enters_views_nothing() {
    // Given Alice, whose request to enter has been written to a Redis that does not run it yet
    let redis = Redis::start().await;
    let server = Server::start(&redis).await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let room = alice.open_room(&["bob"]).await;
    alice.say(&room, "Hello").await;
    let mut bob = Client::connect_delta(&server, "bob").await;
    let _: () = redis.run("CLIENT PAUSE 60000 WRITE").await;
    bob.ask("enterChat", json!({ "roomId": room })).await;

    // When her connection ends meanwhile
    bob.disconnect().await;
    eventually("the server has seen it", async || {
        Figures::of(&server)
            .await
            .get("chat_connections", &[("door", "native")])
            == 1.0
    })
    .await;
    let _: () = redis.run("CLIENT UNPAUSE").await;

    // Then nobody views the room
    eventually("Bob's entering was followed by his leaving", async || {
        let read: Option<f64> = redis
            .run(&format!("ZSCORE chat:{{room:{room}}}:reads bob"))
            .await;
        let viewers: u64 = redis
            .run(&format!("ZCARD chat:{{room:{room}}}:viewing"))
            .await;
        read.is_some() && viewers == 0
    })
    .await;
}

#[tokio::test]
async fn devices_that_connect_together_get_one_list_each() {
    // Given Alice with rooms, whom no server is subscribed for any more
    let redis = Redis::start().await;
    let first = Server::start(&redis).await;
    let mut alice = Client::connect_delta(&first, "alice").await;
    for number in 0..20 {
        alice.open_room(&["bob", &format!("friend-{number}")]).await;
    }
    alice.disconnect().await;

    // When many of her devices connect at once
    let server = Server::start(&redis).await;
    let connecting = (0..8).map(|_| Client::connect(&server, "alice"));
    let devices = futures_util::future::join_all(connecting).await;

    // Then each has its list, and no second one comes
    for mut device in devices {
        assert_eq!(device.first_list.as_array().expect("a list").len(), 20);
        // Before each answer another list could come.
        for _ in 0..50 {
            device.done("leaveChat", Value::Null).await;
        }
        let inbox = device.take_inbox();
        assert!(!inbox.iter().any(|frame| frame.event == "chatList"));
    }
}
