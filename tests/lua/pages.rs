//! What pages and lists contain of messages: they cope with whatever was stored, and never exceed their bounds.

use chat_server::protocol::content::ContentShape;
use chat_server::protocol::event::{Message, Shown};
use chat_server::protocol::ids::{DeviceId, MessageId, RoomId, UserId};
use chat_server::protocol::request::Cursor;
use chat_server::room::{Missed, Page, Position};
use chat_server::store::calls::NewRoom;

use crate::support::{World, contents, crowd, users};

/// The most bytes of a page as JSON, unless a single message is larger.
const PAGE_MAX_BYTES: usize = 256 * 1024;
/// The most bytes of a preview as JSON.
const PREVIEW_MAX_BYTES: usize = 512;

/// What is stored of a message, and what is shown of it: sender, content, and client id.
type Spoiled = (
    &'static [&'static [u8]],
    &'static str,
    &'static str,
    Option<&'static str>,
);

/// Stores a message as the script would, except for its fields.
async fn store_entry(world: &World, room: RoomId, fields: &[&[u8]]) -> MessageId {
    let last = MessageId::parse(&world.head(room, "last_id").await).unwrap();
    let id = MessageId {
        ms: last.ms.max(1_700_000_000_000),
        seq: last.seq + 1,
    };
    let mut add = redis::cmd("XADD");
    add.arg(world.key(room, "messages"))
        .arg(id.to_string())
        .arg(fields);
    add.exec_async(&mut world.redis.admin()).await.unwrap();
    let meta = world.key(room, "meta");
    let _: u64 = world.redis.run(&["HINCRBY", &meta, "rev", "1"]).await;
    let (seq, id_text) = (id.seq.to_string(), id.to_string());
    let moved = ["HSET", &meta, "seq", &seq, "last_id", &id_text];
    let _: u64 = world.redis.run(&moved).await;
    id
}

/// The room's messages by each way of reading a page: the latest, forward from the start, on entering, after a gap.
async fn pages(world: &World, room: RoomId, user: &UserId) -> [Page; 4] {
    let store = &world.store;
    let made = Position {
        epoch: world.head(room, "epoch").await.into(),
        rev: 1,
        seq: 0,
        last_id: MessageId::NONE,
    };
    let latest = store.get_history(room, user, Cursor::Latest, 100).await;
    let forth = Cursor::After(MessageId::NONE);
    let forth = store.get_history(room, user, forth, 100).await;
    let Missed::Page(missed) = store.sync_room(room, &made).await.unwrap() else {
        panic!("no page");
    };
    let device = DeviceId::random();
    let entered = store.enter_chat(room, user, device, 100).await;
    [
        latest.unwrap(),
        forth.unwrap(),
        missed,
        entered.unwrap().page,
    ]
}

/// The last message as lists show it, and as a user who makes the room again gets it.
async fn last_messages(world: &World, room: RoomId, members: &[UserId; 2]) -> [Message; 2] {
    let list = world.store.get_chat_list(&members[0], &[room], false).await;
    let listed = list.unwrap().entries.remove(0).unwrap();
    let new = NewRoom {
        room,
        is_group: false,
        name: "",
        members,
    };
    let found = world.store.initialize_chat(new).await.unwrap().entry;
    [listed, found.unwrap()].map(|read| read.entry.last_message.unwrap())
}

/// This many members with ids of 64 bytes.
fn long_names(size: usize) -> Vec<UserId> {
    let long = |user: UserId| UserId::parse(&format!("{:x<64}", user.as_str())).unwrap();
    crowd(size).into_iter().map(long).collect()
}

fn shown(page: &Page) -> Shown<&[Message]> {
    Shown(&*page.messages, ContentShape::Array)
}

fn json_bytes<T: serde::Serialize>(value: &T) -> usize {
    serde_json::to_vec(value).unwrap().len()
}

