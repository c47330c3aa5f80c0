//! send_message, mark_as_read, get_history and sync_room.

use chat_server::error::ErrorCode;
use chat_server::protocol::content::Content;
use chat_server::protocol::ids::{DeviceId, MessageId, RoomId};
use chat_server::protocol::request::Cursor;
use chat_server::room::{Missed, Position};
use chat_server::scripts::Script;
use chat_server::store::calls::NewMessage;
use redis::FromRedisValue;
use serde_json::json;

use crate::support::{CONTENT_MAX_BYTES, World, contents, refusal, user, users};

#[tokio::test]
async fn a_message_is_stored_counted_and_told() {
    // Given Alice and Bob's room
    let mut world = World::start().await;
    let [alice, bob] = users(["alice", "bob"]);
    let room = world.direct(&alice, &bob).await;
    world.follow_room(room).await;

    // When Alice sends two messages, one with a client id
    let first = world.say(room, &alice, "Hello \"Bob\"\n🦀").await;
    let second = world.store.send_message(room, &alice, "Bob?", Some("m-2"));
    let second = second.await.unwrap();

    // Then each has the next number
    assert_eq!((first.seq, second.id.seq), (1, 2));
    assert!(second.id.ms >= first.ms && !second.duplicate);

    // And each is published once, as it is
    let epoch = world.head(room, "epoch").await;
    assert_eq!(
        world.events().await,
        [
            json!({
                "event": "message", "epoch": epoch, "rev": 2, "seq": 1, "id": first.to_string(), "sender": "alice",
                "content": "Hello \"Bob\"\n🦀", "readBy": ["alice"], "readCount": 1,
            }),
            json!({
                "event": "message", "epoch": epoch, "rev": 3, "seq": 2, "id": second.id.to_string(),
                "sender": "alice", "content": "Bob?", "clientMessageId": "m-2", "readBy": ["alice"], "readCount": 1,
            }),
        ]
    );

    // And each is in the history, and Bob has not read them
    let page = world.latest(room, &bob).await;
    assert_eq!(contents(&page), ["Hello \"Bob\"\n🦀", "Bob?"]);
    let id = page.messages[1].client_message_id.as_deref();
    assert_eq!(id, Some("m-2"));
    assert_eq!(page.position.last_id, second.id);
    assert_eq!((page.position.rev, page.position.seq), (3, 2));
    assert_eq!(world.marker(room, &alice).await, 2);
    assert_eq!(world.marker(room, &bob).await, 0);
}

#[tokio::test]
async fn several_strings_of_another_type_are_stored_as_one_text_with_their_bytes() {
    // Given Alice and Bob's room
    let mut world = World::start().await;
    let [alice, bob] = users(["alice", "bob"]);
    let room = world.direct(&alice, &bob).await;
    world.follow_room(room).await;

    // When Alice sends two strings of the type image
    let content: Content = serde_json::from_value(json!(["Hello\nBob", "é"])).unwrap();
    let message = NewMessage {
        room,
        kind: "image",
        content: &content.text,
        parts: content.parts.as_ref(),
        client_message_id: None,
    };
    world.store.send(&alice, &message).await.unwrap();

    // Then the event and the entry have one text, along with the type and the bytes of each string
    let event = world.events().await.remove(0);
    assert_eq!(event["content"], "Hello\nBob\né");
    assert_eq!(
        (&event["type"], &event["parts"]),
        (&json!("image"), &json!("9,2"))
    );
    let stream = world.key(room, "messages");
    let entries: Vec<(String, Vec<String>)> = world.redis.run(&["XRANGE", &stream, "-", "+"]).await;
    let fields = [
        "sender",
        "alice",
        "content",
        "Hello\nBob\né",
        "type",
        "image",
        "parts",
        "9,2",
    ];
    assert_eq!(entries[0].1, fields);

    // And a single string of text has neither
    world.say(room, &alice, "Hello").await;
    let event = world.events().await.remove(0);
    assert!(
        event.get("type").is_none() && event.get("parts").is_none(),
        "{event}"
    );
    let entries: Vec<(String, Vec<String>)> = world.redis.run(&["XRANGE", &stream, "-", "+"]).await;
    assert_eq!(entries[1].1, ["sender", "alice", "content", "Hello"]);
}

