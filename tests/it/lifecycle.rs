//! Starting, stopping, and what happens when something is missing or slow.

use tokio_tungstenite::tungstenite::{Bytes, Message};

use crate::support::{
    Client, RawSocket, Redis, Server, Value, code, eventually, free_port, http, json,
    raw::{CLOSE, FIN, PING, PONG, TEXT, close_code, frame},
    server::repository,
    token,
};

#[tokio::test]
async fn a_stopping_server_says_goodbye() {
    // Given two devices
    let redis = Redis::start().await;
    let mut server = Server::start(&redis).await;
    let mut alice = Client::connect(&server, "alice").await;
    let mut bob = Client::connect_delta(&server, "bob").await;
    let room = alice.open_room(&["bob"]).await;
    bob.settle().await;

    // When Alice sends, and the server is asked to stop before it has answered
    let sent = alice
        .ask(
            "sendMessage",
            json!({ "roomId": room, "content": "Goodbye" }),
        )
        .await;
    alice.answer(sent).await.expect("sent");
    server.terminate();

    // Then Bob still gets the message, both get the goodbye, and the server exits cleanly
    assert_eq!(bob.expect("newMessage").await["content"], "Goodbye");
    assert_eq!(alice.close_code().await, Some(1001));
    assert_eq!(bob.close_code().await, Some(1001));
    server.assert_exits_cleanly().await;

    // And nothing listens on its port any more
    assert!(
        http::try_get(server.address, "/healthz", &[])
            .await
            .is_none()
    );
}

#[tokio::test]
async fn a_device_that_does_not_listen_does_not_keep_the_server() {
    // Given a device that reads nothing and never answers the goodbye
    let redis = Redis::start().await;
    let mut server = Server::on(&redis)
        .env("SHUTDOWN_DEADLINE_MS", "300")
        .start()
        .await;
    let _deaf = RawSocket::connect(&server, "alice").await;
    let _silent = tokio::net::TcpStream::connect(server.address)
        .await
        .expect("connect");

    // When the server is stopped, then it ends all the same
    server.terminate();
    server.assert_exits_cleanly().await;
}

#[tokio::test]
async fn all_bad_settings_are_reported_at_once() {
    // Given a configuration that is wrong in many places
    let exit = Server::builder()
        .env("HOST", "nowhere at all")
        .env("PORT", "70000")
        .env("REDIS_URL", "http://localhost")
        .env("KEY_PREFIX", "{x}")
        .env("HISTORY_MAX_MESSAGES", "-1")
        .env("ALLOW_QUERY_TOKEN", "perhaps")
        .run()
        .await;

    // Then each mistake is named, and the exit code means a usage error
    assert_eq!(exit.code, Some(64), "{exit:?}");
    for name in [
        "HOST",
        "PORT",
        "REDIS_URL",
        "KEY_PREFIX",
        "HISTORY_MAX_MESSAGES",
        "ALLOW_QUERY_TOKEN",
    ] {
        assert!(exit.stderr.contains(name), "{name} is not named: {exit:?}");
    }
    assert!(!exit.stderr.contains("panicked"), "{exit:?}");

    // And an environment that is neither development nor production is refused
    let exit = Server::builder().env("APP_ENV", "staging").run().await;
    assert_eq!(exit.code, Some(64), "{exit:?}");
    assert!(exit.stderr.contains("APP_ENV"), "{exit:?}");

    // And so is a configuration without any key
    let exit = Server::builder().without("JWT_SECRET").run().await;
    assert_eq!(exit.code, Some(64), "{exit:?}");
    assert!(exit.stderr.contains("JWT_SECRET"), "{exit:?}");
}

#[tokio::test]
async fn production_wants_a_secret_of_its_own() {
    let example = std::fs::read_to_string(repository().join(".env.example")).expect(".env.example");
    let example = example
        .lines()
        .find_map(|line| {
            line.trim_start_matches(['#', ' '])
                .strip_prefix("JWT_SECRET=")
        })
        .expect("an example of JWT_SECRET");
    let redis = Redis::start().await;
    for environment in [Some("production"), Some("prod"), None] {
        for secret in [example, "short", "31 bytes are one less than here"] {
            // Given production, set or by default, with a secret that others know or can guess
            let mut builder = Server::on(&redis)
                .without("APP_ENV")
                .env("JWT_SECRET", secret);
            if let Some(environment) = environment {
                builder = builder.env("APP_ENV", environment);
            }

            // Then it does not start, and does not repeat the secret
            let exit = builder.run().await;
            assert_eq!(exit.code, Some(64), "{environment:?} {secret:?}: {exit:?}");
            assert!(exit.stderr.contains("JWT_SECRET"), "{exit:?}");
            assert!(
                secret == "short" || !exit.stderr.contains(secret),
                "{exit:?}"
            );
        }
    }

    // And development starts with the example secret
    Server::on(&redis)
        .env("JWT_SECRET", example)
        .start()
        .await
        .stop()
        .await;
    // And so does the setting that the replaced server called development
    let classic = Server::on(&redis).without("APP_ENV").env("NODE_ENV", "dev");
    classic
        .env("JWT_SECRET", example)
        .start()
        .await
        .stop()
        .await;
}

