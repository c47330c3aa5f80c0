//! Everything that BENCHMARKS.md gives a figure for, each with processes of its own, as one table.

use std::fmt::{self, Display, Formatter};
use std::process::{Command, Stdio};

use serde::Serialize;

use crate::Error;
use crate::cli::{self, Output, Place, Work};
use crate::door::{Door, ListMode};
use crate::run::{self, Figures};
use crate::world::World;
use crate::{crowd, fanout};

/// One line of the table.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) figure: String,
    pub(crate) reach: String,
    /// `None` if there is no target.
    pub(crate) reached: Option<bool>,
}

/// The table, and whether all of it could be measured.
#[derive(Debug, Serialize)]
pub(crate) struct Rows {
    pub(crate) rows: Vec<Row>,
    pub(crate) failures: usize,
}

/// The size and the duration.
#[derive(Debug, Clone, Copy)]
struct Scale {
    secs: u64,
    warmup_secs: u64,
    /// What is compared with the relay is measured this many times, and this long each time.
    turns: usize,
    turn_secs: u64,
    crowd: usize,
    idle_secs: u64,
    fanout: usize,
    fanout_sends: usize,
    other_rooms: usize,
    large_room: usize,
    history: u64,
}

const FULL: Scale = Scale {
    secs: 10,
    warmup_secs: 2,
    turns: 5,
    turn_secs: 3,
    crowd: 10_000,
    idle_secs: 30,
    fanout: 1000,
    fanout_sends: 100,
    other_rooms: 500,
    large_room: 1000,
    history: 100_000,
};
const QUICK: Scale = Scale {
    secs: 2,
    warmup_secs: 1,
    turns: 1,
    turn_secs: 2,
    crowd: 500,
    idle_secs: 2,
    fanout: 100,
    fanout_sends: 20,
    other_rooms: 50,
    large_room: 200,
    history: 2000,
};

/// The same work in three setups.
struct Compared {
    socketio: Figures,
    native: Figures,
    /// Present if Node is installed.
    relay: Option<Figures>,
}

/// The median run by sends, with the median p99 and the median cost.
fn middle(mut runs: Vec<Figures>) -> Option<Figures> {
    let middle_of = |figure: fn(&Figures) -> f64| {
        let mut all: Vec<f64> = runs.iter().map(figure).collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied()
    };
    let p99_ms = middle_of(|run| run.delivery.p99_ms)?;
    let cost = middle_of(|run| run.server.map_or(0.0, |usage| usage.cpu_us_per_delivery))?;
    runs.sort_by(|one, other| one.sends_per_sec.total_cmp(&other.sends_per_sec));
    let mut middle = runs.swap_remove(runs.len() / 2);
    middle.delivery.p99_ms = p99_ms;
    if let Some(usage) = &mut middle.server {
        usage.cpu_us_per_delivery = cost;
    }
    Some(middle)
}

/// A figure and its target.
struct Bound {
    figure: String,
    reach: String,
    reached: bool,
}

fn at_least(figure: f64, floor: f64, unit: &str) -> Bound {
    Bound {
        figure: format!("{figure:.2}{unit}"),
        reach: format!("at least {floor}{unit}"),
        reached: figure >= floor,
    }
}

fn at_most(figure: f64, ceiling: f64, unit: &str) -> Bound {
    Bound {
        figure: format!("{figure:.2}{unit}"),
        reach: format!("at most {ceiling}{unit}"),
        reached: figure <= ceiling,
    }
}

/// `chat-bench table`
pub(crate) fn run(args: &cli::Table) -> Rows {
    let place = Place::own(&args.server, &args.relay);
    let scale = if args.quick { QUICK } else { FULL };
    let mut table = Table {
        place,
        scale,
        rows: Vec::new(),
        failures: 0,
    };
    let with_relay = has_node(args);
    table.measure("the relay, rooms of 2", |table| {
        table.small_rooms(with_relay)
    });
    table.measure("the relay, rooms of 50", |table| {
        table.large_fanout(with_relay)
    });
    table.measure("the send script alone", Table::against_raw);
    table.measure("other rooms", Table::other_rooms);
    table.measure("a large room", Table::large_room);
    table.measure("a long history", Table::long_history);
    table.measure("many devices", Table::many_devices);
    table.measure("whole lists", Table::whole_lists);
    table.measure("idle, native", |table| table.idle(Door::Native, 10.0));
    table.measure("idle, Socket.IO", |table| table.idle(Door::Socketio, 20.0));
    table.measure("connecting, native", |table| table.connect(Door::Native));
    table.measure("connecting, Socket.IO", |table| {
        table.connect(Door::Socketio)
    });
    table.measure("fan-out", Table::fanout);
    Rows {
        rows: table.rows,
        failures: table.failures,
    }
}

