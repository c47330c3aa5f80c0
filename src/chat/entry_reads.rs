//! Parts of chat lists that are to be read from the store: in turn, a few calls at once, and each call also reads what
//! others wait for in the same rooms.
//!
//! When everybody comes back at once, the members of a room all wait for its entry. The room is read once for all of them
//! then: a call costs the store what its rooms cost, however many users it serves.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

use crate::error::ChatError;
use crate::protocol::ids::{RoomId, UserId};
use crate::room::PositionedEntry;
use crate::store::lists::{ListAnswer, ListCall, ListChunk, READERS_MAX, Reader};

/// Calls that are made at once. Redis does one after the other anyway.
pub const AT_ONCE: usize = 4;

type Outcome = Result<ListChunk, ChatError>;

/// The parts that are to be read. Bounded by those who ask: each waits for one part at a time.
#[derive(Default)]
pub struct EntryReads {
    queue: Mutex<Queue>,
    added: Notify,
}

/// A call to make now. [`EntryReads::end`] has to follow.
pub struct Turn {
    pub call: ListCall,
    ask: AskId,
    /// For each of the call's readers.
    asks_of_readers: Vec<AskId>,
}

impl EntryReads {
    /// What [`get_chat_list`](crate::store::Store::get_chat_list) reads, read after this moment. Waits its turn. `None` if
    /// the server ends before.
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

    /// The next call to make; waits for one. For a single taker.
    pub async fn take(&self) -> Turn {
        loop {
            if let Some(turn) = self.lock().take() {
                return turn;
            }
            self.added.notified().await;
        }
    }

    /// Hands out what the call brought to all who waited for it.
    pub fn end(&self, turn: Turn, outcome: Result<ListAnswer, ChatError>) {
        self.lock().end(turn, outcome);
        self.added.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing in here panics half-way through a change.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Numbers asks in the order in which they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct AskId(u64);

/// A part that somebody waits for.
struct Ask {
    user: UserId,
    rooms: Vec<RoomId>,
    /// How many of them are not read yet.
    missing: usize,
    read: HashMap<RoomId, Option<PositionedEntry>>,
    index: Index,
    answer: oneshot::Sender<Outcome>,
}

/// The ids of all rooms of the user.
enum Index {
    Unwanted,
    Wanted,
    /// A call under way reads them.
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
        // A reader that has gone meanwhile does not listen.
        let _ = self.answer.send(Ok(ListChunk { index, entries }));
    }
}

#[derive(Default)]
struct Queue {
    asks: HashMap<AskId, Ask>,
    /// Those for which a call is to be made, the oldest first. Some are answered before their turn comes.
    order: VecDeque<AskId>,
    /// Readers that wait for a room that no call under way reads for them.
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
                // Calls under way read all that is missing.
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

    /// Those who wait for these rooms too, the oldest first, as many as a call may serve.
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
                // A call of their own tells why there is none.
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

    /// The call that was to read the room for this ask did not: it is the next to have a call made.
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
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::error::ErrorCode;
    use crate::protocol::ids::MessageId;
    use crate::room::{ListedRoom, Position, RoomFacts};

    const USERS: usize = 5;
    const ROOMS: usize = 6;

    /// An entry has the number of its reading as its rev.
    fn entry(room: RoomId, reading: u64, user: &UserId) -> PositionedEntry {
        let listed = ListedRoom {
            id: room,
            facts: RoomFacts {
                is_group: true,
                name: user.as_str().to_owned(),
                member_count: 2,
                members: Vec::new(),
            },
            position: Position {
                epoch: "e".into(),
                rev: reading,
                seq: 0,
                last_id: MessageId::NONE,
            },
            available: true,
            last_message: None,
            active_at_ms: 0,
        };
        listed.entry_for(user.as_str(), 0)
    }

