//! One device that does as the protocol advises: it reconnects when its connection ends, catches up with `getHistory`,
//! and sends again what was not acked.

mod asking;
mod following;

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until},
};

use self::asking::{Asked, Letter};
use self::following::Room;
pub(super) use self::following::message;
use super::board::{Board, Goal, Orders};
use super::wire::{Door, Incoming, Wire};
use crate::checker::record::DeviceLog;

const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// The properties of a device.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) number: usize,
    pub(crate) user: String,
    pub(crate) door: Door,
    /// Whether it gets whole chat lists.
    pub(crate) full: bool,
    /// The servers, beginning with the one to try first.
    pub(crate) servers: Vec<SocketAddr>,
    pub(crate) send_every: Duration,
    /// The bytes of padding in a message besides its text.
    pub(crate) padding: usize,
    /// How long it stays connected before it drops the connection, and how long it then stays away.
    pub(crate) away: Option<(Duration, Duration)>,
}

/// A device over all its connections.
pub(crate) struct Device {
    plan: Plan,
    board: Arc<Board>,
    orders: watch::Receiver<Orders>,
    goals: watch::Receiver<Option<Goal>>,
    goal: Option<Goal>,
    log: DeviceLog,
    rooms: BTreeMap<String, Room>,
    outbox: VecDeque<Letter>,
    again: VecDeque<Letter>,
    marks: VecDeque<(String, String, u64)>,
    asked: BTreeMap<u64, Asked>,
    greeted: bool,
    connected_at: Instant,
    last_id: u64,
    written: u64,
    pause: Duration,
    not_before: Instant,
    left: bool,
}

impl Device {
    pub(crate) fn new(plan: Plan, board: Arc<Board>) -> Self {
        let log = DeviceLog {
            name: format!("{}/{}", plan.user, plan.number),
            user: plan.user.clone(),
            stayed: true,
            steps: Vec::new(),
        };
        Self {
            plan,
            orders: board.orders.subscribe(),
            goals: board.goal.subscribe(),
            board,
            goal: None,
            log,
            rooms: BTreeMap::new(),
            outbox: VecDeque::new(),
            again: VecDeque::new(),
            marks: VecDeque::new(),
            asked: BTreeMap::new(),
            greeted: false,
            connected_at: Instant::now(),
            last_id: 0,
            written: 0,
            pause: SHORTEST_PAUSE,
            not_before: Instant::now(),
            left: false,
        }
    }

    /// Runs until it is asked to leave. Returns what it did and saw.
    pub(crate) async fn run(mut self) -> DeviceLog {
        let servers = self.plan.servers.clone();
        for address in servers.into_iter().cycle() {
            self.consider_leaving();
            if self.left {
                break;
            }
            let Plan {
                door, user, full, ..
            } = &self.plan;
            match Wire::connect(address, *door, user, *full).await {
                Some(wire) => self.stay(wire).await,
                None => self.take_a_pause().await,
            }
        }
        self.log
    }

    async fn take_a_pause(&mut self) {
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    /// One connection, from beginning to end.
    async fn stay(&mut self, mut wire: Wire) {
        self.connected_at = wire.since;
        let mut pace = interval(self.plan.send_every);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let away = self.plan.away;
        let leaves_at = Instant::now() + away.map_or(Duration::ZERO, |(stays, _)| stays);
        loop {
            self.ask_what_is_due(&mut wire).await;
            self.board.set_idle(self.plan.number, self.is_idle());
            self.consider_leaving();
            if self.left {
                return wire.close().await;
            }
            let sends = self.greeted && matches!(*self.orders.borrow(), Orders::Send);
            let deadline = self.deadline();
            tokio::select! {
                incoming = wire.next() => match incoming {
                    Incoming::Event(event, data) => self.take(&event, data),
                    Incoming::Answer(id, answer) => self.answered(id, answer),
                    Incoming::Ping => wire.pong().await,
                    Incoming::Ended => break,
                },
                _ = pace.tick(), if sends => self.write_a_letter(),
                _ = self.orders.changed() => {}
                _ = self.goals.changed() => self.goal = self.goals.borrow_and_update().clone(),
                () = sleep_until(self.not_before), if self.waits_for_its_pause() => {}
                () = sleep_until(deadline.unwrap_or(leaves_at)), if deadline.is_some() => {}
                () = sleep_until(leaves_at), if away.is_some() && sends => break,
            }
            self.check_goal();
        }
        drop(wire);
        self.ended();
        match away {
            Some((_, lasting)) if Instant::now() >= leaves_at => sleep(lasting).await,
            _ => self.take_a_pause().await,
        }
    }

    fn waits_for_its_pause(&self) -> bool {
        let something = self.rooms.values().any(|room| room.behind && !room.asked);
        let due = something || !self.again.is_empty() || !self.outbox.is_empty();
        due && Instant::now() < self.not_before
    }

    fn is_idle(&self) -> bool {
        let settled = self.rooms.values().all(|room| !room.behind);
        let nothing_to_send = self.again.is_empty() && self.outbox.is_empty();
        self.greeted && settled && nothing_to_send && self.asked.is_empty()
    }

    fn deadline(&self) -> Option<Instant> {
        match *self.orders.borrow() {
            Orders::Leave(_, deadline) => Some(deadline),
            _ => None,
        }
    }

    /// Leaves if it was asked to and has everything, or if it is too late to wait for that.
    fn consider_leaving(&mut self) {
        let Orders::Leave(heads, deadline) = self.orders.borrow().clone() else {
            return;
        };
        let whole = self.is_idle() && self.has_reached(&heads);
        self.left = whole || Instant::now() >= deadline;
    }

    fn has_reached(&self, heads: &BTreeMap<String, u64>) -> bool {
        let mut rooms = self.rooms.iter();
        rooms.all(|(id, room)| room.has >= heads.get(id).copied().unwrap_or(0))
    }

    fn check_goal(&mut self) {
        if self
            .goal
            .as_ref()
            .is_some_and(|goal| self.has_reached(&goal.heads))
            && let Some(goal) = self.goal.take()
        {
            self.board.repaired(goal.since.elapsed());
        }
    }
}