fn has_node(args: &cli::Table) -> bool {
    let mut node = Command::new("node");
    node.arg("--check").arg(&args.relay).stderr(Stdio::null());
    let installed = args.relay.with_file_name("node_modules").is_dir();
    installed && node.status().is_ok_and(|status| status.success())
}

struct Table {
    place: Place,
    scale: Scale,
    rows: Vec<Row>,
    failures: usize,
}

impl Table {
    /// A failure becomes a row of its own, and the others are still measured.
    fn measure(&mut self, what: &str, measurement: impl FnOnce(&mut Self) -> Result<(), Error>) {
        eprintln!("== {what}");
        if let Err(error) = measurement(self) {
            self.failures += 1;
            self.rows.push(Row {
                what: what.to_owned(),
                figure: format!("failed: {error}"),
                reach: String::new(),
                reached: Some(false),
            });
        }
    }

    fn row(&mut self, what: impl Into<String>, bound: Bound) {
        self.rows.push(Row {
            what: what.into(),
            figure: bound.figure,
            reach: bound.reach,
            reached: Some(bound.reached),
        });
    }

    fn plain_row(&mut self, what: impl Into<String>, figure: String) {
        self.rows.push(Row {
            what: what.into(),
            figure,
            reach: String::new(),
            reached: None,
        });
    }

    fn work(&self, rooms: usize, members: usize, door: Door) -> Work {
        Work {
            rooms,
            members,
            door,
            secs: self.scale.secs,
            warmup_secs: self.scale.warmup_secs,
            ..Work::DEFAULT
        }
    }

    /// Four rooms, native, with requests always in flight: the baseline of the `delta` variations.
    fn plain(&self) -> Work {
        Work {
            window: 16,
            ..self.work(4, 2, Door::Native)
        }
    }

    fn load(&self, work: &Work, raw: bool) -> Result<Figures, Error> {
        let world = World::open(&self.place, work.door)?;
        let figures = run::run(work, &world, raw)?;
        match &figures.first_error {
            Some(error) => Err(Error::Stuck(error.clone())),
            None if !figures.faults.is_none() => Err(Error::Faulty(figures.faults)),
            None => Ok(figures),
        }
    }

    /// The same work over both protocols and with the relay, in turn, so that all have the same machine; of each figure
    /// the median is taken.
    fn compare(&self, rooms: usize, members: usize, with_relay: bool) -> Result<Compared, Error> {
        let mut runs = [Door::Socketio, Door::Native, Door::Relay].map(|door| (door, Vec::new()));
        for turn in 0..self.scale.turns {
            for position in 0..runs.len() {
                // Each takes its turn at going first: the machine is not the same after a rest as after a load.
                let (door, figures) = &mut runs[(turn + position) % 3];
                if *door != Door::Relay || with_relay {
                    let work = Work {
                        secs: self.scale.turn_secs,
                        ..self.work(rooms, members, *door)
                    };
                    figures.push(self.load(&work, false)?);
                }
            }
        }
        let [socketio, native, relay] = runs.map(|(_, figures)| middle(figures));
        let none = || Error::Stuck("no run".to_owned());
        Ok(Compared {
            socketio: socketio.ok_or_else(none)?,
            native: native.ok_or_else(none)?,
            relay,
        })
    }