#[tokio::test]
async fn a_repeated_send_is_one_message() {
    // Given a message of Alice's with a client id
    let mut world = World::start().await;
    let [alice, bob] = users(["alice", "bob"]);
    let room = world.direct(&alice, &bob).await;
    let first = world.store.send_message(room, &alice, "Hello", Some("m-1"));
    let first = first.await.unwrap();
    let before = world.redis.dump().await;
    world.follow_room(room).await;

    // When it is sent again, then nothing is stored or published, and she gets the first one's id
    let again = world.store.send_message(room, &alice, "Hello", Some("m-1"));
    let again = again.await.unwrap();
    assert!(again.duplicate);
    assert_eq!(again.id, first.id);
    assert_eq!(world.redis.dump().await, before);
    assert_eq!(world.published().await, []);

    // And the same id from Bob, or in another room, is another message
    let bobs = world.store.send_message(room, &bob, "Hi", Some("m-1"));
    assert!(!bobs.await.unwrap().duplicate);
    let other = world.direct(&alice, &user("carol")).await;
    let there = world
        .store
        .send_message(other, &alice, "Hello", Some("m-1"));
    assert!(!there.await.unwrap().duplicate);
}

#[tokio::test]
async fn a_call_that_is_made_again_gets_its_first_result() {
    // Given a server whose call was stored, but which never got the answer
    let world = World::start().await;
    let [alice, bob] = users(["alice", "bob"]);
    let room = world.direct(&alice, &bob).await;
    let keys = world.room_keys(Script::SendMessage, room, &alice, "m-1");
    let send = async |call: &str| {
        let args = [
            "alice", "Hello", "m-1", "a-m-1", "0", "86400000", "16384", "0", call, "text", "",
        ];
        let args = args.map(str::to_owned);
        let reply = world.eval(Script::SendMessage, &keys, &args).await;
        <(String, u64, bool)>::from_redis_value(reply.unwrap()).unwrap()
    };
    let first = send("call-1").await;
    assert!(!first.2);

    // When it repeats the call, then it gets the first one's answer; another call is a duplicate
    assert_eq!(send("call-1").await, first);
    assert_eq!(send("call-2").await, (first.0, first.1, true));
    assert_eq!(world.latest(room, &bob).await.messages.len(), 1);
}

#[tokio::test]
async fn a_repeat_is_answered_before_any_rule() {
    // Given a message of Alice's with a client id, and one of Bob's
    let world = World::start().await;
    let [alice, bob] = users(["alice", "bob"]);
    let room = world.direct(&alice, &bob).await;
    let first = world.store.send_message(room, &alice, "Hello", Some("m-1"));
    let first = first.await.unwrap();

    // When she sends it again although she is no longer a member, and it is now too large
    let members = world.key(room, "members");
    let _: u64 = world.redis.run(&["HDEL", &members, "alice"]).await;
    let before = world.redis.dump().await;
    let longer = "x".repeat(CONTENT_MAX_BYTES + 1);
    let again = world.store.send_message(room, &alice, &longer, Some("m-1"));

    // Then she learns that it is stored, and nothing is written
    let again = again.await.unwrap();
    assert_eq!((again.id, again.duplicate), (first.id, true));
    assert_eq!(world.redis.dump().await, before);

    // And a new message is refused, as is everything once the room is gone
    let new = world.store.send_message(room, &alice, "Hello", Some("m-2"));
    assert_eq!(refusal(new.await), Some(ErrorCode::NotMember));
    let _: u64 = world.redis.run(&["DEL", &world.key(room, "meta")]).await;
    let again = world.store.send_message(room, &alice, "Hello", Some("m-1"));
    assert_eq!(refusal(again.await), Some(ErrorCode::NotMember));
}

