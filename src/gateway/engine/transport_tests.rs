#![allow(clippy::unwrap_used)]
use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

const PATIENCE: Duration = Duration::from_secs(45);

/// A session with its client, in simulation: numbers stand for packets.
struct World {
    transport: Transport,
    now: Instant,
    /// What is queued for the client, and the next number.
    queue: VecDeque<u32>,
    next: u32,
    /// The answer that the connection has not taken yet.
    answer: Option<Vec<u32>>,
    /// What the client has received.
    got: Vec<u32>,
    /// How much the client has sent, and how much of it the server has received.
    sent: u32,
    inbox: Vec<u32>,
    has_moved: bool,
    has_ended: bool,
}

/// What may happen, at any moment.
#[derive(Debug, Clone)]
enum Step {
    Queue(u32),
    Poll,
    /// The connection takes the answer.
    Take,
    Post(u32),
    /// The steps of the WebSocket: it is opened, carries something, the client announces that it moves, it closes.
    Open,
    Agree,
    Move,
    GiveUp,
    Wait(u64),
}

impl World {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            transport: Transport::new(PATIENCE, now),
            now,
            queue: VecDeque::new(),
            next: 0,
            answer: None,
            got: Vec::new(),
            sent: 0,
            inbox: Vec::new(),
            has_moved: false,
            has_ended: false,
        }
    }

    fn after(steps: impl IntoIterator<Item = Step>) -> Self {
        let mut world = Self::new();
        world.go_all(steps);
        world
    }

    fn go_all(&mut self, steps: impl IntoIterator<Item = Step>) {
        steps.into_iter().for_each(|step| self.go(step));
    }

    fn go(&mut self, step: Step) {
        if self.has_ended {
            return;
        }
        match step {
            Step::Queue(count) => {
                self.queue.extend(self.next..self.next + count);
                self.next += count;
            }
            Step::Wait(ms) => self.wait(Duration::from_millis(ms)),
            Step::Post(count) if self.has_moved => self.send(count),
            _ if self.has_moved => {}
            Step::Poll => match self.transport.poll() {
                Ok(()) => {}
                Err(Refused::Moved) => assert!(self.is_moving()),
                Err(Refused::Overlap) => self.has_ended = true,
            },
            Step::Take => {
                if let Some(answer) = self.answer.take() {
                    self.got.extend(answer);
                    self.transport.taken(self.now);
                }
            }
            Step::Post(count) => match self.transport.stays() {
                Ok(()) => self.send(count),
                // It learns that, and sends the packet over the WebSocket.
                Err(refused) => assert!(refused == Refused::Moved && self.is_moving()),
            },
            Step::Open => drop(self.transport.open_upgrade(self.now)),
            Step::Agree => self.transport.agree(),
            Step::Move if self.transport.is_agreed() => self.transport.begin_move(),
            Step::GiveUp if !self.is_moving() => self.transport.give_up_upgrade(),
            Step::Move | Step::GiveUp => {}
        }
        self.settle();
    }

    fn is_moving(&self) -> bool {
        matches!(self.transport.upgrade, Upgrade::Moving)
    }

    fn send(&mut self, count: u32) {
        self.inbox.extend(self.sent..self.sent + count);
        self.sent += count;
    }

    /// What the session's task does before it waits.
    fn settle(&mut self) {
        if self.has_moved {
            return self.got.extend(self.queue.drain(..));
        }
        let packets = match self.transport.wanted() {
            Wanted::Nothing => None,
            Wanted::Packets if self.queue.is_empty() => None,
            Wanted::Packets | Wanted::PacketsOrNoop => Some(self.queue.drain(..).collect()),
            Wanted::Noop => Some(Vec::new()),
        };
        if let Some(packets) = packets {
            assert!(self.answer.replace(packets).is_none(), "two answers");
            self.transport.answered(self.now);
        }
        if self.transport.has_moved() {
            assert!(self.answer.is_none(), "an answer is on its way");
            self.has_moved = true;
            self.settle();
        }
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while !self.has_moved
            && !self.has_ended
            && let Some(deadline) = self
                .transport
                .deadline()
                .filter(|deadline| *deadline <= end)
        {
            self.now = self.now.max(deadline);
            let late = self.transport.pass(self.now);
            assert_ne!(late, Late::Nothing, "a deadline at which nothing ends");
            self.has_ended = late == Late::Session;
            self.settle();
        }
        self.now = end;
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..4_u32).prop_map(Step::Queue),
        4 => Just(Step::Poll),
        4 => Just(Step::Take),
        3 => (1..4_u32).prop_map(Step::Post),
        1 => Just(Step::Open),
        1 => Just(Step::Agree),
        1 => Just(Step::Move),
        1 => Just(Step::GiveUp),
        1 => (0..20_000_u64).prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_packet_goes_once_and_in_its_order(steps in prop::collection::vec(step(), 0..60)) {
        let world = World::after(steps);
        // Towards the client: what it has, what is in transit, what is queued
        let answer = world.answer.clone().unwrap_or_default();
        let all: Vec<u32> = world.got.iter().chain(&answer).chain(&world.queue).copied().collect();
        prop_assert_eq!(all, (0..world.next).collect::<Vec<_>>());
        // Towards the server
        prop_assert_eq!(world.inbox, (0..world.sent).collect::<Vec<_>>());
    }

    #[test]
    fn whatever_a_client_stops_at_its_session_ends(steps in prop::collection::vec(step(), 0..60)) {
        let mut world = World::after(steps);
        // A ping ends the wait of a poll; its answer is never read
        world.go(Step::Queue(1));
        world.go(Step::Wait(PATIENCE.as_millis().try_into().unwrap()));
        prop_assert!(world.has_ended || world.has_moved, "{:?}", world.transport);
    }
}

