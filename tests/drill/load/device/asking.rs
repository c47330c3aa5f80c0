//! What a device requests, and what it does with the answers.

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    Device, LONGEST_PAUSE, SHORTEST_PAUSE,
    following::{Room, text},
};
use crate::checker::record::Step;
use crate::load::{board::Orders, wire::Wire};

/// How many sends of one device may be in flight at once.
const WINDOW: usize = 4;
/// How many messages a device writes ahead while nothing can be sent.
const OUTBOX_MAX: usize = 20;
/// One in this many messages has no `clientMessageId`, so it cannot be sent again.
const WITHOUT_ID_EVERY: u64 = 4;
/// One in this many messages is sent again although it was acked.
const REPEAT_EVERY: u64 = 7;
/// Errors after which the same request may succeed.
const PASSING: &[&str] = &["UNAVAILABLE", "TIMEOUT", "RATE_LIMITED", "INTERNAL"];

/// A message that it wants to have stored.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    number: u64,
    room: String,
    content: String,
    client_id: Option<String>,
}

/// A request that has not been answered yet.
pub(super) enum Asked {
    Send(Letter),
    Mark { room: String, seq: u64 },
    Page { room: String, after: u64, anew: u64 },
}

/// Requests and answers.
impl Device {
    pub(super) fn write_a_letter(&mut self) {
        let there = self.rooms.iter().filter(|(_, room)| !room.gone);
        let rooms: Vec<&String> = there.map(|(id, _)| id).collect();
        if rooms.is_empty() || self.outbox.len() >= OUTBOX_MAX {
            return;
        }
        self.written += 1;
        let number = self.written;
        let room = rooms[number as usize % rooms.len()].clone();
        let name = &self.log.name;
        let with_id = !number.is_multiple_of(WITHOUT_ID_EVERY);
        self.outbox.push_back(Letter {
            number,
            room,
            content: format!("{name} says {number}{}", " ".repeat(self.plan.padding)),
            client_id: with_id.then(|| format!("{}-{number}", self.plan.number)),
        });
    }

    /// Requests the pages, marks and sends that are due.
    pub(super) async fn ask_what_is_due(&mut self, wire: &mut Wire) {
        if !self.greeted || Instant::now() < self.not_before {
            return;
        }
        for (page, data) in self.pages_due() {
            self.ask(wire, "getHistory", page, data).await;
        }
        while let Some((room, message, seq)) = self.marks.pop_front() {
            let data = json!({ "roomId": room, "messageId": message });
            self.ask(wire, "markAsRead", Asked::Mark { room, seq }, data)
                .await;
        }
        while self.sends_under_way() < WINDOW {
            let again = self.again.pop_front();
            let Some(letter) = again.or_else(|| self.outbox.pop_front()) else {
                return;
            };
            self.send(wire, letter).await;
        }
    }

    /// Requests a page for each room that is behind.
    fn pages_due(&mut self) -> Vec<(Asked, Value)> {
        let behind = |(_, room): &(&String, &mut Room)| room.behind && !room.asked;
        let page = |(id, room): (&String, &mut Room)| {
            room.asked = true;
            let data = json!({ "roomId": id, "after": room.newest, "limit": 100 });
            let (room, after, anew) = (id.clone(), room.has, room.anew);
            (Asked::Page { room, after, anew }, data)
        };
        self.rooms.iter_mut().filter(behind).map(page).collect()
    }

    fn sends_under_way(&self) -> usize {
        let sends = self.asked.values();
        sends
            .filter(|asked| matches!(asked, Asked::Send(_)))
            .count()
    }

    async fn send(&mut self, wire: &mut Wire, letter: Letter) {
        let mut data = json!({ "roomId": letter.room, "content": letter.content });
        if let Some(client_id) = &letter.client_id {
            data["clientMessageId"] = json!(client_id);
        }
        self.log.steps.push(Step::Sent {
            attempt: self.last_id + 1,
            room: letter.room.clone(),
            content: letter.content.clone(),
        });
        self.ask(wire, "sendMessage", Asked::Send(letter), data)
            .await;
    }

