//! How a server answers malformed requests, and with which headers. Whatever arrives, it keeps working.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::{Client, PATIENCE, Redis, Server, token};

/// Sends bytes, and reads everything that comes until the server hangs up.
async fn answer(server: &Server, bytes: impl AsRef<[u8]>) -> String {
    let mut stream = TcpStream::connect(server.address)
        .await
        .expect("it listens");
    stream.write_all(bytes.as_ref()).await.expect("sent");
    let mut all = Vec::new();
    let ended = timeout(PATIENCE, stream.read_to_end(&mut all)).await;
    // If the server hangs up with bytes unread, the connection is reset.
    ended.expect("the server hangs up").ok();
    String::from_utf8_lossy(&all).into_owned()
}

/// The status of an answer; 0 where there is none.
fn status(answer: &str) -> u16 {
    let word = answer.split(' ').nth(1).unwrap_or_default();
    word.parse().unwrap_or(0)
}

/// All values of a header.
fn values<'a>(answer: &'a str, name: &str) -> Vec<&'a str> {
    let (head, _) = answer.split_once("\r\n\r\n").expect("a head");
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    lines
        .filter(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
        .collect()
}

fn request(method: &str, path: &str, headers: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n")
}

#[tokio::test]
async fn no_head_breaks_the_server() {
    // Given heads that no real client sends
    let redis = Redis::start().await;
    let server = Server::on(&redis)
        .env("HEADER_TIMEOUT_MS", "100")
        .start()
        .await;
    let long = "x".repeat(20_000);
    let many = "x: y\r\n".repeat(200);
    let close = "Host: x\r\nConnection: close\r\n";
    let refused = [
        format!("CONNECT x:80 HTTP/1.1\r\n{close}\r\n"),
        format!("CONNECT / HTTP/1.1\r\n{close}\r\n"),
        format!("GET x HTTP/1.1\r\n{close}\r\n"),
        format!("POST x:1 HTTP/1.1\r\n{close}Content-Length: 2\r\n\r\n{{}}"),
        format!("GET me@x:1 HTTP/1.1\r\n{close}\r\n"),
        format!("GET * HTTP/1.1\r\n{close}\r\n"),
        format!("GET ftp://x/healthz HTTP/1.1\r\n{close}\r\n"),
        format!("GET ?x HTTP/1.1\r\n{close}\r\n"),
        format!("GET  HTTP/1.1\r\n{close}\r\n"),
        format!("GET /healthz HTTP/3.7\r\n{close}\r\n"),
        format!("GET /{long} HTTP/1.1\r\n{close}\r\n"),
        format!("GET /healthz HTTP/1.1\r\n{close}x: {long}\r\n\r\n"),
        format!("GET /healthz HTTP/1.1\r\n{close}{many}\r\n"),
        format!("GET /healthz HTTP/1.1\r\n{close}no colon\r\n\r\n"),
        format!("GET /healthz HTTP/1.1\r\n{close}x y: z\r\n\r\n"),
        format!("GET /healthz HTTP/1.1\r\n{close}Host: x\r\n\r\n"),
        format!("GET /healthz HTTP/1.1\r\n{close}Host: y\r\n\r\n"),
        "GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n".to_owned(),
        "GET /healthz HTTP/1.1\r\nHost: a b\r\nConnection: close\r\n\r\n".to_owned(),
        "GET /healthz HTTP/1.1\r\nHost: me@x\r\nConnection: close\r\n\r\n".to_owned(),
        "GET /healthz HTTP/1.0\r\nHost: x\r\nHost: x\r\n\r\n".to_owned(),
        format!(
            "POST /dev/token HTTP/1.1\r\n{close}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{{}}"
        ),
        format!("POST /dev/token HTTP/1.1\r\n{close}Content-Length: -1\r\n\r\n{{}}"),
        format!("POST /dev/token HTTP/1.1\r\n{close}Content-Length: 99999999999\r\n\r\n{{}}"),
        format!(
            "POST /dev/token HTTP/1.1\r\n{close}Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n{{}}"
        ),
        format!("POST /dev/token HTTP/1.1\r\n{close}Transfer-Encoding: pigeon\r\n\r\n{{}}"),
        format!("POST /dev/token HTTP/1.1\r\n{close}Transfer-Encoding: chunked\r\n\r\nzz\r\n"),
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}\r\n\r\n".to_owned(),
        "PRI * HTTP/2.0\r\n\r\n".to_owned(),
    ];
    for bytes in &refused {
        let answer = answer(&server, bytes).await;
        let shown: String = bytes.chars().take(80).collect();
        assert!(
            matches!(status(&answer), 400..500 | 505),
            "{shown:?}: {answer:?}"
        );
    }
    // And some that are odd but valid
    let fine = [
        (200, format!("GET http://x/healthz HTTP/1.1\r\n{close}\r\n")),
        (200, "GET /healthz HTTP/1.0\r\n\r\n".to_owned()),
        (200, format!("OPTIONS * HTTP/1.1\r\n{close}\r\n")),
        (200, format!("GET /healthz?%zz=%ff HTTP/1.1\r\n{close}\r\n")),
        (404, format!("GET /%zz/%ff HTTP/1.1\r\n{close}\r\n")),
        (404, format!("GET //healthz HTTP/1.1\r\n{close}\r\n")),
        (404, format!("GET /../healthz HTTP/1.1\r\n{close}\r\n")),
        (401, request("GET", "/ws?token=%zz", UPGRADE)),
    ];
    for (expected, bytes) in fine {
        let answer = answer(&server, &bytes).await;
        assert_eq!(status(&answer), expected, "{bytes:?}: {answer:?}");
    }
    // And several at once are answered one after the other
    let pipelined = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n".repeat(20);
    let all = answer(&server, pipelined + &request("GET", "/healthz", "")).await;
    assert_eq!(all.matches("HTTP/1.1 200").count(), 21);

    // Then the server is as it was, and keeps nothing of them
    assert!(!server.log.text().contains("panicked"), "{}", server.log);
    let mut alice = Client::connect_delta(&server, "alice").await;
    let room = alice.open_room(&["bob"]).await;
    alice.say(&room, "All is well").await;
    alice.disconnect().await;
    server.stop().await;
}

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

