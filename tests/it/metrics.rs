//! `/metrics`, `/healthz` and `/readyz` as operators' programs request them.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use regex::Regex;
use tokio::net::TcpStream;
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

use futures_util::{SinkExt, StreamExt};

use crate::figures::Figures;
use crate::quiet::unheard;
use crate::support::{
    Client, PATIENCE, Polling, RawSocket, Redis, Server, Value, eventually, free_port, http, json,
    token,
};

/// A server whose metrics are on a port of their own, and that address.
async fn with_own_port(server: crate::support::server::Builder) -> (Server, SocketAddr) {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let server = server.env("METRICS_ADDR", &address.to_string());
    (server.start_unready().await, address)
}

/// A Socket.IO client of `user` that began with WebSocket and has joined.
async fn socket_io(server: &Server, user: &str) -> WebSocketStream<TcpStream> {
    let stream = TcpStream::connect(server.address).await.expect("connect");
    let url = format!(
        "ws://{}/socket.io/?EIO=4&transport=websocket",
        server.address
    );
    let (mut socket, _) = client_async(url, stream).await.expect("let in");
    let join = format!("40{}", json!({ "token": token::of(user) }));
    socket.send(Message::text(join)).await.expect("sent");
    let joined = async {
        while let Some(Ok(packet)) = socket.next().await {
            if packet.to_text().is_ok_and(|text| text.starts_with("40")) {
                return true;
            }
        }
        false
    };
    assert!(tokio::time::timeout(PATIENCE, joined).await.expect("joins"));
    socket
}

/// Makes a room. [`Client::open_room`] would add to the counts: it makes another room, to know that nothing more comes.
async fn open_room(client: &mut Client, participants: &[&str]) -> String {
    let data = json!({ "participants": participants });
    let opened = client.done("initializeChat", data).await;
    opened["roomId"].as_str().expect("a room id").to_owned()
}

/// Waits until a metric has a value.
async fn comes_to(server: &Server, value: f64, name: &str, labels: &[(&str, &str)]) {
    until(server, name, labels, |now| now == value).await;
}

/// Waits until a metric exceeds its former value.
async fn grows(server: &Server, before: &Figures, name: &str, labels: &[(&str, &str)]) {
    let before = before.get(name, labels);
    until(server, name, labels, |now| now > before).await;
}

