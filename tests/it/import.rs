//! `chat-server import`: data in the shapes of the replaced server, in a Redis of its own, and what real clients see of it
//! afterwards.

use crate::support::replaced::{
    Replaced, import, import_all, importing, leaving_alone, text, time, typed,
};
use crate::support::server::Exit;
use crate::support::{Client, Redis, Server, Value, entry, eventually, json, names};

const GROUP: &str = "6f9619ff-8b86-4011-b42d-00c04fc964ff";
const DIRECT: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";
const DIRECT_TOO: &str = "7c9e6679-7425-40de-944b-e07fc1f90ae7";
/// Where Alice and Bob talk in this server.
const ALICE_AND_BOB: &str = "5b534b82-d924-5ce9-a884-b847bb4d73be";

fn key(room: &str, part: &str) -> String {
    format!("chat:{{room:{room}}}:{part}")
}

/// Of each message, who said what.
fn said(history: &[Value]) -> Vec<(&str, &str)> {
    fn text<'a>(it: &'a Value, name: &str) -> &'a str {
        it[name].as_str().unwrap()
    }
    let row = |it| (text(it, "senderId"), text(it, "content"));
    history.iter().map(row).collect()
}

/// The summary must have these lines.
#[track_caller]
fn assert_counts(printed: &str, counts: &[(u64, &str)]) {
    for (count, of) in counts {
        let line = format!("  {count:>9} {of}");
        assert!(
            printed.lines().any(|it| it == line),
            "no `{line}` in\n{printed}"
        );
    }
}

/// The lines that list what was not taken, in the order of their texts.
fn listed(exit: &Exit) -> Vec<&str> {
    let is_listed = |line: &&str| line.starts_with("refused: ") || line.starts_with("skipped: ");
    let mut lines: Vec<&str> = exit.stdout.lines().filter(is_listed).collect();
    lines.sort_unstable();
    lines
}

#[tokio::test]
async fn people_find_their_chats_as_they_left_them() {
    // Given two people's room of the first versions, whose list has the newest message first
    let (redis, into) = (Redis::start().await, Redis::start().await);
    let old = Replaced { redis: &redis };
    let both = &["alice", "bob"];
    let list = [
        text("m-3", "alice", "How are you?", 30, &["alice"]),
        text("m-2", "bob", "Hello Alice", 20, both),
        text("m-1", "alice", "Hello Bob", 10, both),
    ];
    old.room(DIRECT, both, &list).await;
    // And a group of later versions, with texts and images as lists
    let all = &["alice", "bob", "carol"];
    let list = [
        typed(
            "text",
            &["Which book?", "Any ideas?"],
            text("g-1", "bob", "", 40, all),
        ),
        typed(
            "image",
            &["https://pictures.example/1.png"],
            text("g-2", "carol", "", 50, &["carol", "bob"]),
        ),
    ];
    old.room(GROUP, all, &list).await;
    old.name(GROUP, "Book club").await;

    // When they are imported
    let printed = import_all(&redis, &into).await;
    assert_counts(
        &printed,
        &[(2, "new chats"), (5, "messages"), (5, "read markers")],
    );
    assert!(printed.ends_with("Nothing was refused.\n"), "{printed}");

    // Then each finds both rooms, in the order of what was said last, with what is unread
    let server = Server::start(&into).await;
    let mut alice = Client::connect(&server, "alice").await;
    let mut bob = Client::connect(&server, "bob").await;
    let rooms = |list: &Value| -> Vec<(String, u64)> {
        let row = |it: &Value| {
            (
                it["roomId"].as_str().unwrap().into(),
                it["unreadCnt"].as_u64().unwrap(),
            )
        };
        list.as_array().unwrap().iter().map(row).collect()
    };
    assert_eq!(
        rooms(&alice.first_list),
        [(GROUP.into(), 1), (ALICE_AND_BOB.into(), 0)]
    );
    assert_eq!(
        rooms(&bob.first_list),
        [(GROUP.into(), 0), (ALICE_AND_BOB.into(), 1)]
    );
    let group = entry(&alice.first_list, GROUP);
    assert_eq!(group["groupName"], "Book club");
    assert_eq!(names(&group["members"]), ["bob", "carol"]);
    assert_eq!(names(&group["lastMessage"]["readBy"]), ["bob", "carol"]);
    assert_eq!(entry(&alice.first_list, ALICE_AND_BOB)["friendId"], "bob");

    // And what was said, when, and who has read it
    let history = alice.history(ALICE_AND_BOB).await;
    let expected = [
        ("alice", "Hello Bob"),
        ("bob", "Hello Alice"),
        ("alice", "How are you?"),
    ];
    assert_eq!(said(&history), expected);
    let times: Vec<&Value> = history.iter().map(|it| &it["timestamp"]).collect();
    assert_eq!(json!(times), json!([time(10), time(20), time(30)]));
    assert_eq!(names(&history[1]["readBy"]), ["alice", "bob"]);
    assert_eq!(names(&history[2]["readBy"]), ["alice"]);
    assert_eq!(history[0]["clientMessageId"], "m-1");
    let history = bob.history(GROUP).await;
    let expected = [
        ("bob", "Which book?\nAny ideas?"),
        ("carol", "https://pictures.example/1.png"),
    ];
    assert_eq!(said(&history), expected);

    // And the chats go on
    alice.say(ALICE_AND_BOB, "Here we are").await;
    let heard = bob
        .until("newMessage", |it| it["roomId"] == ALICE_AND_BOB)
        .await;
    assert_eq!(
        (&heard["seq"], &heard["content"]),
        (&json!(4), &json!("Here we are"))
    );
    bob.mark(ALICE_AND_BOB, &heard["id"]).await;
    assert_eq!(entry(&bob.list().await, ALICE_AND_BOB)["unreadCnt"], 0);
}