/// Sends Alice's message `m-1` in a room that remembers it for `ttl_ms`: returns its id, and whether it is a duplicate.
async fn send_again(world: &World, room: RoomId, ttl_ms: u64) -> (MessageId, bool) {
    let keys = world.room_keys(Script::SendMessage, room, &user("alice"), "m-1");
    let (ttl_ms, call) = (ttl_ms.to_string(), DeviceId::random().to_string());
    let args = [
        "alice", "Hello", "m-1", "a-m-1", "0", &ttl_ms, "16384", "0", &call, "text", "",
    ];
    let reply = world
        .eval(Script::SendMessage, &keys, &args.map(str::to_owned))
        .await;
    let (id, _, duplicate) = <(String, u64, bool)>::from_redis_value(reply.unwrap()).unwrap();
    (MessageId::parse(&id).unwrap(), duplicate)
}

#[tokio::test]
async fn a_client_id_is_remembered_for_its_time_and_at_most_twice() {
    const TTL_MS: u64 = 150;
    let world = World::start().await;
    let [alice, bob] = users(["alice", "bob"]);
    let room = world.direct(&alice, &bob).await;
    let (mut stored, _) = send_again(&world, room, TTL_MS).await;
    for _ in 0..10 {
        // Given a message, which its room forgets after a while
        let turn_ms = stored.ms / TTL_MS * TTL_MS;
        let next = loop {
            let now_ms = world.redis.now_ms().await;
            match send_again(&world, room, TTL_MS).await {
                (id, true) => assert_eq!(id, stored),
                (next, false) => break next,
            }
            assert!(
                now_ms < turn_ms + 2 * TTL_MS,
                "{now_ms} is too late for {stored}"
            );
        };

        // Then it was known for as long as it should be, by Redis's clock, from which the ids of messages come
        assert!(
            next.ms >= stored.ms + TTL_MS,
            "{stored} was forgotten at {next}"
        );
        stored = next;
    }
}

#[tokio::test]
async fn what_was_sent_is_remembered_in_two_keys_that_take_turns() {
    // Given a room in which much was sent
    const TTL_MS: u64 = 86_400_000;
    let world = World::start().await;
    let [alice, bob] = users(["alice", "bob"]);
    let room = world.direct(&alice, &bob).await;
    let began_ms = world.redis.now_ms().await;
    for i in 0..50 {
        let id = format!("m-{i}");
        let sent = world.store.send_message(room, &alice, "Hello", Some(&id));
        sent.await.unwrap();
    }

    // Then one key remembers it, or two at the turn of the day, each until the other's turn is over
    let sent = [world.key(room, "sent_a"), world.key(room, "sent_b")];
    let turns = [began_ms / TTL_MS, world.redis.now_ms().await / TTL_MS];
    let mut remembered = 0;
    for turn in turns[0]..=turns[1] {
        let key = &sent[usize::from(turn % 2 == 1)];
        remembered += world.redis.run::<u64>(&["HLEN", key]).await;
        let expires_ms: u64 = world.redis.run(&["PEXPIRETIME", key]).await;
        assert_eq!(expires_ms, (turn + 2) * TTL_MS - 1);
    }
    assert_eq!(remembered, 50);
    let keys: Vec<String> = world.redis.run(&["KEYS", "*:sent:*"]).await;
    assert!(keys.iter().all(|key| sent.contains(key)), "{keys:?}");
}

#[tokio::test]
async fn what_another_clock_remembered_ends_in_time() {
    // Given a room whose client ids expire in years, because Redis's clock was ahead when it was made
    const TTL_MS: u64 = 86_400_000;
    let world = World::start().await;
    let [alice, bob] = users(["alice", "bob"]);
    let room = world.direct(&alice, &bob).await;
    let sent = [world.key(room, "sent_a"), world.key(room, "sent_b")];
    for key in &sent {
        let _: u64 = world.redis.run(&["HSET", key, "other", "1-1 c"]).await;
        let _: u64 = world.redis.run(&["PEXPIREAT", key, "99999999999999"]).await;
    }

    // When a message is sent, then the key that remembers it expires as if it were new
    let (id, _) = send_again(&world, room, TTL_MS).await;
    let turn = id.ms / TTL_MS;
    let key = &sent[usize::from(turn % 2 == 1)];
    let expires_ms: u64 = world.redis.run(&["PEXPIRETIME", key]).await;
    assert_eq!(expires_ms, (turn + 2) * TTL_MS - 1);
}

