//! Rooms that lost part of their data, and clocks that were wrong.

use chat_server::protocol::ids::{MessageId, RoomId, UserId};
use chat_server::store::calls::{Initialized, NewRoom};

use crate::support::{World, contents, users};

async fn make(world: &World, room: RoomId, members: &[UserId; 2]) -> Initialized {
    let new = NewRoom {
        room,
        is_group: false,
        name: "",
        members,
    };
    world.store.initialize_chat(new).await.unwrap()
}

#[tokio::test]
async fn a_room_that_lost_its_meta_is_made_anew_around_the_rest() {
    // Given Alice and Bob's room with messages, of which Bob has read the first, and whose meta is lost
    let mut world = World::start().await;
    let [alice, bob] = users(["alice", "bob"]);
    let members = [alice.clone(), bob.clone()];
    let room = world.direct(&alice, &bob).await;
    let first = world.store.send_message(room, &alice, "one", Some("m-1"));
    let first = first.await.unwrap().id;
    world.say(room, &alice, "two").await;
    let last = world.say(room, &alice, "three").await;
    world.store.mark_as_read(room, &bob, first).await.unwrap();
    let epoch = world.head(room, "epoch").await;
    let meta = world.key(room, "meta");
    let _: u64 = world.redis.run(&["DEL", &meta]).await;
    world.follow_user(&alice).await;
    world.follow_user(&bob).await;

    // When one of them makes it again, then it is another history, and both learn of a room that has messages
    let made = make(&world, room, &members).await;
    assert!(made.created);
    let events = world.events().await;
    assert_eq!(events.len(), 2);
    for event in &events {
        assert_eq!((&event["fresh"], &event["seq"]), (&false.into(), &3.into()));
        assert_ne!(event["epoch"], epoch.as_str());
    }
    let entry = made.entry.unwrap();
    assert_eq!((entry.position.seq, entry.position.last_id), (3, last));
    assert_eq!(entry.entry.last_message.unwrap().content, "three");

    // And every message is there, with how far each was read, and the next one continues from it
    assert_eq!(world.marker(room, &bob).await, 1);
    let next = world.say(room, &bob, "four").await;
    assert_eq!(next.seq, 4);
    assert!(next > last);
    let page = world.latest(room, &alice).await;
    assert_eq!(contents(&page), ["one", "two", "three", "four"]);
    assert_eq!(page.messages[0].read_by.len(), 2);

    // And a message that was sent before is still known
    let again = world.store.send_message(room, &alice, "one", Some("m-1"));
    let again = again.await.unwrap();
    assert_eq!((again.id, again.duplicate), (first, true));
}

#[tokio::test]
async fn a_room_made_anew_has_no_marker_ahead_of_it() {
    // Given a room whose meta and newest messages are lost, all of which Bob had read
    let world = World::start().await;
    let [alice, bob] = users(["alice", "bob"]);
    let members = [bob.clone(), alice.clone()];
    let room = world.direct(&alice, &bob).await;
    world.say(room, &alice, "one").await;
    for content in ["two", "three"] {
        let id = world.say(room, &alice, content).await.to_string();
        let lose = ["XDEL", &world.key(room, "messages"), &id];
        world.enter(room, &bob).await;
        let _: u64 = world.redis.run(&lose).await;
    }
    let _: u64 = world.redis.run(&["DEL", &world.key(room, "meta")]).await;

    // When it is made again, then he has read all that is left, and not what comes
    let entry = make(&world, room, &members).await.entry.unwrap().entry;
    assert_eq!((entry.seq, entry.read_seq, entry.unread_cnt), (1, 1, 0));
    let _: u64 = world.redis.run(&["DEL", &world.key(room, "viewing")]).await;
    // Redis never reuses the id of a deleted message, and an id begins with the time.
    let lost_at = redis_ms(&world).await;
    while redis_ms(&world).await <= lost_at {}
    world.say(room, &alice, "new").await;
    let list = world.store.get_chat_list(&bob, &[room], false).await;
    let entry = list.unwrap().entries.remove(0).unwrap().entry;
    assert_eq!((entry.seq, entry.unread_cnt), (2, 1));
}

/// The time according to Redis, in ms.
async fn redis_ms(world: &World) -> u64 {
    let (secs, micros): (u64, u64) = world.redis.run(&["TIME"]).await;
    secs * 1000 + micros / 1000
}

async fn active_at_ms(world: &World, room: RoomId, user: &UserId) -> u64 {
    let list = world.store.get_chat_list(user, &[room], false).await;
    let entry = list.unwrap().entries.remove(0).unwrap().entry;
    entry.active_at_ms
}

/// A message as it was sent when Redis's clock was ahead.
async fn say_ahead(world: &World, room: RoomId, ahead_ms: u64) -> u64 {
    let seq = 1 + world.head(room, "seq").await.parse::<u64>().unwrap();
    let ms = redis_ms(world).await + ahead_ms;
    let id = MessageId { ms, seq }.to_string();
    let messages = world.key(room, "messages");
    let add = [
        "XADD", &messages, &id, "sender", "alice", "content", "ahead",
    ];
    let _: String = world.redis.run(&add).await;
    let (meta, seq) = (world.key(room, "meta"), seq.to_string());
    let moved = ["HSET", &meta, "seq", &seq, "last_id", &id];
    let _: u64 = world.redis.run(&moved).await;
    ms
}

#[tokio::test]
async fn a_clock_that_was_ahead_keeps_no_room_on_top() {
    // Given a room with a message from a clock that was an hour ahead
    let world = World::start().await;
    let [alice, bob] = users(["alice", "bob"]);
    let room = world.direct(&alice, &bob).await;
    let made_at = world.head(room, "created_at").await.parse::<u64>().unwrap();
    let ahead = say_ahead(&world, room, 3_600_000).await;

    // Then lists sort it by the room's own age
    assert_eq!(active_at_ms(&world, room, &bob).await, made_at);

    // And with the next message by that message's age, although ids continue from the other
    let before = redis_ms(&world).await;
    let id = world.say(room, &alice, "now").await;
    assert_eq!((id.ms, id.seq), (ahead, 2));
    let active_at = active_at_ms(&world, room, &bob).await;
    assert!((before..=redis_ms(&world).await).contains(&active_at));

    // But a clock that was corrected by less than a minute moves nothing
    let other = world.direct(&alice, &users(["carol"])[0]).await;
    let ahead = say_ahead(&world, other, 30_000).await;
    assert_eq!(active_at_ms(&world, other, &alice).await, ahead);
}