#[tokio::test]
async fn the_shape_of_an_array_is_kept_beside_its_text() {
    let (redis, into) = (Redis::start().await, Redis::start().await);
    let old = Replaced { redis: &redis };
    let list = [
        typed(
            "text",
            &["José", "and Ann"],
            text("m-1", "alice", "", 1, &[]),
        ),
        typed(
            "image",
            &["http://a.example/b"],
            text("m-2", "alice", "", 2, &[]),
        ),
        text("m-3", "bob", "plain", 3, &[]),
    ];
    old.room(DIRECT, &["alice", "bob"], &list).await;
    import_all(&redis, &into).await;
    let stored: Vec<(String, Vec<String>)> = into
        .run(&format!("XRANGE {} - +", key(ALICE_AND_BOB, "messages")))
        .await;
    let fields: Vec<Vec<String>> = stored.into_iter().map(|(_, fields)| fields).collect();
    let common = |sender: &str, content: &str, id: &str| {
        ["sender", sender, "content", content, "client_id", id]
            .map(str::to_owned)
            .to_vec()
    };
    let with = |mut fields: Vec<String>, more: &[&str]| {
        fields.extend(more.iter().map(|it| (*it).to_owned()));
        fields
    };
    let expected = [
        with(common("alice", "José\nand Ann", "m-1"), &["parts", "5,7"]),
        with(
            common("alice", "http://a.example/b", "m-2"),
            &["type", "image", "parts", "18"],
        ),
        common("bob", "plain", "m-3"),
    ];
    assert_eq!(fields, expected);
}