#[tokio::test]
async fn another_database_is_refused() {
    // Pub/sub does not separate databases, so two installations would receive each other's messages
    let redis = Redis::start_tcp().await;
    for url in [
        format!("{}/1", redis.tcp_url()),
        format!("{}?db=1", redis.url()),
    ] {
        let exit = Server::builder().env("REDIS_URL", &url).run().await;
        assert_eq!(exit.code, Some(64), "{exit:?}");
        assert!(exit.stderr.contains("REDIS_URL"), "{exit:?}");
    }
    let server = Server::builder()
        .env("REDIS_URL", &format!("{}/0", redis.tcp_url()))
        .start()
        .await;
    Client::connect(&server, "alice").await;
}

#[tokio::test]
async fn production_refuses_a_redis_that_may_drop_chats() {
    let redis = Redis::start().await;
    redis
        .run::<()>("CONFIG SET maxmemory-policy allkeys-lru")
        .await;
    let exit = Server::on(&redis).env("APP_ENV", "production").run().await;
    assert!(exit.code.is_some_and(|code| code != 0), "{exit:?}");
    assert!(exit.stderr.contains("allkeys-lru"), "{exit:?}");

    // Development is not that strict
    Server::start(&redis).await.stop().await;
}

#[tokio::test]
async fn a_redis_with_a_password_is_used_by_its_url() {
    // Given a Redis that requires a user and a password
    let redis = Redis::start_tcp().await;
    redis
        .run::<()>("ACL SETUSER chatter on >open-sesame ~* &* +@all")
        .await;
    redis.run::<()>("CONFIG SET requirepass nobody-knows").await;
    let url = format!("redis://chatter:open-sesame@127.0.0.1:{}", redis.port);

    // Then the URL is enough, and the password is in no log
    let server = Server::builder()
        .env("REDIS_URL", &url)
        .env("RUST_LOG", "debug")
        .start()
        .await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let room = alice.open_room(&["bob"]).await;
    alice.say(&room, "Hello").await;
    assert!(!server.log.text().contains("open-sesame"));
}

#[tokio::test]
async fn without_its_redis_it_waits_for_it() {
    // Given a Redis that is not running
    let mut redis = Redis::absent(0);
    let server = Server::on(&redis)
        .env("PORT", &free_port().to_string())
        .start_unready()
        .await;

    // Then the server runs, is not ready, and accepts no clients
    assert_eq!(http::get(server.address, "/healthz").await.status, 200);
    assert_eq!(http::get(server.address, "/readyz").await.status, 503);
    let alices = token::of("alice");
    let refused = http::upgrade(server.address, "/ws", &[("token", &alices)]).await;
    assert_eq!(refused.status, 503);
    let after: u64 = refused.headers["retry-after"].parse().expect("seconds");
    assert!((1..=2).contains(&after), "{after} s");
    assert!(refused.json()["code"].is_string(), "{refused:?}");

    // When Redis starts, then everything works
    redis.appear().await;
    server.ready().await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let room = alice.open_room(&["bob"]).await;
    alice.say(&room, "At last").await;
    server.stop().await;
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let redis = Redis::start().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = taken.local_addr().expect("an address").port().to_string();
    let exit = Server::on(&redis).env("PORT", &port).run().await;
    assert!(exit.code.is_some_and(|code| code != 0), "{exit:?}");
    assert!(exit.stderr.contains(&port), "{exit:?}");
    assert!(!exit.stderr.contains("panicked"), "{exit:?}");
}

