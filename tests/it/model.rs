//! Random sequences of events against a plain model of what they mean.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use proptest::{
    collection::vec,
    prelude::{Strategy, any},
    prop_oneof,
    test_runner::{Config, TestCaseError, TestRunner},
};

use crate::support::{Client, Mirror, Redis, Server, Value, code, entry, json, names};

const DEVICES: usize = 5;

/// How long a missing event may take to arrive. A failure is repeated to shrink it, so this is not longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The user of each device: Alice has two, Bob two, Carol one; Dave is never connected, but may be a member.
const OWNERS: [&str; DEVICES] = ["alice", "bob", "alice", "carol", "bob"];
const USERS: [&str; 4] = ["alice", "bob", "carol", "dave"];

/// One action of a device. Rooms and messages are picked among those that exist by then, so that most requests make
/// sense.
#[derive(Clone, Debug)]
enum Step {
    /// Opens a room with the users whose bit is set.
    Open {
        device: usize,
        others: u8,
    },
    Send {
        device: usize,
        room: usize,
    },
    /// Sends the device's last message again, with the same id.
    Repeat {
        device: usize,
    },
    Enter {
        device: usize,
        room: usize,
    },
    Leave {
        device: usize,
    },
    Mark {
        device: usize,
        room: usize,
        message: usize,
    },
    Page {
        device: usize,
        room: usize,
        message: usize,
        limit: usize,
        older: bool,
    },
    Reconnect {
        device: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let device = 0..DEVICES;
    let room = any::<usize>();
    let message = any::<usize>();
    prop_oneof![
        2 => (device.clone(), 1u8..16).prop_map(|(device, others)| Step::Open { device, others }),
        8 => (device.clone(), room).prop_map(|(device, room)| Step::Send { device, room }),
        1 => device.clone().prop_map(|device| Step::Repeat { device }),
        5 => (device.clone(), room).prop_map(|(device, room)| Step::Enter { device, room }),
        2 => device.clone().prop_map(|device| Step::Leave { device }),
        4 => (device.clone(), room, message)
            .prop_map(|(device, room, message)| Step::Mark { device, room, message }),
        2 => (device.clone(), room, message, 1usize..8, any::<bool>()).prop_map(
            |(device, room, message, limit, older)| Step::Page {
                device, room, message, limit, older,
            }
        ),
        1 => device.prop_map(|device| Step::Reconnect { device }),
    ]
}

/// A room as the model knows it.
#[derive(Debug)]
struct Room {
    id: String,
    members: BTreeSet<String>,
    messages: Vec<Message>,
    markers: BTreeMap<String, u64>,
}

#[derive(Debug)]
struct Message {
    id: Value,
    sender: String,
    content: String,
}

impl Room {
    fn seq(&self) -> u64 {
        self.messages.len() as u64
    }

    fn marker(&self, user: &str) -> u64 {
        self.markers.get(user).copied().unwrap_or(0)
    }

    fn read(&mut self, user: &str, seq: u64) {
        let marker = self.markers.entry(user.into()).or_default();
        *marker = (*marker).max(seq);
    }

    fn readers(&self, seq: u64) -> Vec<String> {
        self.members
            .iter()
            .filter(|user| self.marker(user) >= seq)
            .cloned()
            .collect()
    }

    /// Checks that a message from the server is the model's.
    fn check(&self, message: &Value) {
        let seq = message["seq"].as_u64().expect("a seq");
        let kept = &self.messages[usize::try_from(seq).expect("an index") - 1];
        assert_eq!(message["id"], kept.id);
        assert_eq!(message["senderId"], kept.sender.as_str());
        assert_eq!(message["content"], kept.content.as_str());
        assert_eq!(
            names(&message["readBy"]),
            self.readers(seq),
            "readers of {seq}"
        );
        assert_eq!(message["readCount"], self.readers(seq).len());
    }
}

/// The whole test case: the model and the devices.
struct World<'a> {
    server: &'a Server,
    /// The suffix of every user's name, so that each case has users of its own.
    case: String,
    rooms: Vec<Room>,
    /// The room that each device views.
    views: [Option<usize>; DEVICES],
    last_sent: [Option<(usize, u64)>; DEVICES],
    devices: Vec<(Client, Mirror)>,
    sends: u64,
}