#[tokio::test]
async fn rooms_of_the_same_two_people_become_one() {
    // Given two rooms that a race has made, one from head to tail and one from tail to head, and a message in both
    let (redis, into) = (Redis::start().await, Redis::start().await);
    let old = Replaced { redis: &redis };
    let twice = text("m-4", "bob", "four", 4, &["bob"]);
    let list = [
        text("m-1", "alice", "one", 1, &["alice", "bob"]),
        text("m-3", "alice", "three", 3, &["alice"]),
        twice.clone(),
    ];
    old.room(DIRECT, &["alice", "bob"], &list).await;
    let list = [
        text("m-5", "alice", "five", 5, &["alice"]),
        twice,
        text("m-2", "bob", "two", 2, &["bob"]),
    ];
    old.room(DIRECT_TOO, &["bob", "alice"], &list).await;

    let printed = import_all(&redis, &into).await;
    assert_counts(
        &printed,
        &[(1, "new chats"), (5, "messages"), (2, "read markers")],
    );

    let server = Server::start(&into).await;
    let mut bob = Client::connect_delta(&server, "bob").await;
    let history = bob.history(ALICE_AND_BOB).await;
    let contents: Vec<&str> = said(&history)
        .into_iter()
        .map(|(_, content)| content)
        .collect();
    assert_eq!(contents, ["one", "two", "three", "four", "five"]);
    assert_eq!(bob.first_list.as_array().map(Vec::len), Some(1));
    assert_eq!(bob.first_list[0]["unreadCnt"], 1);
}

#[tokio::test]
async fn a_second_run_changes_nothing() {
    let (redis, into) = (Redis::start().await, Redis::start().await);
    let old = Replaced { redis: &redis };
    let list = [text("m-1", "alice", "Hello", 1, &["bob"])];
    old.room(DIRECT, &["alice", "bob"], &list).await;
    old.room(GROUP, &["alice", "bob", "carol"], &list).await;
    old.room(DIRECT_TOO, &["alice", "carol"], &[]).await;
    // Of a clock that was ahead
    let mut ahead = text("m-2", "carol", "Tomorrow", 1, &[]);
    ahead["timestamp"] = json!("2124-08-20T12:00:00.000Z");
    old.push(GROUP, &[ahead]).await;

    import_all(&redis, &into).await;
    let before = into.dump().await;
    let printed = import_all(&redis, &into).await;
    before.assert_same(&into.dump().await, "a second import");
    assert_counts(
        &printed,
        &[(0, "new chats"), (0, "messages"), (0, "read markers")],
    );
    assert_counts(&printed, &[(3, "chats have nothing new")]);
}

#[tokio::test]
async fn a_dry_run_counts_and_writes_nothing() {
    let (redis, into) = (Redis::start().await, Redis::start().await);
    let old = Replaced { redis: &redis };
    let list = [
        text("m-1", "alice", "Hello", 1, &["bob"]),
        text("m-2", "alice", "data:image/png;base64,iVBO", 2, &["bob"]),
    ];
    old.room(DIRECT, &["alice", "bob"], &list).await;
    into.run::<()>("SET other thing").await;
    let before = into.dump().await;
    let tried = import(&redis, &into, &["--dry-run"]).await;
    before.assert_same(&into.dump().await, "a dry run");
    assert_eq!(tried.code, Some(1), "{}", tried.stderr);
    assert!(
        tried.stdout.contains("Dry run, nothing was written"),
        "{}",
        tried.stdout
    );
    let counts = [
        (1, "new chats"),
        (1, "messages"),
        (2, "read markers"),
        (1, "images in the text (data:)"),
    ];
    assert_counts(&tried.stdout, &counts);

    // And the run itself counts the same
    let done = import(&redis, &into, &[]).await;
    assert_counts(&done.stdout, &counts);
    assert_eq!(listed(&tried), listed(&done));
}