#[tokio::test]
async fn the_start_line_says_what_runs() {
    let redis = Redis::start().await;
    let server = Server::start(&redis).await;
    let version: String = redis.run("INFO server").await;
    let version = version
        .lines()
        .find_map(|line| line.strip_prefix("redis_version:"));
    let log = server.log.text();
    let line = log
        .lines()
        .find(|line| line.contains("listening on"))
        .expect("the start line");
    for what in [
        env!("CARGO_PKG_VERSION"),
        &server.address.to_string(),
        "dev",
        version.expect("a version").trim(),
        "scripts",
    ] {
        assert!(line.contains(what), "{what:?} is not in: {line}");
    }
}

#[tokio::test]
async fn forgotten_scripts_are_loaded_again_unnoticed() {
    // Given a server whose scripts Redis forgets before every request
    let redis = Redis::start().await;
    let server = Server::start(&redis).await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let room = alice.open_room(&["bob"]).await;
    let first = alice.say(&room, "Hello").await;
    for (event, data) in [
        ("sendMessage", json!({ "roomId": room, "content": "Again" })),
        (
            "markAsRead",
            json!({ "roomId": room, "messageId": first["id"] }),
        ),
        ("enterChat", json!({ "roomId": room })),
        ("getHistory", json!({ "roomId": room })),
        ("leaveChat", Value::Null),
        ("getChatList", Value::Null),
        ("initializeChat", json!({ "participants": ["carol"] })),
    ] {
        redis.run::<()>("SCRIPT FLUSH").await;

        // Then the client notices nothing
        alice.done(event, data).await;
    }

    // And requests in flight keep their order while the scripts are forgotten again and again
    let mut bob = Client::connect_delta(&server, "bob").await;
    let mut asked = Vec::new();
    for number in 0..200 {
        if number % 10 == 0 {
            redis.run::<()>("SCRIPT FLUSH").await;
        }
        let data = json!({ "roomId": room, "content": number.to_string() });
        asked.push(alice.ask("sendMessage", data).await);
    }
    for id in asked {
        let sent = alice.answer(id).await;
        assert!(sent.is_ok(), "{sent:?}\n{}", server.log);
    }
    for number in 0..200 {
        assert_eq!(
            bob.expect("newMessage").await["content"],
            number.to_string()
        );
    }
}

#[tokio::test]
async fn two_servers_on_one_redis_act_as_one() {
    // Given Alice on one server and on the other, Bob on the other
    let redis = Redis::start().await;
    let here = Server::start(&redis).await;
    let there = Server::start(&redis).await;
    let mut phone = Client::connect_delta(&here, "alice").await;
    let mut laptop = Client::connect_delta(&there, "alice").await;
    let mut bob = Client::connect_delta(&there, "bob").await;

    // When Alice opens a chat here, then it appears there
    let room = phone.open_room(&["bob"]).await;
    assert_eq!(laptop.expect("chatEntry").await["roomId"], room.as_str());
    assert_eq!(bob.expect("chatEntry").await["roomId"], room.as_str());

    // When Bob views it there and Alice sends here, then he has read it
    bob.enter(&room).await;
    bob.settle().await;
    laptop.settle().await;
    phone.say(&room, "Across").await;
    for device in [&mut phone, &mut laptop, &mut bob] {
        let message = device.expect("newMessage").await;
        assert_eq!(message["content"], "Across");
        assert_eq!(message["readBy"].as_array().map(Vec::len), Some(2));
    }

    // When Bob answers and Alice reads it there, then her phone here is notified
    let reply = bob.say(&room, "And back").await;
    assert_eq!(phone.expect("newMessage").await["content"], "And back");
    laptop.mark(&room, &reply["id"]).await;
    let read = phone.expect("messageRead").await;
    assert_eq!(
        (&read["userId"], &read["seq"]),
        (&json!("alice"), &json!(2))
    );

    // When one server stops, then the other keeps working
    here.stop().await;
    assert_eq!(phone.close_code().await, Some(1001));
    bob.say(&room, "Still there").await;
    laptop
        .until("newMessage", |message| message["content"] == "Still there")
        .await;
}

#[tokio::test]
async fn installations_with_other_prefixes_hear_nothing_of_each_other() {
    // Given two installations in one Redis, with users of the same names
    let redis = Redis::start().await;
    let one = Server::on(&redis).env("KEY_PREFIX", "one").start().await;
    let two = Server::on(&redis).env("KEY_PREFIX", "two").start().await;
    let mut alice_one = Client::connect_delta(&one, "alice").await;
    let mut alice_two = Client::connect_delta(&two, "alice").await;
    let room_one = alice_one.open_room(&["bob"]).await;
    let room_two = alice_two.open_room(&["bob"]).await;
    alice_one.say(&room_one, "for the first alone").await;

    // Then messages of one do not reach the other
    alice_two.expect_nothing().await;
    assert!(alice_two.history(&room_two).await.is_empty());
    let keys = redis.dump().await;
    assert!(
        keys.keys()
            .iter()
            .all(|key| key.starts_with("one:") || key.starts_with("two:"))
    );
}