impl<'a> World<'a> {
    async fn new(server: &'a Server, case: &str) -> Self {
        let mut devices = Vec::new();
        for owner in OWNERS {
            let user = format!("{owner}-{case}");
            let device = Client::connect_delta(server, &user).await;
            let books = Mirror::new(&user, &device.first_list);
            devices.push((device, books));
        }
        Self {
            server,
            case: case.into(),
            rooms: Vec::new(),
            views: [None; DEVICES],
            last_sent: [None; DEVICES],
            devices,
            sends: 0,
        }
    }

    fn user(&self, device: usize) -> String {
        format!("{}-{}", OWNERS[device], self.case)
    }

    /// Sends a request, and records whatever comes meanwhile.
    async fn ask(&mut self, device: usize, event: &str, data: Value) -> Result<Value, Value> {
        self.devices[device].0.request(event, data).await
    }

    /// The room that is meant, and whether the device's user may do anything in it.
    fn pick(&self, device: usize, room: usize) -> Option<(usize, String, bool)> {
        let index = room.checked_rem(self.rooms.len())?;
        let room = &self.rooms[index];
        Some((
            index,
            room.id.clone(),
            room.members.contains(&self.user(device)),
        ))
    }

    async fn run(&mut self, step: &Step) {
        match *step {
            Step::Open { device, others } => self.open(device, others).await,
            Step::Send { device, room } => {
                if let Some((room, id, allowed)) = self.pick(device, room) {
                    self.send(device, room, &id, allowed).await;
                }
            }
            Step::Repeat { device } => self.repeat(device).await,
            Step::Enter { device, room } => {
                if let Some((room, id, allowed)) = self.pick(device, room) {
                    self.enter(device, room, &id, allowed).await;
                }
            }
            Step::Leave { device } => {
                self.views[device] = None;
                assert_eq!(
                    self.ask(device, "leaveChat", Value::Null).await,
                    Ok(json!({}))
                );
            }
            Step::Mark {
                device,
                room,
                message,
            } => {
                if let Some((room, id, allowed)) = self.pick(device, room) {
                    self.mark(device, room, &id, allowed, message).await;
                }
            }
            Step::Page {
                device,
                room,
                message,
                limit,
                older,
            } => {
                if let Some((room, id, true)) = self.pick(device, room) {
                    self.page(device, room, &id, message, limit, older).await;
                }
            }
            Step::Reconnect { device } => self.reconnect(device).await,
        }
    }

    async fn open(&mut self, device: usize, others: u8) {
        let user = self.user(device);
        let participants: Vec<String> = (0..USERS.len())
            .filter(|bit| others & 1 << bit != 0)
            .map(|bit| format!("{}-{}", USERS[bit], self.case))
            .collect();
        let mut members: BTreeSet<String> = participants.iter().cloned().collect();
        members.insert(user);
        let answer = self
            .ask(
                device,
                "initializeChat",
                json!({ "participants": participants }),
            )
            .await;
        if members.len() < 2 {
            assert_eq!(code(&answer.expect_err("alone")), "INVALID_PAYLOAD");
            return;
        }
        let answer = answer.expect("a room");
        let id = answer["roomId"].as_str().expect("a room id").to_owned();
        let existing = self
            .rooms
            .iter()
            .find(|room| room.members == members && members.len() == 2);
        assert_eq!(answer["created"], existing.is_none());
        match existing {
            Some(room) => assert_eq!(room.id, id),
            None => {
                assert!(self.rooms.iter().all(|room| room.id != id));
                let messages = Vec::new();
                self.rooms.push(Room {
                    id,
                    members,
                    messages,
                    markers: BTreeMap::new(),
                });
            }
        }
    }