#[tokio::test]
async fn what_cannot_be_taken_is_listed_and_stops_nothing_else() {
    let (redis, into) = (Redis::start().await, Redis::start().await);
    let old = Replaced { redis: &redis };
    let run = async |command: &str| redis.run::<redis::Value>(command).await;

    // Given a room with all kinds of messages, two of them good
    let list = [
        text("m-1", "alice", "good", 1, &["bob"]),
        typed(
            "image",
            &["data:image/png;base64,iVBO"],
            text("m-2", "alice", "", 2, &["bob"]),
        ),
        typed(
            "image",
            &["/uploads/1.png"],
            text("m-3", "alice", "", 3, &[]),
        ),
        text("m-4", "alice", &"x".repeat(101), 4, &[]),
        text("m-5", "", "nobody", 5, &[]),
        text("", "alice", "no id", 6, &[]),
        json!({ "id": "m-7", "senderId": "alice", "content": "no time" }),
        json!({ "id": "m-8", "senderId": "alice", "timestamp": time(8) }),
        typed("system", &["who?"], text("m-9", "alice", "", 9, &[])),
        text("m-1", "alice", "another", 10, &[]),
        text(
            "m-11",
            "carol",
            "of one who has left",
            11,
            &["bob", "carol"],
        ),
    ];
    old.room(DIRECT, &["alice", "bob"], &list).await;
    old.push_raw(DIRECT, &[&b"{\"id\""[..], b"\xff\xfe", b"[]"])
        .await;
    old.name(DIRECT, "Us").await;
    // And rooms that are none here
    old.room(DIRECT_TOO, &["alice"], &list).await;
    old.room("lobby", &["alice", "bob", "carol"], &[]).await;
    old.room(
        "00000000-0000-4000-8000-000000000001",
        &["a", "b", "c", "d", "e"],
        &[],
    )
    .await;
    old.push("without-users", &list).await;
    old.set("user:alice:chats", &["nowhere", GROUP]).await;
    old.set("user:dora:chats", &[GROUP]).await;
    run("SET chat:text:users alice").await;
    run("SET user:eve:chats nothing").await;
    // And a group with a broken list, a long name and a member who can be none
    let long = "n".repeat(129);
    old.name(GROUP, &long).await;
    let endless = "u".repeat(129);
    old.set(
        &format!("chat:{GROUP}:users"),
        &["alice", "bob", "carol", &endless],
    )
    .await;
    run(&format!("SET chat:{GROUP}:messages text")).await;
    // And keys of others
    run("SET chat:settings x").await;

    // When they are imported where a content has at most 100 bytes, and a room 4 members
    let command = importing(&redis.url(), &into, &[])
        .env("MAX_CONTENT_BYTES", "100")
        .env("MAX_PARTICIPANTS", "4");
    let exit = leaving_alone(&redis, command).await;
    assert_eq!(exit.code, Some(1), "{}", exit.stderr);

    // Then each is listed once
    let shown = format!("{}…", "u".repeat(80));
    let of = |what: &str, why: &str| format!("refused: {what}: {why}");
    let message = |which: &str, why: &str| of(&format!("room {DIRECT}, message {which}"), why);
    let mut expected = vec![
        message(
            "m-2",
            "it is an image in the text (data:, 26 bytes): store it elsewhere and send its address",
        ),
        message(
            "m-3",
            "it is an image whose content is no http or https address",
        ),
        message(
            "m-4",
            "its content has 101 bytes, and MAX_CONTENT_BYTES is 100",
        ),
        message("m-5", "its senderId is missing or no user id"),
        message(
            "at index 5",
            "its id is missing, or has more than 64 characters",
        ),
        message("m-7", "its timestamp is missing or not one"),
        message("m-8", "its content is neither a text nor a list of texts"),
        message("m-9", "its type is not one that a message can have"),
        message("m-1", "its id is also that of another message of this chat"),
        message("at index 11", "it is not JSON, or no object"),
        message("at index 12", "it is not JSON, or no object"),
        message("at index 13", "it is not JSON, or no object"),
        of(
            &format!("room {DIRECT}"),
            "it has a name, which two people's chats cannot have",
        ),
        of(&format!("room {DIRECT_TOO}"), "it has only one member"),
        of(
            "room lobby",
            "its id is no UUID in lower case, which the id of a group has to be",
        ),
        of(
            "room 00000000-0000-4000-8000-000000000001",
            "it has 5 members, and MAX_PARTICIPANTS is 4",
        ),
        of("room without-users", "it has no members"),
        of("room nowhere", "it has no members"),
        of(
            &format!("room {GROUP}, user dora"),
            "it is in this user's list of chats, but the user is none of its members",
        ),
        of("room text", "its key is of a wrong type"),
        of("key user:eve:chats", "its key is of a wrong type"),
        of(
            &format!("room {GROUP}"),
            "its name has more than 128 characters: it was cut",
        ),
        of(
            &format!("room {GROUP}, user {shown}"),
            "this member's id is no user id here (1 to 128 bytes, no control characters)",
        ),
        of(
            &format!("key chat:{GROUP}:messages"),
            "its key is of a wrong type",
        ),
    ];
    expected.sort();
    assert_eq!(listed(&exit), expected, "{}", exit.stdout);
    assert_counts(
        &exit.stdout,
        &[
            (2, "new chats"),
            (2, "messages"),
            (1, "keys under chat: are not of the replaced server"),
        ],
    );

    // And the rest is there
    let server = Server::start(&into).await;
    let mut bob = Client::connect(&server, "bob").await;
    assert_eq!(bob.first_list.as_array().map(Vec::len), Some(2));
    assert_eq!(entry(&bob.first_list, ALICE_AND_BOB)["unreadCnt"], 0);
    let history = bob.history(ALICE_AND_BOB).await;
    assert_eq!(
        said(&history),
        [("alice", "good"), ("carol", "of one who has left")]
    );
    let group = entry(&bob.first_list, GROUP);
    assert_eq!(group["groupName"], "n".repeat(128));
    assert_eq!(names(&group["members"]), ["alice", "carol"]);
}

