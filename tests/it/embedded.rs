//! Without `REDIS_URL` the server runs a Redis of its own, and keeps its data through restarts and crashes of either.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use tempfile::TempDir;

use crate::support::{
    Client, Server, eventually, json,
    server::{lives, signal},
};

fn data_folder() -> TempDir {
    TempDir::with_prefix("chat-it-").expect("a temporary folder")
}

async fn start(folder: &Path) -> Server {
    Server::embedded(folder).start().await
}

/// The process of the Redis that a server started.
#[track_caller]
fn child(server: &Server) -> u32 {
    let children = server.child_processes();
    assert_eq!(children.len(), 1, "its Redis alone\n{}", server.log);
    children[0]
}

/// The messages of a room, as a new device of Alice's reads them.
async fn said(server: &Server, room: &str) -> Vec<String> {
    let mut alice = Client::connect_delta(server, "alice").await;
    let history = alice.history(room).await;
    history
        .iter()
        .map(|it| it["content"].as_str().expect("content").to_owned())
        .collect()
}

#[tokio::test]
async fn messages_survive_a_restart_of_the_server() {
    // Given messages, the last of them read
    let folder = data_folder();
    let server = start(folder.path()).await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let room = alice.open_room(&["bob"]).await;
    alice.say(&room, "one").await;
    alice.say(&room, "two").await;
    let redis = child(&server);

    // When the server is stopped, then its Redis is stopped too
    server.stop().await;
    assert!(!lives(redis));

    // When it starts again, then everything is as it was
    let server = start(folder.path()).await;
    assert_eq!(said(&server, &room).await, ["one", "two"]);
    let mut bob = Client::connect_delta(&server, "bob").await;
    assert_eq!(
        crate::support::entry(&bob.first_list, &room)["unreadCnt"],
        2
    );
    let sent = bob.say(&room, "three").await;
    assert_eq!(sent["seq"], 3);
    server.stop().await;
}

/// Every folder and file in a folder, itself included, with its mode.
fn modes(folder: &Path) -> Vec<(PathBuf, u32)> {
    let mut found = vec![(folder.to_owned(), 0)];
    let mut next = 0;
    while let Some((path, mode)) = found.get_mut(next) {
        // Redis renames files as it goes.
        let Ok(meta) = fs::metadata(&path) else {
            found.remove(next);
            continue;
        };
        *mode = meta.permissions().mode() & 0o777;
        if meta.is_dir() {
            let path = path.clone();
            let entries = fs::read_dir(path).expect("a folder");
            found.extend(entries.map(|entry| (entry.expect("an entry").path(), 0)));
        }
        next += 1;
    }
    found
}

/// Waits until nobody but the owner can read anything in the data folder or access it in any other way.
async fn closed_to_others(folder: &Path, server: &Server) {
    eventually(
        &format!("it is closed to others\n{}", server.log),
        async || {
            modes(folder)
                .iter()
                .all(|(path, mode)| match path.is_dir() {
                    true => *mode == 0o700,
                    false => *mode == 0o600,
                })
        },
    )
    .await;
}

#[tokio::test]
async fn the_chats_on_disk_are_for_nobody_else() {
    // Given a server that made its data folder itself, despite a lax umask
    let folder = data_folder();
    let data = folder.path().join("redis");
    let server = start(&data).await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let room = alice.open_room(&["bob"]).await;
    alice.say(&room, "Hello").await;
    closed_to_others(&data, &server).await;
    let warning = "other users of this machine could read chats";
    assert!(!server.log.text().contains(warning), "{}", server.log);
    server.stop().await;

    // When it is open to others, as after a copy or with an older version
    let elsewhere = folder.path().join("elsewhere");
    fs::write(&elsewhere, "no chat").unwrap();
    fs::set_permissions(&elsewhere, Permissions::from_mode(0o644)).unwrap();
    std::os::unix::fs::symlink(&elsewhere, data.join("link")).unwrap();
    for (path, mode) in modes(&data) {
        let open = Permissions::from_mode(if mode & 0o100 != 0 { 0o755 } else { 0o644 });
        fs::set_permissions(path, open).unwrap();
    }

    // Then the next start closes it and says so, and leaves alone what is elsewhere
    let server = start(&data).await;
    let log = server.log.text();
    assert_eq!(log.matches(warning).count(), 1, "{log}");
    assert!(log.contains("(its mode was 0755)"), "{log}");
    assert_eq!(
        fs::metadata(&elsewhere).unwrap().permissions().mode() & 0o777,
        0o644
    );
    fs::remove_file(data.join("link")).unwrap();
    closed_to_others(&data, &server).await;
    assert_eq!(said(&server, &room).await, ["Hello"]);
    server.stop().await;
}

