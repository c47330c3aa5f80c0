//! enter_chat, leave_chat, renew_viewers, and what viewing does to markers.

use chat_server::protocol::ids::{DeviceId, MessageId, RoomId, UserId};
use serde_json::json;

use crate::support::{World, contents, crowd, hold_lease, leases, user, users};

/// Longer than any lease may last.
const AN_HOUR_MS: i64 = 3_600_000;

/// The users whose devices hold a lease, live or not, sorted.
async fn viewers(world: &World, room: RoomId) -> Vec<String> {
    let leases = leases(world, room).await;
    let user = |lease: &String| lease.split_once(':').unwrap().1.to_owned();
    let mut users: Vec<String> = leases.iter().map(user).collect();
    users.sort();
    users
}

/// Leases of this many devices of the user's, which end one after the other, the first this many milliseconds from now.
async fn hold_leases(world: &World, room: RoomId, ends_in_ms: i64, count: i64, user: &UserId) {
    for i in 0..count {
        hold_lease(world, room, ends_in_ms + i, &format!("device-{i}:{user}")).await;
    }
}

#[tokio::test]
async fn who_enters_has_read_the_room() {
    // Given two messages that Bob has not read
    let mut world = World::start().await;
    let [alice, bob] = users(["alice", "bob"]);
    let room = world.direct(&alice, &bob).await;
    world.say(room, &alice, "one").await;
    let last = world.say(room, &alice, "two").await;
    world.follow_room(room).await;

    // When he enters, then he gets them, with the position before his mark, and himself among the readers
    let phone = DeviceId::random();
    let entered = world.store.enter_chat(room, &bob, phone, 50).await.unwrap();
    assert_eq!(contents(&entered.page), ["one", "two"]);
    assert_eq!((entered.page.position.rev, entered.rev_after), (3, 4));
    let mut read_by = entered.page.messages[1].read_by.clone();
    read_by.sort();
    assert_eq!(read_by, ["alice", "bob"]);

    // And everyone is notified
    let epoch = world.head(room, "epoch").await;
    assert_eq!(
        world.events().await,
        [json!({
            "event": "read", "epoch": epoch, "rev": 4, "seq": 2, "lastId": last.to_string(), "user": "bob",
            "readSeq": 2, "messageId": last.to_string(), "to": "members",
        })]
    );
    assert_eq!(viewers(&world, room).await, ["bob"]);

    // When he enters again, on a second device, then there is nothing to publish
    let laptop = DeviceId::random();
    let again = world.store.enter_chat(room, &bob, laptop, 1).await.unwrap();
    assert_eq!((again.page.position.rev, again.rev_after), (4, 4));
    assert_eq!(
        (contents(&again.page), again.page.has_more),
        (vec!["two"], true)
    );
    assert_eq!(world.published().await, []);

    // When one device leaves, then the other still views the room
    world.store.leave_chat(room, &bob, phone).await.unwrap();
    assert_eq!(viewers(&world, room).await, ["bob"]);
    world.say(room, &alice, "three").await;
    assert_eq!(world.marker(room, &bob).await, 3);

    // When both have left, then he no longer reads what comes
    world.store.leave_chat(room, &bob, laptop).await.unwrap();
    world.say(room, &alice, "four").await;
    assert_eq!(world.marker(room, &bob).await, 3);

    // And leaving once more does nothing
    let before = world.redis.dump().await;
    world.store.leave_chat(room, &bob, laptop).await.unwrap();
    assert_eq!(world.redis.dump().await, before);
}

#[tokio::test]
async fn an_empty_room_can_be_entered() {
    let mut world = World::start().await;
    let [alice, bob] = users(["alice", "bob"]);
    let room = world.direct(&alice, &bob).await;
    world.follow_room(room).await;
    let entered = world
        .store
        .enter_chat(room, &bob, DeviceId::random(), 50)
        .await
        .unwrap();
    assert!(entered.page.messages.is_empty() && !entered.page.has_more);
    assert_eq!((entered.page.position.rev, entered.rev_after), (1, 1));
    assert_eq!(world.published().await, []);
}

