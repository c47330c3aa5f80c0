//! The hub under arbitrary events, with a plain store in place of Redis and a clock of its own.
//!
//! What a server does with the hub is done here too: the subscriber's connection, which lags, loses and breaks; the
//! calls, which take time and are refused; sessions and upkeep. When everything has come to rest, every device has to
//! have what the store has, and the store must no longer be called.

#![allow(clippy::unwrap_used)]

mod client;
mod found;
mod operations;
mod server;
mod store;
mod wire;

use std::rc::Rc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use tokio::runtime::Builder;
use tokio::task::LocalSet;
use tokio::time::sleep;
use uuid::Uuid;

use self::client::{Ask, Client};
use self::operations::{Operation, lateness, operations};
use self::server::{Call, QUIET_ROOM_CHECK, Server};
use crate::hub::device::ListMode;
use crate::protocol::ids::{RoomId, UserId};

/// Long enough for three comparisons, and everything that they find.
const REST: Duration = Duration::from_secs(180);
/// Far longer than the longest pause between two attempts.
const QUIET: Duration = Duration::from_secs(300);
const DEVICES_MAX: usize = 8;
/// The most calls that each event may cost, back-off included.
const CALLS_EACH: usize = 40;

const NAMES: [&str; 3] = ["alice", "bob", "carol"];

fn user(index: usize) -> UserId {
    UserId::parse(NAMES[index % NAMES.len()]).unwrap()
}

fn other_than(one: &UserId, index: usize) -> UserId {
    let others = (0..NAMES.len()).map(user).filter(|other| other != one);
    others.cycle().nth(index).unwrap()
}

fn rooms() -> [RoomId; 3] {
    [1, 2, 3].map(|number| RoomId::parse(&Uuid::from_u128(number).to_string()).unwrap())
}

struct World {
    server: Rc<Server>,
    clients: Vec<Client>,
}

impl World {
    fn connect(&mut self, index: usize, mode: ListMode) {
        if self.clients.len() < DEVICES_MAX {
            let client = Client::connect(&self.server, &user(index), mode);
            self.clients.extend(client);
        }
    }

    fn client(&self, index: usize) -> Option<&Client> {
        self.clients.get(index % self.clients.len().max(1))
    }

    fn leave(&mut self, index: usize) {
        if !self.clients.is_empty() {
            self.clients.remove(index % self.clients.len());
        }
    }

    fn ask(&self, index: usize, ask: Ask) {
        if let Some(client) = self.client(index) {
            client.ask(ask);
        }
    }

    /// Nothing happens any more, and no fault persists.
    async fn come_to_rest(&mut self) {
        self.server.refuses.set(false);
        self.server.wire.lag.set(Duration::ZERO);
        self.server.wire.to_lose.set(0);
        self.server
            .latency
            .set((Duration::from_millis(1), Duration::from_millis(1)));
        sleep(REST).await;
        self.clients.retain(|client| !client.refused.get());
    }

    /// What does not hold.
    async fn flaws(&mut self, happened: usize) -> Vec<String> {
        self.come_to_rest().await;
        let calls = self.server.calls();
        let mut flaws = Vec::new();
        if calls > CALLS_EACH * (happened + 10) {
            flaws.push(format!("{calls} calls for {happened} things that happened"));
        }
        if self.server.given_up.get() > 0 {
            flaws.push(format!(
                "{} answers were given up",
                self.server.given_up.get()
            ));
        }
        for client in &self.clients {
            client.read();
            if client.open.get() > 0 {
                flaws.push(format!("{} requests are not answered", client.open.get()));
            }
            flaws.extend(client.flaws(&self.server.store.borrow()));
        }
        if flaws.is_empty() {
            flaws.extend(self.restlessness().await);
        }
        flaws
    }

    /// Work that goes on though nothing happens.
    async fn restlessness(&self) -> Option<String> {
        let before = self.server.calls();
        let compared = self.server.calls_of(Call::Compare);
        sleep(QUIET).await;
        let compared = self.server.calls_of(Call::Compare) - compared;
        let others = self.server.calls() - before - compared;
        let comparisons_max = QUIET.as_secs() / QUIET_ROOM_CHECK.as_secs() + 1;
        (others > 0 || compared as u64 > comparisons_max).then(|| {
            format!("{compared} comparisons and {others} other calls while nothing happened")
        })
    }
}

/// What does not hold after these operations.
fn flaws_after(operations: &[Operation]) -> Vec<String> {
    in_a_world(async |mut world| {
        for operation in operations {
            world.perform(operation).await;
        }
        world.flaws(operations.len()).await
    })
}

/// How often rooms were repaired during these operations, in rooms that everybody was in before.
fn repairs_after(operations: &[Operation]) -> usize {
    in_a_world(async |mut world| {
        for index in 0..NAMES.len() {
            world.connect(index, ListMode::Delta);
            world.connect(index, ListMode::Full);
            for room in rooms() {
                // They are in the first lists.
                let mut store = world.server.store.borrow_mut();
                let _ = (
                    store.make(room, &[user(0), user(1)]),
                    store.add(room, &user(index)),
                );
            }
        }
        sleep(REST).await;
        let before = world.server.calls_of(Call::Sync);
        for operation in operations {
            world.perform(operation).await;
        }
        world.come_to_rest().await;
        world.server.calls_of(Call::Sync) - before
    })
}

fn in_a_world<T>(case: impl AsyncFnOnce(World) -> T) -> T {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let world = async {
        let world = World {
            server: Server::start(),
            clients: Vec::new(),
        };
        case(world).await
    };
    LocalSet::new().block_on(&runtime, world)
}

proptest! {
    #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(13), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_every_device_gets_what_the_store_has_and_the_store_is_left_alone(
        operations in operations()
    ) {
        let flaws = flaws_after(&operations);
        prop_assert!(flaws.is_empty(), "{}", flaws.join("\n"));
    }

    #[test]
    fn what_is_only_late_costs_no_repair(operations in lateness()) {
        prop_assert_eq!(repairs_after(&operations), 0);
    }
}
