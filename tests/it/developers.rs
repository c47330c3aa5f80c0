//! What keeps a developer's machine safe while a server runs on it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use chat_server::config::settings::EXAMPLE_SECRET;
use tempfile::TempDir;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use crate::support::raw::{FIN, TEXT};
use crate::support::server::repository;
use crate::support::{Client, Polling, Redis, Server, http, json, token};

const POLLING: &str = "/socket.io/?EIO=4&transport=polling";
const WEBSOCKET: &str = "/socket.io/?EIO=4&transport=websocket";

/// The statuses that a page gets over each protocol and transport, with a valid token.
async fn statuses(server: &Server, headers: &[(&str, &str)]) -> Vec<u16> {
    let token = token::of("alice");
    let host = server.address.to_string();
    let mut all = vec![("token", token.as_str()), ("Host", &host)];
    all.retain(|(name, _)| headers.iter().all(|(given, _)| given != name));
    all.extend_from_slice(headers);
    let headers = all;
    let upgrade = async |path: &str| http::upgrade(server.address, path, &headers).await.status;
    let session = Polling::open(server).await;
    let moved = session.path.replace("=polling", "=websocket");
    let polled = http::try_get(server.address, POLLING, &headers)
        .await
        .unwrap();
    let post = http::post(server.address, &session.path, &headers, "40").await;
    vec![
        upgrade("/ws").await,
        polled.status,
        post.status,
        upgrade(WEBSOCKET).await,
        upgrade(&moved).await,
    ]
}

const WELCOME: [u16; 5] = [101, 200, 200, 101, 101];

#[tokio::test]
async fn a_page_of_the_internet_does_not_reach_a_developers_server() {
    // Given a server in development
    let redis = Redis::start().await;
    let server = Server::start(&redis).await;

    // Then pages from other machines are refused over each protocol, even if their name resolves to this one
    let rebound = format!("evil.example:{}", server.address.port());
    let rebound_origin = format!("http://{rebound}");
    for headers in [
        vec![("Origin", "https://evil.example")],
        vec![("Origin", "http://192.168.0.7:3000")],
        vec![("Origin", "null")],
        vec![("Origin", &*rebound_origin)],
        vec![("Host", &*rebound), ("Origin", &*rebound_origin)],
    ] {
        assert_eq!(statuses(&server, &headers).await, [403; 5], "{headers:?}");
    }

    // And pages from this machine are accepted, and so is any client that is not a page
    let own = format!("http://{}", server.address);
    for headers in [
        vec![],
        vec![("Origin", &*own)],
        vec![("Origin", "http://localhost:5173")],
        vec![("Origin", "http://[::1]:8080")],
    ] {
        assert_eq!(statuses(&server, &headers).await, WELCOME, "{headers:?}");
    }

    // And where the settings say so, the pages that they name are accepted, or all pages
    let evil = [("Origin", "https://evil.example")];
    let named = Server::on(&redis).env("CORS_ORIGINS", "https://evil.example");
    assert_eq!(statuses(&named.start().await, &evil).await, WELCOME);
    let open = Server::on(&redis).env("DEV_OPEN", "1");
    assert_eq!(statuses(&open.start().await, &evil).await, WELCOME);
}

#[tokio::test]
async fn others_cannot_reach_a_server_with_the_examples_secret() {
    let exit = Server::builder()
        .env("HOST", "0.0.0.0")
        .env("JWT_SECRET", EXAMPLE_SECRET)
        .run()
        .await;
    assert_eq!(exit.code, Some(64), "{exit:?}");
    assert!(exit.stderr.contains("openssl rand -hex 32"), "{exit:?}");
    assert!(!exit.stderr.contains(EXAMPLE_SECRET), "{exit:?}");
}

/// The repository's files from which `make run` makes `.env.dev`, in a folder of their own.
fn fresh_clone() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("scripts")).unwrap();
    for file in [".env.example", "scripts/common.sh", "scripts/ensure-env.sh"] {
        fs::copy(repository().join(file), folder.path().join(file)).unwrap();
    }
    folder
}

/// Does what `make run` does first, and returns `.env.dev` and the output.
fn ensured(clone: &Path) -> (String, String) {
    let script = clone.join("scripts/ensure-env.sh");
    let output = Command::new("sh").arg(script).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let file = clone.join(".env.dev");
    let said = String::from_utf8(output.stderr).unwrap();
    (fs::read_to_string(file).unwrap(), said)
}

fn secret_of(file: &str) -> &str {
    let mut lines = file
        .lines()
        .filter_map(|line| line.strip_prefix("JWT_SECRET="));
    let secret = lines.next().expect("a secret");
    assert_eq!(lines.next(), None);
    secret
}

