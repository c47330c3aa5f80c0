//! The page at `/`, and the tokens that it may request in development. `tests/web` checks what it does in a browser.

use crate::support::{Client, Redis, Server, http, json};

const POLICY: &str = "content-security-policy";

/// `POST /dev/token` as the server's own page sends it; `headers` are added, or replace these.
async fn ask(server: &Server, headers: &[(&str, &str)], body: &str) -> http::Answer {
    let host = server.address.to_string();
    let mut all = vec![
        ("Host", host.as_str()),
        ("Content-Type", "application/json"),
    ];
    all.retain(|(name, _)| headers.iter().all(|(given, _)| given != name));
    all.extend_from_slice(headers);
    http::post(server.address, "/dev/token", &all, body).await
}

#[tokio::test]
async fn the_page_is_served_with_its_files_and_a_strict_policy() {
    let redis = Redis::start().await;
    let server = Server::start(&redis).await;
    for (path, content_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/style.css", "text/css; charset=utf-8"),
        ("/chat-client.js", "text/javascript; charset=utf-8"),
        ("/icon.svg", "image/svg+xml"),
    ] {
        let answer = http::get(server.address, path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.headers["content-type"], content_type);
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        assert_eq!(answer.headers["referrer-policy"], "no-referrer");
        assert!(answer.headers[POLICY].starts_with("default-src 'none'; script-src 'self';"));
        assert!(!answer.headers[POLICY].contains("unsafe"));
        assert!(!answer.body.is_empty());

        // And a browser that already has it gets no second copy
        let tag = answer.headers["etag"].as_str();
        let headers = [("Connection", "close"), ("If-None-Match", tag)];
        let again = http::try_get(server.address, path, &headers).await.unwrap();
        assert_eq!((again.status, again.body.as_str()), (304, ""), "{path}");
    }
    for path in [
        "/nothing.js",
        "/../Cargo.toml",
        "/%2e%2e/Cargo.toml",
        "/index.html/",
    ] {
        assert_eq!(http::get(server.address, path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn the_page_is_there_in_production_only_if_it_is_asked_for() {
    let redis = Redis::start().await;
    let production = Server::on(&redis).env("APP_ENV", "production");
    let without = production.clone().start().await;
    for path in ["/", "/style.css", "/page.json"] {
        assert_eq!(http::get(without.address, path).await.status, 404, "{path}");
    }

    let with = production.env("WEB_CLIENT", "1").start().await;
    assert_eq!(http::get(with.address, "/").await.status, 200);
    let offers = http::get(with.address, "/page.json").await.json();
    assert_eq!(offers, json!({ "signInByName": false, "reset": false }));

    let development = Server::on(&redis).env("WEB_CLIENT", "0").start().await;
    assert_eq!(http::get(development.address, "/").await.status, 404);
}

#[tokio::test]
async fn a_developer_gets_a_token_for_any_name() {
    // Given a server in development on loopback
    let redis = Redis::start().await;
    let server = Server::start(&redis).await;
    let offers = http::get(server.address, "/page.json").await.json();
    assert_eq!(offers, json!({ "signInByName": true, "reset": true }));

    // When its page requests a token, then it can connect with that token
    let origin = format!("http://{}", server.address);
    let answer = ask(&server, &[("Origin", &origin)], r#"{"id":"zoë"}"#).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.headers["cache-control"], "no-store");
    let token = answer.json()["token"].as_str().unwrap().to_owned();
    Client::device("zoë").token(&token).connect(&server).await;

    // And an invalid name or an invalid request gets an error that says so
    let too_long = json!({ "id": "x".repeat(129) }).to_string();
    let too_large = json!({ "id": "x".repeat(5000) }).to_string();
    for (body, status) in [
        (r#"{"id":""}"#, 400),
        (too_long.as_str(), 400),
        (r#"{"id":7}"#, 400),
        ("id=alice", 400),
        ("", 400),
        (too_large.as_str(), 413),
    ] {
        let answer = ask(&server, &[], body).await;
        assert_eq!(answer.status, status, "{body}: {answer:?}");
        assert!(answer.json()["message"].is_string());
    }
    assert_eq!(http::get(server.address, "/dev/token").await.status, 405);
}

#[tokio::test]
async fn pages_of_others_get_no_token() {
    // Although CORS_ORIGINS is unset, so that any page may chat in development
    let redis = Redis::start().await;
    let server = Server::start(&redis).await;
    let port = server.address.port();
    let rebound = format!("evil.example:{port}");
    let rebound_origin = format!("http://{rebound}");
    let other_port = format!("http://127.0.0.1:{}", port ^ 1);
    for (headers, status) in [
        (vec![("Origin", "https://evil.example")], 403),
        (vec![("Origin", "null")], 403),
        (vec![("Origin", other_port.as_str())], 403),
        (vec![("Host", &*rebound), ("Origin", &*rebound_origin)], 403),
        (vec![("Host", &*rebound)], 403),
        (vec![("Content-Type", "text/plain")], 415),
        (
            vec![("Content-Type", "application/x-www-form-urlencoded")],
            415,
        ),
    ] {
        let answer = ask(&server, &headers, r#"{"id":"alice"}"#).await;
        assert_eq!(answer.status, status, "{headers:?}");
        assert!(answer.json().get("token").is_none());
    }
}

#[tokio::test]
async fn elsewhere_there_are_no_tokens_for_the_asking() {
    let redis = Redis::start().await;
    let unknown = async |server: &Server| {
        let asked = ask(server, &[], r#"{"id":"alice"}"#).await;
        let other = http::post(server.address, "/no/such", &[("Host", "x")], "").await;
        assert_eq!((asked.status, asked.json()), (404, other.json()));
        assert_eq!(http::get(server.address, "/dev/token").await.status, 404);
    };

    // In production, whatever the other settings are
    let production = Server::on(&redis)
        .env("APP_ENV", "production")
        .env("WEB_CLIENT", "1")
        .env("DEV_OPEN", "1");
    unknown(&production.start().await).await;

    // Where others can reach the server, unless the settings open it
    let reachable = Server::on(&redis).env("HOST", "0.0.0.0");
    unknown(&reachable.clone().start().await).await;
    let open = reachable.env("DEV_OPEN", "1").start().await;
    let answer = ask(
        &open,
        &[("Host", "laptop.example:3000")],
        r#"{"id":"alice"}"#,
    )
    .await;
    assert_eq!(answer.status, 200, "{answer:?}");

    // And where the server cannot sign
    let key = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/ed25519_public.pem"
    );
    let checking = Server::on(&redis)
        .without("JWT_SECRET")
        .env("JWT_PUBLIC_KEY", key);
    unknown(&checking.start().await).await;
}
