//! Many connections that only connect: how long that takes, and what they cost while idle.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::Error;
use crate::cli;
use crate::clients::{Clients, Handler, Outbox};
use crate::door::{Door, Incoming, ListMode};
use crate::process::Process;
use crate::world::World;

/// Connections that are opened at once when the storm itself is not being measured.
const CONNECTING: usize = 256;
/// How long it may take until all are served.
const PATIENCE: Duration = Duration::from_secs(120);
const TURN: Duration = Duration::from_millis(100);

/// Memory of connections on which nothing happens.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct IdleFigures {
    pub(crate) door: Door,
    pub(crate) connections: usize,
    pub(crate) secs: u64,
    pub(crate) rss_kib_before: u64,
    pub(crate) rss_kib: u64,
    /// The server's memory added per connection, in KiB.
    pub(crate) rss_kib_each: f64,
}

/// A storm of connections.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ConnectFigures {
    pub(crate) door: Door,
    pub(crate) clients: usize,
    pub(crate) secs: f64,
    /// The most memory that the server used; `None` if that is unknown.
    pub(crate) peak_rss_kib: Option<u64>,
}

/// Counts the clients that are served.
#[derive(Default)]
struct Served {
    devices: Vec<bool>,
    count: usize,
}

impl Handler for Served {
    fn incoming(&mut self, device: usize, incoming: Incoming<'_>, _: Instant, _: &mut Outbox<'_>) {
        if incoming != Incoming::Served {
            return;
        }
        if self.devices.len() <= device {
            self.devices.resize(device + 1, false);
        }
        self.count += usize::from(!std::mem::replace(&mut self.devices[device], true));
    }
}

/// `chat-bench idle`
pub(crate) fn idle(args: &cli::Idle) -> Result<IdleFigures, Error> {
    let world = World::open(&args.place, args.door)?;
    let server = world.server.ok_or(Error::NoProcess)?;
    let rss = || server.rss_kib().ok_or(Error::NoProcess);
    let rss_kib_before = rss()?;
    let mut crowd = Crowd::new(&world, args.door)?;
    crowd.connect(args.connections, CONNECTING)?;
    eprintln!("{} connections, idle for {} s", args.connections, args.secs);
    crowd.wait(Duration::from_secs(args.secs))?;
    let rss_kib = rss()?;
    Ok(IdleFigures {
        door: args.door,
        connections: args.connections,
        secs: args.secs,
        rss_kib_before,
        rss_kib,
        rss_kib_each: (rss_kib as f64 - rss_kib_before as f64) / args.connections as f64,
    })
}

/// `chat-bench connect`
pub(crate) fn connect(args: &cli::Connect) -> Result<ConnectFigures, Error> {
    let world = World::open(&args.place, args.door)?;
    let mut crowd = Crowd::new(&world, args.door)?;
    let took = crowd.connect(args.clients, args.clients)?;
    Ok(ConnectFigures {
        door: args.door,
        clients: args.clients,
        secs: took.as_secs_f64(),
        peak_rss_kib: world.server.and_then(Process::peak_rss_kib),
    })
}

struct Crowd<'a> {
    world: &'a World,
    clients: Clients,
    served: Served,
}

impl<'a> Crowd<'a> {
    fn new(world: &'a World, door: Door) -> Result<Self, Error> {
        Ok(Self {
            world,
            clients: Clients::new(world.address, door, ListMode::Delta)?,
            served: Served::default(),
        })
    }

    /// Connects `count` users, at most `at_once` of them waiting. Returns how long it took until all were served.
    fn connect(&mut self, count: usize, at_once: usize) -> Result<Duration, Error> {
        let run = std::process::id();
        let users = (0..count).map(|user| format!("c{run}-{user}"));
        // Signed in advance, since signing is not what is measured.
        let users = users.map(|user| self.world.token(&user).map(|token| (user, token)));
        let users = users.collect::<Result<Vec<_>, _>>()?;
        let began = Instant::now();
        for (index, (user, token)) in users.iter().enumerate() {
            self.clients.connect(user, token)?;
            self.until_served((index + 1).saturating_sub(at_once), began)?;
        }
        self.until_served(count, began)?;
        Ok(began.elapsed())
    }

    fn until_served(&mut self, fewest: usize, began: Instant) -> Result<(), Error> {
        let mut told = Instant::now();
        while self.served.count < fewest {
            self.turn(TURN)?;
            if told.elapsed() >= Duration::from_secs(1) {
                told = Instant::now();
                eprintln!(
                    "{:>4.0} s  {} served",
                    began.elapsed().as_secs_f64(),
                    self.served.count
                );
            }
            if began.elapsed() > PATIENCE {
                return Err(Error::Stuck(format!(
                    "{} of {fewest} are served",
                    self.served.count
                )));
            }
        }
        Ok(())
    }

    /// Answers pings for this long.
    fn wait(&mut self, time: Duration) -> Result<(), Error> {
        let began = Instant::now();
        while began.elapsed() < time {
            self.turn(TURN)?;
        }
        Ok(())
    }

    fn turn(&mut self, patience: Duration) -> Result<(), Error> {
        self.clients.turn(patience, &mut self.served)?;
        match &self.clients.first_error {
            Some(error) => Err(Error::Stuck(error.clone())),
            None => Ok(()),
        }
    }
}
