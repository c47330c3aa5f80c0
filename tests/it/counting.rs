//! Each client event is one script call, one round trip: the tests count what Redis itself says it received.

use std::{
    collections::{HashMap, HashSet},
    fs,
    time::Duration,
};

use tokio::time::Instant;

use crate::support::{
    Client, Redis, Server, Value, eventually, json, redis::Monitor, server::repository,
};

/// The calls that a server makes on its own, whatever its clients do.
const IN_THE_BACKGROUND: [&str; 4] = [
    "renew_viewers",
    "sync_room",
    "compare_rooms",
    // The numbers that a server publishes to itself. What scripts publish is part of their call.
    "spublish",
];

/// What a client of Redis sent.
struct Sent {
    /// The script's name for an EVALSHA, else the command's.
    name: String,
    words: Vec<String>,
}

/// A Redis that is monitored, and the names of the scripts.
struct Counter {
    redis: Redis,
    monitor: Monitor,
    scripts: HashMap<String, String>,
}

impl Counter {
    async fn start() -> Self {
        // The hashes come from another Redis, so that this one knows only what the server has loaded.
        let other = Redis::start().await;
        let mut scripts = HashMap::new();
        for file in fs::read_dir(repository().join("lua")).expect("the folder of scripts") {
            let path = file.expect("a file").path();
            if path.extension().is_some_and(|extension| extension == "lua") {
                let text = fs::read_to_string(&path).expect("a script");
                let sha: String = redis::cmd("SCRIPT")
                    .arg("LOAD")
                    .arg(text)
                    .query_async(&mut other.admin())
                    .await
                    .expect("a script that loads");
                let name = path
                    .file_stem()
                    .expect("a name")
                    .to_string_lossy()
                    .into_owned();
                scripts.insert(sha, name);
            }
        }
        let redis = Redis::start().await;
        let monitor = redis.monitor().await;
        Self {
            redis,
            monitor,
            scripts,
        }
    }

    /// What clients sent to Redis since the last call, by name. Background calls are left out.
    async fn calls(&mut self) -> Vec<String> {
        let sent = self.sent().await.into_iter();
        sent.map(|sent| sent.name)
            .filter(|name| !IN_THE_BACKGROUND.contains(&name.as_str()))
            .collect()
    }

    /// What clients sent to Redis since the last call.
    async fn sent(&mut self) -> Vec<Sent> {
        let commands = self.monitor.commands(&self.redis).await;
        let sent = commands.iter().map(|command| {
            let words: Vec<String> = command
                .split(' ')
                .map(|word| word.trim_matches('"').to_owned())
                .collect();
            let name = match words[0].to_lowercase().as_str() {
                "evalsha" => match self.scripts.get(&words[1].to_lowercase()) {
                    Some(name) => name.clone(),
                    None => format!("a script that is not in lua/: {command}"),
                },
                other => other.to_owned(),
            };
            Sent { name, words }
        });
        sent.collect()
    }

    /// The rooms of each comparison with the store since the last call, by the keys of their heads.
    async fn comparisons(&mut self) -> Vec<HashSet<String>> {
        let sent = self.sent().await.into_iter();
        let rooms = |sent: Sent| {
            let is_head = |word: &String| word.ends_with("}:meta");
            sent.words.into_iter().filter(is_head).collect()
        };
        sent.filter(|sent| sent.name == "compare_rooms")
            .map(rooms)
            .collect()
    }

    /// Checks which calls a request takes.
    async fn assert_calls(
        &mut self,
        device: &mut Client,
        event: &str,
        data: Value,
        expected: &[&str],
    ) -> Value {
        device.settle().await;
        self.calls().await;
        let answer = device.done(event, data.clone()).await;
        assert_eq!(self.calls().await, expected, "calls for `{event}` {data}");
        answer
    }
}