#[tokio::test]
async fn what_version_0_1_0_remembered_is_known() {
    // Given a message that a server of version 0.1.0 has stored
    let world = World::start().await;
    let [alice, bob] = users(["alice", "bob"]);
    let room = world.direct(&alice, &bob).await;
    let id = world.say(room, &alice, "Hello").await;
    let old = world.keys.sent_before(room, &alice, "m-1");
    let _: String = world.redis.run(&["SET", &old, &format!("{id} c1")]).await;

    // When it is sent again, then it is known; another user's is not
    let again = world.store.send_message(room, &alice, "Hello", Some("m-1"));
    let again = again.await.unwrap();
    assert_eq!((again.id, again.duplicate), (id, true));
    let bobs = world.store.send_message(room, &bob, "Hello", Some("m-1"));
    assert!(!bobs.await.unwrap().duplicate);
}

#[tokio::test]
async fn ids_go_on_where_the_clock_does_not() {
    // Given a room whose last message is from a Redis with a clock far ahead
    let world = World::start().await;
    let [alice, bob] = users(["alice", "bob"]);
    let room = world.direct(&alice, &bob).await;
    let ahead = 99_999_999_999_999_u64;
    let last = format!("{ahead}-1");
    let meta = world.key(room, "meta");
    let _: String = world
        .redis
        .run(&[
            "XADD",
            &world.key(room, "messages"),
            &last,
            "sender",
            "bob",
            "content",
            "x",
        ])
        .await;
    let _: u64 = world
        .redis
        .run(&["HSET", &meta, "seq", "1", "last_id", &last])
        .await;

    // When Alice sends, then her message comes after it
    let id = world.say(room, &alice, "Hello").await;
    assert_eq!(id, MessageId { ms: ahead, seq: 2 });
    assert_eq!(contents(&world.latest(room, &bob).await), ["x", "Hello"]);
}

#[tokio::test]
async fn a_marker_moves_forward_only() {
    // Given three messages that Bob has not read
    let mut world = World::start().await;
    let [alice, bob] = users(["alice", "bob"]);
    let room = world.direct(&alice, &bob).await;
    let mut ids = Vec::new();
    for content in ["one", "two", "three"] {
        ids.push(world.say(room, &alice, content).await);
    }
    world.follow_room(room).await;

    // When he reads up to the second, then everyone is notified
    let marked = world.store.mark_as_read(room, &bob, ids[1]).await.unwrap();
    assert_eq!((marked.read_seq, marked.position.seq), (2, 3));
    assert_eq!(marked.position.rev, 5);
    let epoch = world.head(room, "epoch").await;
    assert_eq!(
        world.events().await,
        [json!({
            "event": "read", "epoch": epoch, "rev": 5, "seq": 3, "lastId": ids[2].to_string(), "user": "bob",
            "readSeq": 2, "messageId": ids[1].to_string(), "to": "members",
        })]
    );

    // When he goes back, or stays, then nothing moves and nobody is notified
    let before = world.redis.dump().await;
    for id in [ids[0], ids[1]] {
        let marked = world.store.mark_as_read(room, &bob, id).await.unwrap();
        assert_eq!((marked.read_seq, marked.position.rev), (2, 5));
    }
    assert_eq!(world.redis.dump().await, before);
    assert_eq!(world.published().await, []);

    // When he goes on, then it moves
    let marked = world.store.mark_as_read(room, &bob, ids[2]).await.unwrap();
    assert_eq!(marked.read_seq, 3);
    let page = world.latest(room, &alice).await;
    assert_eq!(page.messages[2].read_by, ["alice", "bob"]);
}

