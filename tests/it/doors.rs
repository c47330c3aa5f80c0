//! What clients can do to a server when they follow no rules, most of them without a token: it costs neither memory nor
//! a connection slot.

use std::net::SocketAddr;

use futures_util::FutureExt;
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::raw::{BINARY, FIN, PING, TEXT, frame};
use crate::support::{
    Client, PATIENCE, RawSocket, Redis, Server, Value, eventually, free_port, http, json, token,
};

/// The most memory that one client may cost.
const ONE_CLIENT: u64 = 16 * 1024 * 1024;

#[tokio::test]
async fn pings_whose_answers_nobody_reads_cost_no_memory() {
    // Given a server that closes clients that take nothing for a second
    let redis = Redis::start().await;
    let server = Server::on(&redis)
        .env("PING_INTERVAL_MS", "500")
        .env("PING_TIMEOUT_MS", "500")
        .start()
        .await;
    let pings = frame(FIN | PING, &[b'x'; 125]).repeat(1000);

    // When a client without a token, and Alice, send pings and read nothing
    let joined = RawSocket::connect(&server, "alice").await;
    for mut socket in [RawSocket::unjoined(&server).await, joined] {
        let before = server.peak_bytes();
        socket.flood(&pings, 1000).await;

        // Then the server keeps little for them
        let more = server.peak_bytes().saturating_sub(before);
        assert!(more < ONE_CLIENT, "{more} bytes more at the peak");
    }
    Client::connect(&server, "bob").await;
}

#[tokio::test]
async fn who_breaks_a_rule_reads_which_however_much_is_on_its_way() {
    let redis = Redis::start().await;
    let server = Server::start(&redis).await;
    let too_large = [&[FIN | TEXT, 0x80 | 127][..], &(8_u64 << 20).to_be_bytes()].concat();
    let not_utf8 = frame(FIN | TEXT, b"4\xff");
    let broken = [
        (1009, too_large),
        (1002, frame(0xF0 | TEXT, b"reserved bits")),
        (1007, not_utf8),
    ];
    for (code, first) in broken {
        // When Alice, or a client that has not joined, breaks a rule and sends some more megabytes before reading
        let joined = RawSocket::connect(&server, "alice").await;
        for mut socket in [joined, RawSocket::unjoined(&server).await] {
            socket.send_bytes(&first).await;
            socket.flood(&[b'x'; 64 * 1024], 128).await;

            // Then they can read which rule it was
            assert_eq!(socket.close_code().await, Some(code));
        }
    }
    let mut alice = RawSocket::connect(&server, "alice").await;
    alice.send_frame(FIN | BINARY, b"binary").await;
    alice.flood(&[b'x'; 64 * 1024], 128).await;
    assert_eq!(alice.close_code().await, Some(1003));
}

#[tokio::test]
async fn one_time_limit_bounds_a_request_from_its_first_byte_to_its_answer_taken() {
    // Given a server with short request timeouts, and with metrics on a port of their own
    let redis = Redis::start().await;
    let metrics = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let server = Server::on(&redis)
        .env("REQUEST_TIMEOUT_MS", "500")
        .env("METRICS_ADDR", &metrics.to_string())
        .env("HEADER_TIMEOUT_MS", "300000")
        .start()
        .await;
    let half_done = [
        // A head that does not end, and bodies that do not come, in both framings
        "GET /healthz HTTP/1.1\r\nHost: x\r\n",
        "POST /dev/token HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{",
        "POST /socket.io/?EIO=4&transport=polling&sid=x HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n4",
        "POST /socket.io/?EIO=4&transport=polling&sid=x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n4",
        "POST /no/such/path HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n4",
    ]
    .map(str::to_owned);
    // Answers that are not read, even behind the switch to WebSocket
    let unread = "GET /asyncapi.yaml HTTP/1.1\r\nHost: x\r\n\r\n".repeat(400);
    let switching = unread.clone()
        + "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n\
           Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let mut poll = polling(&server, "alice").await;
    let mut held = Vec::new();
    for address in [server.address, metrics] {
        for request in half_done.iter().chain([&unread, &switching]) {
            let request = match address == metrics {
                true => request.replace("/asyncapi.yaml", "/metrics"),
                false => request.clone(),
            };
            let mut stream = TcpStream::connect(address).await.expect("it listens");
            stream.write_all(request.as_bytes()).await.expect("sent");
            held.push((request, stream));
        }
    }

    // Then each of these connections ends
    for (request, stream) in held {
        let begin: String = request.chars().take(60).collect();
        eventually(&begin, async || is_ended(&stream)).await;
    }
    // And a poll that has waited as long goes on: that time is the server's, not the client's
    assert!(!is_ended(&poll));
    let mut bob = Client::connect_delta(&server, "bob").await;
    bob.open_room(&["alice"]).await;
    let answer = timeout(PATIENCE, http::read(&mut poll))
        .await
        .expect("what waits");
    assert!(answer.body.contains("chatEntry"), "{answer:?}");
}

