//! Socket.IO clients that begin with long-polling: what they receive while they move to WebSocket, and what clients
//! that stop half-way cost.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use crate::figures::Figures;
use crate::support::raw::{FIN, TEXT};
use crate::support::{Client, Polling, RawSocket, Redis, Server, Value, eventually, http, json};

const DEVICES: [(&str, &str); 1] = [("door", "socket_io_polling")];

/// Close to the largest content.
const LONG: usize = 16_000;

async fn comes_to(server: &Server, value: f64, name: &str, labels: &[(&str, &str)]) {
    let what = format!("{name} {labels:?} is {value}\n{}", server.log);
    eventually(&what, async || {
        Figures::of(server).await.get(name, labels) == value
    })
    .await;
}

/// Waits until this many new devices can be connected at once.
async fn seats(server: &Server, devices: usize) {
    let mut seated = Vec::new();
    eventually("there is a seat for all", async || {
        let Some(session) = Polling::try_open(server).await else {
            return false;
        };
        session.join(&format!("new {}", seated.len())).await;
        let told = session.poll_until("42[").await;
        if !told.iter().any(|packet| packet.starts_with("42[\"error\"")) {
            seated.push(session);
        }
        seated.len() == devices
    })
    .await;
}

async fn open_room(client: &mut Client, participants: &[&str]) -> String {
    let opened = client
        .done("initializeChat", json!({ "participants": participants }))
        .await;
    opened["roomId"].as_str().expect("a room id").to_owned()
}

/// Sends so many messages of this length, a few at once, so that the sender reads what it receives.
async fn say(client: &mut Client, room: &str, len: usize, times: usize) {
    const AT_ONCE: usize = 8;
    let numbers: Vec<usize> = (0..times).collect();
    for numbers in numbers.chunks(AT_ONCE) {
        let mut asked = Vec::new();
        for number in numbers {
            let content = format!("{number} {}", "x".repeat(len));
            let data = json!({ "roomId": room, "content": content });
            asked.push(client.ask("sendMessage", data).await);
        }
        for id in asked {
            client.answer(id).await.expect("it is said");
            client.take_inbox();
        }
    }
}

#[tokio::test]
async fn whoever_stops_half_way_gives_their_seat_back() {
    // Given a server that accepts a few devices, and closes those that show no life for some seconds
    let redis = Redis::start().await;
    let server = Server::on(&redis)
        .env("PING_INTERVAL_MS", "3000")
        .env("PING_TIMEOUT_MS", "3000")
        .env("MAX_CONNECTIONS", "8")
        .env("MAX_FRAME_BYTES", "16777216")
        .env("QUEUE_MAX_BYTES", "16777216")
        .env("MAX_CONTENT_BYTES", "8388608")
        .start()
        .await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let users = ["bob", "carol", "dave", "erin", "frank", "grace"];
    let room = open_room(&mut alice, &users).await;

    // When one polls and does not read an answer that is too large for the socket to take at once
    let unread = Polling::joined(&server, "bob").await;
    unread.poll_until("42[\"chatList\"").await;
    let unread = unread.poll_unread().await;
    say(&mut alice, &room, 8_000_000, 1).await;
    drop(alice);
    // One never joins, one moves before it joins, one joins and never polls, one sends pongs and never polls
    let _unjoined = Polling::open(&server).await;
    let moved_unjoined = Polling::open(&server).await.upgrade(&server).await;
    let _silent = Polling::joined(&server, "carol").await;
    let lively = Polling::joined(&server, "grace").await;
    let lively = tokio::spawn(async move { while lively.post("3").await.status == 200 {} });
    // One opens a WebSocket and sends nothing, one stops before it moves, one has moved and reads nothing
    let opened = Polling::joined(&server, "dave")
        .await
        .open_websocket(&server)
        .await;
    let probed = Polling::joined(&server, "erin").await.probe(&server).await;
    let moved = Polling::joined(&server, "frank")
        .await
        .upgrade(&server)
        .await;

    // Then no device is left, and as many as before can connect
    comes_to(&server, 0.0, "chat_connections", &DEVICES).await;
    lively.await.expect("its session has ended");
    seats(&server, 8).await;
    drop((unread, opened, probed, moved, moved_unjoined));
}