#[tokio::test]
async fn a_mark_needs_a_message_of_this_room() {
    // Given a room of two messages, and one of another room
    let world = World::start().await;
    let [alice, bob, carol] = users(["alice", "bob", "carol"]);
    let room = world.direct(&alice, &bob).await;
    let elsewhere = world.direct(&alice, &carol).await;
    let empty = world.direct(&bob, &carol).await;
    let foreign = world.say(elsewhere, &alice, "elsewhere").await;
    let id = world.say(room, &alice, "one").await;
    let last = world.say(room, &alice, "two").await;
    let before = world.redis.dump().await;

    // When Bob marks an id that is not one of this room's messages, then he gets an error, and nothing is written
    for wrong in [
        MessageId::NONE,
        MessageId { ms: 0, seq: 1 },
        MessageId { seq: 3, ..last },
        MessageId { seq: 9, ..id },
        MessageId {
            ms: id.ms - 1,
            ..id
        },
        MessageId {
            ms: last.ms + 1,
            ..last
        },
        MessageId {
            ms: u64::MAX,
            seq: u64::MAX,
        },
        MessageId { ms: id.ms, seq: 0 },
        MessageId {
            ms: foreign.ms.wrapping_sub(1),
            ..foreign
        },
    ] {
        let outcome = world.store.mark_as_read(room, &bob, wrong).await;
        assert_eq!(
            refusal(outcome),
            Some(ErrorCode::MessageNotFound),
            "{wrong}"
        );
    }
    let outcome = world.store.mark_as_read(empty, &bob, id).await;
    assert_eq!(refusal(outcome), Some(ErrorCode::MessageNotFound));
    assert_eq!(world.redis.dump().await, before);
}

/// A room of 300 messages of which about 100 are kept, their ids, and the number of the first one kept.
async fn trimmed_room(
    world: &World,
) -> (chat_server::protocol::ids::RoomId, Vec<MessageId>, usize) {
    let [alice, bob] = users(["alice", "bob"]);
    let room = world.direct(&alice, &bob).await;
    let mut ids = Vec::new();
    for i in 1..=300 {
        ids.push(world.say(room, &alice, &format!("number {i}")).await);
    }
    let kept: usize = world
        .redis
        .run(&["XLEN", &world.key(room, "messages")])
        .await;
    assert!((100..=200).contains(&kept), "{kept} of 300 are kept");
    (room, ids, 300 - kept + 1)
}

#[tokio::test]
async fn a_trimmed_message_can_still_be_marked() {
    // Given a room whose first messages were trimmed
    let mut world = World::keeping(100).await;
    let bob = user("bob");
    let (room, ids, first_seq) = trimmed_room(&world).await;
    world.follow_room(room).await;

    // When Bob marks one of them, then his marker moves to its number
    let marked = world.store.mark_as_read(room, &bob, ids[9]).await.unwrap();
    assert_eq!((marked.read_seq, marked.position.seq), (10, 300));
    let last_trimmed = ids[first_seq - 2];
    let marked = world.store.mark_as_read(room, &bob, last_trimmed).await;
    assert_eq!(marked.unwrap().read_seq, last_trimmed.seq);
    assert_eq!(world.published().await.len(), 2);

    // And an id not older than the first message kept was never a message
    for wrong in [
        MessageId {
            ms: ids[299].ms + 1,
            seq: 10,
        },
        MessageId { ms: 0, seq: 250 },
        MessageId {
            ms: ids[0].ms,
            seq: 0,
        },
    ] {
        let outcome = world.store.mark_as_read(room, &bob, wrong).await;
        assert_eq!(
            refusal(outcome),
            Some(ErrorCode::MessageNotFound),
            "{wrong}"
        );
    }
}

