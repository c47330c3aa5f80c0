//! Load: rooms full of devices over two servers, with both protocols, and everything that is known about it afterwards.

pub(crate) mod board;
pub(crate) mod crowd;
pub(crate) mod device;
mod rest;
pub(crate) mod survey;
pub(crate) mod wire;

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{task::JoinHandle, time::Instant};

use self::{
    board::{Board, Counts, Heads, Orders},
    crowd::Size,
    device::{Device, Plan},
    survey::Surveyor,
    wire::Door,
};
use crate::checker::{
    self, Report,
    record::{DeviceLog, Record},
};
use crate::world::World;

/// After this, what has not come counts as never coming.
const LIMIT: Duration = Duration::from_secs(30);
/// How long devices wait for the last events once everything is quiet.
const LAST_EVENTS: Duration = Duration::from_secs(10);

/// The load to run. Each user is in two rooms, which overlap like the links of a chain.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) rooms: usize,
    /// Members of each room; with two of them it is the room that the two share.
    pub(crate) members: usize,
    pub(crate) devices_each: usize,
    /// How many of the users are connected; the others are only members.
    pub(crate) connected: usize,
    pub(crate) send_every: Duration,
    pub(crate) padding: usize,
    pub(crate) away: Option<(Duration, Duration)>,
}

impl Shape {
    /// This many rooms of this many members, all of them connected with one device.
    pub(crate) fn new(rooms: usize, members: usize, send_every: Duration) -> Self {
        Self {
            rooms,
            members,
            devices_each: 1,
            connected: usize::MAX,
            send_every,
            padding: 0,
            away: None,
        }
    }

    fn users(&self) -> usize {
        // A single room has no other to share its members with.
        if self.rooms == 1 {
            return self.members;
        }
        (self.rooms * self.members).div_ceil(2)
    }

    fn members_of(&self, room: usize) -> Vec<String> {
        let first = room * self.members / 2;
        let members = first..first + self.members;
        members
            .map(|number| name_of(number % self.users()))
            .collect()
    }
}

fn name_of(number: usize) -> String {
    format!("u{number}")
}

/// A running load.
pub(crate) struct Load {
    pub(crate) board: Arc<Board>,
    /// Each room with its members.
    pub(crate) rooms: Vec<(String, Vec<String>)>,
    devices: Vec<JoinHandle<DeviceLog>>,
    addresses: Vec<SocketAddr>,
    /// Rooms that others have on the same servers.
    pub(crate) other_rooms: usize,
    /// What clients other than the devices sent.
    extra: Vec<DeviceLog>,
    findings: Vec<String>,
}

/// The result of a drill.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) report: Report,
    /// How long devices took to get what they had missed, shortest first.
    pub(crate) repairs: Vec<Duration>,
    /// What it took until everybody had come back, in drills with a crowd.
    pub(crate) returns: Vec<Return>,
}

/// What it took until a crowd had come back.
#[derive(Debug)]
pub(crate) struct Return {
    pub(crate) fault: &'static str,
    pub(crate) size: Size,
    /// The time until the last client had what it came for.
    pub(crate) took: Duration,
    /// Scripts that Redis ran meanwhile.
    pub(crate) calls: u64,
    /// How often clients were asked to come later.
    pub(crate) put_off: u64,
    /// The peak of the server's memory until then.
    pub(crate) peak_bytes: u64,
}

impl Load {
    /// Makes the rooms, connects the devices, and waits until all are connected.
    pub(crate) async fn start(addresses: &[SocketAddr], shape: &Shape) -> Self {
        let mut load = Self {
            board: Arc::new(Board::new()),
            rooms: Vec::new(),
            devices: Vec::new(),
            addresses: addresses.to_vec(),
            other_rooms: 0,
            extra: Vec::new(),
            findings: Vec::new(),
        };
        for room in 0..shape.rooms {
            let members = shape.members_of(room);
            let mut maker = Surveyor::connect(addresses[0], &members[0]).await;
            let id = maker.room(&members[1..]).await;
            load.rooms.push((id, members));
        }
        for number in 0..shape.users().min(shape.connected) * shape.devices_each {
            let plan = load.plan(number, shape);
            let device = Device::new(plan, load.board.clone());
            load.devices.push(tokio::spawn(device.run()));
        }
        let all = load.devices.len() as u64;
        load.wait("all devices are connected", |counts| {
            counts.connected >= all
        })
        .await;
        load
    }

