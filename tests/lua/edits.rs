//! The worked edits of `lua/README.md`: each is applied to the delivered scripts, and does what it says.

use std::process::Command;

use chat_server::error::{ChatError, ErrorCode};
use chat_server::protocol::ids::{RoomId, UserId};
use chat_server::room::{Missed, PositionedEntry};
use chat_server::scripts::behaviour;
use chat_server::scripts::check::check_set;
use chat_server::scripts::set::Source;
use chat_server::scripts::{Script, ScriptSet, ScriptText};
use chat_server::store::calls::NewRoom;
use serde_json::json;

use crate::contract::MAX_LINES;
use crate::files::{read, root};
use crate::support::{World, contents, crowd, users};
use crate::worked_edits::{ARCHIVES, NO_READ_MARKERS, SLOW_MODE, WELCOME, WORD_FILTER, edited};

const ALL: [&str; 5] = [WORD_FILTER, SLOW_MODE, WELCOME, NO_READ_MARKERS, ARCHIVES];

/// The delivered scripts with these edits.
fn set_with(titles: &[&str]) -> ScriptSet {
    let delivered = ScriptSet::embedded().unwrap();
    edited(titles)
        .into_iter()
        .fold(delivered, |set, (file, text)| {
            let script = Script::of_name(file.strip_suffix(".lua").unwrap()).unwrap();
            set.with(script, ScriptText::new(text, Source::File(file.into())))
        })
}

/// A world with one edit, and one with all of them: the edit does the same in both.
async fn worlds_with(title: &str) -> [World; 2] {
    let all: Vec<&str> = [title].into_iter().chain(ALL).collect();
    let with = async |titles| World::with(set_with(titles), 0).await;
    [with(&[title]).await, with(&distinct(&all)).await]
}

/// Each title once, where it first occurs.
fn distinct<'a>(titles: &[&'a str]) -> Vec<&'a str> {
    let mut distinct = Vec::new();
    for title in titles {
        if !distinct.contains(title) {
            distinct.push(*title);
        }
    }
    distinct
}

/// Each edit alone, every two in both orders, and all of them.
fn combinations() -> Vec<Vec<&'static str>> {
    let singles = ALL.iter().map(|title| vec![*title]);
    let pairs = ALL
        .iter()
        .flat_map(|one| ALL.iter().map(move |other| vec![*one, *other]))
        .filter(|pair| pair[0] != pair[1]);
    singles.chain(pairs).chain([ALL.to_vec()]).collect()
}