#[tokio::test]
async fn each_event_is_one_call() {
    // Given Alice and Bob, who use delta devices, on one server
    let mut counter = Counter::start().await;
    let server = Server::start(&counter.redis).await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let mut bob = Client::connect_delta(&server, "bob").await;
    let room = alice.open_room(&["bob"]).await;
    let first = bob.say(&room, "Hello").await["id"].clone();
    alice.settle().await;
    bob.settle().await;

    // Then each of Alice's events is one call of its own script
    let here = json!({ "roomId": room });
    let message = json!({ "roomId": room, "content": "Hi", "clientMessageId": "m-1" });
    counter
        .assert_calls(
            &mut alice,
            "sendMessage",
            message.clone(),
            &["send_message"],
        )
        .await;
    counter
        .assert_calls(&mut alice, "sendMessage", message, &["send_message"])
        .await;
    counter
        .assert_calls(&mut alice, "getHistory", here.clone(), &["get_history"])
        .await;
    let before = json!({ "roomId": room, "before": first, "limit": 10 });
    counter
        .assert_calls(&mut alice, "getHistory", before, &["get_history"])
        .await;
    let after = json!({ "roomId": room, "after": first });
    counter
        .assert_calls(&mut alice, "getHistory", after, &["get_history"])
        .await;
    let mark = json!({ "roomId": room, "messageId": first });
    counter
        .assert_calls(&mut bob, "markAsRead", mark, &["mark_as_read"])
        .await;
    counter
        .assert_calls(&mut alice, "getChatList", Value::Null, &["get_chat_list"])
        .await;
    counter
        .assert_calls(&mut bob, "enterChat", here.clone(), &["enter_chat"])
        .await;
    counter
        .assert_calls(&mut bob, "enterChat", here, &["enter_chat"])
        .await;
    counter
        .assert_calls(&mut bob, "leaveChat", Value::Null, &["leave_chat"])
        .await;

    // And so is finding a room
    let again = json!({ "participants": ["bob"] });
    counter
        .assert_calls(&mut alice, "initializeChat", again, &["initialize_chat"])
        .await;
}

#[tokio::test]
async fn a_message_is_one_call_however_many_receive_it() {
    // Given a group of five with two delta devices each, half of them viewing the room
    let mut counter = Counter::start().await;
    let server = Server::start(&counter.redis).await;
    let users = ["alice", "bob", "carol", "dave", "erin"];
    let mut devices = Vec::new();
    for user in users.iter().chain(&users) {
        devices.push(Client::connect_delta(&server, user).await);
    }
    let room = devices[0].open_room(&users[1..]).await;
    for device in &mut devices[3..8] {
        device.enter(&room).await;
    }

    // When Alice sends, then that is one call, and everyone gets the message
    let data = json!({ "roomId": room, "content": "Hello all" });
    counter.calls().await;
    devices[0].done("sendMessage", data).await;
    for device in &mut devices {
        device
            .until("newMessage", |message| message["content"] == "Hello all")
            .await;
    }
    assert_eq!(counter.calls().await, ["send_message"]);
}

#[tokio::test]
async fn messages_in_a_row_are_one_call_each_and_few_round_trips() {
    // Given a message of Alice's that waits for Redis
    let mut counter = Counter::start().await;
    let server = Server::start(&counter.redis).await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let mut bob = Client::connect_delta(&server, "bob").await;
    let room = alice.open_room(&["bob"]).await;
    alice.settle().await;
    bob.settle().await;
    counter.calls().await;
    counter.redis.freeze();

    // When she sends more meanwhile, one of them malformed, and marks one as read in between
    let mut asked = Vec::new();
    for number in 0..33 {
        let data = json!({ "roomId": room, "content": format!("number {number}") });
        asked.push(alice.ask("sendMessage", data).await);
        if number == 20 {
            let data = json!({ "roomId": room });
            let ill_formed = alice.ask("sendMessage", data).await;
            let leave = alice.ask("leaveChat", Value::Null).await;
            asked.extend([ill_formed, leave]);
        }
    }
    counter.redis.thaw();

    // Then everything is answered, and Bob gets the messages in the order in which they were sent
    let mut refused = 0;
    for id in asked {
        refused += usize::from(alice.answer(id).await.is_err());
    }
    assert_eq!(refused, 1);
    for number in 0..33 {
        let message = bob.expect_any("newMessage").await;
        assert_eq!(message["content"], format!("number {number}"));
    }

    // And it took one call each, in few transactions
    let calls = counter.calls().await;
    let count = |name: &str| calls.iter().filter(|call| *call == name).count();
    assert_eq!(count("send_message"), 33, "{calls:?}");
    assert!((1..=5).contains(&count("multi")), "{calls:?}");
    assert_eq!(count("multi"), count("exec"));
}

#[tokio::test]
async fn a_new_room_is_one_call_and_what_each_side_needs_to_hear_of_it() {
    // Given Alice and Bob, connected and without a room
    let mut counter = Counter::start().await;
    let server = Server::start(&counter.redis).await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let mut bob = Client::connect_delta(&server, "bob").await;
    counter.calls().await;

    // When Alice makes one
    alice
        .done("initializeChat", json!({ "participants": ["bob"] }))
        .await;
    bob.expect("chatEntry").await;

    // Then one call made it; the rest is the subscription to the room and reading the entries that are pushed, which
    // are not part of the event itself
    let calls = counter.calls().await;
    assert_eq!(
        calls
            .iter()
            .filter(|call| *call == "initialize_chat")
            .count(),
        1,
        "{calls:?}"
    );
    let pushed = ["initialize_chat", "ssubscribe", "get_chat_list"];
    assert!(
        calls.iter().all(|call| pushed.contains(&call.as_str())),
        "{calls:?}"
    );
}

