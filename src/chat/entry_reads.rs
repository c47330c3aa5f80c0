//! Parts of chat lists that are to be read from the store: in turn, a few calls at once. Each call also reads what
//! others wait for in the same rooms.
//!
//! When everybody reconnects at once, the members of a room all wait for its entry. The room is then read once for all
//! of them: a call costs the store what its rooms cost, however many users it serves.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

use crate::error::ChatError;
use crate::protocol::ids::{RoomId, UserId};
use crate::room::PositionedEntry;
use crate::store::lists::{ListAnswer, ListCall, ListChunk, READERS_MAX, Reader};

/// Concurrent calls. Redis processes them one after another anyway.
pub const AT_ONCE: usize = 4;

type Outcome = Result<ListChunk, ChatError>;

/// The parts that are to be read. Bounded by the number of readers: each waits for one part at a time.
#[derive(Default)]
pub struct EntryReads {
    queue: Mutex<Queue>,
    added: Notify,
}

/// A call to make now. [`EntryReads::end`] has to follow.
pub struct Turn {
    pub call: ListCall,
    ask: AskId,
    /// The asks of the call's readers, one for each.
    asks_of_readers: Vec<AskId>,
}

impl EntryReads {
    /// What [`get_chat_list`](crate::store::Store::get_chat_list) reads, read after this moment. Waits for its turn.
    /// `None` if the server stops first.
    pub async fn read(&self, user: &UserId, rooms: &[RoomId], want_index: bool) -> Option<Outcome> {
        let (answer, outcome) = oneshot::channel();
        self.lock().add(Ask {
            user: user.clone(),
            rooms: rooms.to_vec(),
            missing: 0,
            read: HashMap::with_capacity(rooms.len()),
            index: if want_index {
                Index::Wanted
            } else {
                Index::Unwanted
            },
            answer,
        });
        self.added.notify_one();
        outcome.await.ok()
    }

    /// The next call to make; waits for one. For a single consumer.
    pub async fn take(&self) -> Turn {
        loop {
            if let Some(turn) = self.lock().take() {
                return turn;
            }
            self.added.notified().await;
        }
    }