    fn small_rooms(&mut self, with_relay: bool) -> Result<(), Error> {
        let Compared {
            socketio,
            native,
            relay,
        } = self.compare(50, 2, with_relay)?;
        let what = "50 rooms x 2, window 1";
        if let Some(relay) = &relay {
            self.plain_row(format!("{what}: relay"), sends(relay));
            let times = socketio.sends_per_sec / relay.sends_per_sec;
            self.row(
                format!("{what}: Socket.IO to relay, sends/s"),
                at_least(times, 2.5, " x"),
            );
            let p99 = socketio.delivery.p99_ms / relay.delivery.p99_ms;
            self.row(
                format!("{what}: Socket.IO to relay, p99 of delivery"),
                at_most(p99, 1.0, " x"),
            );
        }
        self.plain_row(format!("{what}: Socket.IO"), sends(&socketio));
        self.plain_row(format!("{what}: native"), sends(&native));
        let times = native.sends_per_sec / socketio.sends_per_sec;
        self.row(
            format!("{what}: native to Socket.IO, sends/s"),
            at_least(times, 1.0, " x"),
        );
        if let Some(calls) = socketio.evalsha_per_send {
            self.row("calls of Redis for each send", at_most(calls, 1.01, ""));
        }
        Ok(())
    }

    fn large_fanout(&mut self, with_relay: bool) -> Result<(), Error> {
        let Compared {
            socketio,
            native,
            relay,
        } = self.compare(2, 50, with_relay)?;
        let what = "2 rooms x 50, window 1";
        if let Some(relay) = &relay {
            self.plain_row(format!("{what}: relay"), deliveries(relay));
            let times = socketio.deliveries_per_sec / relay.deliveries_per_sec;
            self.row(
                format!("{what}: Socket.IO to relay, deliveries/s"),
                at_least(times, 1.7, " x"),
            );
            for (door, figures, ceiling) in [
                (Door::Socketio, &socketio, 0.5),
                (Door::Native, &native, 0.4),
            ] {
                let cost = cpu(figures)? / cpu(relay)?;
                self.row(
                    format!("{what}: {door} to relay, CPU a delivery"),
                    at_most(cost, ceiling, " x"),
                );
            }
        }
        self.plain_row(format!("{what}: Socket.IO"), deliveries(&socketio));
        self.plain_row(format!("{what}: native"), deliveries(&native));
        let times = native.deliveries_per_sec / socketio.deliveries_per_sec;
        self.row(
            format!("{what}: native to Socket.IO, deliveries/s"),
            at_least(times, 1.0, " x"),
        );
        Ok(())
    }

    fn against_raw(&mut self) -> Result<(), Error> {
        let work = Work {
            window: 16,
            ..self.work(50, 2, Door::Native)
        };
        let figures = self.load(&work, true)?;
        let what = "50 rooms x 2, window 16, native";
        self.plain_row(what, sends(&figures));
        if let Some(raw) = figures.raw {
            self.plain_row(
                "the send script alone",
                format!("{:.0} sends/s", raw.sends_per_sec),
            );
            self.row(
                format!("{what}: to the script alone"),
                at_least(raw.server_to_raw, 0.5, " x"),
            );
        }
        Ok(())
    }

    /// Runs the plain case and the other one directly after it, so that both have the same machine.
    fn against_plain(&mut self, what: &str, work: &Work) -> Result<(Figures, Figures), Error> {
        eprintln!("-- the plain case");
        let plain = self.load(&self.plain(), false)?;
        eprintln!("-- {what}");
        Ok((plain, self.load(work, false)?))
    }

    fn sends_against_plain(&mut self, what: &str, work: &Work) -> Result<(), Error> {
        let (plain, other) = self.against_plain(what, work)?;
        let times = other.sends_per_sec / plain.sends_per_sec;
        self.row(
            format!("{what}: to the plain case, sends/s"),
            at_least(times, 0.9, " x"),
        );
        Ok(())
    }

    fn other_rooms(&mut self) -> Result<(), Error> {
        let other_rooms = self.scale.other_rooms;
        let work = Work {
            other_rooms,
            ..self.plain()
        };
        self.sends_against_plain(&format!("senders with {other_rooms} other rooms"), &work)
    }

    fn large_room(&mut self) -> Result<(), Error> {
        let members = self.scale.large_room;
        let work = Work {
            members,
            connected: Some(2),
            ..self.plain()
        };
        self.sends_against_plain(&format!("rooms of {members}, 2 connected"), &work)
    }