#[tokio::test]
async fn rooms_that_nothing_happened_in_are_compared_and_not_fetched() {
    // Given 200 rooms that are made while Alice is on one server and Bob on another
    const ROOMS: usize = 200;
    let mut counter = Counter::start().await;
    let (first, second) = (
        Server::start(&counter.redis).await,
        Server::start(&counter.redis).await,
    );
    let mut alice = Client::connect_delta(&first, "alice").await;
    let mut bob = Client::connect_delta(&second, "bob").await;
    let mut heads = HashSet::new();
    for number in 0..ROOMS {
        let group = ["bob", &format!("friend-{number}")];
        let room = alice.open_room(&group).await;
        bob.expect_any("chatEntry").await;
        heads.insert(format!("chat:{{room:{room}}}:meta"));
    }

    // Then each is compared once the server learns of it, and none is fetched
    assert_all_compared(&mut counter, &heads, 3 * ROOMS).await;

    // And when the subscriptions are renewed, all are compared again, many at once, and none is fetched
    let killed: u64 = counter.redis.run("CLIENT KILL TYPE pubsub").await;
    assert_eq!(killed, 2);
    assert_all_compared(&mut counter, &heads, ROOMS / 4).await;
}

/// Waits until both servers have compared all of the rooms; checks that this took them at most `at_most` calls, and
/// that they fetched none.
async fn assert_all_compared(counter: &mut Counter, heads: &HashSet<String>, at_most: usize) {
    let mut times: HashMap<String, usize> = HashMap::new();
    let (mut comparisons, mut fetched) = (0, 0);
    eventually("both servers have compared all rooms", async || {
        for sent in counter.sent().await {
            fetched += usize::from(sent.name == "sync_room");
            if sent.name == "compare_rooms" {
                comparisons += 1;
                for head in sent.words.into_iter().filter(|word| heads.contains(word)) {
                    *times.entry(head).or_default() += 1;
                }
            }
        }
        heads
            .iter()
            .all(|head| times.get(head).is_some_and(|times| *times >= 2))
    })
    .await;
    assert_eq!(fetched, 0);
    assert!(comparisons <= at_most, "{comparisons} calls");
}

#[tokio::test]
async fn moving_on_to_another_room_also_leaves_the_first() {
    let mut counter = Counter::start().await;
    let server = Server::start(&counter.redis).await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let with_bob = alice.open_room(&["bob"]).await;
    let with_carol = alice.open_room(&["carol"]).await;
    alice.enter(&with_bob).await;

    let data = json!({ "roomId": with_carol });
    alice.settle().await;
    counter.calls().await;
    alice.done("enterChat", data).await;

    // The call that leaves the room may come after the answer.
    let mut calls = Vec::new();
    eventually("both calls were made", async || {
        calls.extend(counter.calls().await);
        calls.len() >= 2
    })
    .await;
    calls.sort();
    assert_eq!(calls, ["enter_chat", "leave_chat"]);
}

#[tokio::test]
async fn a_list_is_one_call_for_128_rooms() {
    // Given Alice with 128 rooms
    let mut counter = Counter::start().await;
    let server = Server::start(&counter.redis).await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    for number in 1..=128 {
        talk_to(&mut alice, &format!("friend-{number}")).await;
    }

    // When she asks for the list, then it is one call; with one room more it is two
    counter.calls().await;
    assert_eq!(
        alice.done("getChatList", Value::Null).await,
        json!({ "rooms": 128 })
    );
    assert_eq!(counter.calls().await, ["get_chat_list"]);
    talk_to(&mut alice, "one more").await;
    counter.calls().await;
    assert_eq!(
        alice.done("getChatList", Value::Null).await,
        json!({ "rooms": 129 })
    );
    assert_eq!(counter.calls().await, ["get_chat_list", "get_chat_list"]);
}

/// Makes a room and sends a message in it: once the message arrives, the server has subscribed to the room, which may
/// happen after the answer. Returns the room's id.
async fn talk_to(alice: &mut Client, friend: &str) -> String {
    let data = json!({ "participants": [friend] });
    let opened = alice.done("initializeChat", data).await;
    let room = opened["roomId"].as_str().expect("a room id");
    alice.say(room, "Hello").await;
    alice.expect_any("newMessage").await;
    alice.take_inbox();
    room.to_owned()
}