    async fn send(&mut self, device: usize, room: usize, id: &str, allowed: bool) {
        self.sends += 1;
        let number = self.sends;
        let content = format!("number {number}");
        let data =
            json!({ "roomId": id, "content": content, "clientMessageId": number.to_string() });
        let answer = self.ask(device, "sendMessage", data).await;
        if !allowed {
            assert_eq!(code(&answer.expect_err("no member")), "NOT_MEMBER");
            return;
        }
        let ack = answer.expect("sent");
        let sender = self.user(device);
        let viewers: Vec<String> = (0..DEVICES)
            .filter(|viewer| self.views[*viewer] == Some(room))
            .map(|viewer| self.user(viewer))
            .collect();
        let kept = &mut self.rooms[room];
        kept.messages.push(Message {
            id: ack["id"].clone(),
            sender: sender.clone(),
            content,
        });
        let seq = kept.seq();
        assert_eq!(
            (&ack["seq"], &ack["duplicate"]),
            (&json!(seq), &json!(false))
        );
        for reader in viewers.iter().chain([&sender]) {
            kept.read(reader, seq);
        }
        self.last_sent[device] = Some((room, number));
    }

    async fn repeat(&mut self, device: usize) {
        let Some((room, number)) = self.last_sent[device] else {
            return;
        };
        let data = json!({
            "roomId": self.rooms[room].id,
            "content": "something else",
            "clientMessageId": number.to_string(),
        });
        let ack = self
            .ask(device, "sendMessage", data)
            .await
            .expect("a member");
        assert_eq!(ack["duplicate"], true);
        let content = format!("number {number}");
        let kept = self.rooms[room]
            .messages
            .iter()
            .position(|it| it.content == content);
        let kept = kept.expect("it was sent");
        assert_eq!(ack["seq"], kept + 1);
        assert_eq!(ack["id"], self.rooms[room].messages[kept].id);
    }

    async fn enter(&mut self, device: usize, room: usize, id: &str, allowed: bool) {
        let answer = self
            .ask(device, "enterChat", json!({ "roomId": id, "limit": 5 }))
            .await;
        if !allowed {
            assert_eq!(code(&answer.expect_err("no member")), "NOT_MEMBER");
            return;
        }
        let ack = answer.expect("entered");
        let user = self.user(device);
        let kept = &mut self.rooms[room];
        let seq = kept.seq();
        kept.read(&user, seq);
        self.views[device] = Some(room);
        assert_eq!(
            (&ack["seq"], &ack["hasMore"]),
            (&json!(seq), &json!(seq > 5))
        );
        let history = self.devices[device].0.until("chatHistory", |_| true).await;
        let history = history.as_array().expect("messages");
        assert_eq!(history.len() as u64, seq.min(5));
        history
            .iter()
            .for_each(|message| self.rooms[room].check(message));
    }

    async fn mark(&mut self, device: usize, room: usize, id: &str, allowed: bool, message: usize) {
        let Some(message) = message.checked_rem(self.rooms[room].messages.len()) else {
            return;
        };
        let message_id = self.rooms[room].messages[message].id.clone();
        let data = json!({ "roomId": id, "messageId": message_id });
        let answer = self.ask(device, "markAsRead", data).await;
        if !allowed {
            assert_eq!(code(&answer.expect_err("no member")), "NOT_MEMBER");
            return;
        }
        let user = self.user(device);
        let kept = &mut self.rooms[room];
        kept.read(&user, message as u64 + 1);
        let read = kept.marker(&user);
        let expected = json!({ "roomId": id, "readSeq": read, "unreadCnt": kept.seq() - read });
        assert_eq!(answer, Ok(expected));
    }

    async fn page(
        &mut self,
        device: usize,
        room: usize,
        id: &str,
        message: usize,
        limit: usize,
        older: bool,
    ) {
        let count = self.rooms[room].messages.len();
        let Some(message) = message.checked_rem(count) else {
            return;
        };
        let direction = if older { "before" } else { "after" };
        let message_id = self.rooms[room].messages[message].id.clone();
        let data = json!({ "roomId": id, direction: message_id, "limit": limit });
        let page = self.ask(device, "getHistory", data).await.expect("a page");
        // Positions in the model's list.
        let expected = if older {
            message.saturating_sub(limit)..message
        } else {
            message + 1..count.min(message + 1 + limit)
        };
        let more = if older {
            expected.start > 0
        } else {
            expected.end < count
        };
        let messages = page["messages"].as_array().expect("messages");
        let seqs: Vec<_> = messages.iter().map(|it| it["seq"].as_u64()).collect();
        assert_eq!(
            seqs,
            expected.map(|at| Some(at as u64 + 1)).collect::<Vec<_>>()
        );
        assert_eq!(page["hasMore"], more);
        messages
            .iter()
            .for_each(|message| self.rooms[room].check(message));
    }