#[tokio::test]
async fn a_peer_that_no_longer_answers_is_let_go() {
    // Given short pings, Alice, who answers them, and a socket that does not
    let redis = Redis::start().await;
    let server = Server::on(&redis)
        .env("PING_INTERVAL_MS", "200")
        .env("PING_TIMEOUT_MS", "1000")
        .start()
        .await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let mut dead = RawSocket::connect(&server, "bob").await;

    // Then it is pinged, and its connection ends
    let mut pings = 0;
    while let Some((opcode, _)) = dead.read_frame().await {
        pings += usize::from(opcode == PING);
    }
    assert!(pings > 0);

    // And Alice is still connected
    alice.leave().await;
    alice
        .send(Message::Ping(Bytes::from_static(b"still here")))
        .await;
    alice.leave().await;
}

#[tokio::test]
async fn who_answers_stays_however_long_an_answer_may_take() {
    // Given pings that follow each other faster than an answer is due
    let redis = Redis::start().await;
    let server = Server::on(&redis)
        .env("PING_INTERVAL_MS", "100")
        .env("PING_TIMEOUT_MS", "1000")
        .start()
        .await;
    let mut socket = RawSocket::connect(&server, "alice").await;

    // When Alice answers each, then she is still connected after four such periods
    let mut pings = 0;
    while pings < 40 {
        let (opcode, payload) = socket.read_frame().await.expect("the connection goes on");
        assert_ne!(opcode, CLOSE, "closed after {pings} pings");
        if opcode == PING {
            pings += 1;
            socket.send_frame(FIN | PONG, &payload).await;
        }
    }
}

#[tokio::test]
async fn a_slow_reader_is_let_go_and_delays_nobody() {
    // Given Bob, whose socket takes next to nothing and who does not read, and Carol, who does
    let redis = Redis::start().await;
    let server = Server::on(&redis)
        .env("QUEUE_MAX_BYTES", "262144")
        // He does not answer pings either.
        .env("PING_INTERVAL_MS", "3600000")
        .start()
        .await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let mut carol = Client::connect_delta(&server, "carol").await;
    let mut slow = RawSocket::connect_with_buffer(&server, "bob", Some(4096)).await;
    let room = alice.open_room(&["bob", "carol"]).await;
    carol.settle().await;

    // When Alice sends more and more at a time, and Bob reads only in between
    let long = "x".repeat(16 * 1024);
    let mut sent = 0;
    let mut burst = 64;
    let closed_with = loop {
        for _ in 0..burst {
            sent += 1;
            assert_eq!(alice.say(&room, &long).await["seq"], sent);
            alice.take_inbox();

            // Then Carol gets each message at once
            assert_eq!(carol.expect("newMessage").await["seq"], sent);
        }
        if let Some(ended) = read_up_to(&mut slow, sent).await {
            break ended;
        }
        burst *= 2;
        assert!(burst <= 2048, "Bob's queue holds anything");
    };

    // And Bob, who was too slow once, can read that in the close code
    assert_eq!(closed_with, Some(4408));
    carol.expect_nothing().await;
}

/// Reads up to the message with this number; if the connection ends before, returns its close code.
async fn read_up_to(socket: &mut RawSocket, seq: u64) -> Option<Option<u16>> {
    loop {
        match socket.read_frame().await {
            Some((TEXT, payload)) => {
                let frame: Value = serde_json::from_slice(&payload).expect("JSON");
                if frame["event"] == "newMessage" && frame["data"]["seq"] == seq {
                    return None;
                }
            }
            Some((CLOSE, payload)) => return Some(close_code(&payload)),
            Some(_) => {}
            None => return Some(None),
        }
    }
}