#[tokio::test]
async fn history_comes_in_pages() {
    // Given five messages
    let world = World::start().await;
    let [alice, bob] = users(["alice", "bob"]);
    let room = world.direct(&alice, &bob).await;
    let mut ids = Vec::new();
    for content in ["1", "2", "3", "4", "5"] {
        ids.push(world.say(room, &alice, content).await);
    }
    let before = world.redis.dump().await;

    // Then each cursor gives its page, oldest first
    use Cursor::{After, Before, Latest};
    let expected: [(Cursor, u32, &[&str], bool); 14] = [
        (Latest, 100, &["1", "2", "3", "4", "5"], false),
        (Latest, 5, &["1", "2", "3", "4", "5"], false),
        (Latest, 2, &["4", "5"], true),
        (Before(ids[3]), 2, &["2", "3"], true),
        (Before(ids[1]), 2, &["1"], false),
        (Before(ids[0]), 2, &[], false),
        (Before(MessageId::NONE), 2, &[], false),
        (After(ids[0]), 2, &["2", "3"], true),
        (After(ids[2]), 2, &["4", "5"], false),
        (After(ids[4]), 2, &[], false),
        (After(MessageId::NONE), 2, &["1", "2"], true),
        (After(MessageId::NONE), 5, &["1", "2", "3", "4", "5"], false),
        (After(ids[3]), 1, &["5"], false),
        (Latest, 1, &["5"], true),
    ];
    for (cursor, limit, texts, has_more) in expected {
        let page = world.store.get_history(room, &bob, cursor, limit).await;
        let page = page.unwrap();
        assert_eq!(contents(&page), texts, "{cursor:?}, {limit}");
        assert_eq!(page.has_more, has_more, "{cursor:?}, {limit}");
        assert_eq!(page.position.seq, 5);
    }

    // And ids that are not from this room are refused, each cursor in its own way
    for wrong in [
        MessageId {
            ms: ids[4].ms,
            seq: 6,
        },
        MessageId {
            ms: ids[0].ms - 1,
            ..ids[0]
        },
        MessageId { ms: 0, seq: 3 },
        MessageId {
            ms: u64::MAX,
            seq: u64::MAX,
        },
    ] {
        let page = world.store.get_history(room, &bob, Before(wrong), 2).await;
        assert_eq!(refusal(page), Some(ErrorCode::MessageNotFound), "{wrong}");
        let page = world.store.get_history(room, &bob, After(wrong), 2).await;
        assert_eq!(refusal(page), Some(ErrorCode::HistoryReset), "{wrong}");
    }

    // And nothing was written
    assert_eq!(world.redis.dump().await, before);

    // And an empty room has a start and an end
    let empty = world.direct(&bob, &user("carol")).await;
    for cursor in [Latest, After(MessageId::NONE), Before(MessageId::NONE)] {
        let page = world
            .store
            .get_history(empty, &bob, cursor, 2)
            .await
            .unwrap();
        assert!(page.messages.is_empty() && !page.has_more, "{cursor:?}");
    }
}

#[tokio::test]
async fn history_knows_what_was_trimmed() {
    // Given a room whose first messages were trimmed
    let world = World::keeping(100).await;
    let bob = user("bob");
    let (room, ids, first_seq) = trimmed_room(&world).await;
    let id_of = |seq: usize| ids[seq - 1];
    let history = |cursor, limit| world.store.get_history(room, &bob, cursor, limit);

    // Then nothing comes before a trimmed one, nor before the first one kept
    for seq in [1, first_seq - 1, first_seq] {
        let page = history(Cursor::Before(id_of(seq)), 10).await.unwrap();
        assert!(page.messages.is_empty() && !page.has_more, "{seq}");
    }

    // And the last one trimmed is followed by the first one kept
    for seq in [first_seq - 1, first_seq] {
        let page = history(Cursor::After(id_of(seq)), 10).await.unwrap();
        assert_eq!(page.messages[0].id, id_of(seq + 1));
    }

    // And after an older one there is a gap: the reader has to start over
    for id in [id_of(1), id_of(first_seq - 2), MessageId::NONE] {
        let page = history(Cursor::After(id), 10).await;
        assert_eq!(refusal(page), Some(ErrorCode::HistoryReset), "{id}");
    }
}