#[test]
fn a_client_moves_as_clients_do() {
    // Given a poll that waits, when the WebSocket carries the probe, then the poll ends with a noop
    let mut world = World::after([Step::Poll, Step::Open, Step::Agree]);
    assert_eq!(world.answer, Some(Vec::new()));
    // And so does a poll that was in transit meanwhile, or one that delivers what is queued
    world.go_all([Step::Take, Step::Queue(2), Step::Poll]);
    assert_eq!(world.answer, Some(vec![0, 1]));
    world.go_all([Step::Take, Step::Poll, Step::Take]);
    // When the client moves, then what follows is sent over the WebSocket
    world.go_all([Step::Move, Step::Queue(1)]);
    assert!(world.has_moved);
    assert_eq!(world.got, [0, 1, 2]);
}

#[test]
fn what_is_under_way_comes_before_what_goes_over_the_websocket() {
    // Given a client that moves while its last answer is in transit
    let moves = [
        Step::Open,
        Step::Agree,
        Step::Queue(2),
        Step::Poll,
        Step::Move,
    ];
    let mut world = World::after(moves);
    world.go(Step::Queue(1));
    assert!(!world.has_moved);
    assert!(world.got.is_empty());
    assert_eq!(world.transport.poll(), Err(Refused::Moved));
    assert_eq!(world.transport.stays(), Err(Refused::Moved));
    // Then it has moved once it has received that answer
    world.go(Step::Take);
    assert!(world.has_moved);
    assert_eq!(world.got, [0, 1, 2]);
}

#[test]
fn a_second_poll_ends_the_session() {
    assert!(World::after([Step::Poll, Step::Poll]).has_ended);
    assert!(World::after([Step::Queue(1), Step::Poll, Step::Poll]).has_ended);
    // Neither a post, nor the next WebSocket
    let next = [
        Step::Poll,
        Step::Post(1),
        Step::Queue(1),
        Step::Take,
        Step::Poll,
    ];
    assert!(!World::after(next).has_ended);
}

#[test]
fn a_websocket_that_comes_to_nothing_leaves_the_polling_as_it_was() {
    for stops_at in [vec![Step::Open], vec![Step::Open, Step::Agree]] {
        let mut world = World::after(stops_at);
        world.go(Step::Wait(PROBE_TIMEOUT.as_millis().try_into().unwrap()));
        assert!(!world.has_ended);
        // Then a poll waits again
        world.go(Step::Poll);
        assert_eq!(world.answer, None);
        // And there may be another attempt, but never two at once
        assert_eq!(world.transport.open_upgrade(world.now), Ok(()));
        assert_eq!(world.transport.open_upgrade(world.now), Err(Refused::Moved));
    }
}
