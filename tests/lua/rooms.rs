//! initialize_chat and get_chat_list.

use std::collections::BTreeMap;

use chat_server::error::ErrorCode;
use chat_server::protocol::event::ChatEntry;
use chat_server::protocol::ids::{RoomId, UserId};
use chat_server::room::PositionedEntry;
use chat_server::store::calls::NewRoom;
use chat_server::store::lists::{ListCall, Reader};
use serde_json::json;

use crate::support::{PARTICIPANTS_MAX, World, crowd, user, users};

#[tokio::test]
async fn two_people_have_one_room_however_often_it_is_made() {
    // Given Alice and Bob, each subscribed
    let mut world = World::start().await;
    let [alice, bob] = users(["alice", "bob"]);
    world.follow_user(&alice).await;
    world.follow_user(&bob).await;
    let room = RoomId::direct(&alice, &bob);

    // When Alice makes their room
    let members = [alice.clone(), bob.clone()];
    let new = |members| NewRoom {
        room,
        is_group: false,
        name: "",
        members,
    };
    let made = world.store.initialize_chat(new(&members)).await.unwrap();

    // Then it is new, and both are notified of it
    assert!(made.created && made.entry.is_none());
    let epoch = world.head(room, "epoch").await;
    let gained = json!({
        "event": "room", "roomId": room.to_string(), "epoch": epoch, "rev": 1, "seq": 0, "lastId": "0-0",
        "type": "direct", "name": "", "memberCount": 2, "members": ["alice", "bob"], "fresh": true,
    });
    assert_eq!(
        world.published().await,
        [
            ("chat:{user:alice}:events".to_owned(), gained.clone()),
            ("chat:{user:bob}:events".to_owned(), gained),
        ]
    );
    let before = world.redis.dump().await;

    // When Bob makes it again after a message
    let id = world.say(room, &alice, "Hello Bob").await;
    let swapped = [bob.clone(), alice.clone()];
    let found = world.store.initialize_chat(new(&swapped)).await.unwrap();

    // Then it is the same one, nobody is notified, and he gets his entry
    assert!(!found.created && found.event.is_none());
    assert_eq!(world.published().await, []);
    let entry = found.entry.unwrap();
    assert_eq!(&*entry.position.epoch, epoch);
    assert_eq!((entry.entry.seq, entry.entry.read_seq), (1, 0));
    assert_eq!((entry.position.rev, entry.position.last_id), (2, id));
    assert_eq!(entry.entry.friend_id.as_deref(), Some("alice"));
    assert_eq!(entry.entry.last_message.unwrap().read_by, ["alice"]);
    let after = world.redis.dump().await;
    for part in ["members", "rooms"] {
        let same = |key: &&String| key.ends_with(part);
        for key in before.keys().filter(same) {
            assert_eq!(before[key], after[key], "{key}");
        }
    }

    // And the list says the same about it
    let list = world
        .store
        .get_chat_list(&bob, &[room], true)
        .await
        .unwrap();
    assert_eq!(list.index, [room]);
    let listed = list.entries[0].as_ref().unwrap();
    assert_eq!(listed.position, entry.position);
    assert_eq!(listed.entry.unread_cnt, 1);
}

#[tokio::test]
async fn a_half_made_room_heals() {
    // Given a room that is missing from Bob's index and whose list of members lacks him
    let mut world = World::start().await;
    let [alice, bob] = users(["alice", "bob"]);
    let room = world.direct(&alice, &bob).await;
    let whole = world.redis.dump().await;
    let _: u64 = world.redis.run(&["DEL", "chat:{user:bob}:rooms"]).await;
    let members_key = world.key(room, "members");
    let _: u64 = world.redis.run(&["HDEL", &members_key, "bob"]).await;
    world.follow_user(&alice).await;
    world.follow_user(&bob).await;

    // When Alice makes it again
    let members = [alice.clone(), bob.clone()];
    let new = NewRoom {
        room,
        is_group: false,
        name: "",
        members: &members,
    };
    let found = world.store.initialize_chat(new).await.unwrap();

    // Then Bob, and only he, is notified of it again, and is in it
    assert!(!found.created);
    let event = found.event.unwrap();
    let published = world.published().await;
    assert_eq!(published.len(), 1);
    assert_eq!(published[0].0, "chat:{user:bob}:events");
    assert_eq!(published[0].1["fresh"], false);
    assert_eq!(
        published[0].1,
        serde_json::from_str::<serde_json::Value>(&event).unwrap()
    );
    let healed = world.redis.dump().await;
    assert_eq!(
        healed.keys().collect::<Vec<_>>(),
        whole.keys().collect::<Vec<_>>()
    );
    world.say(room, &bob, "I am back").await;
}

