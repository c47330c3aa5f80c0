//! The current server on data that earlier versions left in Redis: `tests/data` has the data of each released version.

use std::path::PathBuf;

use crate::support::rules::{Rules, list};
use crate::support::{Client, Redis, Server, Value, entry, eventually, json, server::repository};

/// The rooms that `tests/data/make.sh` makes.
const DIRECT: &str = "5b534b82-d924-5ce9-a884-b847bb4d73be";
const GROUP: &str = "00000000-0000-4000-8000-000000000001";
const LARGE: &str = "00000000-0000-4000-8000-000000000002";
const EMPTY: &str = "00000000-0000-4000-8000-000000000003";

/// A Redis with what that version left behind.
async fn left_by(version: &str) -> Redis {
    let rdb: PathBuf = repository().join(format!("tests/data/{version}.rdb"));
    Redis::with_data(&rdb).await
}

fn key(room: &str, part: &str) -> String {
    format!("chat:{{room:{room}}}:{part}")
}

/// A device's history: the sender and text of each message.
async fn said(device: &mut Client, room: &str) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let history = device.history(room).await;
    let said = history
        .iter()
        .map(|it| (text(&it["senderId"]), text(&it["content"])));
    said.collect()
}

fn pairs(said: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(who, what): &(&str, &str)| ((*who).to_owned(), (*what).to_owned());
    said.iter().map(owned).collect()
}

#[tokio::test]
async fn nothing_of_0_1_0_is_lost() {
    // Given the data that version 0.1.0 left behind, and a current server on it
    let redis = left_by("0.1.0").await;
    let before = redis.dump().await;
    let server = Server::start(&redis).await;

    // When its users connect, then their lists are as they left them
    let mut alice = Client::connect(&server, "alice").await;
    let mut bob = Client::connect_delta(&server, "bob").await;
    let odd = Client::connect(&server, "auth0|66f1").await;
    let far = Client::connect(&server, "user-101").await;
    let row = |list: &Value, room: &str| {
        let entry = entry(list, room);
        let last = &entry["lastMessage"];
        json!([
            entry["unreadCnt"],
            entry["groupName"],
            last["content"],
            last["readCount"]
        ])
    };
    let list = &alice.first_list;
    assert_eq!(list.as_array().map(Vec::len), Some(4));
    assert_eq!(row(list, DIRECT), json!([1, null, "Off to the ***", 1]));
    assert_eq!(row(list, GROUP), json!([0, "Book club", "Middlemarch.", 2]));
    assert_eq!(row(list, LARGE), json!([0, "All hands", "Welcome, all", 1]));
    assert_eq!(row(list, EMPTY)[0], 0);
    assert_eq!(entry(list, EMPTY)["lastMessage"], Value::Null);
    assert_eq!(row(&odd.first_list, GROUP)[0], 1);
    assert_eq!(row(&far.first_list, LARGE)[0], 1);
    assert_eq!(entry(&far.first_list, LARGE)["memberCount"], 101);

    // And so are the messages
    let talk = pairs(&[
        ("alice", "Hello Bob"),
        ("bob", "Hello Alice"),
        ("alice", "How are you? 🦀"),
        ("bob", "Off to the ***"),
    ]);
    assert_eq!(said(&mut alice, DIRECT).await, talk);
    let talk = pairs(&[("auth0|66f1", "Which book?"), ("alice", "Middlemarch.")]);
    assert_eq!(said(&mut alice, GROUP).await, talk);

    // And reading them has written nothing
    before.assert_same(&redis.dump().await, "reading");

    // And the chat goes on
    alice.say(DIRECT, "Welcome back").await;
    let heard = bob.until("newMessage", |it| it["roomId"] == DIRECT).await;
    assert_eq!(
        (&heard["seq"], &heard["content"]),
        (&json!(5), &json!("Welcome back"))
    );
    bob.mark(DIRECT, &heard["id"]).await;
    let color: String = redis
        .run(&format!("HGET {} color", key(DIRECT, "ext")))
        .await;
    assert_eq!(color, "blue");
}

