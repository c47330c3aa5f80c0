//! Cases in which nothing may change: callers who are not members, keys of a wrong type, a full memory. And the reset.

use std::time::Duration;

use chat_server::error::{ChatError, ErrorCode};
use chat_server::protocol::ids::{DeviceId, MessageId, RoomId, UserId};
use chat_server::protocol::request::Cursor;
use chat_server::room::{Missed, Position};
use chat_server::scripts::set::{Source, fixed};
use chat_server::scripts::{Script, ScriptSet, ScriptText};
use chat_server::store::calls::{NewMessage, NewRoom, Sent};
use chat_server::store::connection::Connection;
use chat_server::store::{Bounds, Store};
use serde_json::json;
use tokio::sync::watch;

use crate::files::header;
use crate::support::{World, contents, crowd, hold_lease, leases, refusal, user, users};

#[tokio::test]
async fn who_is_no_member_learns_and_changes_nothing() {
    // Given Alice and Bob's room, and Mallory, who is in a room of her own
    let mut world = World::start().await;
    let [alice, bob, mallory] = users(["alice", "bob", "mallory"]);
    let room = world.direct(&alice, &bob).await;
    let id = world.say(room, &alice, "Hello").await;
    world.direct(&mallory, &alice).await;
    let before = world.redis.dump().await;
    let store = &world.store;
    let device = DeviceId::random();

    // When she tries each event in it, and in a room that does not exist, then she gets the same error for both
    for room in [room, RoomId::random()] {
        let refusals = [
            refusal(store.enter_chat(room, &mallory, device, 50).await),
            refusal(store.send_message(room, &mallory, "Hi", None).await),
            refusal(store.send_message(room, &mallory, "Hi", Some("m-1")).await),
            refusal(store.mark_as_read(room, &mallory, id).await),
            refusal(store.get_history(room, &mallory, Cursor::Latest, 50).await),
            refusal(
                store
                    .get_history(room, &mallory, Cursor::Before(id), 50)
                    .await,
            ),
            refusal(
                store
                    .get_history(room, &mallory, Cursor::After(id), 50)
                    .await,
            ),
        ];
        assert_eq!(refusals, [Some(ErrorCode::NotMember); 7]);
        let sent = store.send_message(room, &mallory, "Hi", None).await;
        let text = sent.err().unwrap().message;
        assert_eq!(text, "You do not have permission to join this chat.");

        // And what is not refused does nothing
        store.leave_chat(room, &mallory, device).await.unwrap();
        let viewers = [(device, mallory.clone())];
        store.renew_viewers(room, &viewers).await.unwrap();
        let list = store.get_chat_list(&mallory, &[room], false).await;
        assert!(list.unwrap().entries[0].is_none());
    }
    let nowhere = Position {
        epoch: "1-x".into(),
        rev: 1,
        seq: 0,
        last_id: MessageId::NONE,
    };
    let missed = store.sync_room(RoomId::random(), &nowhere).await.unwrap();
    assert!(matches!(missed, Missed::Gone));
    assert_eq!(world.redis.dump().await, before);
    world.follow_room(room).await;
    assert_eq!(world.published().await, []);
}

/// A call of each script that writes, by Bob, on a room where it would write.
fn writing_calls(
    world: &World,
    room: RoomId,
    bob: &UserId,
    id: &str,
) -> Vec<(Script, Vec<String>, Vec<String>)> {
    let keys = |script| world.room_keys(script, room, bob, "m-1");
    let mut making = keys(Script::InitializeChat);
    for member in users(["bob", "alice"]) {
        making.push(world.keys.user(&member, "rooms"));
        making.push(world.keys.user(&member, "events"));
    }
    let room = room.to_string();
    let words = |args: &[&str]| args.iter().map(|&arg| arg.to_owned()).collect();
    let call = |script, args: &[&str]| (script, keys(script), words(args));
    let made = words(&[&room, "direct", "", "n1", "5", "10000", "bob", "alice"]);
    let message = [
        "bob", "Hello", "m-1", "bob-m-1", "100", "86400000", "16384", "0", "c1", "text", "",
    ];
    vec![
        (Script::InitializeChat, making, made),
        call(
            Script::EnterChat,
            &["bob", "bobs-laptop", "15000", "50", "1000"],
        ),
        call(Script::LeaveChat, &["bob", "bobs-phone"]),
        call(Script::SendMessage, &message),
        call(Script::MarkAsRead, &["bob", id]),
        call(Script::RenewViewers, &["15000", "bobs-phone", "bob"]),
    ]
}