#[tokio::test]
async fn a_client_that_closes_is_answered() {
    let redis = Redis::start().await;
    let server = Server::start(&redis).await;
    let close = 3000_u16.to_be_bytes();

    // Given a client that closes with a code of its own, then it gets that code back, and the connection ends
    let mut idle = RawSocket::connect(&server, "alice").await;
    idle.read_until("chatList").await;
    idle.send_frame(FIN | CLOSE, &close).await;
    assert_eq!(idle.close_code().await, Some(3000));
    assert_eq!(idle.read_frame().await, None);

    // And a client that closes right after a request gets its answer first
    let mut bob = Client::connect_delta(&server, "bob").await;
    let room = bob.open_room(&["alice"]).await;
    let mut hasty = RawSocket::connect(&server, "alice").await;
    hasty.read_until("chatList").await;
    let message =
        json!({"event": "sendMessage", "data": {"roomId": room, "content": "bye"}, "id": 1});
    let both = [
        frame(FIN | TEXT, message.to_string().as_bytes()),
        frame(FIN | CLOSE, &close),
    ];
    hasty.send_bytes(&both.concat()).await;
    assert_eq!(hasty.read_until("ack").await["seq"], 1);
    assert_eq!(hasty.close_code().await, Some(3000));
    assert_eq!(hasty.read_frame().await, None);
    assert_eq!(bob.expect("newMessage").await["content"], "bye");
}

#[tokio::test]
async fn logs_tell_neither_tokens_nor_what_was_said() {
    // Given a server that logs everything it can
    let redis = Redis::start().await;
    let server = Server::on(&redis).env("RUST_LOG", "debug").start().await;
    let good = token::of("alice");
    let fresh = token::expiring("alice", 3600);
    let mut alice = Client::device("alice").token(&good).connect(&server).await;
    let mut bob = Client::connect_delta(&server, "bob").await;
    let room = alice.open_room(&["bob"]).await;

    // When it is sent all sorts of secrets, in valid requests and in invalid ones
    alice.say(&room, "my-secret-love").await;
    bob.until("newMessage", |message| {
        message["content"] == "my-secret-love"
    })
    .await;
    alice.done("authenticate", json!({ "token": fresh })).await;
    let forged = format!("{good}forged-part");
    alice
        .refused("authenticate", json!({ "token": forged }), "UNAUTHORIZED")
        .await;
    alice
        .send_text("{\"event\":\"sendMessage\",\"data\":my-secret-love")
        .await;
    alice
        .emit(
            "my-secret-love",
            json!({ "my-secret-love": "my-secret-love" }),
        )
        .await;
    let wrong = json!({ "roomId": "my-secret-love", "content": [["my-secret-love"]] });
    assert_eq!(
        code(
            &alice
                .request("sendMessage", wrong)
                .await
                .expect_err("wrong")
        ),
        "INVALID_PAYLOAD"
    );
    http::upgrade(server.address, "/ws", &[("token", &forged)]).await;
    http::upgrade(server.address, &format!("/ws?token={good}"), &[]).await;
    let protocols = format!("chat, {good}");
    http::upgrade(
        server.address,
        "/ws",
        &[("Sec-WebSocket-Protocol", &protocols)],
    )
    .await;

    // And a user has line breaks in a request, trying to forge lines in the log
    let room_of = json!({ "participants": ["x\n2026 ERROR forged-line"] });
    alice
        .refused("initializeChat", room_of, "INVALID_PAYLOAD")
        .await;
    alice.disconnect().await;
    let log = server.log.clone();
    server.stop().await;

    // Then the log mentions connections, and none of that
    let log = log.text();
    assert!(log.contains("alice"), "connects are logged at debug: {log}");
    for secret in [
        &good,
        &fresh,
        token::SECRET,
        "my-secret-love",
        "forged-part",
    ] {
        assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
    }
    assert!(
        !log.lines()
            .any(|line| line.contains("ERROR forged-line") && !line.contains("\\n"))
    );
}

