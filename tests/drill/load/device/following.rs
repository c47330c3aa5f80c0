//! What a device knows of its rooms, and how it keeps that up to date.

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Device, SHORTEST_PAUSE};
use crate::checker::record::{Message, Step};
use crate::load::board::Orders;

/// After every so many messages that arrive, the newest is marked as read.
const MARK_EVERY: u64 = 5;
/// The cursor before a room's first message.
const START: &str = "0-0";

/// What it knows of a room.
#[derive(Default)]
pub(super) struct Room {
    /// It has all messages up to this one, from where it joined.
    pub(super) has: u64,
    pub(super) newest: String,
    /// The last message that was pushed on this connection.
    pub(super) live: u64,
    /// There is more to be fetched.
    pub(super) behind: bool,
    pub(super) behind_since: Option<Instant>,
    pub(super) asked: bool,
    /// It was reset, and its entry has not come yet.
    pub(super) gone: bool,
    /// How often it was reset.
    pub(super) anew: u64,
    pub(super) seen: u64,
}

/// Events and pages.
impl Device {
    pub(super) fn take(&mut self, event: &str, data: Value) {
        match event {
            "chatList" if self.greeted => {
                let entries = data.as_array().expect("a list");
                entries.iter().for_each(|entry| self.hear_of(entry));
            }
            "chatList" => self.greet(&data),
            "chatEntry" => self.hear_of(&data),
            "newMessage" => self.see(message(&data)),
            "error" if data["code"] == "HISTORY_RESET" => self.reset(&text(&data["roomId"])),
            _ => {}
        }
    }

    /// The first list of a connection: it has each room's position, and so shows what was missed.
    fn greet(&mut self, list: &Value) {
        self.greeted = true;
        self.pause = SHORTEST_PAUSE;
        self.board.count(|counts| counts.connected += 1);
        let entries = list.as_array().expect("a list");
        let listed = |room: &str| entries.iter().any(|entry| entry["roomId"] == room);
        let gone: Vec<String> = self
            .rooms
            .keys()
            .filter(|room| !listed(room))
            .cloned()
            .collect();
        gone.iter().for_each(|room| self.reset(room));
        for entry in entries {
            let id = text(&entry["roomId"]);
            let seq = entry["seq"].as_u64().expect("a count");
            let newest = entry["lastMessage"]["id"].as_str().unwrap_or(START);
            match self.rooms.get_mut(&id) {
                Some(room) if !room.gone => {
                    room.live = seq;
                    room.behind = room.newest != newest;
                    room.behind_since = Some(self.connected_at);
                    self.log.steps.push(Step::Began { room: id, seq });
                }
                _ => self.hear_of(entry),
            }
        }
    }

    /// The entry of a room that is new here, or of one that was reset and has to be loaded from its beginning.
    fn hear_of(&mut self, entry: &Value) {
        let id = text(&entry["roomId"]);
        let seq = entry["seq"].as_u64().expect("a count");
        let known = self.rooms.contains_key(&id);
        let room = self.rooms.entry(id.clone()).or_default();
        if known && !room.gone {
            return;
        }
        let newest = if known {
            START
        } else {
            entry["lastMessage"]["id"].as_str().unwrap_or(START)
        };
        *room = Room {
            has: if known { 0 } else { seq },
            newest: newest.to_owned(),
            live: seq,
            behind: known,
            behind_since: room.behind_since,
            anew: room.anew,
            ..Room::default()
        };
        self.log.steps.push(Step::Began { room: id, seq });
    }

    fn see(&mut self, message: Message) {
        let room = self.rooms.entry(message.room.clone()).or_default();
        room.live = message.seq;
        if message.seq == room.has + 1 {
            room.has = message.seq;
            room.newest.clone_from(&message.id);
        }
        room.seen += 1;
        let sends = matches!(*self.orders.borrow(), Orders::Send);
        if sends && room.seen.is_multiple_of(MARK_EVERY) {
            let mark = (message.room.clone(), message.id.clone(), message.seq);
            self.marks.push_back(mark);
        }
        self.log.steps.push(Step::Saw(message));
    }

    /// What it has of a room no longer counts; the room's entry is still to come.
    fn reset(&mut self, id: &str) {
        if let Some(room) = self.rooms.get_mut(id).filter(|room| !room.gone) {
            *room = Room {
                gone: true,
                behind_since: Some(Instant::now()),
                anew: room.anew + 1,
                ..Room::default()
            };
            self.board.count(|counts| counts.resets += 1);
            let room = id.to_owned();
            self.log.steps.push(Step::Reset { room });
        }
    }

    pub(super) fn page_answered(
        &mut self,
        id: &str,
        after: u64,
        anew: u64,
        answer: Result<Value, Value>,
    ) {
        let room = self.rooms.get_mut(id).expect("a room that was asked for");
        if room.anew != anew {
            return;
        }
        room.asked = false;
        match answer {
            Ok(page) => self.take_page(id, after, &page),
            Err(error) if error["code"] == "HISTORY_RESET" => {
                // The connection began with the new history, so its entry has already arrived.
                let seq = room.live;
                self.reset(id);
                self.hear_of(&json!({ "roomId": id, "seq": seq }));
            }
            Err(error) if error["code"] == "NOT_MEMBER" => self.reset(id),
            // The pause is on, and the room is still behind.
            Err(_) => {}
        }
    }

    fn take_page(&mut self, id: &str, after: u64, page: &Value) {
        let messages = page["messages"].as_array().expect("messages");
        let messages: Vec<Message> = messages.iter().map(message).collect();
        let room = self.rooms.get_mut(id).expect("a room that was asked for");
        if let Some(last) = messages.last()
            && last.seq > room.has
        {
            room.has = last.seq;
            room.newest.clone_from(&last.id);
        }
        room.behind = page["hasMore"] == true;
        if let Some(since) = room.behind_since.filter(|_| !room.behind) {
            self.board.repaired(since.elapsed());
        }
        self.log.steps.push(Step::Page {
            room: id.to_owned(),
            after,
            messages,
        });
    }
}

/// Reads a message as the protocol defines it.
pub(in crate::load) fn message(data: &Value) -> Message {
    Message {
        room: text(&data["roomId"]),
        id: text(&data["id"]),
        seq: data["seq"].as_u64().expect("a count"),
        sender: text(&data["senderId"]),
        content: text(&data["content"]),
    }
}

pub(super) fn text(value: &Value) -> String {
    value.as_str().expect("a string").to_owned()
}
