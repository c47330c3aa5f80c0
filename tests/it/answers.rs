//! What a device asked for, its first list included, is given whatever its size: a device is too slow only if it does not
//! read what it is told unasked.

use crate::figures::Figures;
use crate::support::raw::{FIN, TEXT};
use crate::support::{Client, PATIENCE, RawSocket, Redis, Server, Value, json};

/// The least that may be set.
const SHORT_QUEUE: (&str, &str) = ("QUEUE_MAX_BYTES", "65536");

async fn server(redis: &Redis) -> Server {
    let (name, value) = SHORT_QUEUE;
    Server::on(redis).env(name, value).start().await
}

/// Makes groups of the client's with `other`, whose entries together are larger than the queue.
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

/// Says so much in the room that a page of it is larger than the queue.
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
    // Given Alice, who is in more rooms than her queue has bytes for
    let redis = Redis::start().await;
    let server = server(&redis).await;
    let mut bob = Client::connect_delta(&server, "bob").await;
    let rooms = many_rooms(&mut bob, "alice").await;

    // When she connects, then she has her list
    let mut alice = Client::connect(&server, "alice").await;
    let bytes = alice.first_list.to_string().len();
    assert!(bytes > 65_536, "only {bytes} bytes");
    assert_eq!(alice.first_list.as_array().unwrap().len(), rooms);

    // And again as often as she asks for it, and with the room that she makes
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

    // When Bob enters it, then he has its messages, with an id and without
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
    let mut bob = RawSocket::connect_with_buffer(&server, "bob", Some(4096)).await;
    for id in 1..=ASKED {
        let request = json!({ "event": "getHistory", "id": id, "data": { "roomId": room } });
        bob.send_frame(FIN | TEXT, request.to_string().as_bytes())
            .await;
    }
    // And Alice, who reads, does as much meanwhile
    for _ in 0..ASKED {
        alice.done("getHistory", json!({ "roomId": room })).await;
    }

    // Then of his questions not nearly as many have been worked off
    let figures = Figures::of(&server).await;
    let answered = figures.get("chat_requests_total", &[("event", "getHistory")]) - ASKED as f64;
    assert!(answered < ASKED as f64 / 2.0, "{answered} of {ASKED}");
    assert_eq!(closed(&server).await, 0.0);

    // And when he reads, then each is answered, in their order
    for id in 1..=ASKED {
        assert_eq!(next_ack(&mut bob).await, id);
    }
    assert_eq!(closed(&server).await, 0.0);
}

async fn next_ack(socket: &mut RawSocket) -> u64 {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        assert!(tokio::time::Instant::now() < deadline, "no ack in time");
        let (opcode, payload) = socket.read_frame().await.expect("the connection goes on");
        if opcode != TEXT {
            continue;
        }
        let frame: Value = serde_json::from_slice(&payload).expect("JSON");
        if frame["event"] == "ack" {
            return frame["id"].as_u64().expect("an id");
        }
    }
}