#[test]
fn each_developer_has_a_secret_of_their_own() {
    // When two of them start at once
    let clones = [fresh_clone(), fresh_clone()];
    let files = clones.each_ref().map(|clone| ensured(clone.path()).0);

    // Then each has the example with a random secret, which nobody else may read
    for (clone, file) in clones.iter().zip(&files) {
        let secret = secret_of(file);
        assert!(secret.len() == 64 && secret.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let example = fs::read_to_string(clone.path().join(".env.example")).unwrap();
        assert_eq!(file.replace(secret, EXAMPLE_SECRET), example);
        let mode = fs::metadata(clone.path().join(".env.dev"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    assert_ne!(secret_of(&files[0]), secret_of(&files[1]));

    // And later runs do not change it
    assert_eq!(ensured(clones[0].path()), (files[0].clone(), String::new()));
}

#[test]
fn only_the_examples_secret_is_replaced() {
    let clone = fresh_clone();
    let file = clone.path().join(".env.dev");
    // Given a file that contains it, in any spelling
    for line in [
        format!("JWT_SECRET={EXAMPLE_SECRET}"),
        format!("  export JWT_SECRET='{EXAMPLE_SECRET}' "),
        format!("JWT_SECRET=\"{EXAMPLE_SECRET}\""),
    ] {
        let around = |line: &str| format!("PORT=3001\n{line}\n# JWT_SECRET=mine\n\nHOST=::1");
        fs::write(&file, around(&line)).unwrap();

        // Then only that line changes, and the output says so
        let (text, said) = ensured(clone.path());
        let secret = text.lines().nth(1).unwrap();
        assert!(
            secret.len() == 75 && secret.starts_with("JWT_SECRET="),
            "{text}"
        );
        assert_eq!(text.trim_end(), around(secret));
        assert!(
            said.contains("replacing the example's JWT_SECRET"),
            "{said}"
        );
    }

    // And any other file is left alone
    for own in [
        "JWT_SECRET=mine\n",
        "JWT_PUBLIC_KEY=public.pem\n",
        "",
        "JWT_SECRET=\n",
    ] {
        fs::write(&file, own).unwrap();
        assert_eq!(ensured(clone.path()), (own.to_owned(), String::new()));
    }
}

#[tokio::test]
async fn a_name_that_is_no_setting_is_told_where_the_server_starts_and_where_settings_are_shown() {
    let redis = Redis::start().await;
    let builder = Server::on(&redis).file(".env.dev", "MAX_FRAME_BYTE=70000\nPORT=1\n");
    let warning = ".env.dev: MAX_FRAME_BYTE is no setting; is MAX_FRAME_BYTES meant?";

    let server = builder.clone().start().await;
    assert_eq!(
        server.log.text().matches(warning).count(),
        1,
        "{}",
        server.log
    );

    let exit = builder.args(&["config"]).run().await;
    assert_eq!(exit.code, Some(0), "{exit:?}");
    assert!(
        exit.stderr.contains(&format!("warning: {warning}")),
        "{exit:?}"
    );
    assert!(!exit.stdout.contains("MAX_FRAME_BYTE is"), "{exit:?}");
}

/// The forms in which a text may appear in a log: as it is, or as bytes.
fn spellings(text: &str) -> [String; 3] {
    let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    let list: Vec<String> = text.bytes().map(|byte| byte.to_string()).collect();
    [text.to_owned(), hex, list.join(", ")]
}

#[tokio::test]
async fn the_most_detailed_log_holds_no_token_and_no_text() {
    let folder = tempfile::tempdir().unwrap();
    for filter in [
        "trace",
        "trace,tungstenite=trace,tungstenite::protocol::frame=trace",
    ] {
        // Given a server that logs everything it can, with a Redis of its own
        let data = folder.path().join(filter.len().to_string());
        let server = Server::embedded(&data)
            .env("RUST_LOG", filter)
            .env("ALLOW_QUERY_TOKEN", "1")
            .start()
            .await;

        // When people chat over each protocol and transport, with tokens in each place
        let mut alice = Client::connect_delta(&server, "alice").await;
        let room = alice.open_room(&["bob"]).await;
        alice.enter(&room).await;
        alice.say(&room, "walnut-secret-of-alice").await;
        let bob = Polling::joined(&server, "bob").await;
        bob.poll_until("42[\"chatList\"").await;
        let content = json!({ "roomId": room, "content": "walnut-secret-of-bob" });
        bob.send(&format!("42[\"sendMessage\",{content}]")).await;
        bob.poll_until("42[\"newMessage\"").await;
        let mut bob = bob.upgrade(&server).await;
        bob.send_frame(
            FIN | TEXT,
            format!("42[\"sendMessage\",{content}]").as_bytes(),
        )
        .await;
        alice
            .until("newMessage", |message| message["senderId"] == "bob")
            .await;
        let token = token::of("carol");
        let (bearer, protocols) = (format!("Bearer {token}"), format!("chat, {token}"));
        let address = server.address;
        http::upgrade(address, &format!("/ws?token={token}"), &[]).await;
        http::upgrade(address, "/ws", &[("Authorization", &bearer)]).await;
        http::upgrade(address, "/ws", &[("Sec-WebSocket-Protocol", &protocols)]).await;
        alice
            .send(Message::Close(Some(CloseFrame {
                code: 4000.into(),
                reason: "walnut-secret-reason".into(),
            })))
            .await;
        alice.close_code().await;
        let log = server.log.clone();
        server.stop().await;

        // Then it has logged, but nothing that they sent or presented
        let log = log.text();
        assert!(log.contains("DEBUG"), "{log}");
        let tokens = ["alice", "bob", "carol"].map(token::of);
        let signatures = tokens
            .each_ref()
            .map(|token| token.rsplit('.').next().unwrap());
        for secret in [&["walnut-secret", token::SECRET], &signatures[..]].concat() {
            for spelling in spellings(secret) {
                let line = log.lines().find(|line| line.contains(&spelling));
                assert_eq!(line, None, "{secret} is in the log");
            }
        }
    }
}
