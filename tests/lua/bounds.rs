//! How much a user and a room may use in Redis: rooms, and bytes of messages.

use chat_server::error::{ChatError, ErrorCode};
use chat_server::protocol::ids::{RoomId, UserId};
use chat_server::store::calls::{Initialized, NewRoom};

use crate::support::{World, user, users};

/// Requests a group, or a room of two people.
async fn ask(world: &World, members: &[UserId]) -> Result<Initialized, ChatError> {
    let (is_group, room) = match members {
        [one, other] => (false, RoomId::direct(one, other)),
        _ => (true, RoomId::random()),
    };
    let new = NewRoom {
        room,
        is_group,
        name: "",
        members,
    };
    world.store.initialize_chat(new).await
}

#[tokio::test]
async fn nobody_gets_a_room_too_many() {
    // Given Bob, who is in as many rooms as a user may be
    let world = World::start().await.ruled(|rules| rules.rooms_max = 3);
    let [alice, bob, carol] = users(["alice", "bob", "carol"]);
    for other in users(["dave", "erin"]) {
        world.direct(&bob, &other).await;
    }
    world.group(&[alice.clone(), bob.clone()]).await;
    let before = world.redis.dump().await;

    // When somebody else wants another room with him, or he does himself, then it is not made
    let pair = [alice.clone(), bob.clone()];
    let own = [bob.clone(), carol.clone()];
    let group = [carol.clone(), alice.clone(), bob.clone()];
    for members in [&pair[..], &own, &group] {
        let error = ask(&world, members).await.err().unwrap();
        assert_eq!(error.code, ErrorCode::TooManyRooms);
        let expected = "you, or one of the participants, are in 3 chats, and nobody can be in more";
        assert_eq!(error.message, expected);
    }
    assert_eq!(world.redis.dump().await, before);

    // But an existing room is found, and others can make theirs
    let found = ask(&world, &[bob.clone(), user("dave")]).await.unwrap();
    assert!(!found.created);
    let made = ask(&world, &[alice, carol]).await.unwrap();
    assert!(made.created);
}

/// The bytes that a message of this content, sent by Alice, counts for.
fn counted(content: &str) -> usize {
    content.len() + "alice".len() + 64
}

/// The contents of the stored messages, oldest first.
async fn stored(world: &World, room: RoomId) -> Vec<String> {
    type Entries = Vec<(String, Vec<String>)>;
    let entries: Entries = world
        .redis
        .run(&["XRANGE", &world.key(room, "messages"), "-", "+"])
        .await;
    entries
        .into_iter()
        .map(|(_, fields)| fields[3].clone())
        .collect()
}

fn sum(contents: &[String]) -> usize {
    contents.iter().map(|content| counted(content)).sum()
}

#[tokio::test]
async fn a_room_keeps_so_many_bytes() {
    // Given a bound on a room's bytes
    const MAX: usize = 10_000;
    let world = World::start().await;
    let world = world.ruled(|rules| rules.room_max_bytes = MAX as u64);
    let [alice, bob] = users(["alice", "bob"]);
    let room = world.direct(&alice, &bob).await;

    // When more is sent, then the oldest go, and no more of them than necessary
    let mut sent = Vec::new();
    for number in 0..60 {
        let content = format!("{number} {}", "x".repeat(number * 37 % 1000));
        world.say(room, &alice, &content).await;
        sent.push(content);
        let kept = stored(&world, room).await;
        assert_eq!(kept, sent[sent.len() - kept.len()..]);
        assert!(sum(&kept) <= MAX, "{} bytes", sum(&kept));
        if let Some(gone) = sent.len().checked_sub(kept.len() + 1) {
            assert!(sum(&kept) + counted(&sent[gone]) > MAX);
        }
    }

    // And the history continues without a gap
    let page = world.latest(room, &bob).await;
    assert_eq!(page.position.seq, 60);
    assert_eq!(page.messages.last().unwrap().seq, 60);

    // And a message larger than the room's bound is kept alone, once the others are gone
    let large = "y".repeat(2 * MAX);
    for _ in 0..3 {
        world.say(room, &alice, &large).await;
    }
    assert_eq!(stored(&world, room).await, [large]);
}

#[tokio::test]
async fn a_large_message_has_few_removed_at_a_time() {
    // Given a room full of small messages
    let world = World::start().await;
    let world = world.ruled(|rules| rules.room_max_bytes = 10_000);
    let [alice, bob] = users(["alice", "bob"]);
    let room = world.direct(&alice, &bob).await;
    for _ in 0..200 {
        world.say(room, &alice, "small").await;
    }
    let full = stored(&world, room).await.len();
    assert!(full > 100);

    // When a large one comes, then at most eight make room for it at once, and more with the messages after it
    world.say(room, &alice, &"x".repeat(9000)).await;
    assert_eq!(stored(&world, room).await.len(), full + 1 - 8);
    for _ in 0..20 {
        world.say(room, &alice, "small").await;
    }
    assert!(sum(&stored(&world, room).await) <= 10_000);
}

#[tokio::test]
async fn the_bound_may_come_later_and_go() {
    // Given a room with messages from before there was a bound
    let world = World::start().await;
    let [alice, bob] = users(["alice", "bob"]);
    let room = world.direct(&alice, &bob).await;
    let kilobyte = "x".repeat(1000);
    for _ in 0..50 {
        world.say(room, &alice, &kilobyte).await;
    }

    // When it has one, then those messages are not counted: they go once enough is sent
    let world = world.ruled(|rules| rules.room_max_bytes = 10_000);
    for _ in 0..9 {
        world.say(room, &alice, &kilobyte).await;
    }
    assert_eq!(stored(&world, room).await.len(), 59);
    for _ in 0..10 {
        world.say(room, &alice, &kilobyte).await;
    }
    assert_eq!(stored(&world, room).await.len(), 9);

    // And when it has none for a while, then what was sent meanwhile does not count either
    let world = world.ruled(|rules| rules.room_max_bytes = 0);
    for _ in 0..20 {
        world.say(room, &alice, &kilobyte).await;
    }
    let world = world.ruled(|rules| rules.room_max_bytes = 10_000);
    for _ in 0..9 {
        world.say(room, &alice, &kilobyte).await;
    }
    assert_eq!(stored(&world, room).await.len(), 9 + 20 + 9);
    for _ in 0..10 {
        world.say(room, &alice, &kilobyte).await;
    }
    assert!(sum(&stored(&world, room).await) <= 10_000);
}