#[tokio::test]
async fn a_group_keeps_its_members() {
    // Given a group of Alice, Bob and Carol
    let mut world = World::start().await;
    let members = users(["alice", "bob", "carol"]);
    let room = world.group(&members).await;
    let roles: BTreeMap<String, String> = world
        .redis
        .run(&["HGETALL", &world.key(room, "members")])
        .await;
    let expected = [("alice", "owner"), ("bob", "member"), ("carol", "member")];
    let expected = expected.map(|(user, role)| (user.to_owned(), role.to_owned()));
    assert_eq!(roles, BTreeMap::from(expected));
    let before = world.redis.dump().await;

    // When it is made again with others
    world.follow_user(&user("dave")).await;
    let others = users(["alice", "dave"]);
    let again = NewRoom {
        room,
        is_group: true,
        name: "Another name",
        members: &others,
    };
    let found = world.store.initialize_chat(again).await.unwrap();

    // Then nothing has changed
    assert!(!found.created && found.event.is_none());
    let group = found.entry.unwrap().entry.group.unwrap();
    assert_eq!(group.group_name, "Book club");
    assert_eq!(group.members, ["bob", "carol"]);
    assert_eq!(world.redis.dump().await, before);
    assert_eq!(world.published().await, []);
}

#[tokio::test]
async fn a_large_group_is_counted_not_listed() {
    let mut world = World::start().await;
    for (size, listed) in [(100, 100), (101, 0)] {
        // Given a group of 100, and one of 101
        let members = crowd(size);
        world.follow_user(&members[1]).await;
        let room = world.group(&members).await;

        // Then the event and the list name its members, or count them
        let events = world.events().await;
        assert_eq!(events.len(), 1);
        assert_eq!(events[0]["memberCount"], size);
        let named = events[0]["members"].as_array().map_or(0, Vec::len);
        assert_eq!(named, listed);
        let list = world
            .store
            .get_chat_list(&members[1], &[room], false)
            .await
            .unwrap();
        assert_eq!(list.index, []);
        let group = list
            .entries
            .into_iter()
            .next()
            .unwrap()
            .unwrap()
            .entry
            .group
            .unwrap();
        assert_eq!(group.member_count, u64::try_from(size).unwrap());
        assert_eq!(group.members.len(), listed.saturating_sub(1));
    }
}

#[tokio::test]
async fn a_list_has_an_entry_for_each_room_asked_for() {
    // Given Bob in a room with Alice, and a room that he is not in
    let world = World::start().await;
    let [alice, bob, carol] = users(["alice", "bob", "carol"]);
    let his = world.direct(&alice, &bob).await;
    let other = world.direct(&alice, &carol).await;

    // When he asks for both and one that does not exist, then he gets his own
    let rooms = [other, his, RoomId::random()];
    let list = world.store.get_chat_list(&bob, &rooms, true).await.unwrap();
    let got: Vec<bool> = list.entries.iter().map(Option::is_some).collect();
    assert_eq!(got, [false, true, false]);
    assert_eq!(list.index, [his]);
    let entry = &list.entries[1].as_ref().unwrap().entry;
    assert!(entry.last_message.is_none() && entry.available);

    // And a user who is left alone in a room has nobody to talk to
    let members_key = world.key(his, "members");
    let _: u64 = world.redis.run(&["HDEL", &members_key, "alice"]).await;
    let list = world
        .store
        .get_chat_list(&bob, &[his], false)
        .await
        .unwrap();
    assert!(!list.entries[0].as_ref().unwrap().entry.available);

    // And a user without rooms has nothing
    let list = world
        .store
        .get_chat_list(&user("dave"), &[], true)
        .await
        .unwrap();
    assert!(list.index.is_empty() && list.entries.is_empty());
}