#[tokio::test]
async fn the_token_command_makes_tokens_that_work() {
    // Given the command, run as a developer would
    let redis = Redis::start().await;
    let server = Server::start(&redis).await;
    let exit = Server::builder()
        .args(&["token", "alice", "--ttl", "1h"])
        .run()
        .await;
    assert_eq!(exit.code, Some(0), "{exit:?}");

    // Then it prints a token and nothing else, and Alice can connect with it
    Client::device("alice")
        .token(exit.stdout.trim())
        .connect(&server)
        .await;
    assert_eq!(exit.stdout.lines().count(), 1);

    // And further claims are signed with it
    let args = ["token", "bob", "--claims", r#"{"role":"admin"}"#];
    let exit = Server::builder().args(&args).run().await;
    Client::device("bob")
        .token(exit.stdout.trim())
        .connect(&server)
        .await;

    // And in production it is not that easy
    let production = Server::builder().env("APP_ENV", "production");
    let exit = production.clone().args(&["token", "alice"]).run().await;
    assert!(exit.code.is_some_and(|code| code != 0), "{exit:?}");
    assert_eq!(exit.stdout, "");
    let exit = production.args(&["token", "alice", "--force"]).run().await;
    assert_eq!(exit.code, Some(0), "{exit:?}");
    Client::device("alice")
        .token(exit.stdout.trim())
        .connect(&server)
        .await;
}

#[tokio::test]
async fn the_config_command_masks_secrets() {
    let url = "redis://chatter:open-sesame@127.0.0.1:6379";
    let builder = Server::builder()
        .env("REDIS_URL", url)
        .env("HISTORY_MAX_MESSAGES", "123");
    let exit = builder.args(&["config"]).run().await;
    assert_eq!(exit.code, Some(0), "{exit:?}");
    let all = format!("{}{}", exit.stdout, exit.stderr);
    assert!(
        all.contains("HISTORY_MAX_MESSAGES") && all.contains("123"),
        "{all}"
    );
    assert!(
        !all.contains(token::SECRET) && !all.contains("open-sesame"),
        "{all}"
    );
}

#[tokio::test]
async fn other_paths_and_methods_are_answered_politely() {
    let redis = Redis::start().await;
    let server = Server::start(&redis).await;
    assert_eq!(http::get(server.address, "/healthz").await.status, 200);
    assert_eq!(http::get(server.address, "/readyz").await.status, 200);
    assert_eq!(http::get(server.address, "/no/such/path").await.status, 404);
    // `/ws` without an upgrade is the client's mistake, not the server's
    let headers = [("Connection", "close"), ("token", &*token::of("alice"))];
    let answer = http::try_get(server.address, "/ws", &headers)
        .await
        .expect("it listens");
    assert!((400..500).contains(&answer.status), "{answer:?}");
}

#[tokio::test]
async fn a_client_that_sends_half_a_request_is_dropped() {
    // Given a short timeout for headers, and a client that does not finish its own
    let redis = Redis::start().await;
    let server = Server::on(&redis)
        .env("HEADER_TIMEOUT_MS", "200")
        .start()
        .await;
    let mut stream = tokio::net::TcpStream::connect(server.address)
        .await
        .expect("connect");
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    stream
        .write_all(b"GET /ws HTTP/1.1\r\nHost: x\r\n")
        .await
        .expect("write");

    // Then the connection ends, and others are served
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(crate::support::PATIENCE, stream.read_to_end(&mut rest));
    ended.await.expect("the server closes it").ok();
    Client::connect(&server, "alice").await;
}

#[tokio::test]
async fn a_dead_servers_viewers_stop_counting() {
    // Given short leases, and Bob viewing the room on a server that is killed
    let redis = Redis::start().await;
    let lease = |server: crate::support::server::Builder| server.env("VIEWER_LEASE_MS", "1000");
    let here = lease(Server::on(&redis)).start().await;
    let mut there = lease(Server::on(&redis)).start().await;
    let mut alice = Client::connect_delta(&here, "alice").await;
    let mut bob = Client::connect_delta(&there, "bob").await;
    let room = alice.open_room(&["bob"]).await;
    bob.enter(&room).await;
    there.kill_9().await;

    // Then soon his view no longer marks messages as read
    let mut socket = RawSocket::connect(&here, "alice").await;
    socket.read_until("chatList").await;
    let mut readers = 2;
    let deadline = tokio::time::Instant::now() + crate::support::PATIENCE;
    while readers == 2 {
        assert!(
            tokio::time::Instant::now() < deadline,
            "Bob's view outlived his server"
        );
        let send = json!({ "event": "sendMessage", "data": { "roomId": room, "content": "?" } });
        socket
            .send_frame(FIN | TEXT, send.to_string().as_bytes())
            .await;
        let message = socket.read_until("newMessage").await;
        readers = message["readBy"].as_array().expect("readers").len();
    }
    assert_eq!(readers, 1);

    // And while his server runs, a view outlives its first lease
    let mut bob = Client::connect_delta(&here, "bob").await;
    bob.enter(&room).await;
    let leases = format!("ZRANGE chat:{{room:{room}}}:viewing 0 -1 WITHSCORES");
    let first: Vec<String> = redis.run(&leases).await;
    eventually("the lease is renewed", async || {
        let now: Vec<String> = redis.run(&leases).await;
        now != first
    })
    .await;
    alice.settle().await;
    alice.say(&room, "Do you see this?").await;
    let message = alice
        .until("newMessage", |it| it["content"] == "Do you see this?")
        .await;
    assert_eq!(message["readBy"].as_array().map(Vec::len), Some(2));
}