#[tokio::test]
async fn of_a_huge_list_the_newest_messages_are_taken() {
    let (redis, into) = (Redis::start().await, Redis::start().await);
    let old = Replaced { redis: &redis };
    let message = |n: u64| text(&format!("m-{n}"), "alice", &format!("{n}"), n, &[]);
    // Given one list of each direction
    let newest_last: Vec<Value> = (0..10_030).map(message).collect();
    let newest_first: Vec<Value> = newest_last.iter().rev().cloned().collect();
    old.room(GROUP, &["alice", "bob", "carol"], &newest_last)
        .await;
    old.room(DIRECT, &["alice", "bob"], &newest_first).await;
    let exit = import(&redis, &into, &[]).await;
    assert_eq!(exit.code, Some(1), "{}{}", exit.stdout, exit.stderr);
    let line = |room: &str| {
        format!(
            "refused: room {room}: 30 of its messages are older than the newest 10000 that are taken"
        )
    };
    assert_eq!(listed(&exit), [line(DIRECT), line(GROUP)]);
    for room in [GROUP, ALICE_AND_BOB] {
        let stream = key(room, "messages");
        assert_eq!(into.run::<u64>(&format!("XLEN {stream}")).await, 10_000);
        let first: Vec<(String, Vec<String>)> =
            into.run(&format!("XRANGE {stream} - + COUNT 1")).await;
        assert_eq!(first[0].1[3], "30");
        let last: Vec<(String, Vec<String>)> =
            into.run(&format!("XREVRANGE {stream} + - COUNT 1")).await;
        assert_eq!(
            (&*last[0].1[3], last[0].0.ends_with("-10000")),
            ("10029", true)
        );
    }
}