#[tokio::test]
async fn what_is_read_of_a_room_serves_all_who_wait_for_it() {
    // Given Alice in a room with Bob and Carol, one with Bob alone, one that is broken, and one that she is not in
    let world = World::start().await;
    let [alice, bob, carol, mallory] = users(["alice", "bob", "carol", "mallory"]);
    let group = world
        .group(&[alice.clone(), bob.clone(), carol.clone()])
        .await;
    let direct = world.direct(&alice, &bob).await;
    let broken = world.direct(&alice, &carol).await;
    let key = world.key(broken, "reads");
    let _: u64 = world.redis.run(&["DEL", &key]).await;
    let _: String = world.redis.run(&["SET", &key, "x"]).await;
    let others = world.direct(&bob, &carol).await;
    world.say(group, &bob, "Lunch?").await;
    world.say(direct, &alice, "Hello").await;

    // When her list is read, and others wait for some of these rooms
    let rooms = [group, direct, broken, others];
    let waiting = [
        (0, &bob, true),
        (0, &carol, true),
        (0, &mallory, false),
        (1, &bob, true),
        (1, &carol, false),
        // What cannot be read for her is read for nobody, and each member finds out by a call of their own.
        (2, &carol, false),
        (3, &bob, false),
    ];
    let reader = |(place, user, _): &(usize, &UserId, bool)| Reader {
        place: *place,
        user: (*user).clone(),
    };
    let call = ListCall {
        user: alice.clone(),
        rooms: rooms.to_vec(),
        want_index: true,
        readers: waiting.iter().map(reader).collect(),
    };
    let answer = world.store.get_chat_lists(&call).await.unwrap();

    // Then she gets hers, as always
    let own = world
        .store
        .get_chat_list(&alice, &rooms, true)
        .await
        .unwrap();
    assert_eq!(entries(&answer.chunk.entries), entries(&own.entries));
    assert_eq!(answer.chunk.index, own.index);
    assert_eq!(answer.chunk.index.len(), 3);

    // And each member who waits gets the same entry that a call of their own returns
    assert_eq!(answer.for_readers.len(), waiting.len());
    for ((place, user, has_entry), shared) in waiting.into_iter().zip(&answer.for_readers) {
        assert_eq!(shared.is_some(), has_entry, "{user} in room {place}");
        if let Some(shared) = shared {
            let own = world
                .store
                .get_chat_list(user, &[rooms[place]], false)
                .await;
            let own = own.unwrap().entries.remove(0).unwrap();
            assert_eq!(shared.entry, own.entry);
            assert_eq!(shared.position, own.position);
        }
    }
}

fn entries(read: &[Option<PositionedEntry>]) -> Vec<Option<&ChatEntry>> {
    read.iter()
        .map(|read| read.as_ref().map(|read| &read.entry))
        .collect()
}

#[tokio::test]
async fn an_index_with_what_is_no_room_lists_the_rest() {
    let world = World::start().await;
    let [alice, bob] = users(["alice", "bob"]);
    let room = world.direct(&alice, &bob).await;
    for id in [&b"no room"[..], b"\xff\xfe"] {
        let mut add = redis::cmd("ZADD");
        add.arg(world.keys.user(&alice, "rooms")).arg(7).arg(id);
        add.exec_async(&mut world.redis.admin()).await.unwrap();
    }
    let list = world
        .store
        .get_chat_list(&alice, &[room], true)
        .await
        .unwrap();
    assert_eq!(list.index, [room]);
    assert!(list.entries[0].is_some());
}

#[tokio::test]
async fn a_preview_is_cut_at_a_character() {
    let world = World::start().await;
    let [alice, bob] = users(["alice", "bob"]);
    let room = world.direct(&alice, &bob).await;
    for (content, kept) in [
        ("x".repeat(512), 512),
        ("x".repeat(513), 512),
        // Two, three and four bytes for each character
        (format!("x{}", "é".repeat(300)), 511),
        (format!("x{}", "é".repeat(255)), 511),
        ("é".repeat(257), 512),
        ("€".repeat(171), 510),
        (format!("xx{}", "🦀".repeat(128)), 510),
        ("🦀".repeat(128), 512),
        ("🦀".repeat(129), 512),
    ] {
        // Given a message of this many bytes
        world.say(room, &alice, &content).await;

        // Then the list has its first 512 bytes at most, in whole characters
        let list = world
            .store
            .get_chat_list(&bob, &[room], false)
            .await
            .unwrap();
        let from_list = list.entries.into_iter().next().unwrap().unwrap();
        let members = [bob.clone(), alice.clone()];
        let again = NewRoom {
            room,
            is_group: false,
            name: "",
            members: &members,
        };
        let found = world.store.initialize_chat(again).await.unwrap();
        for positioned in [from_list, found.entry.unwrap()] {
            let last = positioned.entry.last_message.unwrap();
            assert_eq!(last.content, content[..kept], "{} bytes", content.len());
            assert_eq!(last.truncated, kept < content.len());
        }

        // And the history has all of it
        let page = world.latest(room, &bob).await;
        let last = page.messages.last().unwrap();
        assert!(last.content == content && !last.truncated);
    }
}

#[tokio::test]
async fn a_room_of_one_too_many_is_not_made() {
    // Given one user more than may be in a room
    let world = World::start().await;
    let members = crowd(PARTICIPANTS_MAX + 1);

    // When they want a group, then the error says how many are allowed, and nothing is written
    let new = NewRoom {
        room: RoomId::random(),
        is_group: true,
        name: "",
        members: &members,
    };
    let error = world.store.initialize_chat(new).await.err().unwrap();
    assert_eq!(error.code, ErrorCode::TooManyParticipants);
    let expected = "a chat has at most 1000 participants, you among them";
    assert_eq!(error.message, expected);
    assert!(world.redis.dump().await.is_empty());

    // And without that one it works
    world.group(&members[1..]).await;
}