#[tokio::test]
async fn devices_that_have_moved_and_do_not_read_are_closed_as_any() {
    // Given thirty devices of Bob's that move to WebSocket and do not read, on a server that waits long for pongs
    const COUNT: usize = 30;
    let redis = Redis::start().await;
    let server = Server::on(&redis)
        .env("PING_INTERVAL_MS", "3600000")
        .env("MAX_CONNECTIONS", &(COUNT + 1).to_string())
        .start()
        .await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let room = open_room(&mut alice, &["bob"]).await;
    let mut sockets = Vec::new();
    for _ in 0..COUNT {
        sockets.push(Polling::joined(&server, "bob").await.upgrade(&server).await);
    }
    comes_to(&server, COUNT as f64, "chat_connections", &DEVICES).await;
    let before = server.peak_bytes();

    // When Alice sends more than sockets and queues hold
    say(&mut alice, &room, LONG, 600).await;

    // Then they are closed as too slow, and cost no more memory than what they share
    let reason = [("reason", "too_slow")];
    comes_to(
        &server,
        COUNT as f64,
        "chat_connections_closed_total",
        &reason,
    )
    .await;
    let more = server.peak_bytes().saturating_sub(before);
    assert!(more < 64 << 20, "{more} bytes more at the peak");
    // And as many can connect
    drop(alice);
    comes_to(&server, 0.0, "chat_connections", &[("door", "native")]).await;
    seats(&server, COUNT).await;
    drop(sockets);
}

#[tokio::test]
async fn nothing_is_lost_or_doubled_while_a_device_moves() {
    // Given Bob, who polls, and Alice, who sends all the time
    let redis = Redis::start().await;
    let server = Server::start(&redis).await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let room = open_room(&mut alice, &["bob"]).await;
    let bob = Polling::joined(&server, "bob").await;
    let mut packets = bob.poll_until("42[\"chatList\"").await;
    let enough = Arc::new(AtomicBool::new(false));
    let talk = {
        let (room, enough) = (room.clone(), enough.clone());
        tokio::spawn(async move {
            let mut said = 0;
            while !enough.load(Ordering::Relaxed) {
                say(&mut alice, &room, 100, 5).await;
                said += 5;
            }
            said
        })
    };

    // When he sends messages himself, before he moves, while he moves and afterwards
    let own = |number| {
        let content = format!("own {number}");
        json!(["sendMessage", { "roomId": room, "content": content }])
    };
    for number in (0..10).step_by(2) {
        bob.send(&format!("42{}\u{1e}42{}", own(number), own(number + 1)))
            .await;
        packets.extend(bob.poll().await);
    }
    let mut socket = bob.probe(&server).await;
    bob.send(&format!("42{}", own(10))).await;
    packets.extend(bob.poll().await);
    socket.send_frame(FIN | TEXT, b"5").await;
    for number in 11..20 {
        socket
            .send_frame(FIN | TEXT, format!("42{}", own(number)).as_bytes())
            .await;
    }

    // Then he gets every message once and in order, his own included
    let said = |packets: &[String]| -> Vec<Value> {
        let events = packets
            .iter()
            .filter_map(|packet| packet.strip_prefix("42"));
        let events = events.map(|event| serde_json::from_str::<Value>(event).expect("JSON"));
        let said = events.filter(|event| event[0] == "newMessage");
        said.map(|event| event[1].clone()).collect()
    };
    let before = said(&packets).len();
    let mut read = async |packets: &mut Vec<String>| {
        let (opcode, payload) = socket.read_frame().await.expect("the connection goes on");
        assert_eq!(opcode, TEXT);
        packets.push(String::from_utf8(payload).expect("a text"));
    };
    while said(&packets).len() < before + 50 {
        read(&mut packets).await;
    }
    enough.store(true, Ordering::Relaxed);
    let all = talk.await.expect("Alice has talked") + 20;
    while said(&packets).len() < all {
        read(&mut packets).await;
    }
    let said = said(&packets);
    let numbers: Vec<_> = said.iter().map(|message| message["seq"].as_u64()).collect();
    let all = u64::try_from(all).expect("a count");
    assert_eq!(numbers, (1..=all).map(Some).collect::<Vec<_>>());
    let own = said.iter().filter(|message| message["senderId"] == "bob");
    let own: Vec<_> = own
        .map(|message| message["content"].as_str().expect("a text"))
        .collect();
    assert_eq!(
        own,
        (0..20)
            .map(|number| format!("own {number}"))
            .collect::<Vec<_>>()
    );
    // And the session polls no more
    assert_eq!(bob.post("3").await.status, 400);
}