#[tokio::test]
async fn only_who_asks_for_a_websocket_gets_one() {
    let redis = Redis::start().await;
    let server = Server::on(&redis)
        .env("HEADER_TIMEOUT_MS", "100")
        .start()
        .await;
    let token = format!("token: {}\r\n", token::of("alice"));
    let without = |line: &str| {
        let lines = UPGRADE.split_inclusive("\r\n");
        lines.filter(|it| !it.starts_with(line)).collect::<String>()
    };
    let key = |key: &str| {
        format!(
            "{}Sec-WebSocket-Key: {key}\r\n",
            without("Sec-WebSocket-Key")
        )
    };
    let wrong = [
        ("GET", without("Connection")),
        ("GET", without("Upgrade")),
        ("GET", without("Sec-WebSocket-Version")),
        ("GET", without("Sec-WebSocket-Key")),
        ("GET", UPGRADE.replace("13", "8")),
        ("GET", UPGRADE.replace("13", "13, 8")),
        ("GET", format!("{UPGRADE}Sec-WebSocket-Version: 13\r\n")),
        (
            "GET",
            format!("{UPGRADE}Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"),
        ),
        ("GET", key("")),
        ("GET", key("c2hvcnQ=")),
        ("GET", key("dGhlIHNhbXBsZSBub25jZSE=")),
        ("GET", key("dGhlIHNhbXBsZSBub25jZQ=!")),
        ("GET", key("dGhlIHNhbXBsZSBub25jZQ")),
        ("HEAD", UPGRADE.to_owned()),
        ("POST", UPGRADE.to_owned()),
    ];
    for path in ["/ws", "/socket.io/?EIO=4&transport=websocket"] {
        for (method, headers) in &wrong {
            let bytes = format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{token}{headers}\r\n");
            let answer = answer(&server, &bytes).await;
            // Each endpoint's own methods come first
            let expected = match (path, *method) {
                ("/ws", "POST") | ("/socket.io/?EIO=4&transport=websocket", "HEAD") => 405,
                _ => 426,
            };
            assert_eq!(status(&answer), expected, "{bytes:?}: {answer:?}");
        }
        // HTTP/1.0 has no upgrades
        let bytes = format!("GET {path} HTTP/1.0\r\nHost: x\r\n{token}{UPGRADE}\r\n");
        assert_eq!(status(&answer(&server, &bytes).await), 426);
    }
}

#[tokio::test]
async fn what_can_be_read_can_be_asked_for_by_head_and_has_one_media_type() {
    let redis = Redis::start().await;
    let server = Server::start(&redis).await;
    let readable = [
        ("/", "text/html; charset=utf-8"),
        ("/page.json", "application/json"),
        ("/asyncapi.yaml", "application/yaml"),
        ("/healthz", "application/json"),
        ("/readyz", "application/json"),
        ("/metrics", "text/plain; version=0.0.4; charset=utf-8"),
    ];
    for (path, media_type) in readable {
        // HEAD answers with the headers of GET, without the body
        let got = answer(&server, request("GET", path, "")).await;
        let told = answer(&server, request("HEAD", path, "")).await;
        for answer in [&got, &told] {
            assert_eq!(status(answer), 200, "{path}: {answer}");
            assert_eq!(values(answer, "content-type"), [media_type], "{path}");
        }
        if path != "/metrics" {
            assert_eq!(
                values(&got, "content-length"),
                values(&told, "content-length")
            );
        }
        assert!(
            told.ends_with("\r\n\r\n") && !got.ends_with("\r\n\r\n"),
            "{path}"
        );
        // And other methods get an answer that lists the allowed ones
        let refused = answer(&server, request("DELETE", path, "")).await;
        assert_eq!(status(&refused), 405);
        assert_eq!(values(&refused, "allow"), ["GET, HEAD"]);
        assert_eq!(values(&refused, "content-type"), ["application/json"]);
    }
    let others = [
        ("GET", "/dev/token", 405, "POST"),
        (
            "PUT",
            "/socket.io/?EIO=4&transport=polling",
            405,
            "GET, POST, OPTIONS",
        ),
        ("PUT", "/ws", 405, "GET, HEAD"),
    ];
    for (method, path, expected, allowed) in others {
        let refused = answer(&server, request(method, path, "")).await;
        assert_eq!(
            (status(&refused), values(&refused, "allow")),
            (expected, vec![allowed])
        );
    }
    // And refusals have one media type too, including those of Socket.IO
    for (method, path) in [
        ("GET", "/no/such/path"),
        ("GET", "/ws"),
        ("GET", "/socket.io/?EIO=4&transport=websocket"),
        ("GET", "/socket.io/?EIO=4&transport=polling"),
        ("POST", "/dev/token"),
    ] {
        let answer = answer(&server, request(method, path, "Content-Length: 0\r\n")).await;
        assert_eq!(
            values(&answer, "content-type").len(),
            1,
            "{method} {path}: {answer}"
        );
    }
}