/// Joins over long-polling as a delta device, reads the first packets, and polls for more.
async fn polling(server: &Server, user: &str) -> TcpStream {
    const PATH: &str = "/socket.io/?EIO=4&transport=polling&chatList=delta";
    let token = token::of(user);
    let headers = [("token", &*token), ("Connection", "close")];
    let get = async |path: &str| {
        http::try_get(server.address, path, &headers)
            .await
            .expect("it listens")
    };
    let opened = get(PATH).await.body;
    let opened: Value = serde_json::from_str(&opened[1..]).expect("a handshake");
    let path = format!("{PATH}&sid={}", opened["sid"].as_str().expect("an id"));
    let host = [("Host", "x"), ("token", &*token)];
    assert_eq!(
        http::post(server.address, &path, &host, "40").await.status,
        200
    );
    while !get(&path).await.body.contains("chatList") {}
    let mut poll = TcpStream::connect(server.address)
        .await
        .expect("it listens");
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\ntoken: {token}\r\n\r\n");
    poll.write_all(request.as_bytes()).await.expect("sent");
    poll
}

/// Whether the other side has closed or reset a connection. Reads nothing from it.
fn is_ended(stream: &TcpStream) -> bool {
    let ready = stream.ready(Interest::READABLE).now_or_never();
    ready.is_some_and(|ready| ready.expect("a socket").is_read_closed())
}

#[tokio::test]
async fn nobody_without_a_token_closes_the_door_for_those_who_have_one() {
    // Given a small server with more silent connections than it has slots, and more clients that never join
    const MANY: usize = 1200;
    let redis = Redis::start().await;
    let server = Server::on(&redis)
        .env("MAX_CONNECTIONS", "20")
        .env("MAX_UNJOINED", "10")
        .env("HEADER_TIMEOUT_MS", "300000")
        .start()
        .await;
    let mut silent = Vec::new();
    for _ in 0..MANY {
        silent.push(
            TcpStream::connect(server.address)
                .await
                .expect("it listens"),
        );
    }
    let mut unjoined = Vec::new();
    for _ in 0..30 {
        unjoined.push(RawSocket::unjoined(&server).await);
        let opened = http::get(server.address, "/socket.io/?EIO=4&transport=polling").await;
        assert_eq!(opened.status, 200, "{opened:?}");
    }

    // Then a client with a token can connect over either protocol and transport
    let mut alice = Client::connect_delta(&server, "alice").await;
    let room = alice.open_room(&["bob"]).await;
    let mut bob = RawSocket::unjoined(&server).await;
    let join = format!("40{}", json!({"token": token::of("bob")}));
    bob.send_frame(FIN | TEXT, join.as_bytes()).await;
    bob.read_until_text("chatList").await;
    let mut carol = polling(&server, "carol").await;
    alice.say(&room, "Come in").await;
    bob.read_until_text("Come in").await;

    // And the poll of a client that has joined outlasts as many again
    for _ in 0..30 {
        unjoined.push(RawSocket::unjoined(&server).await);
    }
    alice.open_room(&["carol"]).await;
    let answer = timeout(PATIENCE, http::read(&mut carol))
        .await
        .expect("what waits");
    assert!(answer.body.contains("chatEntry"), "{answer:?}");

    // And all the others were closed, except as many as there are slots
    let here = || silent.iter().filter(|stream| !is_ended(stream)).count();
    eventually("the others are gone", async || here() <= 10).await;
}
