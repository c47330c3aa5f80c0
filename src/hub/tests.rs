//! The hub without Redis: events and snapshots go in, frames come out.

#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::Hub;
use super::device::{Close, Device, ListMode, Preferences};
use super::hold::{Cuts, Section};
use super::lane::{Kind, QueueLimits, Taken};
use super::published::{Change, RoomEvent, RoomGained};
use super::repair::Repair;
use super::snapshot::{Overtaken, Snapshot};
use crate::protocol::content::{ContentShape, Parts, TEXT};
use crate::protocol::event::Message;
use crate::protocol::frame::Frame;
use crate::protocol::ids::{MessageId, RoomId, UserId};
use crate::room::Missed;
use crate::room::Topic;
use crate::room::{Marks, Page, Position, RoomFacts};

const LIMITS: QueueLimits = QueueLimits {
    max_frames: 50,
    max_bytes: 100_000,
    answers_max_bytes: 10_000,
};

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

fn at(rev: u64, seq: u64) -> Position {
    Position {
        epoch: "e1".into(),
        rev,
        seq,
        last_id: MessageId { ms: 1, seq },
    }
}

fn message(room: RoomId, seq: u64) -> Message {
    let id = MessageId { ms: 1, seq };
    Message {
        id,
        room_id: room,
        seq,
        sender_id: "alice".to_owned(),
        kind: TEXT.into(),
        content: format!("message {seq}"),
        parts: None,
        timestamp: id.timestamp(),
        read_by: Vec::new(),
        read_count: 1,
        client_message_id: None,
        truncated: false,
    }
}

fn sent(room: RoomId, rev: u64, seq: u64) -> RoomEvent {
    RoomEvent {
        position: at(rev, seq),
        change: Change::Message(message(room, seq)),
    }
}

fn marked(rev: u64, seq: u64) -> RoomEvent {
    let change = Change::Read {
        user: user("bob"),
        read_seq: seq,
        message_id: None,
        to_members: true,
    };
    RoomEvent {
        position: at(rev, seq),
        change,
    }
}

/// What a device has received since the last call.
fn taken(device: &Device) -> Vec<Frame> {
    let mut batch = Vec::new();
    while device.take(|frame| batch.push(frame)) == Taken::Frames {}
    batch
}

/// The same in short: `m1`, `r1` or the text of a status.
fn got(device: &Device) -> Vec<String> {
    let short = |frame: Frame| {
        let value: serde_json::Value =
            serde_json::from_str(&frame.native().unwrap().as_str()).unwrap();
        let data = &value["data"];
        match value["event"].as_str().unwrap() {
            "newMessage" => format!("m{}", data["seq"]),
            "messageRead" => format!("r{}", data["seq"]),
            "error" => data["code"].as_str().unwrap().to_owned(),
            "status" => data.as_str().unwrap().to_owned(),
            other => other.to_owned(),
        }
    };
    taken(device).into_iter().map(short).collect()
}

fn section(room: RoomId, cut: Position, text: &str) -> Section {
    Section {
        cuts: Arc::new(Cuts::from([(room, cut)])),
        frames: vec![Frame::status(text)],
        kind: Kind::Answer,
        tells_rooms: true,
    }
}

struct Room {
    hub: Arc<Hub>,
    id: RoomId,
}

impl Room {
    fn new() -> Self {
        Self {
            hub: Arc::new(Hub::new(LIMITS, Duration::from_secs(1))),
            id: RoomId::random(),
        }
    }

    /// A device that has been greeted, before all else.
    fn registered(&self, name: &str) -> Arc<Device> {
        let hello = Frame::event("hello", &());
        let device = self.hub.register(user(name), ListMode::Delta, hello, 10);
        let device = device.unwrap();
        assert_eq!(got(&device), ["hello"]);
        device
    }

    fn connecting(&self, name: &str) -> Arc<Device> {
        let device = self.registered(name);
        self.hub.follow(&user(name), &[self.id], &[device.id]);
        device
    }

