//! A device is given what it asked for, its first list included, whatever the size: a device is too slow only if it
//! does not read its events.

use std::ops::RangeInclusive;

use crate::figures::Figures;
use crate::support::raw::{CLOSE, FIN, TEXT};
use crate::support::{
    Client, PATIENCE, RawSocket, Redis, Server, Value, code, entry, eventually, json,
};

/// The smallest value that may be set.
const SHORT_QUEUE: (&str, &str) = ("QUEUE_MAX_BYTES", "65536");
/// A client that reads nothing answers no pings either, and would be closed for that when a test takes long.
const NO_PINGS: &str = "3600000";

async fn server(redis: &Redis) -> Server {
    let (name, value) = SHORT_QUEUE;
    Server::on(redis).env(name, value).start().await
}

/// Makes groups of the client and `other` whose entries together are larger than the queue.
async fn many_rooms(client: &mut Client, other: &str) -> usize {
    let count = 200;
    let somebody = "z".repeat(120);
    for number in 0..count {
        let name = format!("{number} {}", "x".repeat(120));
        let participants = [other, &somebody];
        let wish = json!({ "participants": participants, "name": name });
        client.done("initializeChat", wish).await;
        client.take_inbox();
    }
    count
}

/// Sends so many messages in the room that a page of them is larger than the queue.
async fn large_page(client: &mut Client, room: &str, character: &str) {
    for _ in 0..24 {
        client.say(room, &character.repeat(10_800)).await;
        // Before the next one, or the client's own queue might overflow
        client.expect("newMessage").await;
        client.take_inbox();
    }
}

async fn closed(server: &Server) -> f64 {
    let figures = Figures::of(server).await;
    figures.get("chat_connections_closed_total", &[])
}

#[tokio::test]
async fn a_list_larger_than_the_queue_closes_nobody() {
    // Given Alice, whose rooms' entries are larger than her queue
    let redis = Redis::start().await;
    let server = server(&redis).await;
    let mut bob = Client::connect_delta(&server, "bob").await;
    let rooms = many_rooms(&mut bob, "alice").await;

    // When she connects, then she gets her list
    let mut alice = Client::connect(&server, "alice").await;
    let bytes = alice.first_list.to_string().len();
    assert!(bytes > 65_536, "only {bytes} bytes");
    assert_eq!(alice.first_list.as_array().unwrap().len(), rooms);

    // And again as often as she asks for it, and when she makes a room
    for _ in 0..3 {
        assert_eq!(alice.list().await.as_array().unwrap().len(), rooms);
    }
    alice.open_room(&["bob"]).await;
    assert_eq!(closed(&server).await, 0.0);
}

#[tokio::test]
async fn a_page_larger_than_the_queue_closes_nobody() {
    // Given a room whose messages are large as JSON
    let redis = Redis::start().await;
    let server = server(&redis).await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let room = alice.open_room(&["bob"]).await;
    large_page(&mut alice, &room, "\u{1}").await;

    // When Bob enters it, then he gets its messages, with a request id and without
    let mut bob = Client::connect_delta(&server, "bob").await;
    bob.enter(&room).await;
    let history = bob.expect_any("chatHistory").await;
    assert!(history.to_string().len() > 65_536);
    bob.emit("getHistory", json!({ "roomId": room })).await;
    bob.expect_any("chatHistory").await;
    bob.expect_nothing_of("error").await;
    assert_eq!(closed(&server).await, 0.0);
}

#[tokio::test]
async fn who_does_not_read_answers_is_answered_no_more_until_they_are_read() {
    const ASKED: u64 = 200;
    // Given a page of a few hundred kilobytes
    let redis = Redis::start().await;
    let server = server(&redis).await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let room = alice.open_room(&["bob"]).await;
    large_page(&mut alice, &room, "x").await;

    // When Bob asks for it again and again and does not read
    let mut bob = RawSocket::connect(&server, "bob").await;
    ask_for_pages(&mut bob, &room, 1..=ASKED).await;
    // And Alice, who reads, does the same meanwhile
    for _ in 0..ASKED {
        alice.done("getHistory", json!({ "roomId": room })).await;
    }

    // Then far from all of his requests have been processed
    let figures = Figures::of(&server).await;
    let answered = figures.get("chat_requests_total", &[("event", "getHistory")]) - ASKED as f64;
    assert!(answered < ASKED as f64 / 2.0, "{answered} of {ASKED}");
    assert_eq!(closed(&server).await, 0.0);

    // And when he reads, then each request is answered, in order
    for id in 1..=ASKED {
        assert_eq!(next_answer(&mut bob).await, id);
    }
    assert_eq!(closed(&server).await, 0.0);
}

