//! What may happen, at any moment.

use std::time::Duration;

use proptest::prelude::*;

use super::client::Ask;
use super::{World, rooms, user};
use crate::hub::device::ListMode;
use crate::hub::published::{Change, RoomEvent};
use crate::protocol::ids::RoomId;
use crate::room::{Position, Topic};

/// Numbers stand for users, rooms and devices; a device number is taken modulo the number of devices.
#[derive(Debug, Clone)]
pub(super) enum Operation {
    Join {
        user: usize,
        full: bool,
    },
    Leave {
        device: usize,
    },
    AskList {
        device: usize,
    },
    AskPage {
        device: usize,
        room: usize,
    },
    Make {
        device: usize,
        room: usize,
        other: usize,
    },
    /// Somebody becomes a member of a room, which may have messages already.
    Add {
        room: usize,
        user: usize,
    },
    Send {
        room: usize,
        user: usize,
    },
    Mark {
        room: usize,
        user: usize,
    },
    /// The last changes are lost.
    SetBack {
        room: usize,
        changes: usize,
    },
    /// Another history replaces the room's.
    Replace {
        room: usize,
    },
    Remove {
        room: usize,
    },
    /// Somebody publishes an event that is not in the store.
    Stray {
        room: usize,
        stray: Stray,
    },
    /// The next events are lost.
    Lose {
        events: usize,
    },
    /// The connection that hears breaks.
    Reconnect,
    /// Redis ends the subscription to a room.
    Unsubscribe {
        room: usize,
    },
    /// What is published from now on arrives this much later.
    Lag {
        ms: u64,
    },
    /// How long calls take, there and back.
    Latency {
        there_ms: u64,
        back_ms: u64,
    },
    Refuse(bool),
    Read {
        device: usize,
    },
    Wait {
        ms: u64,
    },
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Stray {
    /// Its `rev` is this far ahead.
    Ahead(u64),
    /// Its `rev` was passed this long ago.
    Behind(u64),
    OfAnotherEpoch,
}

pub(super) fn operations() -> impl Strategy<Value = Vec<Operation>> {
    prop::collection::vec(operation(), 0..60)
}

/// What may happen while nothing is lost: events arrive later and later, or all at once.
pub(super) fn lateness() -> impl Strategy<Value = Vec<Operation>> {
    let (user, room, device) = (0..3_usize, 0..3_usize, 0..8_usize);
    let operation = prop_oneof![
        2 => user.clone().prop_map(|user| Operation::Join { user, full: false }),
        2 => device.clone().prop_map(|device| Operation::AskList { device }),
        2 => (device, room.clone()).prop_map(|(device, room)| Operation::AskPage { device, room }),
        8 => (room.clone(), user.clone()).prop_map(|(room, user)| Operation::Send { room, user }),
        2 => (room, user).prop_map(|(room, user)| Operation::Mark { room, user }),
        4 => (0..1_000_u64).prop_map(|ms| Operation::Wait { ms }),
        2 => (0..4_000_u64).prop_map(|ms| Operation::Lag { ms }),
        1 => (0..300_u64, 0..300_u64)
            .prop_map(|(there_ms, back_ms)| Operation::Latency { there_ms, back_ms }),
    ];
    prop::collection::vec(operation, 0..40)
}

fn operation() -> impl Strategy<Value = Operation> {
    let (user, room, device) = (0..3_usize, 0..3_usize, 0..8_usize);
    let stray = prop_oneof![
        (1..4_u64).prop_map(Stray::Ahead),
        (0..4_u64).prop_map(Stray::Behind),
        Just(Stray::OfAnotherEpoch),
    ];
    let people = prop_oneof![
        3 => (user.clone(), any::<bool>()).prop_map(|(user, full)| Operation::Join { user, full }),
        1 => device.clone().prop_map(|device| Operation::Leave { device }),
        2 => device.clone().prop_map(|device| Operation::AskList { device }),
        2 => (device.clone(), room.clone()).prop_map(|(device, room)| Operation::AskPage { device, room }),
        3 => (device.clone(), room.clone(), 0..2_usize)
            .prop_map(|(device, room, other)| Operation::Make { device, room, other }),
        1 => (room.clone(), user.clone()).prop_map(|(room, user)| Operation::Add { room, user }),
        8 => (room.clone(), user.clone()).prop_map(|(room, user)| Operation::Send { room, user }),
        3 => (room.clone(), user).prop_map(|(room, user)| Operation::Mark { room, user }),
        1 => device.prop_map(|device| Operation::Read { device }),
        8 => (0..2_000_u64).prop_map(|ms| Operation::Wait { ms }),
    ];
    let faults = prop_oneof![
        2 => (room.clone(), 1..4_usize).prop_map(|(room, changes)| Operation::SetBack { room, changes }),
        1 => room.clone().prop_map(|room| Operation::Replace { room }),
        1 => room.clone().prop_map(|room| Operation::Remove { room }),
        2 => (room.clone(), stray).prop_map(|(room, stray)| Operation::Stray { room, stray }),
        2 => (1..3_usize).prop_map(|events| Operation::Lose { events }),
        1 => Just(Operation::Reconnect),
        1 => room.prop_map(|room| Operation::Unsubscribe { room }),
        3 => (0..3_000_u64).prop_map(|ms| Operation::Lag { ms }),
        3 => (0..300_u64, 0..300_u64)
            .prop_map(|(there_ms, back_ms)| Operation::Latency { there_ms, back_ms }),
        1 => any::<bool>().prop_map(Operation::Refuse),
    ];
    prop_oneof![3 => people, 1 => faults]
}

impl World {
    pub(super) async fn perform(&mut self, operation: &Operation) {
        match *operation {
            Operation::Join { user, full } => {
                let mode = if full {
                    ListMode::Full
                } else {
                    ListMode::Delta
                };
                self.connect(user, mode);
            }
            Operation::Leave { device } => self.leave(device),
            Operation::AskList { device } => self.ask(device, Ask::List),
            Operation::AskPage { device, room } => self.ask(device, Ask::Page(rooms()[room])),
            Operation::Make {
                device,
                room,
                other,
            } => self.ask(device, Ask::Make(rooms()[room], other)),
            Operation::Read { device } => {
                if let Some(client) = self.client(device) {
                    client.read();
                }
            }
            Operation::Wait { ms } => tokio::time::sleep(Duration::from_millis(ms)).await,
            _ => self.disturb(operation),
        }
    }