#[tokio::test]
async fn an_import_that_was_cut_off_goes_on_to_the_same_end() {
    // Given many rooms, one of them with a history that takes several calls
    let redis = Redis::start().await;
    let old = Replaced { redis: &redis };
    let text_of = |n: u64| {
        text(
            &format!("m-{n}"),
            "alice",
            &"long ".repeat(200),
            n,
            &["bob"],
        )
    };
    let list: Vec<Value> = (0..1000).map(text_of).collect();
    old.room(GROUP, &["alice", "bob", "carol"], &list).await;
    for n in 0..20 {
        let user = format!("friend-{n}");
        let room = format!("00000000-0000-4000-8000-{n:012}");
        old.room(&room, &["alice", &user], &list[..100]).await;
    }
    let whole = Redis::start().await;
    import_all(&redis, &whole).await;

    // When memory runs out on the way, again and again
    let cut = Redis::start().await;
    let mut runs = 0;
    let mut ended = None;
    while ended != Some(0) {
        let info: String = cut.run("INFO memory").await;
        let used = info
            .lines()
            .find_map(|line| line.strip_prefix("used_memory:"));
        let used: u64 = used.unwrap().trim().parse().unwrap();
        let limit = used + 400_000;
        cut.run::<()>(&format!("CONFIG SET maxmemory {limit}"))
            .await;
        let exit = import(&redis, &cut, &[]).await;
        (ended, runs) = (exit.code, runs + 1);
        let said = exit.stderr.contains("OOM") && exit.stderr.contains("Run this again");
        assert!(
            ended == Some(0) || ended == Some(2) && said,
            "{}",
            exit.stderr
        );
        assert!(runs < 100, "it comes to no end");
    }
    assert!(runs > 3, "it was not cut off: {runs}");

    // Then it ends as one run has
    let contents = async |redis: &Redis| {
        let mut contents = Vec::new();
        let mut keys: Vec<String> = redis.run("KEYS *").await;
        keys.sort();
        for key in keys {
            let value: Value = match key.rsplit(':').next() {
                Some("meta") => {
                    let mut meta: std::collections::BTreeMap<String, String> =
                        redis.run(&format!("HGETALL {key}")).await;
                    // Random, and the number of steps.
                    meta.retain(|field, _| !["epoch", "rev"].contains(&field.as_str()));
                    json!(meta)
                }
                Some("messages") => {
                    let stream: Vec<(String, Vec<String>)> =
                        redis.run(&format!("XRANGE {key} - +")).await;
                    json!(stream)
                }
                _ => json!(redis.run::<Vec<u8>>(&format!("DUMP {key}")).await),
            };
            contents.push((key, value));
        }
        contents
    };
    let (whole, cut) = (contents(&whole).await, contents(&cut).await);
    assert_eq!(whole.len(), cut.len());
    for (whole, cut) in whole.iter().zip(&cut) {
        assert!(whole == cut, "{} differs from {}", whole.0, cut.0);
    }
}

#[tokio::test]
async fn a_redis_that_both_share_is_refused_under_the_old_prefix() {
    // Given one Redis for both, and a replica of it
    let shared = Redis::start_tcp().await;
    let old = Replaced { redis: &shared };
    old.room(
        DIRECT,
        &["alice", "bob"],
        &[text("m-1", "alice", "Hello", 1, &[])],
    )
    .await;
    let before = shared.dump().await;
    let replica = Redis::start().await;
    replica
        .run::<()>(&format!("REPLICAOF 127.0.0.1 {}", shared.port))
        .await;
    eventually("the replica has the data", async || {
        replica.run::<u64>("DBSIZE").await == before.keys().len() as u64
    })
    .await;

    // When the new server's keys would lie among the old ones, then nothing is done, and it is said what to do
    for from in [shared.url(), shared.tcp_url(), replica.url()] {
        for prefix in ["chat", "user"] {
            let exit = importing(&from, &shared, &[])
                .env("KEY_PREFIX", prefix)
                .run()
                .await;
            assert_eq!(exit.code, Some(2), "{}", exit.stdout);
            let says = ["set another KEY_PREFIX", "a Redis of its own", prefix];
            assert!(
                says.iter().all(|it| exit.stderr.contains(it)),
                "{}",
                exit.stderr
            );
        }
    }
    before.assert_same(&shared.dump().await, "a refused import");

    // When it has a prefix of its own, then it is imported, and nothing of the old server is touched
    let exit = importing(&shared.url(), &shared, &[])
        .env("KEY_PREFIX", "talk")
        .run()
        .await;
    assert_eq!(exit.code, Some(0), "{}{}", exit.stdout, exit.stderr);
    let now = shared.dump().await;
    before.assert_same(&now.without("talk:"), "an import under another prefix");
    let server = Server::on(&shared).env("KEY_PREFIX", "talk").start().await;
    let mut bob = Client::connect(&server, "bob").await;
    assert_eq!(
        said(&bob.history(ALICE_AND_BOB).await),
        [("alice", "Hello")]
    );
}