#[tokio::test]
async fn a_client_that_moves_before_it_joins_joins_over_its_websocket() {
    let redis = Redis::start().await;
    let server = Server::start(&redis).await;
    let bob = Polling::open(&server).await;
    // Given an earlier request for another namespace, whose refusal is no longer polled
    bob.send("40/admin,").await;
    let mut socket = bob.upgrade(&server).await;
    let refused = socket.read_frame().await.expect("a refusal");
    assert!(refused.1.starts_with(b"44/admin,"), "{refused:?}");
    // And pings and pongs, which some clients send too early
    for early in ["2", "3", "6"] {
        socket.send_frame(FIN | TEXT, early.as_bytes()).await;
    }
    let auth = json!({ "token": crate::support::token::of("bob") });
    socket
        .send_frame(FIN | TEXT, format!("40{auth}").as_bytes())
        .await;
    let joined = socket.read_frame().await.expect("an answer");
    assert!(joined.1.starts_with(b"40{"), "{joined:?}");
    comes_to(&server, 1.0, "chat_connections", &DEVICES).await;
}

#[tokio::test]
async fn signs_of_life_before_joining_are_ignored_at_either_transport() {
    let redis = Redis::start().await;
    let server = Server::start(&redis).await;
    let auth = format!("40{}", json!({ "token": crate::support::token::of("bob") }));
    let mut socket = RawSocket::unjoined(&server).await;
    socket.read_frame().await.expect("an open packet");
    let polling = Polling::open(&server).await;
    for early in ["2", "3", "6"] {
        socket.send_frame(FIN | TEXT, early.as_bytes()).await;
        polling.send(early).await;
    }
    socket.send_frame(FIN | TEXT, auth.as_bytes()).await;
    polling.send(&format!("3\u{1e}{auth}")).await;
    let joined = socket.read_frame().await.expect("an answer");
    assert!(joined.1.starts_with(b"40{"), "{joined:?}");
    polling.poll_until("42[\"chatList\"").await;
}

#[tokio::test]
async fn what_breaks_a_rule_of_polling_ends_the_session() {
    let redis = Redis::start().await;
    let server = Server::start(&redis).await;
    let too_large = "4".repeat(64 * 1024 + 1);
    let broken = [
        ("5", 400),
        ("", 400),
        ("42[\"a\"]\u{1e}", 400),
        (&*too_large, 413),
    ];
    for (payload, status) in broken {
        let bob = Polling::joined(&server, "bob").await;
        assert_eq!(bob.post(payload).await.status, status, "{payload:.20?}");
        let answer = http::get(server.address, &bob.path).await;
        assert_eq!(
            (answer.status, answer.json()["code"].clone()),
            (400, json!("1"))
        );
    }
    // Two polls at once: nobody could say which one should get what
    let bob = Polling::joined(&server, "bob").await;
    bob.poll_until("42[\"chatList\"").await;
    let poll = || http::get(server.address, &bob.path);
    let (first, second) = tokio::join!(poll(), poll());
    assert!([first.status, second.status].contains(&400));
    comes_to(&server, 0.0, "chat_connections", &DEVICES).await;
}

#[tokio::test]
async fn a_client_that_goes_while_its_poll_waits_is_gone_at_once() {
    // Given a server that waits an hour before it pings
    let redis = Redis::start().await;
    let server = Server::on(&redis)
        .env("PING_INTERVAL_MS", "3600000")
        .start()
        .await;
    let bob = Polling::joined(&server, "bob").await;
    bob.poll_until("42[\"chatList\"").await;
    let waiting = bob.poll_unread().await;
    comes_to(&server, 1.0, "chat_connections", &DEVICES).await;
    // When his browser closes the page
    drop(waiting);
    comes_to(&server, 0.0, "chat_connections", &DEVICES).await;
}
