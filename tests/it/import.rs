//! `chat-server import`: data in the shapes of the replaced server, and what real clients see of it afterwards.

use crate::support::replaced::{
    ALICE_AND_BOB, DIRECT, DIRECT_TOO, GROUP, Replaced, assert_counts, import, import_all, key,
    listed, said, text, time, typed,
};
use crate::support::{Client, Redis, Server, Value, entry, find_entry, json, names};

#[tokio::test]
async fn people_find_their_chats_as_they_left_them() {
    // Given a room of two people from the first versions, whose list has the newest message first
    let (redis, into) = (Redis::start().await, Redis::start().await);
    let old = Replaced { redis: &redis };
    let both = &["alice", "bob"];
    let list = [
        text("m-3", "alice", "How are you?", 30, &["alice"]),
        text("m-2", "bob", "Hello Alice", 20, both),
        text("m-1", "alice", "Hello Bob", 10, both),
    ];
    old.room(DIRECT, both, &list).await;
    // And a group from later versions, with texts and images as lists
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

    // Then each user finds both rooms, ordered by their last message, with their unread counts
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

    // And a device that asks for contents as they were sent gets them that way
    let as_sent = Client::device("alice").content("as-sent");
    let history = as_sent.connect(&server).await.history(GROUP).await;
    let row = |it: &Value| json!([it["type"], it["content"]]);
    let expected = json!([
        ["text", ["Which book?", "Any ideas?"]],
        ["image", ["https://pictures.example/1.png"]],
    ]);
    assert_eq!(json!(history.iter().map(row).collect::<Vec<_>>()), expected);

    // And the chats continue
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
    // Given two rooms that result from a race, one stored from head to tail and one from tail to head, and a message in
    // both
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
    // From a clock that was ahead
    let mut ahead = text("m-2", "carol", "Tomorrow", 1, &[]);
    ahead["timestamp"] = json!("2124-08-20T12:00:00.000Z");
    old.push(GROUP, &[ahead]).await;

    import_all(&redis, &into).await;
    let last: String = into
        .run(&format!("HGET {} last_id", key(GROUP, "meta")))
        .await;
    assert!(
        last.as_str() < "4000000000000",
        "a time in the future: {last}"
    );
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

    // And the actual run counts the same
    let done = import(&redis, &into, &[]).await;
    assert_counts(&done.stdout, &counts);
    assert_eq!(listed(&tried), listed(&done));
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

    // When people continue in both on the old server, and make a room of Bob and Carol there
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
    let skipped =
        format!("skipped: room {DIRECT}: it has messages of the new server, so it is not updated");
    assert_eq!(listed(&exit), [skipped]);
    assert_counts(
        &exit.stdout,
        &[(1, "new chats"), (1, "chats updated"), (3, "messages")],
    );
    assert_eq!(
        said(&alice.history(ALICE_AND_BOB).await),
        [("alice", "one"), ("alice", "two")]
    );

    // And connected users get what is new, each message once and in order
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

    // Then the one room is filled, and the other exists
    for seq in [1, 2] {
        let heard = bob
            .until("newMessage", |it| it["roomId"] == ALICE_AND_BOB)
            .await;
        assert_eq!(heard["seq"], seq);
    }
    let found = bob.until("chatEntry", |it| it["roomId"] == GROUP).await;
    assert_eq!(found["lastMessage"]["content"], "two");
    let complete = |list: &Value| {
        let unread = |room| find_entry(list, room).map(|it| it["unreadCnt"].clone());
        unread(GROUP) == Some(json!(2)) && unread(ALICE_AND_BOB) == Some(json!(2))
    };
    alice.until("chatList", complete).await;
    assert_eq!(
        said(&alice.history(GROUP).await),
        [("bob", "one"), ("bob", "two")]
    );
}