#[tokio::test]
async fn the_old_data_may_be_in_another_database() {
    let redis = Redis::start().await;
    let old = Replaced { redis: &redis };
    old.room(
        DIRECT,
        &["alice", "bob"],
        &[text("m-1", "alice", "Hello", 1, &[])],
    )
    .await;
    for key in redis.run::<Vec<String>>("KEYS *").await {
        redis.run::<()>(&format!("MOVE {key} 3")).await;
    }
    let from = format!("{}?db=3", redis.url());
    let exit = importing(&from, &redis, &[]).run().await;
    assert_eq!(exit.code, Some(0), "{}{}", exit.stdout, exit.stderr);
    let server = Server::start(&redis).await;
    let mut bob = Client::connect(&server, "bob").await;
    assert_eq!(
        said(&bob.history(ALICE_AND_BOB).await),
        [("alice", "Hello")]
    );
}

#[tokio::test]
async fn a_later_run_follows_up_rooms_without_a_message_of_the_new_server() {
    // Given two imported rooms, with a message of the new server in one, and a read mark in the other
    let (redis, into) = (Redis::start().await, Redis::start().await);
    let old = Replaced { redis: &redis };
    let all = &["alice", "bob", "carol"];
    old.room(DIRECT, &all[..2], &[text("m-1", "alice", "one", 1, &[])])
        .await;
    old.room(GROUP, all, &[text("g-1", "alice", "one", 1, &[])])
        .await;
    import_all(&redis, &into).await;
    let server = Server::start(&into).await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let mut bob = Client::connect_delta(&server, "bob").await;
    alice.say(ALICE_AND_BOB, "two").await;
    let group = bob.history(GROUP).await;
    bob.mark(GROUP, &group[0]["id"]).await;
    alice.settle().await;
    bob.settle().await;

    // When the old server goes on in both, and makes a room of Bob and Carol
    old.push(DIRECT, &[text("m-2", "bob", "lost", 2, &[])])
        .await;
    let more = [
        text("g-2", "carol", "two", 2, &["bob", "carol"]),
        text("g-3", "carol", "three", 3, &["carol"]),
    ];
    old.push(GROUP, &more).await;
    old.room(
        DIRECT_TOO,
        &all[1..],
        &[text("n-1", "carol", "new", 4, &[])],
    )
    .await;
    let exit = import(&redis, &into, &[]).await;

    // Then the one is left as it is, and listed
    assert_eq!(exit.code, Some(1), "{}", exit.stderr);
    let skipped = format!(
        "skipped: room {DIRECT}: it has messages of the new server, and is not followed up"
    );
    assert_eq!(listed(&exit), [skipped]);
    assert_counts(
        &exit.stdout,
        &[(1, "new chats"), (1, "chats followed up"), (3, "messages")],
    );
    assert_eq!(
        said(&alice.history(ALICE_AND_BOB).await),
        [("alice", "one"), ("alice", "two")]
    );

    // And who is connected gets what is new, each once and in order
    for device in [&mut alice, &mut bob] {
        for (seq, content) in [(2, "two"), (3, "three")] {
            let heard = device.until("newMessage", |it| it["roomId"] == GROUP).await;
            assert_eq!(
                (&heard["seq"], &heard["content"]),
                (&json!(seq), &json!(content))
            );
        }
    }
    let found = bob.until("chatEntry", |it| it["friendId"] == "carol").await;
    assert_eq!(
        (&found["unreadCnt"], &found["lastMessage"]["content"]),
        (&json!(1), &json!("new"))
    );
    let list = Client::connect(&server, "bob").await.first_list.clone();
    assert_eq!(entry(&list, GROUP)["unreadCnt"], 1);
}