#[tokio::test]
async fn who_views_a_small_room_reads_what_is_sent() {
    // Given Bob viewing on two devices, and a lease of Carol's that has run out
    let mut world = World::start().await;
    let [alice, bob, carol] = users(["alice", "bob", "carol"]);
    let room = world
        .group(&[alice.clone(), bob.clone(), carol.clone()])
        .await;
    world.enter(room, &bob).await;
    world.enter(room, &bob).await;
    hold_lease(&world, room, -1, "carols-phone:carol").await;
    world.follow_room(room).await;

    // When Alice sends, then Bob has read it and Carol has not; no other event says so
    world.say(room, &alice, "Hello").await;
    let events = world.events().await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["readBy"], json!(["alice", "bob"]));
    assert_eq!(events[0]["readCount"], 2);
    assert_eq!(world.marker(room, &bob).await, 1);
    assert_eq!(world.marker(room, &carol).await, 0);

    // And a user who both sends and views is counted once
    world.enter(room, &alice).await;
    world.say(room, &alice, "Still here").await;
    let events = world.events().await;
    let last = events.last().unwrap();
    assert_eq!(
        (&last["readBy"], &last["readCount"]),
        (&json!(["alice", "bob"]), &json!(2))
    );
}

#[tokio::test]
async fn leases_that_ran_out_are_cleared_by_the_next_who_enters() {
    // Given more leases of a killed server than one call clears, and a live one
    let world = World::start().await;
    let [alice, bob, carol] = users(["alice", "bob", "carol"]);
    let room = world
        .group(&[alice.clone(), bob.clone(), carol.clone()])
        .await;
    world.enter(room, &alice).await;
    hold_leases(&world, room, -AN_HOUR_MS, 130, &carol).await;

    // When Bob enters, then a hundred of them are cleared, whatever their number
    world.enter(room, &bob).await;
    assert_eq!(leases(&world, room).await.len(), 32);

    // And when he enters again, the rest are cleared, and no live one
    world.enter(room, &bob).await;
    assert_eq!(viewers(&world, room).await, ["alice", "bob", "bob"]);
}

#[tokio::test]
async fn a_lease_of_a_clock_that_was_ahead_counts_as_over() {
    // Given a lease of Carol's that ends later than any that is made now, because Redis's clock has been set back since
    let mut world = World::start().await;
    let [alice, bob, carol] = users(["alice", "bob", "carol"]);
    let room = world
        .group(&[alice.clone(), bob.clone(), carol.clone()])
        .await;
    world.enter(room, &bob).await;
    hold_lease(&world, room, AN_HOUR_MS, "carols-phone:carol").await;
    world.follow_room(room).await;

    // When Alice sends, then Carol has not read it
    world.say(room, &alice, "Hello").await;
    assert_eq!(world.events().await[0]["readBy"], json!(["alice", "bob"]));
    assert_eq!(world.marker(room, &carol).await, 0);

    // And these leases are cleared like those that have ended
    hold_leases(&world, room, AN_HOUR_MS, 130, &carol).await;
    world.enter(room, &alice).await;
    assert_eq!(leases(&world, room).await.len(), 33);
    world.enter(room, &alice).await;
    assert_eq!(viewers(&world, room).await, ["alice", "alice", "bob"]);
}

#[tokio::test]
async fn a_user_id_with_colons_is_told_from_the_device() {
    // Given a viewer whose id looks like another device of Bob's
    let mut world = World::start().await;
    let [alice, bob, odd] = users(["alice", "bob", "x:bob"]);
    let room = world
        .group(&[alice.clone(), bob.clone(), odd.clone()])
        .await;
    let phone = world.enter(room, &odd).await;
    world.follow_room(room).await;

    // When Alice sends, then that user has read it and Bob has not
    world.say(room, &alice, "Hello").await;
    assert_eq!(world.events().await[0]["readBy"], json!(["alice", "x:bob"]));
    assert_eq!(world.marker(room, &bob).await, 0);

    // And nobody else ends that lease
    world.store.leave_chat(room, &bob, phone).await.unwrap();
    assert_eq!(viewers(&world, room).await, ["x:bob"]);
    world.store.leave_chat(room, &odd, phone).await.unwrap();
    assert_eq!(leases(&world, room).await, <[String; 0]>::default());
}

#[tokio::test]
async fn the_viewers_of_version_0_1_0_go_with_the_first_who_enters() {
    // Given a room in which servers of version 0.1.0 have recorded a viewer
    let world = World::start().await;
    let [alice, bob] = users(["alice", "bob"]);
    let room = world.direct(&alice, &bob).await;
    let old = world.key(room, "viewers");
    let lease = "99999999999999:bob";
    let _: u64 = world.redis.run(&["HSET", &old, "bobs-phone", lease]).await;

    // When Alice sends, then it does not count; when she enters, then it is gone
    world.say(room, &alice, "Hello").await;
    assert_eq!(world.marker(room, &bob).await, 0);
    world.enter(room, &alice).await;
    let left: u64 = world.redis.run(&["EXISTS", &old]).await;
    assert_eq!(
        (left, viewers(&world, room).await),
        (0, vec!["alice".to_owned()])
    );
}