    fn plan(&self, number: usize, shape: &Shape) -> Plan {
        let mut servers = self.addresses.clone();
        servers.rotate_left(number % self.addresses.len());
        Plan {
            number,
            user: name_of(number / shape.devices_each),
            door: if number % 3 == 2 {
                Door::SocketIo
            } else {
                Door::Native
            },
            full: number % 5 == 4,
            servers,
            send_every: shape.send_every,
            padding: shape.padding,
            away: shape.away,
        }
    }

    /// How many devices there are.
    pub(crate) fn devices(&self) -> u64 {
        self.devices.len() as u64
    }

    /// Records something that should not be.
    pub(crate) fn finding(&mut self, text: String) {
        self.findings.push(text);
    }

    /// Waits until the counts are as wished. If that never happens, it is a finding.
    pub(crate) async fn wait(&mut self, what: &str, wished: impl FnMut(&Counts) -> bool) -> bool {
        self.wait_for(LIMIT, what, wished).await
    }

    /// The same with a limit of its own.
    pub(crate) async fn wait_for(
        &mut self,
        limit: Duration,
        what: &str,
        wished: impl FnMut(&Counts) -> bool,
    ) -> bool {
        let reached = self.board.reached(limit, wished).await;
        if !reached {
            let counts = self.board.counts();
            self.finding(format!("waited in vain until {what}: {counts:?}"));
        }
        reached
    }

    /// Waits until this many more sends are acked.
    pub(crate) async fn more(&mut self, sends: u64) -> bool {
        let wished = self.board.counts().acked + sends;
        let what = format!("{sends} more sends are acked");
        self.wait(&what, |counts| counts.acked >= wished).await
    }

    /// The fault is over: repairs are timed from now on.
    pub(crate) fn fault_is_over(&self) {
        self.board.set_goal();
    }

    /// Makes devices send nothing new, and waits until everything that was begun has ended.
    pub(crate) async fn settle(&mut self) {
        self.board.orders.send_replace(Orders::Settle);
        let devices = self.devices.len();
        if let Err(busy) = self.board.all_idle(devices, LIMIT).await {
            self.finding(format!("devices {busy:?} did not get through in {LIMIT:?}"));
        }
    }

    /// Lets devices send again.
    pub(crate) fn resume(&self) {
        self.board.orders.send_replace(Orders::Send);
    }

    /// Lets one member of each room make it again and send to it.
    pub(crate) async fn grow_rooms(&mut self, address: SocketAddr, messages: u64) {
        for (id, members) in &self.rooms {
            let mut grower = Surveyor::connect(address, &members[0]).await;
            let room = grower.room(&members[1..]).await;
            assert_eq!(&room, id, "two people share one room");
            self.extra.push(grower.say(&room, messages).await);
        }
    }

    /// Ends the load and judges all of it.
    pub(crate) async fn finish(mut self, world: &World) -> Outcome {
        self.settle().await;
        let rest = rest::watch(world, self.rooms.len() + self.other_rooms).await;
        let address = self.addresses[0];
        let histories = survey::histories(address, &self.rooms).await;
        let head = |(room, history): (&String, &Vec<_>)| (room.clone(), history.len() as u64);
        let heads: Heads = histories.iter().map(head).collect();
        let deadline = Instant::now() + LAST_EVENTS;
        let leave = Orders::Leave(Arc::new(heads), deadline);
        self.board.orders.send_replace(leave);
        let mut devices = self.extra;
        for device in self.devices {
            devices.push(device.await.expect("a device got through"));
        }
        let users: BTreeSet<&String> = self.rooms.iter().flat_map(|(_, members)| members).collect();
        let lists = survey::lists(address, users).await;
        let record = Record {
            devices,
            histories,
            lists,
            rest,
        };
        let mut report = checker::judge(&record);
        report.problems.extend(self.findings);
        Outcome {
            report,
            repairs: self.board.repairs(),
            returns: Vec::new(),
        }
    }
}