    async fn reconnect(&mut self, device: usize) {
        // Leaving first: when a closed connection stops viewing is up to the server, and another test checks it.
        assert_eq!(
            self.ask(device, "leaveChat", Value::Null).await,
            Ok(json!({}))
        );
        self.views[device] = None;
        self.check_device(device).await;
        let user = self.user(device);
        let fresh = Client::connect_delta(self.server, &user).await;
        let books = Mirror::new(&user, &fresh.first_list);
        books.assert_agrees(&self.expected_list(device));
        let (old, _) = std::mem::replace(&mut self.devices[device], (fresh, books));
        old.disconnect().await;
    }

    /// The counts that a device's list must show.
    fn expected_list(&self, device: usize) -> Value {
        let user = self.user(device);
        let rooms = self
            .rooms
            .iter()
            .filter(|room| room.members.contains(&user));
        rooms
            .map(|room| {
                let (seq, read) = (room.seq(), room.marker(&user));
                json!({ "roomId": room.id, "seq": seq, "readSeq": read, "unreadCnt": seq - read })
            })
            .collect()
    }

    /// Checks that a device was notified of everything, in order, and that its list says the same.
    async fn check_device(&mut self, device: usize) {
        let expected = self.expected_list(device);
        let user = self.user(device);
        let (client, books) = &mut self.devices[device];
        // A message in a room that was just made may come by a repair, which no fence waits for.
        let deadline = Instant::now() + PATIENCE;
        loop {
            client
                .settle()
                .await
                .iter()
                .for_each(|frame| books.apply(frame));
            if books.difference(&expected).is_none() || Instant::now() > deadline {
                break;
            }
        }
        books.assert_agrees(&expected);
        let list = client.list().await;
        books.assert_agrees(&list);
        for room in self
            .rooms
            .iter()
            .filter(|room| room.members.contains(&user))
        {
            let entry = entry(&list, &room.id);
            assert_eq!(entry["isGroupChat"], room.members.len() > 2);
            match room.messages.last() {
                Some(_) => room.check(&entry["lastMessage"]),
                None => assert_eq!(entry["lastMessage"], Value::Null),
            }
        }
    }

    async fn check_all(&mut self) {
        for device in 0..DEVICES {
            self.check_device(device).await;
            for room in 0..self.rooms.len() {
                if self.rooms[room].members.contains(&self.user(device)) {
                    let id = self.rooms[room].id.clone();
                    let history = self.devices[device].0.history(&id).await;
                    assert_eq!(history.len(), self.rooms[room].messages.len());
                    history
                        .iter()
                        .for_each(|message| self.rooms[room].check(message));
                }
            }
        }
    }
}

#[test]
fn any_sequence_of_events_does_what_the_model_does() {
    static CASES: AtomicU64 = AtomicU64::new(0);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.expect("a runtime");
    let redis = runtime.block_on(Redis::start());
    // Nothing that is lost comes back by itself within the test.
    let server = Server::on(&redis).env("QUIET_ROOM_CHECK_MS", "3600000");
    let server = runtime.block_on(server.start());
    let config = Config {
        cases: 60,
        max_shrink_iters: 200,
        max_shrink_time: 60_000,
        failure_persistence: None,
        ..Config::default()
    };
    let sequences = vec(step(), 1..60);
    let outcome = TestRunner::new(config).run(&sequences, |steps| {
        let case = CASES.fetch_add(1, Ordering::Relaxed).to_string();
        runtime.block_on(async {
            let mut world = World::new(&server, &case).await;
            for step in &steps {
                world.run(step).await;
            }
            world.check_all().await;
        });
        Ok::<(), TestCaseError>(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}\n{}", server.log);
    }
}