/// A room of this many members in which each of [`writing_calls`] has something to write.
async fn unread_room(size: usize) -> (World, RoomId, String) {
    let world = World::start().await;
    let [alice, bob] = users(["alice", "bob"]);
    let mut members = vec![alice.clone(), bob.clone()];
    members.extend(crowd(size - 2));
    let room = world.group(&members).await;
    let id = world.say(room, &alice, "Hello").await.to_string();
    // Bob's phone views the room, with a lease that has not moved his marker yet; another device's lease has run out.
    hold_lease(&world, room, 10_000, "bobs-phone:bob").await;
    hold_lease(&world, room, -1, "old-phone:bob").await;
    // And his index has lost the room.
    let _: u64 = world.redis.run(&["DEL", "chat:{user:bob}:rooms"]).await;
    (world, room, id)
}

#[tokio::test]
async fn a_key_of_a_wrong_type_leaves_nothing_half_written() {
    // Where a call does not need a key, the key's type does not matter to it.
    let not_needed = |script, part: &str, large: bool| match script {
        Script::InitializeChat => ["viewing", "ext", "sent"].contains(&part),
        Script::EnterChat => ["ext", "sent", "viewers"].contains(&part),
        Script::LeaveChat => ["messages", "ext", "sent"].contains(&part),
        Script::SendMessage => part == "ext" || (part == "viewing" && large),
        Script::MarkAsRead => ["viewing", "ext", "sent"].contains(&part),
        Script::RenewViewers => ["messages", "ext", "sent"].contains(&part),
        _ => false,
    };
    for size in [2, 101] {
        let (world, room, id) = unread_room(size).await;
        let bob = user("bob");
        let snapshot = world.redis.dump().await;
        let restore = async || {
            let _: String = world.redis.run(&["FLUSHALL"]).await;
            for (key, value) in &snapshot {
                let mut restore = redis::cmd("RESTORE");
                restore.arg(key).arg(0).arg(&value.0);
                let outcome = restore.exec_async(&mut world.redis.admin()).await;
                outcome.unwrap();
            }
        };
        for (script, keys, args) in writing_calls(&world, room, &bob, &id) {
            // Given a room where the script does write
            restore().await;
            world.eval(script, &keys, &args).await.unwrap();
            assert_ne!(world.redis.dump().await, snapshot, "{script:?}");

            let header = header(script);
            let mut kinds: Vec<&str> = header.keys.fixed.iter().map(|k| k.kind.as_str()).collect();
            while kinds.len() < keys.len() {
                kinds.extend(header.keys.repeated.iter().map(|k| k.kind.as_str()));
            }
            for (key, kind) in keys
                .iter()
                .zip(kinds)
                .filter(|(_, kind)| *kind != "channel")
            {
                let part = key.split("}:").nth(1).unwrap().split(':').next().unwrap();
                // When one of its keys is of a wrong type
                restore().await;
                let _: u64 = world.redis.run(&["DEL", key]).await;
                if kind == "string" {
                    let _: u64 = world.redis.run(&["RPUSH", key, "x"]).await;
                } else {
                    let _: String = world.redis.run(&["SET", key, "x"]).await;
                }
                let before = world.redis.dump().await;
                let outcome = world.eval(script, &keys, &args).await;

                // Then it is refused with nothing written, unless it does not need the key
                let what = format!("{script:?} on {part} in a room of {size}");
                match outcome {
                    Ok(_) => assert!(not_needed(script, part, size > 100), "{what} was done"),
                    Err(error) => {
                        assert_eq!(error.code(), Some("WRONGTYPE"), "{what}: {error}");
                        assert_eq!(world.redis.dump().await, before, "{what} wrote");
                        assert!(!not_needed(script, part, size > 100), "{what}: {error}");
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn a_half_made_room_of_wrong_types_is_left_alone() {
    // Given a room of two people that is missing from the index of one
    let world = World::start().await;
    let [alice, bob] = users(["alice", "bob"]);
    let room = world.direct(&alice, &bob).await;
    world.say(room, &alice, "Hello").await;
    let _: u64 = world.redis.run(&["DEL", "chat:{user:bob}:rooms"]).await;
    for part in ["meta", "members", "reads", "messages"] {
        // When one of its keys is of a wrong type
        let (key, kept) = (world.key(room, part), world.key(room, "kept"));
        let _: String = world.redis.run(&["RENAME", &key, &kept]).await;
        let _: String = world.redis.run(&["SET", &key, "x"]).await;
        let before = world.redis.dump().await;

        // Then making it again fails and writes nothing
        let members = [bob.clone(), alice.clone()];
        let new = NewRoom {
            room,
            is_group: false,
            name: "",
            members: &members,
        };
        let outcome = world.store.initialize_chat(new).await;
        assert_eq!(refusal(outcome), Some(ErrorCode::Internal), "{part}");
        assert_eq!(world.redis.dump().await, before, "{part}");
        let _: String = world.redis.run(&["RENAME", &kept, &key]).await;
    }
}

#[tokio::test]
async fn a_full_memory_refuses_what_stores_and_nothing_else() {
    for size in [2, 101] {
        // Given a Redis with no memory left
        let (mut world, room, id) = unread_room(size).await;
        let [alice, bob] = users(["alice", "bob"]);
        let _: String = world
            .redis
            .run(&[
                "CONFIG",
                "SET",
                "maxmemory",
                "1",
                "maxmemory-policy",
                "noeviction",
            ])
            .await;
        world.follow_room(room).await;
        let before = world.redis.dump().await;

        // Then calls that store are refused, and nothing is written or published
        for (script, keys, args) in writing_calls(&world, room, &bob, &id) {
            if script == Script::LeaveChat {
                continue;
            }
            let error = world.eval(script, &keys, &args).await.unwrap_err();
            assert_eq!(error.code(), Some("OOM"), "{script:?}: {error}");
        }
        let sent = world.store.send_message(room, &alice, "Hello", None).await;
        assert_eq!(refusal(sent), Some(ErrorCode::Unavailable));
        assert_eq!(world.redis.dump().await, before);
        assert_eq!(world.published().await, []);

        // And calls that read work
        assert_eq!(world.latest(room, &bob).await.messages.len(), 1);
        let list = world.store.get_chat_list(&alice, &[room], true).await;
        assert!(list.unwrap().entries[0].is_some());
        let head = world.latest(room, &bob).await.position;
        let missed = world.store.sync_room(room, &head).await.unwrap();
        assert!(matches!(missed, Missed::Page(_)));

        // And leaving works, even where it moves a marker
        let keys = world.room_keys(Script::LeaveChat, room, &bob, "");
        let args = ["bob".to_owned(), "bobs-phone".to_owned()];
        world.eval(Script::LeaveChat, &keys, &args).await.unwrap();
        assert_eq!(leases(&world, room).await, ["old-phone:bob"]);
        assert_eq!(world.marker(room, &bob).await, 1);
        assert_eq!(world.published().await.len(), 1);
    }
}

#[tokio::test]
async fn a_script_that_was_lost_is_loaded_into_a_full_memory() {
    // Given a Redis with no memory left that has lost the scripts
    let (world, room, _) = unread_room(2).await;
    let [alice, bob] = users(["alice", "bob"]);
    let phone = world.enter(room, &bob).await;
    let full = ["CONFIG", "SET", "maxmemory", "1"];
    let _: String = world.redis.run(&full).await;
    let flush = async || world.redis.run::<String>(&["SCRIPT", "FLUSH"]).await;

    // Then calls that need no memory work as if nothing had happened
    flush().await;
    assert_eq!(world.latest(room, &alice).await.messages.len(), 1);
    flush().await;
    world.store.leave_chat(room, &bob, phone).await.unwrap();

    // And calls that need some are refused for that reason
    flush().await;
    let sent = world.store.send_message(room, &alice, "Hello", None).await;
    assert_eq!(refusal(sent), Some(ErrorCode::Unavailable));
}

/// The results of sending these in one round trip: each message's number, or the code of its refusal.
async fn sent_in_a_row(
    world: &World,
    user: &UserId,
    messages: &[NewMessage<'_>],
) -> Vec<Result<u64, ErrorCode>> {
    let outcomes = world.store.send_messages(user, messages).await;
    let short = |outcome: Result<Sent, ChatError>| match outcome {
        Ok(sent) => Ok(sent.id.seq),
        Err(error) => Err(error.code),
    };
    outcomes.into_iter().map(short).collect()
}

#[tokio::test]
async fn messages_in_a_row_are_answered_one_by_one() {
    // Given Alice's room with Bob and one of others
    let world = World::start().await;
    let [alice, bob, carol] = users(["alice", "bob", "carol"]);
    let (room, foreign) = (
        world.direct(&alice, &bob).await,
        world.direct(&bob, &carol).await,
    );
    let message = |room, content, client_message_id| NewMessage {
        room,
        kind: "text",
        content,
        parts: None,
        client_message_id,
    };
    let row = [
        message(room, "one", Some("m-1")),
        message(foreign, "let me in", Some("m-2")),
        message(room, "two", None),
        message(room, "one again", Some("m-1")),
        message(room, "three", Some("m-3")),
    ];
    let expected = [Ok(1), Err(ErrorCode::NotMember), Ok(2), Ok(1), Ok(3)];

    // Then each is answered separately, and they are stored in order
    assert_eq!(sent_in_a_row(&world, &alice, &row).await, expected);
    let page = world.latest(room, &bob).await;
    assert_eq!(contents(&page), ["one", "two", "three"]);

    // And also where Redis has lost the script
    let _: String = world.redis.run(&["SCRIPT", "FLUSH"]).await;
    let again = [Ok(1), Err(ErrorCode::NotMember), Ok(4), Ok(1), Ok(3)];
    assert_eq!(sent_in_a_row(&world, &alice, &row).await, again);

    // And with Redis's memory full, all are refused for that reason
    let _: String = world.redis.run(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let full = [Err(ErrorCode::Unavailable); 5];
    assert_eq!(sent_in_a_row(&world, &alice, &row).await, full);
    let _: String = world.redis.run(&["SCRIPT", "FLUSH"]).await;
    assert_eq!(sent_in_a_row(&world, &alice, &row).await, full);
    assert_eq!(world.latest(room, &bob).await.messages.len(), 4);
}

#[tokio::test]
async fn a_reset_deletes_this_installation_alone() {
    // Given chats, and keys of other applications in the same database
    let mut world = World::start().await;
    let [alice, bob] = users(["alice", "bob"]);
    let room = world.direct(&alice, &bob).await;
    let sent = world.store.send_message(room, &alice, "Hello", Some("m-1"));
    sent.await.unwrap();
    world.enter(room, &bob).await;
    world.group(&crowd(200)).await;
    let others = [
        "chat",
        "chat:",
        "chat:notes",
        "chat:control",
        "chat2:{room:1}:meta",
        "chatter:{user:alice}:rooms",
        "my:chat:{room:1}:meta",
        "{chat:{room:1}}",
        "Chat:{room:1}:meta",
    ];
    for key in others {
        let _: String = world.redis.run(&["SET", key, "theirs"]).await;
    }
    world.follow("chat:control").await;

    // When it is reset, then only the other keys are left, and every server is notified
    world.store.reset().await.unwrap();
    let left = world.redis.dump().await;
    let mut left: Vec<&str> = left.keys().map(String::as_str).collect();
    left.sort_unstable();
    let mut expected = others.to_vec();
    expected.sort_unstable();
    assert_eq!(left, expected);
    assert_eq!(world.events().await, [json!({ "event": "reset" })]);

    // And the room can be made again, with another history
    world.direct(&alice, &bob).await;
    assert_eq!(world.latest(room, &alice).await.position.rev, 1);
}

/// Stores, and takes longer than half of the call's time; when called again, it finds Redis full.
const SLOW_THEN_FULL: &str = "#!lua
if redis.call('INCR', KEYS[6]) == 1 then
  local start = redis.call('TIME')
  repeat
    local now = redis.call('TIME')
  until (now[1] - start[1]) * 1000000 + now[2] - start[2] > 1400000
  return {'1-1', 1, 0}
end
return redis.error_reply('OOM command not allowed when used memory is larger than maxmemory.')
";

#[tokio::test]
async fn a_refusal_of_a_repeat_does_not_say_that_nothing_was_stored() {
    // Given a send that is done, but too late for its first attempt
    let world = World::start().await;
    let [alice, bob] = users(["alice", "bob"]);
    let room = world.direct(&alice, &bob).await;
    let text = ScriptText::new(SLOW_THEN_FULL.to_owned(), Source::Embedded);
    let set = ScriptSet::embedded().unwrap();
    let set = set.with(Script::SendMessage, text);
    let (_, current) = watch::channel(Some(Connection::unkept(world.redis.admin())));
    let bounds = Bounds {
        timeout: Duration::from_secs(2),
        calls_at_once: 8,
        repeats: true,
    };
    let rules = *world.store.rules();
    let store = Store::new(world.keys.clone(), fixed(set), current, bounds, rules);

    // When its repeat is refused, then the error does not claim that it was not done
    let sent = store.send_message(room, &alice, "Hello", Some("m-1")).await;
    assert_eq!(refusal(sent), Some(ErrorCode::Timeout));
    let runs: u64 = world.redis.run(&["GET", &world.key(room, "ext")]).await;
    assert!(runs >= 2, "it was not made again");
}