#[tokio::test]
async fn rooms_appear_to_those_who_are_connected() {
    // Given a running server with people connected, two of whom have made their room there
    let (redis, into) = (Redis::start().await, Redis::start().await);
    let server = Server::start(&into).await;
    let mut alice = Client::connect(&server, "alice").await;
    let mut bob = Client::connect_delta(&server, "bob").await;
    let room = alice.open_room(&["bob"]).await;
    assert_eq!(room, ALICE_AND_BOB);
    bob.settle().await;

    // When their chats are imported
    let old = Replaced { redis: &redis };
    let list = [
        text("m-1", "bob", "one", 1, &["bob"]),
        text("m-2", "bob", "two", 2, &["bob"]),
    ];
    old.room(DIRECT, &["alice", "bob"], &list).await;
    old.room(GROUP, &["alice", "bob", "carol"], &list).await;
    import_all(&redis, &into).await;

    // Then the one room fills, and the other is there
    for seq in [1, 2] {
        let heard = bob
            .until("newMessage", |it| it["roomId"] == ALICE_AND_BOB)
            .await;
        assert_eq!(heard["seq"], seq);
    }
    let found = bob.until("chatEntry", |it| it["roomId"] == GROUP).await;
    assert_eq!(found["lastMessage"]["content"], "two");
    let complete = |list: &Value| {
        let unread =
            |room| crate::support::find_entry(list, room).map(|it| it["unreadCnt"].clone());
        unread(GROUP) == Some(json!(2)) && unread(ALICE_AND_BOB) == Some(json!(2))
    };
    alice.until("chatList", complete).await;
    assert_eq!(
        said(&alice.history(GROUP).await),
        [("bob", "one"), ("bob", "two")]
    );
}

#[tokio::test]
async fn a_room_that_the_new_redis_does_not_take_costs_only_itself() {
    let (redis, into) = (Redis::start().await, Redis::start().await);
    let old = Replaced { redis: &redis };
    let list = [text("m-1", "alice", "one", 1, &[])];
    old.room(DIRECT, &["alice", "bob"], &list).await;
    old.room(GROUP, &["alice", "bob", "carol"], &list).await;
    old.room(DIRECT_TOO, &["bob", "carol"], &list).await;
    // Given a key of a wrong type, and a user who has as many rooms as there may be
    into.run::<()>(&format!("SET {} x", key(GROUP, "reads")))
        .await;
    into.run::<()>("ZADD chat:{user:carol}:rooms 1 00000000-0000-4000-8000-000000000001")
        .await;
    let exit = importing(&redis.url(), &into, &[])
        .env("MAX_ROOMS_PER_USER", "1")
        .run()
        .await;
    assert_eq!(exit.code, Some(1), "{}{}", exit.stdout, exit.stderr);
    let lines = listed(&exit);
    assert_eq!(lines.len(), 2, "{}", exit.stdout);
    assert!(
        lines[0].contains(GROUP) && lines[0].contains("WRONGTYPE"),
        "{}",
        lines[0]
    );
    assert!(
        lines[1].contains(DIRECT_TOO) && lines[1].contains("carol is in 1 chats"),
        "{}",
        lines[1]
    );
    assert_counts(
        &exit.stdout,
        &[
            (1, "new chats"),
            (2, "chats that the new Redis did not take"),
        ],
    );
    assert_eq!(
        into.run::<u64>(&format!("EXISTS {}", key(GROUP, "meta")))
            .await,
        0
    );
}

#[tokio::test]
async fn an_import_that_cannot_be_done_says_why() {
    let redis = Redis::start().await;
    let absent = Redis::absent(0);
    for (from, into, says) in [
        (absent.url(), &redis, "cannot use Redis at"),
        (redis.url(), &absent, "cannot use Redis at"),
        (
            "http://old".to_owned(),
            &redis,
            "--from is no address of a Redis",
        ),
    ] {
        let exit = importing(&from, into, &[]).run().await;
        assert_eq!(exit.code, Some(2), "{}", exit.stdout);
        assert!(exit.stderr.contains(says), "{}", exit.stderr);
        assert!(exit.stdout.is_empty(), "{}", exit.stdout);
    }
    let exit = importing(&redis.url(), &redis, &[])
        .env("MAX_PARTICIPANTS", "many")
        .run()
        .await;
    assert_eq!(exit.code, Some(64), "{}", exit.stderr);
}