#[tokio::test]
async fn a_page_ends_at_so_many_bytes() {
    // Given messages of 100 KiB, where a page holds 256 KiB
    let world = World::start().await;
    let [alice, bob] = users(["alice", "bob"]);
    let room = world.direct(&alice, &bob).await;
    for letter in ["a", "b", "c", "d"] {
        world.say(room, &alice, &letter.repeat(100 * 1024)).await;
    }
    let initials = |page: &chat_server::room::Page| -> String {
        page.messages
            .iter()
            .map(|m| m.content.as_bytes()[0] as char)
            .collect()
    };

    // Then a page holds two, whichever end it starts from
    let latest = world.latest(room, &bob).await;
    assert_eq!((initials(&latest).as_str(), latest.has_more), ("cd", true));
    let cursor = Cursor::After(MessageId::NONE);
    let first = world
        .store
        .get_history(room, &bob, cursor, 100)
        .await
        .unwrap();
    assert_eq!((initials(&first).as_str(), first.has_more), ("ab", true));
    let device = DeviceId::random();
    let entered = world
        .store
        .enter_chat(room, &bob, device, 100)
        .await
        .unwrap();
    assert_eq!(
        (initials(&entered.page).as_str(), entered.page.has_more),
        ("cd", true)
    );
    let start = Position {
        last_id: MessageId::NONE,
        rev: 1,
        seq: 0,
        ..latest.position
    };
    let Missed::Page(missed) = world.store.sync_room(room, &start).await.unwrap() else {
        panic!("no page");
    };
    assert_eq!((initials(&missed).as_str(), missed.has_more), ("ab", true));

    // And one that is larger than a page comes alone
    world.say(room, &alice, &"e".repeat(300 * 1024)).await;
    let latest = world.latest(room, &bob).await;
    assert_eq!((initials(&latest).as_str(), latest.has_more), ("e", true));
}

#[tokio::test]
async fn a_server_fetches_what_it_missed() {
    // Given a server that has followed the room up to the first message
    let world = World::start().await;
    let [alice, bob] = users(["alice", "bob"]);
    let room = world.direct(&alice, &bob).await;
    let made = world.latest(room, &alice).await.position;
    world.say(room, &alice, "one").await;
    let seen = world.latest(room, &alice).await.position;

    // When it is up to date, then nothing is missing
    let Missed::Page(page) = world.store.sync_room(room, &seen).await.unwrap() else {
        panic!("no page");
    };
    assert!(page.messages.is_empty() && !page.has_more);
    assert_eq!(page.position, seen);

    // When it missed a mark and 120 messages, then it gets the next 100 and how far everyone has read
    let two = world.say(room, &alice, "two").await;
    world.store.mark_as_read(room, &bob, two).await.unwrap();
    for i in 3..=121 {
        world.say(room, &alice, &format!("number {i}")).await;
    }
    let Missed::Page(page) = world.store.sync_room(room, &seen).await.unwrap() else {
        panic!("no page");
    };
    assert_eq!(page.messages.len(), 100);
    assert_eq!(page.messages[0].id, two);
    assert!(page.has_more);
    assert_eq!((page.position.rev, page.position.seq), (123, 121));
    let marks: Vec<(String, u64)> = page
        .marks
        .0
        .iter()
        .map(|(u, s)| (u.to_string(), *s))
        .collect();
    assert_eq!(marks, [("bob".to_owned(), 2), ("alice".to_owned(), 121)]);

    // And after the last of those it gets the rest; from before the first one, all of them
    let on = Position {
        last_id: page.messages[99].id,
        seq: page.messages[99].seq,
        ..page.position
    };
    let Missed::Page(rest) = world.store.sync_room(room, &on).await.unwrap() else {
        panic!("no page");
    };
    assert_eq!((rest.messages.len(), rest.has_more), (20, false));
    let Missed::Page(all) = world.store.sync_room(room, &made).await.unwrap() else {
        panic!("no page");
    };
    assert_eq!(all.messages[0].content, "one");
}

