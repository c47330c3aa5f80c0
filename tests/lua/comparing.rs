//! compare_rooms.

use chat_server::protocol::ids::{RoomId, UserId};
use chat_server::room::Position;
use chat_server::store::calls::COMPARE_CHUNK;

use crate::support::{World, crowd, user, users};

/// Rooms of Alice's with each of these users, and the server's position in each.
async fn rooms(world: &World, others: &[UserId]) -> Vec<(RoomId, Position)> {
    let alice = user("alice");
    let mut rooms = Vec::new();
    for other in others {
        let room = world.direct(&alice, other).await;
        rooms.push((room, world.latest(room, &alice).await.position));
    }
    rooms
}

#[tokio::test]
async fn a_server_learns_in_which_rooms_it_missed_something() {
    // Given a server that is up to date in seven rooms
    let world = World::start().await;
    let others = users(["bob", "carol", "dave", "erin", "frank", "heidi", "grace"]);
    let asked = rooms(&world, &others).await;
    let compare = async || world.store.compare_rooms(&asked).await.unwrap();
    assert_eq!(compare().await, []);

    // When one gets a message, one a marker, one loses a key, one is recreated, one is rolled back, and one is rolled
    // back and goes on as far
    let [alice, carol] = users(["alice", "carol"]);
    let (told, marked, lost) = (asked[0].0, asked[1].0, asked[2].0);
    let (anew, back) = (asked[3].0, asked[4].0);
    world.say(told, &alice, "Hello").await;
    let id = world.say(marked, &alice, "Hello").await;
    world.store.mark_as_read(marked, &carol, id).await.unwrap();
    let meta = world.key(lost, "meta");
    let _: u64 = world.redis.run(&["DEL", &meta]).await;
    let meta = world.key(anew, "meta");
    let _: u64 = world.redis.run(&["DEL", &meta]).await;
    world.direct(&alice, &others[3]).await;
    let meta = world.key(back, "meta");
    let _: u64 = world.redis.run(&["HSET", &meta, "rev", "0"]).await;

    let on = asked[5].0;
    let meta = world.key(on, "meta");
    let _: u64 = world.redis.run(&["HSET", &meta, "last_id", "1-1"]).await;

    // Then it learns which they are, in the order of its request
    assert_eq!(compare().await, [told, marked, lost, anew, back, on]);

    // And nothing was written
    let before = world.redis.dump().await;
    compare().await;
    assert_eq!(world.redis.dump().await, before);
}

#[tokio::test]
async fn as_many_rooms_as_a_server_asks_for_are_one_call() {
    let world = World::start().await;
    let asked = rooms(&world, &crowd(COMPARE_CHUNK)).await;
    assert_eq!(world.store.compare_rooms(&asked).await.unwrap(), []);
    let (last, _) = asked[COMPARE_CHUNK - 1];
    world.say(last, &user("alice"), "Hello").await;
    assert_eq!(world.store.compare_rooms(&asked).await.unwrap(), [last]);
}

#[tokio::test]
async fn a_room_of_a_wrong_type_costs_no_other() {
    // Given two rooms in which something happened, one of which cannot be read any more
    let world = World::start().await;
    let asked = rooms(&world, &users(["bob", "carol"])).await;
    for (room, _) in &asked {
        world.say(*room, &user("alice"), "Hello").await;
    }
    let meta = world.key(asked[0].0, "meta");
    let _: u64 = world.redis.run(&["DEL", &meta]).await;
    let _: String = world.redis.run(&["SET", &meta, "x"]).await;

    // When a server compares both, then it learns of the other
    let changed = world.store.compare_rooms(&asked).await.unwrap();
    assert_eq!(changed, [asked[1].0]);
}