async fn until(server: &Server, name: &str, labels: &[(&str, &str)], is_so: impl Fn(f64) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = Figures::of(server).await.get(name, labels);
        if is_so(now) {
            return;
        }
        let late = Instant::now() > deadline;
        assert!(!late, "{name} {labels:?} is {now}\n{}", server.log);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn what_devices_do_at_both_doors_is_counted() {
    // Given Alice over the native protocol, and Bob and Carol over Socket.IO, one on each transport
    let redis = Redis::start().await;
    let server = Server::start(&redis).await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let mut bob = socket_io(&server, "bob").await;
    let carol = Polling::joined(&server, "carol").await;
    for door in ["native", "socket_io_websocket", "socket_io_polling"] {
        let door = [("door", door)];
        comes_to(&server, 1.0, "chat_connections", &door).await;
        comes_to(&server, 1.0, "chat_connections_opened_total", &door).await;
    }
    let before = Figures::of(&server).await;
    assert_eq!(before.get("chat_users", &[]), 3.0);
    assert_eq!(before.get("chat_rooms", &[]), 0.0);

    // When Alice writes to both, and requests things that do not exist, under names of her own
    let room = open_room(&mut alice, &["bob", "carol"]).await;
    comes_to(&server, 1.0, "chat_rooms", &[]).await;
    alice.say(&room, "hello").await;
    alice.say(&room, "there").await;
    let foreign = json!({ "roomId": "6e0f5c5e-7a0c-4b52-9c1a-1b2c3d4e5f60", "content": "x" });
    alice.refused("sendMessage", foreign, "NOT_MEMBER").await;
    for name in ["mine", "yours", "a\"b\\c\n{}"] {
        alice.refused(name, Value::Null, "UNKNOWN_EVENT").await;
    }

    // Then the metrics count exactly that, once what was published has come back too
    let messages = [("event", "newMessage")];
    comes_to(&server, 2.0, "chat_fanout_devices_count", &messages).await;
    let after = Figures::of(&server).await;
    let requests = |event: &str, result: &str| {
        let labels = [("event", event), ("result", result)];
        after.get("chat_requests_total", &labels)
    };
    assert_eq!(requests("initializeChat", "ok"), 1.0);
    assert_eq!(requests("sendMessage", "ok"), 2.0);
    assert_eq!(requests("sendMessage", "NOT_MEMBER"), 1.0);
    assert_eq!(requests("other", "UNKNOWN_EVENT"), 3.0);
    assert_eq!(after.get("chat_fanout_devices_sum", &messages), 6.0);
    let sends = [("script", "send_message")];
    assert_eq!(after.get("chat_script_seconds_count", &sends), 3.0);
    assert!(after.get("chat_script_seconds_sum", &sends) > 0.0);
    assert_eq!(after.get("chat_script_failures_total", &[]), 0.0);
    assert!(after.get("chat_published_total", &[("channel", "room")]) >= 2.0);
    assert!(after.get("chat_published_total", &[("channel", "user")]) >= 3.0);
    assert!(after.get("process_resident_memory_bytes", &[]) > 1e6);
    let packets = [("door", "socket_io_websocket")];
    eventually("Bob has been sent both", async || {
        Figures::of(&server)
            .await
            .get("chat_frames_sent_total", &packets)
            >= 4.0
    })
    .await;

    // And nothing that Alice sent has made a series
    assert_eq!(before.keys(), after.keys());

    // When they disconnect, each in a different way, and Dave is refused
    bob.close(None).await.expect("closed");
    carol.send("1").await;
    alice.disconnect().await;
    let refused = http::upgrade(server.address, "/ws", &[("token", "Dave")]).await;
    assert_eq!(refused.status, 401);

    // Then the metrics count that too
    let client = [("reason", "client")];
    comes_to(&server, 3.0, "chat_connections_closed_total", &client).await;
    let figures = Figures::of(&server).await;
    assert_eq!(figures.get("chat_connections", &[]), 0.0);
    let refusals = "chat_connections_refused_total";
    assert_eq!(figures.get(refusals, &[("code", "UNAUTHORIZED")]), 1.0);
    assert_eq!(figures.get(refusals, &[]), 1.0);
    server.stop().await;
}

#[tokio::test]
async fn whole_chat_lists_that_are_sent_again_are_counted() {
    let redis = Redis::start().await;
    let server = Server::start(&redis).await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let mut bob = Client::connect(&server, "bob").await;
    let room = alice.open_room(&["bob"]).await;
    alice.say(&room, "hello").await;
    bob.expect("newMessage").await;
    eventually("Bob's list was read again", async || {
        let done = [("result", "ok")];
        let figures = Figures::of(&server).await;
        figures.get("chat_list_refreshes_total", &done) >= 1.0
    })
    .await;
}

#[tokio::test]
async fn a_redis_that_goes_and_comes_back_empty_is_seen() {
    // Given Alice in a room
    let mut redis = Redis::start().await;
    let server = Server::start(&redis).await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let room = open_room(&mut alice, &["bob"]).await;
    alice.say(&room, "hello").await;
    let figures = Figures::of(&server).await;
    assert_eq!(figures.get("chat_ready", &[]), 1.0);
    assert_eq!(figures.get("chat_redis_up", &[]), 2.0);
    assert_eq!(figures.get("chat_redis_reconnects_total", &[]), 0.0);
    eventually("both connections were asked", async || {
        let figures = Figures::of(&server).await;
        figures.get("chat_redis_ping_seconds_count", &[]) >= 1.0
            && figures.get("chat_pubsub_lag_seconds_count", &[]) >= 1.0
    })
    .await;

    // When Redis is gone
    redis.kill_9().await;
    comes_to(&server, 0.0, "chat_redis_up", &[]).await;
    let data = json!({ "roomId": room, "content": "meanwhile" });
    alice.refused("sendMessage", data, "UNAVAILABLE").await;

    // Then the metrics and the probe say so
    let figures = Figures::of(&server).await;
    assert_eq!(figures.get("chat_ready", &[]), 0.0);
    let failed = [("script", "send_message"), ("code", "UNAVAILABLE")];
    assert_eq!(figures.get("chat_script_failures_total", &failed), 1.0);
    let answer = http::get(server.address, "/readyz").await;
    assert_eq!(answer.status, 503);
    let nothing = json!({ "redis": false, "scripts": false, "rights": false, "subscriptions": false, "accepting": true });
    assert_eq!(answer.json()["checks"], nothing);

    // And when it is back, with its data lost
    redis.appear().await;
    server.ready().await;
    for connection in ["commands", "subscriptions"] {
        let connection = [("connection", connection)];
        comes_to(&server, 1.0, "chat_redis_reconnects_total", &connection).await;
        comes_to(&server, 1.0, "chat_redis_up", &connection).await;
    }
    comes_to(&server, 1.0, "chat_repairs_total", &[("result", "gone")]).await;
    comes_to(&server, 1.0, "chat_history_resets_total", &[]).await;
}

#[tokio::test]
async fn events_that_are_missed_are_counted_by_what_showed_it() {
    // Given Alice on one server, and Bob on another that compares often
    let redis = Redis::start().await;
    let here = Server::start(&redis).await;
    let there = Server::on(&redis).env("QUIET_ROOM_CHECK_MS", "200");
    let there = there.start().await;
    let mut alice = Client::connect_delta(&here, "alice").await;
    let mut bob = Client::connect_delta(&there, "bob").await;
    let room = alice.open_room(&["bob"]).await;
    alice.say(&room, "one").await;
    bob.until("newMessage", |message| message["seq"] == 1).await;

    // When a message is stored that no server is notified of, then Bob's server finds it by itself
    let (compared, shown) = ([("found_by", "comparison")], [("found_by", "next_event")]);
    let delivered = [("result", "caught_up")];
    // The room is new: making it known to both servers may have taken a repair too.
    let before = Figures::of(&there).await;
    let lost = [
        "alice", "two", "", "", "0", "86400000", "16384", "0", "c1", "text", "",
    ];
    unheard(&redis, "send_message", &room, &[], &lost).await;
    grows(&there, &before, "chat_gaps_total", &compared).await;
    grows(&there, &before, "chat_repairs_total", &delivered).await;

    // And Alice's finds it with the next message
    let before = Figures::of(&here).await;
    alice.say(&room, "three").await;
    grows(&here, &before, "chat_gaps_total", &shown).await;
    grows(&here, &before, "chat_repairs_total", &delivered).await;
    for server in [&here, &there] {
        let resets = Figures::of(server)
            .await
            .get("chat_history_resets_total", &[]);
        assert_eq!(resets, 0.0);
    }

    // When something is published that is not an event, then both have noticed
    let channel = format!("chat:{{room:{room}}}:events");
    let heard: u64 = redis.run(&format!("SPUBLISH {channel} nonsense")).await;
    assert_eq!(heard, 2);
    for server in [&here, &there] {
        let room = [("channel", "room")];
        comes_to(server, 1.0, "chat_published_unreadable_total", &room).await;
    }
}

#[tokio::test]
async fn a_device_that_is_let_go_for_being_slow_is_counted() {
    // Given Bob, who reads nothing, and a short queue
    let redis = Redis::start().await;
    let server = Server::on(&redis).env("QUEUE_MAX_BYTES", "262144");
    // He does not answer pings either.
    let server = server.env("PING_INTERVAL_MS", "3600000").start().await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let slow = RawSocket::connect_with_buffer(&server, "bob", Some(4096)).await;
    let room = alice.open_room(&["bob"]).await;

    // When Alice sends more than that and the kernel's buffers hold
    let long = "x".repeat(16 * 1024);
    let too_slow = [("reason", "too_slow")];
    let mut sent = 0;
    while Figures::of(&server)
        .await
        .get("chat_connections_closed_total", &too_slow)
        == 0.0
    {
        assert!(sent < 4096, "Bob's queue holds anything");
        for _ in 0..64 {
            alice.say(&room, &long).await;
            alice.take_inbox();
        }
        sent += 64;
    }

    // Then only Bob was closed
    let figures = Figures::of(&server).await;
    assert_eq!(figures.get("chat_connections_closed_total", &[]), 1.0);
    assert_eq!(figures.get("chat_connections", &[]), 1.0);
    drop(slow);
}

#[tokio::test]
async fn the_figures_may_have_a_port_of_their_own() {
    let redis = Redis::start().await;
    let (server, operators) = with_own_port(Server::on(&redis)).await;
    server.ready().await;
    let figures = Figures::at(operators).await;
    assert_eq!(figures.get("chat_ready", &[]), 1.0);

    // Then they are not on the clients' port
    assert_eq!(http::get(server.address, "/metrics").await.status, 404);
    for path in ["/healthz", "/readyz"] {
        assert_eq!(http::get(operators, path).await.status, 200);
        assert_eq!(http::get(server.address, path).await.status, 200);
    }
    // And clients cannot connect there
    let alices = token::of("alice");
    let refused = http::upgrade(operators, "/ws", &[("token", &alices)]).await;
    assert_eq!(refused.status, 404);
    let told = Regex::new(&format!(
        "listening on {}.*, metrics on {operators}",
        server.address
    ));
    assert!(told.expect("a pattern").is_match(&server.log.text()));
    server.stop().await;
}

#[tokio::test]
async fn a_port_that_the_figures_cannot_have_is_told() {
    let redis = Redis::start().await;
    let holder = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let holder = holder.expect("a port");
    let address = holder.local_addr().expect("its address").to_string();
    let exit = Server::on(&redis).env("METRICS_ADDR", &address).run().await;
    assert_eq!(exit.code, Some(1), "{exit:?}");
    let what = format!("cannot listen on {address} for metrics");
    assert!(exit.stderr.contains(&what), "{exit:?}");
    assert!(exit.stderr.contains("METRICS_ADDR"), "{exit:?}");

    // The same for a value that is not an address
    let exit = Server::on(&redis).env("METRICS_ADDR", "9464").run().await;
    assert_eq!(exit.code, Some(64), "{exit:?}");
    assert!(exit.stderr.contains("127.0.0.1:9464"), "{exit:?}");
}

#[tokio::test]
async fn while_it_shuts_down_it_is_not_ready_and_still_told_of() {
    // Given a server that waits long for Bob, who does not answer its close
    let redis = Redis::start().await;
    let server = Server::on(&redis).env("SHUTDOWN_DEADLINE_MS", "60000");
    let (mut server, operators) = with_own_port(server).await;
    server.ready().await;
    let bob = RawSocket::connect(&server, "bob").await;

    // When it is asked to stop, then it is alive but not ready, and says why
    server.terminate();
    eventually("it is not ready", async || {
        http::get(operators, "/readyz").await.status == 503
    })
    .await;
    let answer = http::get(operators, "/readyz").await.json();
    let drains = json!({ "redis": true, "scripts": true, "rights": true, "subscriptions": true, "accepting": false });
    assert_eq!(answer["checks"], drains);
    assert_eq!(answer["message"], "the server is shutting down");
    assert_eq!(http::get(operators, "/healthz").await.status, 200);
    let figures = Figures::at(operators).await;
    assert_eq!(figures.get("chat_ready", &[]), 0.0);
    assert_eq!(figures.get("chat_connections", &[]), 1.0);

    // And when Bob is gone it exits
    drop(bob);
    server.assert_exits_cleanly().await;
}

#[tokio::test]
async fn without_its_scripts_it_is_not_ready() {
    // Given a Redis that does not allow this server to load scripts
    let redis = Redis::start().await;
    let acl = "ACL SETUSER chatter on >secret ~* &* +@all -script";
    let _: String = redis.run(acl).await;
    let url = format!("{}?user=chatter&pass=secret", redis.url());
    let server = Server::on(&redis)
        .env("REDIS_URL", &url)
        .env("PORT", &free_port().to_string());
    let server = server.start_unready().await;

    // Then it names the scripts as the reason
    let lacking = json!({ "redis": true, "scripts": false, "rights": false, "subscriptions": true, "accepting": true });
    eventually("it says what is missing", async || {
        let answer = http::get(server.address, "/readyz").await;
        answer.status == 503 && answer.json()["checks"] == lacking
    })
    .await;

    // And when it is allowed to, it is ready
    let _: String = redis.run("ACL SETUSER chatter +script").await;
    server.ready().await;
}
