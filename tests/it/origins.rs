//! `CORS_ORIGINS` on the wire: which origins may connect over either protocol, whatever the spelling.

use crate::support::{Redis, Server, http, token};

/// The statuses of a WebSocket upgrade and of a first poll, from a page of this origin.
async fn statuses(server: &Server, origin: &str) -> [u16; 2] {
    let token = token::of("alice");
    let headers = [("token", token.as_str()), ("Origin", origin)];
    let native = http::upgrade(server.address, "/ws", &headers).await;
    let path = "/socket.io/?EIO=4&transport=polling";
    let headers = [("Connection", "close"), ("Origin", origin)];
    let polled = http::try_get(server.address, path, &headers).await.unwrap();
    let told = polled.headers.get("access-control-allow-origin");
    let is_told = told.map(String::as_str) == Some(origin);
    assert_eq!(is_told, polled.status == 200, "{origin}: {polled:?}");
    [native.status, polled.status]
}

#[tokio::test]
async fn apps_and_pages_may_come_in_whatever_the_spelling_of_their_origins() {
    let redis = Redis::start().await;
    let allowed = "https://A.example:443, http://b.example, https://c.example:8443, capacitor://localhost, \
                   ionic://localhost, tauri://localhost, app://., null";
    let server = Server::on(&redis)
        .env("APP_ENV", "prod")
        .env("CORS_ORIGINS", allowed);
    let server = server.start().await;
    for origin in [
        "https://a.example",
        "https://a.example:443",
        "https://A.EXAMPLE",
        "http://b.example:80",
        "https://c.example:8443",
        "capacitor://localhost",
        "ionic://localhost",
        "tauri://localhost",
        "app://.",
        "null",
    ] {
        assert_eq!(statuses(&server, origin).await, [101, 200], "{origin}");
    }
    for origin in [
        "http://a.example",
        "http://a.example:443",
        "https://a.example:80",
        "https://a.example:8443",
        "https://b.example",
        "https://c.example",
        "capacitor://localhost.evil",
        "capacitor://evil",
        "app://a.example",
        "file://",
        "tauri://localhost:1",
    ] {
        assert_eq!(statuses(&server, origin).await, [403, 403], "{origin}");
    }
}

#[tokio::test]
async fn none_of_the_apps_may_come_in_where_none_is_listed() {
    let redis = Redis::start().await;
    let server = Server::on(&redis).env("APP_ENV", "prod").start().await;
    for origin in [
        "capacitor://localhost",
        "tauri://localhost",
        "app://.",
        "null",
    ] {
        assert_eq!(statuses(&server, origin).await, [403, 403], "{origin}");
    }
}