    fn ask(user: &UserId, rooms: &[RoomId], want_index: bool) -> (Ask, oneshot::Receiver<Outcome>) {
        let (answer, outcome) = oneshot::channel();
        let ask = Ask {
            user: user.clone(),
            rooms: rooms.to_vec(),
            missing: 0,
            read: HashMap::new(),
            index: if want_index {
                Index::Wanted
            } else {
                Index::Unwanted
            },
            answer,
        };
        (ask, outcome)
    }

    #[derive(Debug, Clone)]
    enum Step {
        Ask {
            user: usize,
            rooms: u8,
            index: bool,
        },
        Take,
        /// The call under way with this number, modulo how many there are, succeeds. Of its readers some get no entry.
        Succeed {
            call: usize,
            without: usize,
        },
        Fail {
            call: usize,
        },
        /// The ask with this number goes away.
        Leave {
            ask: usize,
        },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0..USERS, any::<u8>(), any::<bool>())
                .prop_map(|(user, rooms, index)| Step::Ask { user, rooms, index }),
            4 => Just(Step::Take),
            3 => (any::<usize>(), 0..4usize).prop_map(|(call, without)| Step::Succeed { call, without }),
            1 => any::<usize>().prop_map(|call| Step::Fail { call }),
            1 => any::<usize>().prop_map(|ask| Step::Leave { ask }),
        ];
        prop::collection::vec(step, 0..60)
    }

    struct Waiting {
        user: UserId,
        rooms: Vec<RoomId>,
        index: bool,
        /// Readings that were begun before it asked.
        before: u64,
        outcome: oneshot::Receiver<Outcome>,
    }

    impl Waiting {
        fn check(&mut self) -> bool {
            let Ok(outcome) = self.outcome.try_recv() else {
                return false;
            };
            let Ok(chunk) = outcome else {
                return true;
            };
            assert_eq!(chunk.index.is_empty(), !self.index);
            assert_eq!(chunk.entries.len(), self.rooms.len());
            for (room, read) in self.rooms.iter().zip(chunk.entries) {
                let read = read.unwrap();
                assert_eq!(read.entry.room_id, *room);
                assert!(
                    read.position.rev > self.before,
                    "read before it was asked for"
                );
                let name = read.entry.group.unwrap().group_name;
                assert_eq!(name, self.user.as_str(), "somebody else's entry");
            }
            true
        }
    }

    fn answer(call: &ListCall, reading: u64, without: usize) -> ListAnswer {
        let own = |room: &RoomId| Some(entry(*room, reading, &call.user));
        let reader = |(number, reader): (usize, &Reader)| {
            let room = call.rooms[reader.place];
            (number >= without).then(|| entry(room, reading, &reader.user))
        };
        ListAnswer {
            chunk: ListChunk {
                index: vec![RoomId::random(); usize::from(call.want_index)],
                entries: call.rooms.iter().map(own).collect(),
            },
            for_readers: call.readers.iter().enumerate().map(reader).collect(),
        }
    }

    proptest! {
        #[test]
        fn every_ask_is_answered_once_with_what_was_read_after_it(steps in steps()) {
            let users: Vec<UserId> = (0..USERS).map(|_| UserId::random()).collect();
            let rooms: Vec<RoomId> = (0..ROOMS).map(|_| RoomId::random()).collect();
            let (mut queue, mut reading) = (Queue::default(), 0);
            let (mut waiting, mut calls): (Vec<Waiting>, Vec<(Turn, u64)>) = (Vec::new(), Vec::new());
            let take = |queue: &mut Queue, calls: &mut Vec<(Turn, u64)>, reading: &mut u64| {
                let Some(turn) = queue.take() else { return };
                *reading += 1;
                assert!(turn.call.want_index || !turn.call.rooms.is_empty(), "a call for nothing");
                calls.push((turn, *reading));
            };
            for step in steps {
                match step {
                    Step::Ask { user, rooms: chosen, index } => {
                        let of = rooms.iter().enumerate();
                        let of = of.filter(|(place, _)| chosen & (1 << place) != 0);
                        let of: Vec<RoomId> = of.map(|(_, room)| *room).collect();
                        let (ask, outcome) = ask(&users[user], &of, index);
                        queue.add(ask);
                        waiting.push(Waiting {
                            user: users[user].clone(), rooms: of, index, before: reading, outcome,
                        });
                    }
                    Step::Take => take(&mut queue, &mut calls, &mut reading),
                    Step::Succeed { call, without } if !calls.is_empty() => {
                        let (turn, reading) = calls.swap_remove(call % calls.len());
                        let answer = answer(&turn.call, reading, without);
                        queue.end(turn, Ok(answer));
                    }
                    Step::Fail { call } if !calls.is_empty() => {
                        let (turn, _) = calls.swap_remove(call % calls.len());
                        queue.end(turn, Err(ChatError::new(ErrorCode::Timeout, "slow")));
                    }
                    Step::Leave { ask } if !waiting.is_empty() => {
                        waiting.swap_remove(ask % waiting.len());
                    }
                    _ => {}
                }
                waiting.retain_mut(|waiting| !waiting.check());
            }
            // All calls end, and those that follow succeed.
            let mut turns = 0;
            while !waiting.is_empty() || !calls.is_empty() {
                turns += 1;
                prop_assert!(turns < 1000, "somebody waits for ever");
                take(&mut queue, &mut calls, &mut reading);
                for (turn, reading) in calls.drain(..) {
                    let answer = answer(&turn.call, reading, 0);
                    queue.end(turn, Ok(answer));
                }
                waiting.retain_mut(|waiting| !waiting.check());
            }
            while queue.take().is_some() {}
            prop_assert!(queue.asks.is_empty() && queue.waiting.is_empty(), "something is kept for nobody");
        }
    }

    #[test]
    fn a_room_for_which_many_wait_is_read_once() {
        let mut queue = Queue::default();
        let rooms: Vec<RoomId> = (0..100).map(|_| RoomId::random()).collect();
        let add = |queue: &mut Queue| {
            let (ask, outcome) = ask(&UserId::random(), &rooms, false);
            queue.add(ask);
            outcome
        };
        let outcomes: Vec<_> = (0..11).map(|_| add(&mut queue)).collect();
        let turn = queue.take().unwrap();
        assert_eq!(turn.call.rooms.len(), 100);
        assert_eq!(turn.call.readers.len(), 1000, "of all ten others");
        assert!(queue.take().is_none(), "nothing is left to read");
        // A reader that asks now is too late for that.
        let late = add(&mut queue);
        let answer = answer(&turn.call, 1, 0);
        queue.end(turn, Ok(answer));
        for mut outcome in outcomes {
            assert_eq!(outcome.try_recv().unwrap().unwrap().entries.len(), 100);
        }
        assert_eq!(queue.take().unwrap().call.rooms.len(), 100);
        drop(late);
    }

    #[test]
    fn a_call_serves_a_bounded_number_of_others() {
        let mut queue = Queue::default();
        let rooms: Vec<RoomId> = (0..100).map(|_| RoomId::random()).collect();
        let mut outcomes = Vec::new();
        for _ in 0..40 {
            let (ask, outcome) = ask(&UserId::random(), &rooms, false);
            queue.add(ask);
            outcomes.push(outcome);
        }
        let turn = queue.take().unwrap();
        assert_eq!(turn.call.readers.len(), READERS_MAX);
        // 26 rooms are read for all 39 others, one more for the ten oldest of them; the rest in the next call.
        assert_eq!(queue.take().unwrap().call.rooms.len(), 73);
    }

    #[test]
    fn a_room_that_is_named_twice_is_read_once() {
        let mut queue = Queue::default();
        let room = RoomId::random();
        let (ask, mut outcome) = ask(&UserId::random(), &[room, room], false);
        queue.add(ask);
        let turn = queue.take().unwrap();
        let answer = answer(&turn.call, 1, 0);
        queue.end(turn, Ok(answer));
        let entries = outcome.try_recv().unwrap().unwrap().entries;
        assert_eq!(entries.iter().flatten().count(), 1);
    }
}