#[tokio::test]
async fn a_send_looks_at_a_bounded_number_of_viewing_devices() {
    // Given a small room that Bob views on as many devices as a send checks, and Carol on one whose lease ends earlier
    let mut world = World::start().await;
    let [alice, bob, carol] = users(["alice", "bob", "carol"]);
    let room = world
        .group(&[alice.clone(), bob.clone(), carol.clone()])
        .await;
    hold_leases(&world, room, 400_000, 500, &bob).await;
    let phone = world.enter(room, &carol).await;
    world.follow_room(room).await;

    // When Alice sends, then Bob has read it
    let id = world.say(room, &alice, "Hello").await;
    assert_eq!(world.events().await[0]["readBy"], json!(["alice", "bob"]));

    // And Carol has read it when her device's lease is renewed, and everyone is notified
    let renewed = [(phone, carol.clone())];
    world.store.renew_viewers(room, &renewed).await.unwrap();
    let epoch = world.head(room, "epoch").await;
    let read = |rev: u64, seq: u64, id: MessageId| {
        json!({
            "event": "read", "epoch": epoch, "rev": rev, "seq": seq, "lastId": id.to_string(), "user": "carol",
            "readSeq": seq, "messageId": id.to_string(), "to": "members",
        })
    };
    assert_eq!(world.events().await, [read(3, 1, id)]);

    // Or when she leaves
    let id = world.say(room, &alice, "Bye").await;
    world.published().await;
    world.store.leave_chat(room, &carol, phone).await.unwrap();
    assert_eq!(world.events().await, [read(5, 2, id)]);
}

#[tokio::test]
async fn very_many_devices_are_renewed_in_several_calls() {
    // Given 300 devices that view a room
    let world = World::start().await;
    let [alice, bob] = users(["alice", "bob"]);
    let room = world.direct(&alice, &bob).await;
    let devices: Vec<_> = (0..300)
        .map(|_| (DeviceId::random(), bob.clone()))
        .collect();
    let calls = async || {
        let stats: String = world.redis.run(&["INFO", "commandstats"]).await;
        let (_, evalsha) = stats.split_once("cmdstat_evalsha:calls=").unwrap();
        evalsha.split_once(',').unwrap().0.parse::<u64>().unwrap()
    };
    let before = calls().await;

    // When they are renewed, then each holds a lease, and no call had more than 128 of them
    world.store.renew_viewers(room, &devices).await.unwrap();
    assert_eq!(leases(&world, room).await.len(), 300);
    assert_eq!(calls().await - before, 3);
}

#[tokio::test]
async fn a_renewed_device_goes_on_viewing() {
    // Given Bob's phone, whose lease has run out
    let mut world = World::start().await;
    let [alice, bob, carol] = users(["alice", "bob", "carol"]);
    let room = world.direct(&alice, &bob).await;
    let phone = world.enter(room, &bob).await;
    hold_lease(&world, room, -1, &format!("{phone}:bob")).await;
    world.say(room, &alice, "one").await;
    assert_eq!(world.marker(room, &bob).await, 0);
    world.follow_room(room).await;

    // When its server renews it, along with a device of Carol's, who is not a member
    let before_ms = world.redis.now_ms().await;
    let renewed = [(phone, bob.clone()), (DeviceId::random(), carol)];
    world.store.renew_viewers(room, &renewed).await.unwrap();

    // Then the phone views the room again, Carol does not, and what came meanwhile is read
    assert_eq!(viewers(&world, room).await, ["bob"]);
    assert_eq!(world.marker(room, &bob).await, 1);
    assert_eq!(world.published().await.len(), 1);
    world.say(room, &alice, "two").await;
    assert_eq!(world.marker(room, &bob).await, 2);

    // And the lease ends when it should
    let viewing = world.key(room, "viewing");
    let lease = format!("{phone}:bob");
    let end_ms: u64 = world.redis.run(&["ZSCORE", &viewing, &lease]).await;
    let after_ms = world.redis.now_ms().await;
    assert!(
        (before_ms..=after_ms).contains(&(end_ms - 60_000)),
        "{end_ms}"
    );
}