#[tokio::test]
async fn a_refused_request_costs_one_call_or_none() {
    let mut counter = Counter::start().await;
    let server = Server::start(&counter.redis).await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let mut carol = Client::connect_delta(&server, "carol").await;
    let room = alice.open_room(&["bob"]).await;
    alice.settle().await;
    carol.settle().await;
    counter.calls().await;

    // A malformed request never reaches Redis
    carol
        .refused("sendMessage", json!({ "roomId": room }), "INVALID_PAYLOAD")
        .await;
    carol
        .refused(
            "sendMessage",
            json!({ "roomId": "x", "content": "y" }),
            "NOT_MEMBER",
        )
        .await;
    carol.refused("nonsense", json!({}), "UNKNOWN_EVENT").await;
    assert_eq!(counter.calls().await, Vec::<String>::new());

    // A forbidden request is refused after one call
    let data = json!({ "roomId": room, "content": "Let me in" });
    carol.refused("sendMessage", data, "NOT_MEMBER").await;
    assert_eq!(counter.calls().await, ["send_message"]);
}

#[tokio::test]
async fn a_busy_room_costs_a_full_device_one_list_an_interval() {
    // Given Alice, who gets whole lists, at most one a minute
    let mut counter = Counter::start().await;
    let server = Server::on(&counter.redis)
        .env("LIST_REFRESH_INTERVAL_MS", "60000")
        .start()
        .await;
    let mut bob = Client::connect_delta(&server, "bob").await;
    let room = bob.open_room(&["alice"]).await;
    bob.settle().await;
    let mut alice = Client::connect(&server, "alice").await;
    counter.calls().await;

    // When Bob sends without a pause
    let mut asked = Vec::new();
    for number in 1..=200 {
        let data = json!({ "roomId": room, "content": format!("number {number}") });
        asked.push(bob.ask("sendMessage", data).await);
    }
    for id in asked {
        bob.answer(id).await.expect("an ack");
    }
    alice
        .until("newMessage", |message| message["seq"] == 200)
        .await;

    // Then her list was read once
    let calls = counter.calls().await;
    let count = |name: &str| calls.iter().filter(|call| *call == name).count();
    assert_eq!(count("send_message"), 200);
    assert_eq!(count("get_chat_list"), 1, "{calls:?}");
}

/// How often quiet rooms are compared in tests that count it.
const CHECK: Duration = Duration::from_secs(1);

/// Sends in one room until so many calls have compared rooms, leaving out those that had begun before; returns what
/// they compared, and how long that took.
async fn compared_while_talking(
    counter: &mut Counter,
    alice: &mut Client,
    busy: &str,
    calls: usize,
) -> (Vec<HashSet<String>>, Duration) {
    // Rooms compared within the next two intervals may have been quiet before.
    let began = Instant::now();
    while began.elapsed() < 5 * CHECK / 2 {
        alice.say(busy, "and on").await;
        counter.comparisons().await;
    }
    let (began, mut comparisons) = (Instant::now(), Vec::new());
    eventually("quiet rooms were compared", async || {
        alice.say(busy, "and on").await;
        comparisons.extend(counter.comparisons().await);
        comparisons.len() >= calls
    })
    .await;
    (comparisons, began.elapsed())
}

#[tokio::test]
async fn comparing_is_one_call_for_128_quiet_rooms_and_none_for_a_busy_one() {
    // Given Alice with 128 rooms in which nothing happens, and one in which she sends
    let mut counter = Counter::start().await;
    let server = Server::on(&counter.redis)
        .env("QUIET_ROOM_CHECK_MS", &CHECK.as_millis().to_string())
        .start()
        .await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let busy = talk_to(&mut alice, "bob").await;
    for number in 1..=128 {
        talk_to(&mut alice, &format!("friend-{number}")).await;
    }

    // Then in each interval the 128 are one call, and hers is in none
    let head = format!("chat:{{room:{busy}}}:meta");
    let (comparisons, took) = compared_while_talking(&mut counter, &mut alice, &busy, 5).await;
    for rooms in &comparisons {
        assert_eq!((rooms.len(), rooms.contains(&head)), (128, false));
    }
    let intervals = took.as_millis() / CHECK.as_millis();
    assert!(comparisons.len() as u128 <= intervals + 2, "{took:?}");

    // And with one more they are two
    talk_to(&mut alice, "one more").await;
    let (comparisons, _) = compared_while_talking(&mut counter, &mut alice, &busy, 4).await;
    for two in comparisons.windows(2) {
        let mut sizes = [two[0].len(), two[1].len()];
        sizes.sort_unstable();
        assert_eq!(sizes, [1, 128]);
        assert!(!two[0].contains(&head) && two[0].is_disjoint(&two[1]));
    }
}