    fn long_history(&mut self) -> Result<(), Error> {
        let history = self.scale.history;
        let work = Work {
            history,
            ..self.plain()
        };
        self.sends_against_plain(&format!("rooms with {history} messages"), &work)
    }

    fn many_devices(&mut self) -> Result<(), Error> {
        let devices = 10;
        let work = Work {
            devices,
            ..self.plain()
        };
        let what = format!("users with {devices} devices");
        let (plain, other) = self.against_plain(&what, &work)?;
        let cost = cpu(&other)? / cpu(&plain)?;
        self.row(
            format!("{what}: to the plain case, CPU a delivery"),
            at_most(cost, 1.1, " x"),
        );
        Ok(())
    }

    fn whole_lists(&mut self) -> Result<(), Error> {
        let delta = self.work(50, 2, Door::Native);
        let full = Work {
            list: ListMode::Full,
            ..delta.clone()
        };
        let (delta, full) = (self.load(&delta, false)?, self.load(&full, false)?);
        let times = full.sends_per_sec / delta.sends_per_sec;
        self.row(
            "chatList=full to delta, sends/s",
            at_least(times, 0.7, " x"),
        );
        if let Some(calls) = full.evalsha_per_send {
            self.plain_row(
                "chatList=full: calls of Redis for each send",
                format!("{calls:.2}"),
            );
        }
        Ok(())
    }

    fn idle(&mut self, door: Door, ceiling: f64) -> Result<(), Error> {
        let figures = crowd::idle(&cli::Idle {
            place: self.place.clone(),
            output: Output::default(),
            connections: self.scale.crowd,
            door,
            secs: self.scale.idle_secs,
        })?;
        let what = format!("{} idle, {door}: RSS each", figures.connections);
        self.row(what, at_most(figures.rss_kib_each, ceiling, " KiB"));
        Ok(())
    }

    fn connect(&mut self, door: Door) -> Result<(), Error> {
        let figures = crowd::connect(&cli::Connect {
            place: self.place.clone(),
            output: Output::default(),
            clients: self.scale.crowd,
            door,
        })?;
        self.rows.push(Row {
            what: format!("{} connect at once, {door}", figures.clients),
            figure: format!(
                "{:.2} s, peak RSS {} KiB",
                figures.secs,
                figures.peak_rss_kib.unwrap_or_default()
            ),
            reach: "all served".to_owned(),
            reached: Some(true),
        });
        Ok(())
    }

    fn fanout(&mut self) -> Result<(), Error> {
        for door in [Door::Native, Door::Socketio] {
            let figures = fanout::run(&cli::Fanout {
                place: self.place.clone(),
                output: Output::default(),
                members: self.scale.fanout,
                sends: self.scale.fanout_sends,
                door,
                bytes: Work::DEFAULT.bytes,
            })?;
            let what = format!("one send to {}, {door}: the last delivery", figures.members);
            self.row(what, at_most(figures.median_ms, 25.0, " ms"));
        }
        Ok(())
    }
}

fn sends(figures: &Figures) -> String {
    let p99 = figures.delivery.p99_ms;
    format!("{:.0} sends/s, p99 {p99:.1} ms", figures.sends_per_sec)
}

fn deliveries(figures: &Figures) -> String {
    let cost = figures
        .server
        .map_or(0.0, |usage| usage.cpu_us_per_delivery);
    format!(
        "{:.0} deliveries/s, {cost:.1} us CPU each",
        figures.deliveries_per_sec
    )
}

/// Of the server, in µs per delivery.
fn cpu(figures: &Figures) -> Result<f64, Error> {
    let usage = figures.server.ok_or(Error::NoProcess)?;
    Ok(usage.cpu_us_per_delivery)
}

impl Display for Rows {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let lines = self.rows.iter().map(|row| {
            let reached = match row.reached {
                Some(true) => "yes",
                Some(false) => "no",
                None => "",
            };
            [&row.what, &row.figure, &row.reach, reached]
        });
        let head = ["what", "figure", "reach", "reached"];
        let rule = ["---"; 4];
        for [what, figure, reach, reached] in [head, rule].into_iter().chain(lines) {
            writeln!(f, "| {what} | {figure} | {reach} | {reached} |")?;
        }
        Ok(())
    }
}