#[tokio::test]
async fn a_spoiled_message_costs_itself() {
    // Given messages of which some were not stored by the script
    let world = World::start().await;
    let [alice, bob] = users(["alice", "bob"]);
    let room = world.direct(&alice, &bob).await;
    world.say(room, &alice, "first").await;
    let spoiled: [Spoiled; 7] = [
        (
            &[b"sender", b"alice", b"content", b"cut \xc3"],
            "alice",
            "cut \u{fffd}",
            None,
        ),
        (
            &[b"sender", b"ali\xffce", b"content", b"hi"],
            "ali\u{fffd}ce",
            "hi",
            None,
        ),
        (
            &[
                b"content",
                b"turned",
                b"client_id",
                b"m-1",
                b"sender",
                b"bob",
            ],
            "bob",
            "turned",
            Some("m-1"),
        ),
        (
            &[
                b"sender",
                b"bob",
                b"content",
                b"more",
                b"at",
                b"1750000000000",
            ],
            "bob",
            "more",
            None,
        ),
        (
            &[b"sender", b"bob", b"content", b"parts", b"parts", b"1,x"],
            "bob",
            "parts",
            None,
        ),
        (&[b"sender", b"bob"], "bob", "", None),
        (&[b"text", b"other"], "", "", None),
    ];
    for (fields, sender, content, client_id) in spoiled {
        let id = store_entry(&world, room, fields).await;

        // When the room is read, in each way, then each is shown as far as it can be read
        let lasts = last_messages(&world, room, &[bob.clone(), alice.clone()]).await;
        let pages = pages(&world, room, &bob).await;
        let shown = pages.iter().map(|page| page.messages.last().unwrap());
        for message in shown.chain(&lasts) {
            let as_read = (
                &*message.sender_id,
                &*message.content,
                message.client_message_id.as_deref(),
            );
            assert_eq!((message.id, as_read), (id, (sender, content, client_id)));
        }
    }

    // And none is left out, and the room continues
    world.say(room, &alice, "last").await;
    for page in pages(&world, room, &bob).await {
        let shown = [
            "first",
            "cut \u{fffd}",
            "hi",
            "turned",
            "more",
            "parts",
            "",
            "",
            "last",
        ];
        assert_eq!(contents(&page), shown);
    }
}

#[tokio::test]
async fn a_spoiled_marker_costs_itself() {
    // Given read markers that no script writes
    let world = World::start().await;
    let [alice, bob] = users(["alice", "bob"]);
    let room = world.direct(&alice, &bob).await;
    world.say(room, &alice, "one").await;
    let mut add = redis::cmd("ZADD");
    add.arg(world.key(room, "reads"));
    add.arg(&[&b"1.5"[..], b"bob", b"inf", b"carol", b"1", b"da\xffve"]);
    add.exec_async(&mut world.redis.admin()).await.unwrap();

    // When the room is read, then the readable ones are included
    for page in pages(&world, room, &bob).await {
        let mut readers = page.messages[0].read_by.clone();
        readers.sort();
        assert_eq!(readers, ["alice", "bob"]);
    }
}

#[tokio::test]
async fn a_page_is_bounded_as_json() {
    // Given rooms full of messages that take more bytes as JSON than they have, or that many members have read
    let world = World::start().await;
    let (pair, group) = (users(["alice", "bob"]).to_vec(), long_names(100));
    for (members, content) in [
        (&pair, "\u{1}".repeat(10_800)),
        (&pair, "\"\\".repeat(5_400)),
        (&pair, "a".repeat(10_800)),
        (&group, "a".to_owned()),
    ] {
        let room = world.group(members).await;
        for _ in 0..100 {
            world.say(room, &members[0], &content).await;
        }
        for member in members {
            world.enter(room, member).await;
        }

        // When it is read, in each way, then the page is bounded, and says that there is more
        for page in pages(&world, room, &members[1]).await {
            let (count, bytes) = (page.messages.len(), json_bytes(&shown(&page)));
            println!("{count} messages, {bytes} bytes");
            assert!(
                bytes <= PAGE_MAX_BYTES,
                "{count} messages take {bytes} bytes"
            );
            assert!(page.has_more && bytes > PAGE_MAX_BYTES / 2, "{bytes} bytes");
        }

        // And page by page nothing is left out
        let (mut cursor, mut seqs) = (Cursor::After(MessageId::NONE), Vec::new());
        loop {
            let page = world.store.get_history(room, &members[1], cursor, 100);
            let page = page.await.unwrap();
            seqs.extend(page.messages.iter().map(|message| message.seq));
            cursor = Cursor::After(page.messages.last().unwrap().id);
            if !page.has_more {
                break;
            }
        }
        assert!(seqs.into_iter().eq(1..=100));
    }
}