#[tokio::test]
async fn its_redis_listens_nowhere_but_on_a_private_socket() {
    let folder = data_folder();
    let server = start(folder.path()).await;
    let redis = child(&server);

    // Then the data is in the right place, and others can read none of it
    let names: Vec<_> = fs::read_dir(folder.path())
        .expect("the data folder")
        .map(|file| file.expect("a file").file_name())
        .collect();
    assert!(!names.is_empty());

    // And no TCP socket is open in the child (where the system can report that)
    if let Ok(descriptors) = fs::read_dir(format!("/proc/{redis}/fd")) {
        let tcp = fs::read_to_string(format!("/proc/{redis}/net/tcp")).unwrap_or_default()
            + &fs::read_to_string(format!("/proc/{redis}/net/tcp6")).unwrap_or_default();
        for descriptor in descriptors.flatten() {
            let Ok(target) = fs::read_link(descriptor.path()) else {
                continue;
            };
            let target = target.display().to_string();
            if let Some(inode) = target
                .strip_prefix("socket:[")
                .and_then(|it| it.strip_suffix(']'))
            {
                let open = tcp
                    .lines()
                    .any(|line| line.split_whitespace().nth(9) == Some(inode));
                assert!(!open, "its Redis has a TCP socket");
            }
        }
    }
    server.stop().await;
}

/// Whether some file below the folder has these bytes.
fn is_written(folder: &Path, bytes: &[u8]) -> bool {
    let entries = fs::read_dir(folder).expect("read the folder");
    entries.flatten().any(|entry| {
        let path = entry.path();
        if path.is_dir() {
            return is_written(&path, bytes);
        }
        // A socket is not a file to read, and a temporary file may be gone.
        let content = fs::read(&path).unwrap_or_default();
        content.windows(bytes.len()).any(|window| window == bytes)
    })
}

#[tokio::test]
async fn messages_survive_the_death_of_the_child() {
    const BEFORE: &str = "said before the kill";
    // Given Alice and Bob, connected, and messages
    let folder = data_folder();
    let server = start(folder.path()).await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let mut bob = Client::connect_delta(&server, "bob").await;
    let room = alice.open_room(&["bob"]).await;
    alice.say(&room, BEFORE).await;
    assert_eq!(bob.until("newMessage", |_| true).await["content"], BEFORE);
    let first = child(&server);

    // When its Redis is killed, which writes to its file a moment late while the disk is busy
    eventually("the message is written", async || {
        is_written(folder.path(), BEFORE.as_bytes())
    })
    .await;
    signal(first, "KILL");
    eventually("another Redis runs", async || {
        server.child_processes().iter().any(|pid| *pid != first)
    })
    .await;
    server.ready().await;

    // Then both are still connected and carry on, with all messages
    let mut attempts = 0;
    let sent = loop {
        attempts += 1;
        let data = json!({ "roomId": room, "content": "after", "clientMessageId": "after-1" });
        match alice.request("sendMessage", data).await {
            Ok(sent) => break sent,
            Err(error) => {
                let code = crate::support::code(&error);
                assert!(["UNAVAILABLE", "TIMEOUT"].contains(&code), "{error}");
                assert!(attempts < 200, "{error}\n{}", server.log);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    };
    assert_eq!(sent["seq"], 2);
    let message = bob.until("newMessage", |_| true).await;
    assert_eq!(
        (&message["content"], &message["seq"]),
        (&json!("after"), &json!(2))
    );
    assert_eq!(said(&server, &room).await, [BEFORE, "after"]);
    bob.expect_nothing_of("newMessage").await;
    server.stop().await;
}

#[tokio::test]
async fn a_killed_server_leaves_nothing_that_stops_the_next() {
    // Given a server that is killed, and leaves its Redis behind
    let folder = data_folder();
    let mut killed = start(folder.path()).await;
    let mut alice = Client::connect_delta(&killed, "alice").await;
    let room = alice.open_room(&["bob"]).await;
    alice.say(&room, "before").await;
    let orphan = child(&killed);
    killed.kill_9().await;

    // When the next one starts on the same data
    let server = start(folder.path()).await;

    // Then all messages are still there, more can be sent, and only one Redis runs
    assert_eq!(said(&server, &room).await, ["before"]);
    let mut alice = Client::connect_delta(&server, "alice").await;
    alice.say(&room, "after").await;
    let takes_part = server.child_processes();
    assert!(takes_part.len() == 1 && !lives(orphan) || takes_part.is_empty() && lives(orphan));

    // And stopping it leaves none
    server.stop().await;
    assert!(!lives(orphan));
    assert!(takes_part.iter().all(|pid| !lives(*pid)));
}

#[tokio::test]
async fn a_second_server_on_the_same_data_is_refused() {
    // Given a running server
    let folder = data_folder();
    let first = start(folder.path()).await;

    // When a second is started on the same folder
    let exit = Server::embedded(folder.path()).run().await;

    // Then it says why it cannot start, and exits, and the first is not affected
    assert!(exit.code.is_some_and(|code| code != 0), "{exit:?}");
    let path = folder.path().display().to_string();
    assert!(exit.stderr.contains(&path), "{exit:?}");
    assert!(!exit.stderr.contains("panicked"), "{exit:?}");
    let mut alice = Client::connect_delta(&first, "alice").await;
    let room = alice.open_room(&["bob"]).await;
    alice.say(&room, "Still here").await;
    first.stop().await;

    // And now another can start
    let second = start(folder.path()).await;
    assert_eq!(said(&second, &room).await, ["Still here"]);
    second.stop().await;
}