#[tokio::test]
async fn in_a_large_room_markers_move_on_enter_renewal_and_leave() {
    // Given a room of 101
    let mut world = World::start().await;
    let members = crowd(101);
    let [alice, bob, carol] = [&members[0], &members[1], &members[2]];
    let room = world.group(&members).await;
    world.follow_room(room).await;

    // When two enter the empty room and one member sends, then the viewers' markers stay, and no readers are listed
    let bobs = world.enter(room, bob).await;
    let carols = world.enter(room, carol).await;
    world
        .store
        .renew_viewers(room, &[(bobs, bob.clone())])
        .await
        .unwrap();
    assert_eq!(world.published().await, []);
    let reads: u64 = world.redis.run(&["ZCARD", &world.key(room, "reads")]).await;
    assert_eq!(reads, 0, "no marker was made where nothing was read");
    let first = world.say(room, alice, "Hello all").await;
    let events = world.events().await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].get("readBy"), None);
    assert_eq!(events[0]["readCount"], 1);
    assert_eq!(world.marker(room, bob).await, 0);

    // When Bob's device is renewed, then his marker moves, published to himself
    let renew = [(bobs, bob.clone()), (carols, carol.clone())];
    world.store.renew_viewers(room, &renew[..1]).await.unwrap();
    let epoch = world.head(room, "epoch").await;
    let mark = |rev: u64, seq: u64, id: String, user: &UserId| {
        json!({
            "event": "read", "epoch": epoch, "rev": rev, "seq": seq, "lastId": id, "user": user.as_str(),
            "readSeq": seq, "messageId": id, "to": "user",
        })
    };
    assert_eq!(world.events().await, [mark(3, 1, first.to_string(), bob)]);

    // And another renewal publishes nothing but Carol's first one
    world.store.renew_viewers(room, &renew).await.unwrap();
    assert_eq!(world.events().await, [mark(4, 1, first.to_string(), carol)]);

    // When Bob leaves after another message, then he has read it
    let second = world.say(room, alice, "Bye").await;
    world.published().await;
    world.store.leave_chat(room, bob, bobs).await.unwrap();
    assert_eq!(world.events().await, [mark(6, 2, second.to_string(), bob)]);
    assert_eq!(world.marker(room, bob).await, 2);

    // And Carol has not, because her lease had run out before she left
    hold_lease(&world, room, -1, &format!("{carols}:{carol}")).await;
    world.store.leave_chat(room, carol, carols).await.unwrap();
    assert_eq!(world.published().await, []);
    assert_eq!(world.marker(room, carol).await, 1);

    // When Carol enters, then she has
    world.enter(room, carol).await;
    assert_eq!(
        world.events().await,
        [mark(7, 2, second.to_string(), carol)]
    );

    // And another member's own mark is published to himself too
    let dave = user("user-004");
    world.store.mark_as_read(room, &dave, first).await.unwrap();
    assert_eq!(world.events().await[0]["to"], "user");

    // And the history and the list count the readers, and name nobody
    let page = world.latest(room, alice).await;
    let counts: Vec<u64> = page.messages.iter().map(|m| m.read_count).collect();
    assert_eq!(counts, [4, 3]);
    assert!(page.messages.iter().all(|m| m.read_by.is_empty()));
    assert!(page.marks.0.is_empty());
    let list = world
        .store
        .get_chat_list(alice, &[room], false)
        .await
        .unwrap();
    let last = list
        .entries
        .into_iter()
        .next()
        .unwrap()
        .unwrap()
        .entry
        .last_message
        .unwrap();
    assert_eq!((last.read_count, last.read_by.len()), (3, 0));
}

#[tokio::test]
async fn a_room_of_a_hundred_is_small() {
    let mut world = World::start().await;
    let members = crowd(100);
    let room = world.group(&members).await;
    for viewer in &members[1..] {
        world.enter(room, viewer).await;
    }
    world.follow_room(room).await;

    // Given 99 viewers, when the hundredth member sends, then all have read it at once
    let id = world.say(room, &members[0], "Hello all").await;
    let events = world.events().await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["readBy"].as_array().unwrap().len(), 100);
    let page = world.latest(room, &members[7]).await;
    assert_eq!(page.messages[0].id, id);
    assert_eq!(page.messages[0].read_by.len(), 100);
}