#[tokio::test]
async fn a_message_larger_than_a_page_is_a_page() {
    let world = World::start().await;
    let [alice, bob] = users(["alice", "bob"]);
    let room = world.direct(&alice, &bob).await;
    let large = "a".repeat(PAGE_MAX_BYTES + 1);
    world.say(room, &alice, &large).await;
    for page in pages(&world, room, &bob).await {
        assert_eq!((page.messages.len(), page.has_more), (1, false));
    }
    world.say(room, &alice, &large).await;
    for page in pages(&world, room, &bob).await {
        assert_eq!((page.messages.len(), page.has_more), (1, true));
    }
}

#[tokio::test]
async fn reading_stops_at_the_bound() {
    // Given a hundred messages of 400 KiB
    const LARGE: usize = 400 * 1024;
    let world = World::start().await;
    let [alice, bob] = users(["alice", "bob"]);
    let room = world.direct(&alice, &bob).await;
    for _ in 0..100 {
        world.say(room, &alice, &"a".repeat(LARGE)).await;
    }
    let stored = memory(&world, "used_memory").await;
    assert!(stored > 100 * LARGE);

    // When pages are read, then Redis never needs extra memory for more than a few of them
    pages(&world, room, &bob).await;
    let extra = memory(&world, "used_memory_peak")
        .await
        .saturating_sub(stored);
    println!("{extra} bytes on top of {stored}");
    assert!(extra < 12 * LARGE, "{extra} bytes on top of {stored}");
}

async fn memory(world: &World, field: &str) -> usize {
    let info: String = world.redis.run(&["INFO", "memory"]).await;
    let value = |line: &str| line.strip_prefix(field)?.strip_prefix(':')?.parse().ok();
    info.lines().find_map(value).unwrap()
}

#[tokio::test]
async fn a_preview_is_bounded_as_json() {
    let world = World::start().await;
    let [alice, bob] = users(["alice", "bob"]);
    let room = world.direct(&alice, &bob).await;
    let [plain, control] = ["a".repeat(400), "\u{1}".repeat(400)];
    for content in [
        control.clone(),
        format!("{plain}{control}"),
        format!("{control}{plain}"),
        format!("é{}", "\"€".repeat(200)),
        "\n".repeat(512),
    ] {
        // Given a message that takes more bytes as JSON than a preview may have
        world.say(room, &alice, &content).await;

        // Then lists have its beginning, cut at a character
        for last in last_messages(&world, room, &[bob.clone(), alice.clone()]).await {
            let bytes = json_bytes(&last.content) - 2;
            println!(
                "{} of {} bytes, {bytes} as JSON",
                last.content.len(),
                content.len()
            );
            assert!(bytes <= PREVIEW_MAX_BYTES && bytes > PREVIEW_MAX_BYTES / 6);
            assert!(content.starts_with(&last.content) && last.truncated);
        }
    }
}

#[tokio::test]
async fn a_room_that_cannot_be_read_costs_no_other() {
    // Given Bob's rooms, some of which have a key of a wrong type or an invalid head
    let world = World::start().await;
    let [alice, bob] = users(["alice", "bob"]);
    let mut rooms = Vec::new();
    let parts = ["meta", "members", "reads", "messages"];
    for part in parts {
        let room = world.group(&[bob.clone(), alice.clone()]).await;
        let _: u64 = world.redis.run(&["DEL", &world.key(room, part)]).await;
        let _: String = world.redis.run(&["SET", &world.key(room, part), "x"]).await;
        rooms.push(room);
    }
    let headless = world.group(&[bob.clone(), alice.clone()]).await;
    let spoil = ["HSET", &world.key(headless, "meta"), "seq", "x"];
    let _: u64 = world.redis.run(&spoil).await;
    let good = world.group(&[bob.clone(), alice.clone()]).await;
    rooms.extend([headless, good]);

    // When they are listed in one call, then he gets the others
    let list = world.store.get_chat_list(&bob, &rooms, true).await.unwrap();
    let listed: Vec<bool> = list.entries.iter().map(Option::is_some).collect();
    assert_eq!(listed, [false, false, false, false, false, true]);
    assert_eq!(list.index.len(), rooms.len());
}