    /// Hands out the call's result to all who waited for it.
    pub fn end(&self, turn: Turn, outcome: Result<ListAnswer, ChatError>) {
        self.lock().end(turn, outcome);
        self.added.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // No code under this lock panics halfway through a change.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Numbers the asks in order of arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct AskId(u64);

/// A part that somebody waits for.
struct Ask {
    user: UserId,
    rooms: Vec<RoomId>,
    /// How many of the rooms have not been read yet.
    missing: usize,
    read: HashMap<RoomId, Option<PositionedEntry>>,
    index: Index,
    answer: oneshot::Sender<Outcome>,
}

/// The ids of all rooms of the user.
enum Index {
    Unwanted,
    Wanted,
    /// A call in progress reads them.
    Asked,
    Read(Vec<RoomId>),
}

impl Ask {
    fn is_complete(&self) -> bool {
        let has_index = matches!(self.index, Index::Unwanted | Index::Read(_));
        has_index && self.missing == 0
    }

    /// Answers with what was read.
    fn finish(mut self) {
        let entry = |room| self.read.remove(room).flatten();
        let entries = self.rooms.iter().map(entry).collect();
        let index = match self.index {
            Index::Read(index) => index,
            _ => Vec::new(),
        };
        // A reader that has disconnected meanwhile does not listen.
        let _ = self.answer.send(Ok(ListChunk { index, entries }));
    }
}

#[derive(Default)]
struct Queue {
    asks: HashMap<AskId, Ask>,
    /// The asks that still need a call, oldest first. Some are answered before their turn.
    order: VecDeque<AskId>,
    /// Readers waiting for a room that no call in progress reads for them.
    waiting: HashMap<RoomId, BTreeSet<AskId>>,
    last: u64,
}

impl Queue {
    fn add(&mut self, mut ask: Ask) {
        self.last += 1;
        let id = AskId(self.last);
        for room in &ask.rooms {
            // A room that was named twice is read once.
            if self.waiting.entry(*room).or_default().insert(id) {
                ask.missing += 1;
            }
        }
        self.asks.insert(id, ask);
        self.order.push_back(id);
        self.answer_if_complete(id);
    }

    fn take(&mut self) -> Option<Turn> {
        while let Some(id) = self.order.pop_front() {
            let Some(ask) = self.asks.get_mut(&id) else {
                continue;
            };
            if ask.answer.is_closed() {
                self.remove(id);
                continue;
            }
            let user = ask.user.clone();
            let want_index = matches!(ask.index, Index::Wanted);
            if want_index {
                ask.index = Index::Asked;
            }
            let mut rooms = ask.rooms.clone();
            rooms.retain(|room| self.stop_waiting(*room, id));
            if rooms.is_empty() && !want_index {
                // Calls in progress read everything that is missing.
                continue;
            }
            let (readers, asks_of_readers) = self.join(&rooms);
            let call = ListCall {
                user,
                rooms,
                want_index,
                readers,
            };
            return Some(Turn {
                call,
                ask: id,
                asks_of_readers,
            });
        }
        None
    }

    /// The readers that wait for these rooms too, oldest first, as many as a call may serve.
    fn join(&mut self, rooms: &[RoomId]) -> (Vec<Reader>, Vec<AskId>) {
        let (mut readers, mut asks) = (Vec::new(), Vec::new());
        for (place, room) in rooms.iter().enumerate() {
            let free = READERS_MAX - readers.len();
            let waiting = self.waiting.get(room).into_iter().flatten();
            for id in waiting.take(free).copied().collect::<Vec<_>>() {
                let ask = self.asks.get(&id).filter(|ask| !ask.answer.is_closed());
                if let Some(user) = ask.map(|ask| ask.user.clone()) {
                    self.stop_waiting(*room, id);
                    readers.push(Reader { place, user });
                    asks.push(id);
                }
            }
        }
        (readers, asks)
    }

    fn end(&mut self, turn: Turn, outcome: Result<ListAnswer, ChatError>) {
        let Turn {
            call,
            ask,
            asks_of_readers,
        } = turn;
        let for_readers = match outcome {
            Ok(ListAnswer { chunk, for_readers }) => {
                self.give_own(ask, &call, chunk);
                for_readers
            }
            Err(error) => {
                if let Some(ask) = self.remove(ask) {
                    let _ = ask.answer.send(Err(error));
                }
                Vec::new()
            }
        };
        let mut for_readers = for_readers.into_iter();
        for (reader, id) in call.readers.iter().zip(asks_of_readers) {
            let room = call.rooms[reader.place];
            match for_readers.next().flatten() {
                Some(entry) => self.give(id, room, Some(entry)),
                // A call of their own will report why there is none.
                None => self.wait_again(id, room),
            }
        }
    }

    fn give_own(&mut self, id: AskId, call: &ListCall, chunk: ListChunk) {
        if let Some(ask) = self.asks.get_mut(&id).filter(|_| call.want_index) {
            ask.index = Index::Read(chunk.index);
        }
        for (room, entry) in call.rooms.iter().zip(chunk.entries) {
            self.give(id, *room, entry);
        }
        self.answer_if_complete(id);
    }

    fn give(&mut self, id: AskId, room: RoomId, entry: Option<PositionedEntry>) {
        if let Some(ask) = self.asks.get_mut(&id) {
            if ask.read.insert(room, entry).is_none() {
                ask.missing -= 1;
            }
            self.answer_if_complete(id);
        }
    }

    fn answer_if_complete(&mut self, id: AskId) {
        if self.asks.get(&id).is_some_and(Ask::is_complete)
            && let Some(ask) = self.asks.remove(&id)
        {
            ask.finish();
        }
    }

    /// The call that was to read the room for this ask did not: the ask is the next to get a call.
    fn wait_again(&mut self, id: AskId, room: RoomId) {
        if self.asks.contains_key(&id) {
            self.waiting.entry(room).or_default().insert(id);
            self.order.push_front(id);
        }
    }

    /// Whether the ask waited for the room.
    fn stop_waiting(&mut self, room: RoomId, id: AskId) -> bool {
        let Entry::Occupied(mut waiting) = self.waiting.entry(room) else {
            return false;
        };
        let waited = waiting.get_mut().remove(&id);
        if waiting.get().is_empty() {
            waiting.remove();
        }
        waited
    }

    fn remove(&mut self, id: AskId) -> Option<Ask> {
        let ask = self.asks.remove(&id)?;
        for room in &ask.rooms {
            self.stop_waiting(*room, id);
        }
        Some(ask)
    }
}

#[cfg(test)]
mod tests;