    /// Ids continue over all connections, so that an attempt's id is unique.
    async fn ask(&mut self, wire: &mut Wire, event: &'static str, asked: Asked, data: Value) {
        self.last_id += 1;
        let request = self.last_id;
        self.log.steps.push(Step::Asked { request, event });
        self.asked.insert(request, asked);
        wire.ask(request, event, &data).await;
    }

    pub(super) fn answered(&mut self, id: u64, answer: Result<Value, Value>) {
        self.log.steps.push(Step::Answered { request: id });
        let Some(asked) = self.asked.remove(&id) else {
            return;
        };
        let code = answer.as_ref().err().map(|error| text(&error["code"]));
        if code.is_some_and(|code| PASSING.contains(&code.as_str())) {
            self.not_before = Instant::now() + self.pause;
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        } else {
            self.pause = SHORTEST_PAUSE;
        }
        match (asked, answer) {
            (Asked::Send(letter), Ok(ack)) => self.send_acked(id, letter, &ack),
            (Asked::Send(letter), Err(error)) => self.send_failed(id, letter, text(&error["code"])),
            (Asked::Mark { room, .. }, Ok(ack)) => {
                let seq = ack["readSeq"].as_u64().expect("a count");
                self.log.steps.push(Step::Marked { room, seq });
            }
            (Asked::Mark { room, seq }, Err(_)) => {
                self.log.steps.push(Step::MaybeMarked { room, seq });
            }
            (Asked::Page { room, after, anew }, answer) => {
                self.page_answered(&room, after, anew, answer);
            }
        }
    }

    fn send_acked(&mut self, attempt: u64, letter: Letter, ack: &Value) {
        let seq = ack["seq"].as_u64().expect("a count");
        let duplicate = ack["duplicate"] == true;
        self.board.head(&letter.room, seq);
        self.board.count(|counts| counts.acked += 1);
        self.log.steps.push(Step::Acked {
            attempt,
            id: text(&ack["id"]),
            seq,
            duplicate,
        });
        let sends = matches!(*self.orders.borrow(), Orders::Send);
        let repeats = letter.number.is_multiple_of(REPEAT_EVERY) && letter.client_id.is_some();
        if sends && repeats && !duplicate {
            self.again.push_back(letter);
        }
    }

    fn send_failed(&mut self, attempt: u64, letter: Letter, code: String) {
        let code_says_again = PASSING.contains(&code.as_str());
        if matches!(code.as_str(), "TIMEOUT" | "INTERNAL") {
            self.board.count(|counts| counts.unknown += 1);
            self.log.steps.push(Step::Unknown { attempt });
        } else {
            self.board.count(|counts| counts.refused += 1);
            self.log.steps.push(Step::Refused { attempt, code });
        }
        if code_says_again {
            self.send_again(letter);
        }
    }

    fn send_again(&mut self, letter: Letter) {
        let room = self.rooms.get(&letter.room);
        if letter.client_id.is_some() && room.is_some_and(|room| !room.gone) {
            self.again.push_back(letter);
        }
    }

    /// The outcome of what was in flight when the connection ended is unknown.
    pub(super) fn ended(&mut self) {
        self.greeted = false;
        self.board.set_idle(self.plan.number, false);
        for (attempt, asked) in std::mem::take(&mut self.asked) {
            match asked {
                Asked::Send(letter) => {
                    self.board.count(|counts| counts.unknown += 1);
                    self.log.steps.push(Step::Unknown { attempt });
                    self.send_again(letter);
                }
                Asked::Mark { room, seq } => {
                    self.log.steps.push(Step::MaybeMarked { room, seq });
                }
                Asked::Page { .. } => {}
            }
        }
        for room in self.rooms.values_mut() {
            (room.asked, room.behind) = (false, false);
        }
        self.log.steps.push(Step::Disconnected);
    }
}
