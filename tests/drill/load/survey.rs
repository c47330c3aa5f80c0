//! The final state, requested by clients that took no part.

use std::{collections::BTreeMap, net::SocketAddr};

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use super::device::message;
use super::wire::{Door, Incoming, Wire};
use crate::checker::record::{DeviceLog, Entry, Message, Step};

/// How many surveyors run at once.
const AT_ONCE: usize = 16;

/// A client of one user that only sends requests.
pub(crate) struct Surveyor {
    wire: Wire,
    user: String,
    list: Value,
    last_id: u64,
}

impl Surveyor {
    /// Connects. All faults are over by then, so it must succeed.
    pub(crate) async fn connect(address: SocketAddr, user: &str) -> Self {
        let wire = Wire::connect(address, Door::Native, user, false).await;
        let mut wire = wire.unwrap_or_else(|| panic!("{user} is not let in after the drill"));
        let list = loop {
            match wire.next().await {
                Incoming::Event(event, data) if event == "chatList" => break data,
                Incoming::Ended => panic!("{user} gets no chat list after the drill"),
                _ => {}
            }
        };
        Self {
            wire,
            user: user.to_owned(),
            list,
            last_id: 0,
        }
    }

    /// Sends a request, and waits for the answer.
    pub(crate) async fn ask(&mut self, event: &str, data: &Value) -> Value {
        self.last_id += 1;
        self.wire.ask(self.last_id, event, data).await;
        loop {
            match self.wire.next().await {
                Incoming::Answer(_, Ok(result)) => return result,
                Incoming::Answer(_, Err(error)) => {
                    panic!("{}: {event} {data} was refused: {error}", self.user)
                }
                Incoming::Ended => panic!("{}: the connection ended", self.user),
                _ => {}
            }
        }
    }

    /// Makes the room with these others, or finds it.
    pub(crate) async fn room(&mut self, others: &[String]) -> String {
        let opened = self
            .ask("initializeChat", &json!({ "participants": others }))
            .await;
        opened["roomId"].as_str().expect("a room id").to_owned()
    }

    /// Sends a message in a room.
    pub(crate) async fn tell(&mut self, room: &str, content: &str) -> Value {
        let data = json!({ "roomId": room, "content": content });
        self.ask("sendMessage", &data).await
    }

    /// Sends this many messages in a room, and returns the log of it.
    pub(crate) async fn say(&mut self, room: &str, count: u64) -> DeviceLog {
        let mut steps = Vec::new();
        for number in 1..=count {
            let content = format!("{} grows the room by {number}", self.user);
            let attempt = self.last_id + 1;
            let ack = self.tell(room, &content).await;
            steps.push(Step::Sent {
                attempt,
                room: room.to_owned(),
                content,
            });
            steps.push(Step::Acked {
                attempt,
                id: ack["id"].as_str().expect("an id").to_owned(),
                seq: ack["seq"].as_u64().expect("a count"),
                duplicate: false,
            });
        }
        DeviceLog {
            name: format!("{}/grower", self.user),
            user: self.user.clone(),
            stayed: false,
            steps,
        }
    }

    /// The whole history of a room, oldest first.
    async fn history(&mut self, room: &str) -> Vec<Message> {
        let mut messages: Vec<Message> = Vec::new();
        loop {
            let mut page = json!({ "roomId": room, "limit": 100 });
            if let Some(first) = messages.first() {
                page["before"] = json!(first.id);
            }
            let page = self.ask("getHistory", &page).await;
            let older = page["messages"].as_array().expect("messages");
            messages.splice(0..0, older.iter().map(message));
            if page["hasMore"] == false {
                return messages;
            }
        }
    }
}

/// Every room's history, read by one of its members.
pub(super) async fn histories(
    address: SocketAddr,
    rooms: &[(String, Vec<String>)],
) -> BTreeMap<String, Vec<Message>> {
    let read = stream::iter(rooms).map(|(room, members)| async move {
        let mut surveyor = Surveyor::connect(address, &members[0]).await;
        (room.clone(), surveyor.history(room).await)
    });
    read.buffer_unordered(AT_ONCE).collect().await
}

/// Every user's chat list.
pub(super) async fn lists(
    address: SocketAddr,
    users: impl IntoIterator<Item = &String>,
) -> BTreeMap<String, Vec<Entry>> {
    let read = stream::iter(users).map(|user| async move {
        let list = Surveyor::connect(address, user).await.list;
        let entries = list.as_array().expect("a list").iter().map(entry);
        (user.clone(), entries.collect())
    });
    read.buffer_unordered(AT_ONCE).collect().await
}

fn entry(entry: &Value) -> Entry {
    let count = |field: &str| entry[field].as_u64().expect("a count");
    Entry {
        room: entry["roomId"].as_str().expect("a room id").to_owned(),
        seq: count("seq"),
        read_seq: count("readSeq"),
        unread: count("unreadCnt"),
    }
}