#[tokio::test]
async fn a_server_learns_that_the_history_is_another() {
    // Given a server that has followed the room up to its head
    let world = World::start().await;
    let [alice, bob] = users(["alice", "bob"]);
    let room = world.direct(&alice, &bob).await;
    world.say(room, &alice, "one").await;
    let last = world.say(room, &alice, "two").await;
    let head = world.latest(room, &alice).await.position;

    // When what it delivered is not the beginning of what is stored, then it gets the room's current position
    let changed = [
        Position {
            epoch: "1-other".into(),
            ..head.clone()
        },
        Position {
            rev: head.rev + 1,
            ..head.clone()
        },
        Position {
            last_id: MessageId {
                ms: last.ms + 1,
                ..last
            },
            ..head.clone()
        },
        Position {
            last_id: MessageId { seq: 3, ..last },
            ..head.clone()
        },
    ];
    for from in &changed {
        let missed = world.store.sync_room(room, from).await.unwrap();
        assert!(
            matches!(&missed, Missed::Reset(now) if *now == head),
            "{from:?}"
        );
    }

    // When the room is gone, then it learns that
    let _: u64 = world.redis.run(&["DEL", &world.key(room, "meta")]).await;
    let missed = world.store.sync_room(room, &head).await.unwrap();
    assert!(matches!(missed, Missed::Gone));
}

#[tokio::test]
async fn a_gap_older_than_the_retention_is_a_reset() {
    let world = World::keeping(100).await;
    let (room, ids, first_seq) = trimmed_room(&world).await;
    let head = world.latest(room, &user("bob")).await.position;
    let at = |seq: usize| Position {
        last_id: ids[seq - 1],
        rev: 1 + u64::try_from(seq).unwrap(),
        ..head.clone()
    };

    // Given that what was delivered ends right before the first one kept, then the rest follows
    for seq in [first_seq - 1, first_seq] {
        let Missed::Page(page) = world.store.sync_room(room, &at(seq)).await.unwrap() else {
            panic!("no page after {seq}");
        };
        assert_eq!(page.messages[0].id, ids[seq]);
    }

    // And if it ends earlier, what lies between is lost
    let missed = world
        .store
        .sync_room(room, &at(first_seq - 2))
        .await
        .unwrap();
    assert!(matches!(missed, Missed::Reset(now) if now == head));
}

#[tokio::test]
async fn content_of_a_byte_too_many_is_refused() {
    // Given a room, and messages that are just small enough
    let world = World::start().await;
    let [alice, bob, mallory] = users(["alice", "bob", "mallory"]);
    let room = world.direct(&alice, &bob).await;
    let largest = "é".repeat(CONTENT_MAX_BYTES / 2);
    world.say(room, &alice, &largest).await;
    let before = world.redis.dump().await;

    // When one has one byte more, then its sender gets the limit in the error, and nothing is written
    let longer = format!("{largest}x");
    for user in [&alice, &mallory] {
        let sent = world.store.send_message(room, user, &longer, None);
        let error = sent.await.err().unwrap();
        assert_eq!(error.code, ErrorCode::MessageTooLarge);
        let expected = "\"content\" has 524289 bytes; at most 524288 are accepted";
        assert_eq!(error.message, expected);
    }
    assert_eq!(world.redis.dump().await, before);
}

#[tokio::test]
async fn of_several_strings_only_their_own_bytes_count() {
    let world = World::start().await;
    let [alice, bob] = users(["alice", "bob"]);
    let room = world.direct(&alice, &bob).await;
    for (more, is_accepted) in [(0, true), (1, false)] {
        let half = "x".repeat(CONTENT_MAX_BYTES / 2);
        let json = json!([half, "x".repeat(CONTENT_MAX_BYTES / 2 + more), ""]);
        let content: Content = serde_json::from_value(json).unwrap();
        let message = NewMessage {
            room,
            kind: "text",
            content: &content.text,
            parts: content.parts.as_ref(),
            client_message_id: None,
        };
        let sent = world.store.send(&alice, &message).await;
        assert_eq!(sent.is_ok(), is_accepted);
        let message = sent.err().map(|error| error.message);
        let expected = "\"content\" has 524289 bytes; at most 524288 are accepted".to_owned();
        assert_eq!(message, (!is_accepted).then_some(expected));
    }
}
