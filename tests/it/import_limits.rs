//! `chat-server import`: what it does not take is listed, and does not stop the rest.

use crate::support::replaced::{
    ALICE_AND_BOB, DIRECT, DIRECT_TOO, GROUP, Replaced, assert_counts, import, importing, key,
    leaving_alone, listed, said, text, time, typed,
};
use crate::support::{Client, Redis, Server, Value, entry, json, names};

#[tokio::test]
async fn what_cannot_be_taken_is_listed_and_stops_nothing_else() {
    let (redis, into) = (Redis::start().await, Redis::start().await);
    let old = Replaced { redis: &redis };
    let run = async |command: &str| redis.run::<redis::Value>(command).await;

    // Given a room with all kinds of messages, two of them valid
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
    // And rooms that are not valid here
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
    // And a group with a broken list, a long name and a member with an invalid id
    let long = "n".repeat(129);
    old.name(GROUP, &long).await;
    let endless = "u".repeat(129);
    old.set(
        &format!("chat:{GROUP}:users"),
        &["alice", "bob", "carol", &endless],
    )
    .await;
    run(&format!("SET chat:{GROUP}:messages text")).await;
    // And keys of other applications
    run("SET chat:settings x").await;

    // When they are imported where a content may have at most 100 bytes, and a room 4 members
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
            "it is an image, and its content is not an http or https address",
        ),
        message(
            "m-4",
            "its content has 101 bytes, and MAX_CONTENT_BYTES is 100",
        ),
        message("m-5", "its senderId is missing or is not a user id"),
        message(
            "at index 5",
            "its id is missing, or has more than 64 characters",
        ),
        message("m-7", "its timestamp is missing or cannot be read"),
        message("m-8", "its content is neither a text nor a list of texts"),
        message(
            "m-9",
            "its type is not 1 to 32 printable ASCII characters, or is system",
        ),
        message("m-1", "its id is also that of another message of this chat"),
        message("at index 11", "it is not a JSON object"),
        message("at index 12", "it is not a JSON object"),
        message("at index 13", "it is not a JSON object"),
        of(
            &format!("room {DIRECT}"),
            "it has a name, which a chat of two people cannot have",
        ),
        of(&format!("room {DIRECT_TOO}"), "it has only one member"),
        of(
            "room lobby",
            "its id is not a UUID in lower case, as the id of a group must be",
        ),
        of(
            "room 00000000-0000-4000-8000-000000000001",
            "it has 5 members, and MAX_PARTICIPANTS is 4",
        ),
        of("room without-users", "it has no members"),
        of("room nowhere", "it has no members"),
        of(
            &format!("room {GROUP}, user dora"),
            "it is in this user's list of chats, but the user is not one of its members",
        ),
        of("room text", "its key has the wrong type"),
        of("key user:eve:chats", "its key has the wrong type"),
        of(
            &format!("room {GROUP}"),
            "its name has more than 128 characters: it was cut",
        ),
        of(
            &format!("room {GROUP}, user {shown}"),
            "this member's id is not a user id here (1 to 128 bytes, no control characters)",
        ),
        of(
            &format!("key chat:{GROUP}:messages"),
            "its key has the wrong type",
        ),
    ];
    expected.sort();
    assert_eq!(listed(&exit), expected, "{}", exit.stdout);
    assert_counts(
        &exit.stdout,
        &[
            (2, "new chats"),
            (2, "messages"),
            (1, "keys under chat: do not belong to the replaced server"),
        ],
    );

    // And the rest is imported
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
            "refused: room {room}: 30 of its messages are older than the newest 10000 that are imported"
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
async fn a_room_that_the_new_redis_does_not_take_costs_only_itself() {
    let redis = Redis::start().await;
    let old = Replaced { redis: &redis };
    let list = [text("m-1", "alice", "one", 1, &["bob"])];
    old.room(DIRECT, &["alice", "bob"], &list).await;
    old.room(GROUP, &["bob", "carol", "dora"], &list).await;
    let keys = ["meta", "members", "reads", "messages"].map(|part| key(GROUP, part));
    let more = ["chat:{user:bob}:rooms", "chat:{user:dora}:rooms"].map(str::to_owned);
    for wrong in keys.iter().chain(&more) {
        // Given a key of a wrong type
        let into = Redis::start().await;
        into.run::<()>(&format!("SET {wrong} x")).await;
        let exit = import(&redis, &into, &[]).await;

        // Then whatever needs it is listed, and nothing of that is written; the rest is imported
        assert_eq!(exit.code, Some(1), "{}{}", exit.stdout, exit.stderr);
        let is_bobs = wrong.contains("bob");
        let (refused, taken) = if is_bobs { (2, 0) } else { (1, 1) };
        assert_eq!(listed(&exit).len(), refused, "{wrong}: {}", exit.stdout);
        for line in listed(&exit) {
            assert!(line.contains("WRONGTYPE"), "{line}");
            assert!(is_bobs || line.contains(GROUP), "{line}");
        }
        assert_counts(&exit.stdout, &[(taken, "new chats")]);
        let dump = into.dump().await;
        let of_group: Vec<&str> = dump
            .keys()
            .into_iter()
            .filter(|key| key.contains(GROUP))
            .collect();
        assert!(
            of_group.iter().all(|key| key == wrong),
            "{wrong}: {of_group:?}"
        );
        assert_eq!(into.run::<String>(&format!("GET {wrong}")).await, "x");
    }
}

#[tokio::test]
async fn nobody_gets_more_rooms_than_there_may_be() {
    let (redis, into) = (Redis::start().await, Redis::start().await);
    let old = Replaced { redis: &redis };
    old.room(DIRECT, &["alice", "bob"], &[]).await;
    old.room(DIRECT_TOO, &["bob", "carol"], &[]).await;
    let other = "00000000-0000-4000-8000-000000000001";
    into.run::<()>(&format!("ZADD chat:{{user:carol}}:rooms 1 {other}"))
        .await;
    for arguments in [&["--dry-run"][..], &[]] {
        let exit = importing(&redis.url(), &into, arguments)
            .env("MAX_ROOMS_PER_USER", "1")
            .run()
            .await;
        assert_eq!(exit.code, Some(1), "{}{}", exit.stdout, exit.stderr);
        let [line] = listed(&exit)[..] else {
            panic!("{}", exit.stdout);
        };
        assert!(
            line.contains(DIRECT_TOO) && line.contains("carol is in 1 chats"),
            "{line}"
        );
        assert_counts(&exit.stdout, &[(1, "new chats")]);
    }
}

#[tokio::test]
async fn a_room_that_lost_its_meta_is_not_written_to() {
    let (redis, into) = (Redis::start().await, Redis::start().await);
    let old = Replaced { redis: &redis };
    let list = [text("m-1", "alice", "one", 1, &["bob"])];
    old.room(DIRECT, &["alice", "bob"], &list).await;
    import(&redis, &into, &[]).await;
    into.run::<()>(&format!("DEL {}", key(ALICE_AND_BOB, "meta")))
        .await;
    let before = into.dump().await;
    let exit = import(&redis, &into, &[]).await;
    before.assert_same(&into.dump().await, "an import");
    assert_eq!(exit.code, Some(1), "{}", exit.stderr);
    let line =
        format!("skipped: room {DIRECT}: it has messages of the new server, so it is not updated");
    assert_eq!(listed(&exit), [line]);
}
