//! One send to a room with many connected members.

use std::time::Duration;

use serde::Serialize;

use crate::Error;
use crate::cli::{self, Work};
use crate::door::Door;
use crate::load::Load;
use crate::world::World;

/// Sends before the measured ones.
const WARMUP_SENDS: usize = 5;

/// Times from a send to its last delivery, in ms.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Figures {
    pub(crate) door: Door,
    pub(crate) members: usize,
    pub(crate) sends: usize,
    pub(crate) median_ms: f64,
    pub(crate) max_ms: f64,
}

/// `chat-bench fanout`
pub(crate) fn run(args: &cli::Fanout) -> Result<Figures, Error> {
    let world = World::open(&args.place, args.door)?;
    let work = Work {
        rooms: 1,
        members: args.members,
        door: args.door,
        bytes: args.bytes,
        ..Work::DEFAULT
    };
    let mut load = Load::set_up(&work, &world)?;
    for _ in 0..WARMUP_SENDS {
        load.send_one()?;
    }
    let times = (0..args.sends).map(|_| load.send_one());
    let mut times = times.collect::<Result<Vec<_>, _>>()?;
    let faults = load.drain();
    if !faults.is_none() {
        return Err(Error::Faulty(faults));
    }
    times.sort_unstable();
    let ms = |time: Option<&Duration>| time.map_or(0.0, |time| time.as_secs_f64() * 1000.0);
    Ok(Figures {
        door: args.door,
        members: args.members,
        sends: args.sends,
        median_ms: ms(times.get(times.len() / 2)),
        max_ms: ms(times.last()),
    })
}
