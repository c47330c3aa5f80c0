#![allow(clippy::unwrap_used)]
use proptest::prelude::*;

use super::*;
use crate::error::ErrorCode;
use crate::protocol::ids::MessageId;
use crate::room::{ListedRoom, Position, RoomFacts};

const USERS: usize = 5;
const ROOMS: usize = 6;

/// An entry's rev is the number of its reading.
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
    /// The call in progress with this number, modulo how many there are, succeeds. Some of its readers get no entry.
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
    /// Readings that began before it asked.
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