    async fn finish_first(&self, device: &Arc<Device>, cut: Position) -> Result<(), Overtaken> {
        Snapshot::first(&self.hub, device)
            .finish(vec![section(self.id, cut, "list")])
            .await
    }

    async fn connected(&self, name: &str, cut: Position) -> Arc<Device> {
        let device = self.connecting(name);
        assert!(self.finish_first(&device, cut).await.is_ok());
        assert_eq!(got(&device), ["list"]);
        device
    }
}

#[tokio::test]
async fn a_message_is_encoded_once_for_all_devices_of_a_door() {
    // Given a room with a thousand devices
    let room = Room::new();
    let mut devices = Vec::new();
    for number in 0..1000 {
        devices.push(room.connected(&format!("user {number}"), at(1, 1)).await);
    }

    // When somebody sends a message, then all have the very same text, and the same of the other protocol
    room.hub.room_event(room.id, sent(room.id, 2, 2));
    let mut texts = HashSet::new();
    for device in &devices {
        let batch = taken(device);
        let [frame] = batch.as_slice() else {
            panic!("{} frames", batch.len());
        };
        let (native, socket_io) = (frame.native().unwrap(), frame.socket_io().unwrap());
        let polled = socket_io.payload().next().unwrap();
        texts.insert((
            native.as_str().as_ptr(),
            socket_io.as_str().as_ptr(),
            polled.as_ptr(),
        ));
    }
    assert_eq!(texts.len(), 1);
}