/// Every order of these.
fn orders(titles: &[&'static str]) -> Vec<Vec<&'static str>> {
    let [first, rest @ ..] = titles else {
        return vec![Vec::new()];
    };
    let places = 0..titles.len();
    orders(rest)
        .into_iter()
        .flat_map(|order| places.clone().map(move |place| (order.clone(), place)))
        .map(|(mut order, place)| {
            order.insert(place, *first);
            order
        })
        .collect()
}

#[test]
fn the_edits_can_be_applied_in_any_order() {
    let all_orders = orders(&ALL);
    assert_eq!(all_orders.len(), 120);
    let expected = edited(&ALL);
    for order in all_orders {
        assert_eq!(edited(&order), expected, "{order:?}");
    }
    for pair in combinations().into_iter().filter(|pair| pair.len() == 2) {
        assert_eq!(edited(&pair), edited(&[pair[1], pair[0]]), "{pair:?}");
    }
}

/// The error that the user gets: the code, and the sentence after it.
fn refused<T>(outcome: Result<T, ChatError>) -> (ErrorCode, String) {
    let error = outcome.err().expect("a refusal");
    (error.code, error.message)
}

async fn entry(world: &World, user: &UserId, room: RoomId) -> PositionedEntry {
    let list = world.store.get_chat_list(user, &[room], false).await;
    list.unwrap().entries.remove(0).unwrap()
}

async fn set_ext(world: &World, room: RoomId, field: &str, value: &str) {
    let ext = world.key(room, "ext");
    let _: u64 = world.redis.run(&["HSET", &ext, field, value]).await;
}

#[test]
fn the_readme_has_no_other_edits() {
    assert_eq!(read("README.md").matches("```diff\n").count(), ALL.len());
}

#[test]
fn each_edit_leaves_good_lua() {
    for titles in combinations() {
        // Given edits, when luacheck reads the edited scripts, then it reports nothing
        let folder = tempfile::tempdir().unwrap();
        for (file, text) in edited(&titles) {
            let lines = text.lines().count();
            assert!(
                titles.len() > 1 || lines < MAX_LINES,
                "{titles:?}: {file} has {lines} lines"
            );
            std::fs::write(folder.path().join(file), text).unwrap();
        }
        let luacheck = Command::new("luacheck")
            .arg("--config")
            .arg(root().join(".luacheckrc"))
            .arg(folder.path())
            .output()
            .expect("luacheck must be in PATH");
        let said = String::from_utf8_lossy(&luacheck.stdout);
        assert!(luacheck.status.success(), "{titles:?}:\n{said}");
    }
}

#[test]
fn the_checks_find_nothing_wrong_with_an_edit() {
    for titles in combinations() {
        let problems = check_set(&set_with(&titles));
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert!(lines.is_empty(), "{titles:?}:\n{}", lines.join("\n"));
    }
}

#[tokio::test]
async fn each_edit_keeps_what_the_server_relies_on() {
    let program = behaviour::scratch_program().expect("redis-server must be in PATH");
    for titles in combinations() {
        let outcome = behaviour::run(&set_with(&titles), &program).await;
        let report = outcome.unwrap_or_else(|error| panic!("{titles:?}: {error}"));
        // The cases do nothing that an edit forbids.
        assert_eq!(report.rejected, [], "{titles:?}");
    }
}

#[tokio::test]
async fn the_word_filter_refuses_whole_words() {
    for mut world in worlds_with(WORD_FILTER).await {
        // Given a room with a message from before the filter existed
        let [alice, bob] = users(["alice", "bob"]);
        let room = world.direct(&alice, &bob).await;
        world.follow_room(room).await;
        let store = &world.store;
        let first = store.send_message(room, &alice, "Hello", Some("m-1")).await;
        world.published().await;
        let before = world.redis.dump().await;

        // When a message has an unwanted word, then it is refused with the rule's own sentence, and nothing is written
        let store = &world.store;
        for content in ["Casino", "the CASINO!", "a lottery-ticket"] {
            assert_eq!(
                refused(store.send_message(room, &alice, content, None).await),
                (
                    ErrorCode::Rejected,
                    "No advertising in this chat, please.".into()
                ),
                "{content}"
            );
        }
        assert_eq!(world.redis.dump().await, before);

        // And stored messages are still found, whatever the word list says now
        let again = store.send_message(room, &alice, "Casino", Some("m-1"));
        let again = again.await.unwrap();
        assert_eq!((again.id, again.duplicate), (first.unwrap().id, true));
        assert_eq!(world.published().await, []);

        // And the words may occur as parts of other words
        world.say(room, &alice, "casinos, élotteryé").await;
    }
}

#[tokio::test]
async fn slow_mode_lets_each_user_send_one_message_in_five_seconds() {
    for world in worlds_with(SLOW_MODE).await {
        // Given Alice and Bob's room in slow mode, and Alice has sent a message
        let [alice, bob] = users(["alice", "bob"]);
        let room = world.direct(&alice, &bob).await;
        set_ext(&world, room, "slow_secs", "5").await;
        let store = &world.store;
        let first = store.send_message(room, &alice, "One", Some("m-1")).await;
        let before = world.redis.dump().await;

        // Then her next one is refused, and nothing is written
        let (code, text) = refused(store.send_message(room, &alice, "Two", Some("m-2")).await);
        assert_eq!(code, ErrorCode::Rejected);
        assert!(text.starts_with("This chat is in slow mode"), "{text}");
        assert_eq!(world.redis.dump().await, before);

        // But the first one again is a duplicate, and Bob's turns are his own
        let again = store.send_message(room, &alice, "One", Some("m-1")).await;
        assert_eq!(again.unwrap().id, first.unwrap().id);
        world.say(room, &bob, "Hello").await;

        // When five seconds have passed, then she can send
        let ext = world.key(room, "ext");
        let sent_ms: u64 = world.redis.run(&["HGET", &ext, "slow:alice"]).await;
        set_ext(&world, room, "slow:alice", &(sent_ms - 5000).to_string()).await;
        world.say(room, &alice, "Two").await;

        // And rooms without slow mode are not affected
        let _: u64 = world.redis.run(&["HDEL", &ext, "slow_secs"]).await;
        world.say(room, &alice, "Three").await;
        world.say(room, &alice, "Four").await;
    }
}

#[tokio::test]
async fn a_group_begins_with_a_welcome() {
    for mut world in worlds_with(WELCOME).await {
        // Given Alice, Bob and Carol
        let members = users(["alice", "bob", "carol"]);
        let [alice, bob, _] = &members;
        world.follow_user(bob).await;

        // When Alice makes a group
        let room = RoomId::random();
        let new = || NewRoom {
            room,
            is_group: true,
            name: "Book club",
            members: &members,
        };
        let made = world.store.initialize_chat(new()).await.unwrap();

        // Then her entry has the welcome as her own message, read
        assert!(made.created);
        let entry_of_alice = made.entry.unwrap();
        let last = entry_of_alice.entry.last_message.unwrap();
        assert_eq!((last.content.as_str(), last.seq), ("Welcome!", 1));
        assert_eq!(
            (last.sender_id, last.read_by),
            ("alice".into(), vec!["alice".into()])
        );
        assert_eq!(entry_of_alice.entry.unread_cnt, 0);

        // And the event makes the others' servers read their entries, where it is unread
        let events = world.events().await;
        assert_eq!(events.len(), 1);
        assert_eq!(
            (&events[0]["fresh"], &events[0]["seq"], &events[0]["rev"]),
            (&json!(false), &json!(1), &json!(1))
        );
        assert_eq!(events[0]["lastId"], last.id.to_string());
        let entry_of_bob = entry(&world, bob, room).await;
        assert_eq!(entry_of_bob.position, entry_of_alice.position);
        assert_eq!(entry_of_bob.entry.unread_cnt, 1);

        // And a server that begins with the event has missed nothing, and continues from there
        let missed = world.store.sync_room(room, &entry_of_bob.position).await;
        assert!(matches!(missed.unwrap(), Missed::Page(page) if page.messages.is_empty()));
        assert_eq!(world.say(room, bob, "Hello").await.seq, 2);
        let page = world.latest(room, alice).await;
        assert_eq!(contents(&page), ["Welcome!", "Hello"]);

        // When the group is requested again, then it exists, and gets no second welcome
        let found = world.store.initialize_chat(new()).await.unwrap();
        assert!(!found.created && found.event.is_none());
        assert_eq!(found.entry.unwrap().position.seq, 2);

        // And a room of two people begins empty, as always
        let direct = world.direct(alice, bob).await;
        assert!(
            entry(&world, bob, direct)
                .await
                .entry
                .last_message
                .is_none()
        );
    }
}

#[tokio::test]
async fn without_read_markers_nobody_learns_who_has_read() {
    let alone = vec![NO_READ_MARKERS];
    // A welcome would be one more message to read.
    let silent = ALL.into_iter().filter(|title| *title != WELCOME).collect();
    for (size, edits) in [(2, &alone), (101, &alone), (2, &silent)] {
        // Given a room without read markers, and Bob views it on his phone
        let mut world = World::with(set_with(edits), 0).await;
        let [alice, bob] = users(["alice", "bob"]);
        let mut members = vec![alice.clone(), bob.clone()];
        members.extend(crowd(size - 2));
        let room = world.group(&members).await;
        set_ext(&world, room, "receipts", "off").await;
        world.say(room, &alice, "One").await;
        world.follow_room(room).await;
        let phone = world.enter(room, &bob).await;
        let id = world.say(room, &alice, "Two").await;
        let viewers = [(phone, bob.clone())];
        world.store.renew_viewers(room, &viewers).await.unwrap();
        world.say(room, &alice, "Three").await;
        world.store.leave_chat(room, &bob, phone).await.unwrap();
        let last = world.say(room, &alice, "Four").await;
        let marked = world.store.mark_as_read(room, &bob, last).await;

        // Then his own count is right, and only he gets his marker, each time that it moves
        assert_eq!(marked.unwrap().read_seq, 4);
        assert_eq!(entry(&world, &bob, room).await.entry.unread_cnt, 0);
        let (reads, messages): (Vec<_>, Vec<_>) = world
            .events()
            .await
            .into_iter()
            .partition(|event| event["event"] == "read");
        let told: Vec<_> = reads.iter().map(|e| (&e["to"], &e["readSeq"])).collect();
        let to = json!("user");
        assert_eq!(
            told,
            [
                (&to, &json!(1)),
                (&to, &json!(2)),
                (&to, &json!(3)),
                (&to, &json!(4))
            ]
        );
        for message in messages {
            assert_eq!(message["readCount"], 1, "{message}");
            assert!(message.get("readBy").is_none(), "{message}");
        }

        // And no page and no entry shows it
        let device = chat_server::protocol::ids::DeviceId::random();
        let entered = world.store.enter_chat(room, &alice, device, 50).await;
        let mut told = entered.unwrap().page.messages;
        told.extend(world.latest(room, &alice).await.messages);
        let mut from = world.latest(room, &alice).await.position;
        (from.rev, from.last_id) = (from.rev - 1, id);
        match world.store.sync_room(room, &from).await.unwrap() {
            Missed::Page(page) => told.extend(page.messages),
            _ => panic!("no page"),
        }
        let again = NewRoom {
            room,
            is_group: true,
            name: "",
            members: &members,
        };
        let found = world.store.initialize_chat(again).await.unwrap();
        told.extend(found.entry.unwrap().entry.last_message);
        told.extend(entry(&world, &alice, room).await.entry.last_message);
        assert_eq!(told.len(), 4 + 4 + 2 + 1 + 1);
        for message in told {
            assert_eq!((message.read_by, message.read_count), (vec![], 1));
        }

        // When read markers are on again, then all see the markers as they are
        set_ext(&world, room, "receipts", "on").await;
        let last = entry(&world, &alice, room).await.entry.last_message;
        assert_eq!(last.unwrap().read_count, 2);
    }
}

#[tokio::test]
async fn an_archive_keeps_more() {
    // Given a server that keeps 100 messages, an archive, and a group that is not one
    let world = World::with(set_with(&[ARCHIVES]), 100).await;
    let members = users(["alice", "bob", "carol"]);
    let group = async |name| {
        let room = RoomId::random();
        let new = NewRoom {
            room,
            is_group: true,
            name,
            members: &members,
        };
        world.store.initialize_chat(new).await.unwrap();
        for number in 0..350 {
            world.say(room, &members[0], &number.to_string()).await;
        }
        let kept: u64 = world
            .redis
            .run(&["XLEN", &world.key(room, "messages")])
            .await;
        kept
    };

    // When 350 messages are sent in each, then the archive has them all
    assert_eq!(group("archive of 2025").await, 350);
    let kept = group("not an archive").await;
    assert!((100..=200).contains(&kept), "{kept}");
}