    /// What happens in Redis and on the way to it.
    fn disturb(&self, operation: &Operation) {
        let server = &self.server;
        let mut store = server.store.borrow_mut();
        match *operation {
            Operation::Add { room, user: index } => {
                let (room, user) = (rooms()[room], user(index));
                if let Some(gained) = store.add(room, &user) {
                    server.wire.gained(&user, &gained);
                }
            }
            Operation::Send { room, user: index } => {
                let event = store.send(rooms()[room], &user(index));
                self.publish(rooms()[room], event);
            }
            Operation::Mark { room, user: index } => {
                let event = store.mark(rooms()[room], &user(index));
                self.publish(rooms()[room], event);
            }
            Operation::SetBack { room, changes } => store.set_back(rooms()[room], changes),
            Operation::Replace { room } => store.replace(rooms()[room]),
            Operation::Remove { room } => store.remove(rooms()[room]),
            Operation::Stray { room, stray } => {
                let position = store.position(rooms()[room]);
                self.publish(rooms()[room], position.map(|at| stray_at(at, stray)));
            }
            Operation::Lose { events } => server.wire.to_lose.set(events),
            Operation::Reconnect => server.wire.reconnect(&server.hub),
            Operation::Unsubscribe { room } => server.wire.end(Topic::Room(rooms()[room])),
            Operation::Lag { ms } => server.wire.lag.set(Duration::from_millis(ms)),
            Operation::Latency { there_ms, back_ms } => {
                let latency = [there_ms, back_ms].map(Duration::from_millis);
                server.latency.set(latency.into());
            }
            Operation::Refuse(refuses) => server.refuses.set(refuses),
            _ => {}
        }
    }

    fn publish(&self, room: RoomId, event: Option<RoomEvent>) {
        if let Some(event) = event {
            self.server.wire.event(room, event);
        }
    }
}

fn stray_at(at: Position, stray: Stray) -> RoomEvent {
    let position = match stray {
        Stray::Ahead(by) => Position {
            rev: at.rev + by,
            ..at
        },
        Stray::Behind(by) => Position {
            rev: at.rev.saturating_sub(by),
            ..at
        },
        Stray::OfAnotherEpoch => Position {
            epoch: "another".into(),
            ..at
        },
    };
    RoomEvent {
        position,
        change: Change::Unknown,
    }
}