#[tokio::test]
async fn what_was_sent_to_0_1_0_is_not_stored_again() {
    let redis = left_by("0.1.0").await;
    let server = Server::start(&redis).await;
    let before = redis.dump().await;
    for (user, room, id, seq) in [
        ("alice", DIRECT, "m-1", 1),
        ("bob", DIRECT, "m-1", 2),
        ("bob", DIRECT, "m-2", 4),
        ("auth0|66f1", GROUP, "m:1/{x}", 1),
    ] {
        // When a message that it acked is sent again, then it is found
        let mut device = Client::connect_delta(&server, user).await;
        let message = json!({ "roomId": room, "content": "Again", "clientMessageId": id });
        let sent = device.done("sendMessage", message).await;
        assert_eq!(
            (&sent["seq"], &sent["duplicate"]),
            (&json!(seq), &json!(true)),
            "{user}"
        );
    }
    before.assert_same(&redis.dump().await, "sending again");

    // And a new message is stored once
    let mut alice = Client::connect_delta(&server, "alice").await;
    let message = json!({ "roomId": DIRECT, "content": "New", "clientMessageId": "m-2" });
    for (seq, duplicate) in [(5, false), (5, true)] {
        let sent = alice.done("sendMessage", message.clone()).await;
        assert_eq!(
            (&sent["seq"], &sent["duplicate"]),
            (&json!(seq), &json!(duplicate))
        );
    }
}

#[tokio::test]
async fn viewers_of_0_1_0_view_again_when_they_are_back() {
    // Given a room that Carol had open when her server stopped
    let redis = left_by("0.1.0").await;
    let exists = async |part: &str| {
        redis
            .run::<u64>(&format!("EXISTS {}", key(GROUP, part)))
            .await
    };
    assert_eq!((exists("viewers").await, exists("viewing").await), (1, 0));
    let server = Server::start(&redis).await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let mut carol = Client::connect_delta(&server, "carol").await;
    let read_by = async |alice: &mut Client, content: &str| {
        alice.say(GROUP, content).await;
        let message = alice
            .until("newMessage", |it| it["content"] == content)
            .await;
        message["readBy"].clone()
    };

    // When Alice writes before Carol is back, then Carol has not read it
    assert_eq!(read_by(&mut alice, "Anyone?").await, json!(["alice"]));

    // When she has opened it again, then she has read the rest, and further messages count as read
    carol.enter(GROUP).await;
    assert_eq!(
        read_by(&mut alice, "There you are").await,
        json!(["alice", "carol"])
    );
    assert_eq!((exists("viewers").await, exists("viewing").await), (0, 1));
}

#[tokio::test]
async fn a_set_that_0_1_0_applied_is_not_run_and_said_so() {
    // Given an operator's own rules, applied with version 0.1.0, whose contract is different
    let redis = left_by("0.1.0").await;
    let server = Server::start(&redis).await;

    // Then the server runs its own, and says so in the log and on request
    eventually("the log says so", async || {
        let said = server.log.text();
        said.contains("applied set 1 is not run") && said.contains("set 1 is for contract 1")
    })
    .await;
    let told = list(&redis).await["servers"][0].clone();
    assert_eq!(told["set"], "the embedded set");
    let refused = told["refused"].as_str().expect("a reason");
    assert!(refused.contains("contract 1"), "{refused}");
    let mut alice = Client::connect_delta(&server, "alice").await;
    alice.say(DIRECT, "the casino").await;
    let talk = said(&mut alice, DIRECT).await;
    assert_eq!(talk.last().unwrap().1, "the casino");

    // When the rules are ported, then they are in effect again, as set 2
    let rules = Rules::export().await;
    rules.edit(
        "send_message",
        "local entry = {",
        "content = content:gsub('casino', '***')\nlocal entry = {",
    );
    let refused = rules.apply(&redis, &[]).await;
    assert!(
        refused.stderr.contains("set 1 (by dora, "),
        "{}",
        refused.stderr
    );
    let applied = rules.apply(&redis, &["--force"]).await;
    assert_eq!(applied.code, Some(0), "{}", applied.stderr);
    assert!(
        applied.stdout.contains("set 2 is stored"),
        "{}",
        applied.stdout
    );
    alice.say(DIRECT, "the casino").await;
    let talk = said(&mut alice, DIRECT).await;
    assert_eq!(talk.last().unwrap().1, "the ***");
}