#[tokio::test]
async fn answers_that_nobody_reads_are_bounded_for_the_whole_server() {
    const DEVICES: usize = 24;
    const PAGES: u64 = 30;
    // Given a server that allows at most 16 MiB of pages in flight, and a page of about a quarter of a MiB
    let redis = Redis::start().await;
    let server = Server::on(&redis)
        .env("MAX_REQUESTS_PER_SEC", "0")
        .env("PING_INTERVAL_MS", NO_PINGS)
        .env("REDIS_CALL_TIMEOUT_MS", "30000");
    let server = server.env("ANSWERS_MAX_BYTES", "16777216").start().await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let room = alice.open_room(&["bob", "carol", "dave"]).await;
    large_page(&mut alice, &room, "x").await;

    // When many devices ask for it again and again, and do not read
    let mut devices = Vec::new();
    for user in ["bob", "carol", "dave"] {
        for _ in 0..DEVICES {
            let mut device = RawSocket::connect_with_buffer(&server, user, Some(4096)).await;
            ask_for_pages(&mut device, &room, 1..=PAGES).await;
            devices.push(device);
        }
    }

    // Then Alice cannot get a page and receives an error, but everything that is not a page still works
    let refused = loop {
        if let Err(error) = alice.request("getHistory", json!({ "roomId": room })).await {
            break error;
        }
    };
    assert_eq!(code(&refused), "UNAVAILABLE", "{refused}");
    alice.say(&room, "Hello").await;

    // And nobody was closed; a device that reads is answered, and devices that leave free their share for others
    assert_eq!(closed(&server).await, 0.0);
    assert_eq!(next_answer(&mut devices[0]).await, 1);
    drop(devices);
    eventually("Alice has her page", async || {
        alice
            .request("getHistory", json!({ "roomId": room }))
            .await
            .is_ok()
    })
    .await;
}

async fn ask_for_pages(socket: &mut RawSocket, room: &str, ids: RangeInclusive<u64>) {
    for id in ids {
        let request = json!({ "event": "getHistory", "id": id, "data": { "roomId": room } });
        let request = request.to_string();
        socket.send_frame(FIN | TEXT, request.as_bytes()).await;
    }
}

#[tokio::test]
async fn a_list_that_waits_for_a_slow_link_is_replaced_by_the_newer_one() {
    const MESSAGES: u64 = 60;
    // Given Bob, whose chat list is half a megabyte, and who reads nothing for now
    let redis = Redis::start().await;
    let (name, value) = SHORT_QUEUE;
    let server = Server::on(&redis).env(name, value);
    let server = server.env("MAX_NEW_ROOM_MEMBERS_PER_MIN", "0");
    let server = server.env("PING_INTERVAL_MS", NO_PINGS);
    let server = server.env("LIST_REFRESH_INTERVAL_MS", "10").start().await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let people: Vec<String> = (10..89)
        .map(|n| format!("{n}{}", "z".repeat(120)))
        .collect();
    for _ in 0..50 {
        let participants: Vec<&str> = std::iter::once("bob")
            .chain(people.iter().map(String::as_str))
            .collect();
        alice.open_room(&participants).await;
    }
    let room = alice.open_room(&["bob", "carol"]).await;
    alice.settle().await;
    let mut bob = RawSocket::connect_full(&server, "bob", 4096).await;

    // When Alice sends him messages, and his list is read again after each
    for number in 1..=MESSAGES {
        let read = lists_read(&server).await;
        assert_eq!(alice.say(&room, "Hello").await["seq"], number);
        eventually("Bob's list was read again", async || {
            lists_read(&server).await > read
        })
        .await;
    }

    // Then he gets all of them, and lists that are as recent as the messages before them, but not every list
    let (mut seq, mut lists) = (0, 0);
    let mut told = 0;
    while told < MESSAGES {
        let (opcode, payload) = bob.read_frame().await.expect("the connection goes on");
        assert_ne!(opcode, CLOSE, "{payload:?}");
        let frame: Value = serde_json::from_slice(&payload).expect("JSON");
        match frame["event"].as_str() {
            Some("newMessage") => {
                assert_eq!(frame["data"]["seq"], seq + 1);
                seq += 1;
            }
            Some("chatList") => {
                told = entry(&frame["data"], &room)["seq"]
                    .as_u64()
                    .expect("a number");
                assert_eq!(told, seq);
                lists += 1;
            }
            _ => {}
        }
    }
    assert!(lists < MESSAGES / 2, "{lists} lists");
    assert_eq!(closed(&server).await, 0.0);
}

async fn lists_read(server: &Server) -> f64 {
    let figures = Figures::of(server).await;
    figures.get("chat_list_refreshes_total", &[])
}

/// The id of the next answer, whether an ack or an error.
async fn next_answer(socket: &mut RawSocket) -> u64 {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        assert!(tokio::time::Instant::now() < deadline, "no ack in time");
        let (opcode, payload) = socket.read_frame().await.expect("the connection goes on");
        if opcode != TEXT {
            continue;
        }
        let frame: Value = serde_json::from_slice(&payload).expect("JSON");
        if let Some(id) = frame["id"].as_u64() {
            return id;
        }
    }
}