#[tokio::test]
async fn a_message_is_encoded_once_for_each_shape_that_differs() {
    // Given devices that want contents as strings, as arrays and as they were sent
    let room = Room::new();
    let mut devices = Vec::new();
    for (name, content) in ["a", "b", "c"].into_iter().zip(ContentShape::ALL) {
        let list_mode = ListMode::Delta;
        let is_classic = false;
        let wanted = Preferences {
            list_mode,
            content,
            is_classic,
        };
        let hello = Frame::status("hello");
        let device = room.hub.register(user(name), wanted, hello, 10).unwrap();
        assert_eq!(got(&device), ["hello"]);
        room.hub.follow(&user(name), &[room.id], &[device.id]);
        assert!(room.finish_first(&device, at(1, 1)).await.is_ok());
        assert_eq!(got(&device), ["list"]);
        devices.push(device);
    }
    let told = || -> Vec<(String, *const u8)> {
        let text = |device: &Arc<Device>| taken(device)[0].native().unwrap();
        let content = |text: &str| {
            let frame: serde_json::Value = serde_json::from_str(text).unwrap();
            frame["data"]["content"].to_string()
        };
        let texts = devices.iter().map(text);
        let texts = texts.map(|text| (content(&text.as_str()), text.as_str().as_ptr()));
        texts.collect()
    };

    // When a string is sent, then the as-sent shape and the string shape share one text
    room.hub.room_event(room.id, sent(room.id, 2, 2));
    let [string, array, as_sent] = told().try_into().unwrap();
    assert_eq!(array.0, r#"["message 2"]"#);
    assert_eq!(string.0, r#""message 2""#);
    assert_eq!(string, as_sent);

    // When strings are sent, even if they were missed at first, then they are sent in each shape
    let strings = Message {
        content: "one\ntwo".to_owned(),
        parts: Parts::parse("3,3"),
        ..message(room.id, 3)
    };
    room.hub.room_event(room.id, marked(4, 3));
    let from = room.hub.ask_repair(room.id).unwrap();
    let missed = Page {
        position: at(4, 3),
        has_more: false,
        messages: vec![strings],
        small: true,
        marks: Marks::default(),
    };
    room.hub.repair(room.id, &from, Missed::Page(missed), 1);
    let contents: Vec<String> = told().into_iter().map(|(content, _)| content).collect();
    assert_eq!(
        contents,
        [r#""one\ntwo""#, r#"["one","two"]"#, r#"["one","two"]"#]
    );
}

#[tokio::test]
async fn what_the_first_list_covers_is_not_sent_and_the_rest_follows_it() {
    let room = Room::new();
    let device = room.connecting("alice");
    for rev in 3..=6 {
        room.hub.room_event(room.id, sent(room.id, rev, rev));
    }
    assert_eq!(got(&device), Vec::<String>::new());
    assert!(room.finish_first(&device, at(4, 4)).await.is_ok());
    assert_eq!(got(&device), ["list", "m5", "m6"]);
    room.hub.room_event(room.id, sent(room.id, 7, 7));
    assert_eq!(got(&device), ["m7"]);
}

#[tokio::test]
async fn what_came_before_the_first_list_comes_once_though_the_channel_was_lost_meanwhile() {
    // Given a room whose first list is being read at rev 4, while events arrive
    let room = Room::new();
    let device = room.connecting("alice");
    room.hub.heard(&Topic::Room(room.id));
    for rev in 4..=6 {
        room.hub.room_event(room.id, sent(room.id, rev, rev));
    }

    // When the channel breaks, one event is lost, and it is subscribed again
    room.hub.heard(&Topic::Room(room.id));
    room.hub.room_event(room.id, sent(room.id, 8, 8));
    assert!(room.finish_first(&device, at(4, 4)).await.is_ok());

    // Then what arrived continues from the list, and what is missing is fetched
    assert_eq!(room.hub.repairs.take().await.thing, room.id);
    assert_eq!(room.hub.ask_repair(room.id), Some(at(6, 6)));
    let missed = page(room.id, at(8, 8), &[7, 8]);
    assert_eq!(
        room.hub.repair(room.id, &at(6, 6), missed, 1),
        Repair::Ended
    );

    // And each message is delivered once
    assert_eq!(got(&device), ["list", "m5", "m6", "m7", "m8"]);
    room.hub.room_event(room.id, sent(room.id, 9, 9));
    assert_eq!(got(&device), ["m9"]);
}

#[tokio::test]
async fn a_hole_before_the_first_list_is_repaired_from_what_came_before_it() {
    let room = Room::new();
    let device = room.connecting("alice");
    room.hub.heard(&Topic::Room(room.id));
    for rev in [5, 6, 8] {
        room.hub.room_event(room.id, sent(room.id, rev, rev));
    }
    assert!(room.finish_first(&device, at(4, 4)).await.is_ok());
    assert_eq!(got(&device), ["list", "m5", "m6"]);
    assert_eq!(room.hub.repairs.take().await.thing, room.id);
    assert_eq!(room.hub.ask_repair(room.id), Some(at(6, 6)));
    let missed = page(room.id, at(8, 8), &[7, 8]);
    assert_eq!(
        room.hub.repair(room.id, &at(6, 6), missed, 1),
        Repair::Ended
    );
    assert_eq!(got(&device), ["m7", "m8"]);
}

#[tokio::test]
async fn a_later_snapshot_stands_after_the_events_it_covers_and_before_the_others() {
    let room = Room::new();
    let device = room.connected("alice", at(1, 0)).await;
    let snapshot = Snapshot::begin(&room.hub, &device).await;
    for seq in 1..=3 {
        room.hub.room_event(room.id, sent(room.id, seq + 1, seq));
    }
    let parts = vec![
        section(room.id, at(2, 1), "history"),
        section(room.id, at(3, 2), "entered"),
    ];
    assert!(snapshot.finish(parts).await.is_ok());
    assert_eq!(got(&device), ["m1", "history", "m2", "entered", "m3"]);
}

#[tokio::test]
async fn a_snapshot_waits_for_events_that_it_covers() {
    let room = Room::new();
    let device = room.connected("alice", at(1, 0)).await;
    let snapshot = Snapshot::begin(&room.hub, &device).await;
    let finish = snapshot.finish(vec![section(room.id, at(3, 1), "history")]);
    let events = async {
        room.hub.room_event(room.id, sent(room.id, 2, 1));
        assert_eq!(got(&device), Vec::<String>::new());
        room.hub.room_event(room.id, marked(3, 1));
        room.hub.room_event(room.id, sent(room.id, 4, 2));
    };
    let (finished, ()) = tokio::join!(finish, events);
    assert!(finished.is_ok());
    assert_eq!(got(&device), ["m1", "r1", "history", "m2"]);
}

#[tokio::test]
async fn a_first_list_older_than_the_feed_is_read_again() {
    let room = Room::new();
    let (first, second) = (room.connecting("alice"), room.connecting("bob"));
    let snapshot = Snapshot::first(&room.hub, &second);
    assert!(room.finish_first(&first, at(5, 5)).await.is_ok());
    let overtaken = snapshot
        .finish(vec![section(room.id, at(4, 4), "list")])
        .await
        .err()
        .unwrap();
    let snapshot = overtaken.read_again().await.unwrap();
    let again = vec![section(room.id, at(5, 5), "list")];
    assert!(snapshot.finish(again).await.is_ok());
    room.hub.room_event(room.id, sent(room.id, 6, 6));
    assert_eq!(got(&second), ["list", "m6"]);
}

#[tokio::test]
async fn a_hole_is_repaired_in_order_and_once() {
    let room = Room::new();
    let device = room.connected("alice", at(1, 0)).await;
    room.hub.room_event(room.id, sent(room.id, 4, 3));
    assert_eq!(got(&device), Vec::<String>::new());
    assert_eq!(room.hub.repairs.take().await.thing, room.id);
    assert_eq!(room.hub.ask_repair(room.id), Some(at(1, 0)));
    room.hub.room_event(room.id, sent(room.id, 5, 4));
    let messages = (1..=3).map(|seq| message(room.id, seq)).collect();
    let page = Page {
        position: at(4, 3),
        has_more: false,
        messages,
        small: true,
        marks: Marks::default(),
    };
    assert_eq!(
        room.hub.repair(room.id, &at(1, 0), Missed::Page(page), 1),
        Repair::Ended
    );
    assert_eq!(got(&device), ["m1", "m2", "m3", "m4"]);
    // It was still in flight while the repair read the head.
    room.hub.room_event(room.id, sent(room.id, 4, 3));
    room.hub.room_event(room.id, sent(room.id, 6, 5));
    assert_eq!(got(&device), ["m5"]);
    assert_eq!(room.hub.ask_repair(room.id), None);
}

#[tokio::test]
async fn another_epoch_is_a_gap_and_a_reset_is_told() {
    let room = Room::new();
    let device = room.connected("alice", at(1, 0)).await;
    let foreign = Position {
        epoch: "e2".into(),
        ..at(2, 1)
    };
    room.hub.room_event(
        room.id,
        RoomEvent {
            position: foreign.clone(),
            ..sent(room.id, 2, 1)
        },
    );
    assert_eq!(room.hub.repairs.take().await.thing, room.id);
    assert_eq!(room.hub.ask_repair(room.id), Some(at(1, 0)));
    let reset = Missed::Reset(foreign.clone());
    assert_eq!(room.hub.repair(room.id, &at(1, 0), reset, 1), Repair::Ended);
    assert_eq!(got(&device), ["HISTORY_RESET"]);
    assert_eq!(
        room.hub.new_entries.take().await.thing,
        (user("alice"), room.id)
    );
    let next = Position {
        epoch: "e2".into(),
        ..at(3, 2)
    };
    room.hub.room_event(
        room.id,
        RoomEvent {
            position: next,
            ..sent(room.id, 3, 2)
        },
    );
    assert_eq!(got(&device), ["m2"]);
}

#[tokio::test]
async fn a_channel_heard_again_is_compared_with_the_store() {
    let room = Room::new();
    let device = room.connected("alice", at(1, 0)).await;
    room.hub.heard(&Topic::Room(room.id));
    assert_eq!(room.hub.doubts.take_several(10).await, [room.id]);
    let asked = room.hub.positions(&[room.id]);
    assert_eq!(asked, [(room.id, at(1, 0))]);

    // Nothing was lost: the room continues, and nothing is fetched
    room.hub.room_event(room.id, sent(room.id, 2, 1));
    assert_eq!(got(&device), ["m1"]);
    room.hub.differs(room.id, &at(1, 0));
    assert_eq!(room.hub.ask_repair(room.id), None);
}

#[tokio::test]
async fn a_device_that_does_not_read_is_closed_and_others_are_not() {
    let room = Room::new();
    let (slow, quick) = (
        room.connected("alice", at(1, 0)).await,
        room.connected("bob", at(1, 0)).await,
    );
    for seq in 1..=60 {
        room.hub.room_event(room.id, sent(room.id, seq + 1, seq));
        assert_eq!(got(&quick), [format!("m{seq}")]);
    }
    let mut batch = Vec::new();
    let last = slow.take(|frame| batch.push(frame));
    assert_eq!(last, Taken::Nothing(Some(Close::TooSlow)));
    assert!(batch.is_empty());
}

#[tokio::test]
async fn a_room_is_unfollowed_with_its_last_device() {
    let room = Room::new();
    let device = room.connected("alice", at(1, 0)).await;
    room.hub.unregister(&device);
    assert!(room.hub.rooms_of(&user("alice")).is_empty());
    assert_eq!(room.hub.ask_repair(room.id), None);
    room.hub.room_event(room.id, sent(room.id, 2, 1));
    assert_eq!(got(&device), Vec::<String>::new());
}

#[tokio::test]
async fn a_reset_empties_every_list_and_outdates_what_was_being_read() {
    let room = Room::new();
    let device = room.connected("alice", at(1, 0)).await;
    let snapshot = Snapshot::begin(&room.hub, &device).await;
    room.hub.reset();
    assert_eq!(got(&device), ["chatList"]);
    let parts = vec![section(room.id, at(1, 0), "list")];
    assert!(snapshot.finish(parts).await.is_err());
    assert!(room.hub.rooms_of(&user("alice")).is_empty());
}

#[tokio::test]
async fn who_watches_for_an_overflow_does_not_miss_what_is_queued_meanwhile() {
    let room = Room::new();
    let device = room.connected("alice", at(1, 0)).await;
    device.woken().await;
    let writing = async {
        device.answer(Frame::status("meanwhile"));
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
    };
    tokio::select! {
        biased;
        () = device.overflowed() => panic!("nothing has overflowed"),
        () = writing => {}
    }
    assert!(
        tokio::time::timeout(Duration::from_secs(5), device.woken())
            .await
            .is_ok()
    );
    assert_eq!(got(&device), ["meanwhile"]);
}

#[tokio::test]
async fn a_room_s_messages_wait_for_its_entry() {
    // Given Bob, who gains a room in which there is a message already
    let room = Room::new();
    let bob = room.registered("bob");
    let first = Section {
        cuts: Arc::default(),
        frames: Vec::new(),
        kind: Kind::Answer,
        tells_rooms: true,
    };
    let list = Snapshot::first(&room.hub, &bob);
    assert!(list.finish(vec![first]).await.is_ok());
    let facts = RoomFacts {
        is_group: true,
        name: String::new(),
        member_count: 3,
        members: Vec::new(),
    };
    let gained = RoomGained {
        room: room.id,
        position: at(1, 1),
        facts,
        fresh: false,
    };
    room.hub.room_gained(&user("bob"), &gained);
    let nothing = Page {
        position: at(1, 1),
        has_more: false,
        messages: Vec::new(),
        small: true,
        marks: Marks::default(),
    };
    room.hub
        .repair(room.id, &at(1, 1), Missed::Page(nothing), 1);

    // When more arrive, before his entry is asked for, while it is read and after
    room.hub.room_event(room.id, sent(room.id, 2, 2));
    let entry = Snapshot::begin(&room.hub, &bob).await;
    room.hub.room_event(room.id, sent(room.id, 3, 3));
    room.hub.room_event(room.id, sent(room.id, 4, 4));
    let parts = vec![section(room.id, at(3, 3), "entry")];
    assert!(entry.finish(parts).await.is_ok());
    room.hub.room_event(room.id, sent(room.id, 5, 5));

    // Then he gets the entry first, and after it what it does not cover
    assert_eq!(got(&bob), ["entry", "m4", "m5"]);

    // But he knows a room that was sent to him before
    room.hub.room_gained(&user("bob"), &gained);
    room.hub.room_event(room.id, sent(room.id, 6, 6));
    assert_eq!(got(&bob), ["m6"]);
}

/// The answer to a repair that finds these messages.
fn page(room: RoomId, position: Position, seqs: &[u64]) -> Missed {
    Missed::Page(Page {
        position,
        has_more: false,
        messages: seqs.iter().map(|seq| message(room, *seq)).collect(),
        small: true,
        marks: Marks::default(),
    })
}

#[tokio::test]
async fn a_room_is_quiet_if_nothing_came_since_the_last_look() {
    let room = Room::new();
    let _alice = room.connected("alice", at(1, 0)).await;
    let quiet = || room.hub.quiet_rooms();
    assert_eq!(quiet(), [(room.id, at(1, 0))]);
    assert_eq!(quiet(), [(room.id, at(1, 0))]);

    room.hub.room_event(room.id, sent(room.id, 2, 1));
    assert_eq!(quiet(), []);
    assert_eq!(quiet(), [(room.id, at(2, 1))]);
}

#[tokio::test]
async fn a_room_that_was_never_read_or_is_under_repair_is_not_quiet() {
    let room = Room::new();
    let _device = room.connecting("alice");
    assert_eq!(room.hub.quiet_rooms(), []);

    let room = Room::new();
    let _device = room.connected("alice", at(1, 0)).await;
    room.hub.room_event(room.id, sent(room.id, 9, 9));
    assert_eq!(room.hub.quiet_rooms(), []);
    assert_eq!(room.hub.ask_repair(room.id), Some(at(1, 0)));
    let nothing = page(room.id, at(1, 0), &[]);
    assert_eq!(
        room.hub.repair(room.id, &at(1, 0), nothing, 1),
        Repair::Ended
    );
    assert_eq!(room.hub.quiet_rooms(), [(room.id, at(1, 0))]);
}

#[tokio::test]
async fn a_lost_last_event_is_repaired_once() {
    // Given a room whose last message did not arrive
    let room = Room::new();
    let alice = room.connected("alice", at(1, 0)).await;

    // When the store is found to be at another position
    room.hub.differs(room.id, &at(1, 0));

    // Then it is fetched, and a difference found meanwhile changes nothing
    assert_eq!(room.hub.repairs.take().await.thing, room.id);
    room.hub.differs(room.id, &at(1, 0));
    assert_eq!(room.hub.ask_repair(room.id), Some(at(1, 0)));
    let missed = page(room.id, at(2, 1), &[1]);
    assert_eq!(
        room.hub.repair(room.id, &at(1, 0), missed, 1),
        Repair::Ended
    );
    room.hub.room_event(room.id, sent(room.id, 2, 1));
    assert_eq!(got(&alice), ["m1"]);
    assert_eq!(room.hub.ask_repair(room.id), None);
}

#[tokio::test]
async fn an_event_that_came_while_the_store_was_asked_was_not_lost() {
    let room = Room::new();
    let alice = room.connected("alice", at(1, 0)).await;
    let (id, asked) = room.hub.quiet_rooms().remove(0);
    room.hub.room_event(room.id, sent(room.id, 2, 1));
    room.hub.differs(id, &asked);
    room.hub.differs(RoomId::random(), &asked);
    assert_eq!(room.hub.ask_repair(room.id), None);
    assert_eq!(got(&alice), ["m1"]);
}
