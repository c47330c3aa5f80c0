//! What a message costs in Redis's memory, and how much of that is for its sender's `clientMessageId`.

use std::fmt;

use redis::{Client, Cmd, Connection, cmd};
use serde::Serialize;

use crate::Error;
use crate::cli;
use crate::raw::{SEND, make_rooms, room_keys};
use crate::world::OwnRedis;

/// Calls in one round trip.
const AT_ONCE: usize = 1000;
/// How long ids are remembered: longer than a run takes.
const DAY_MS: u64 = 86_400_000;

/// Bytes of `used_memory` per message; the rooms themselves are not counted.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    /// Without an id.
    without_id: f64,
    /// With an id, remembered as the server does.
    with_id: f64,
    /// With an id, remembered in one key per message, as version 0.1.0 did.
    with_id_in_a_key: f64,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "bytes of Redis's memory for each message")?;
        writeln!(f, "  without an id             {:4.0}", self.without_id)?;
        writeln!(f, "  with an id                {:4.0}", self.with_id)?;
        write!(
            f,
            "  the id in a key of its own {:3.0}",
            self.with_id_in_a_key
        )
    }
}

/// `chat-bench memory`
pub(crate) fn run(args: &cli::Memory) -> Result<Figures, Error> {
    let without = Filled::with_messages(args, false)?.per_message()?;
    let mut filled = Filled::with_messages(args, true)?;
    let with_id = filled.per_message()?;
    filled.remember_in_keys()?;
    Ok(Figures {
        without_id: without,
        with_id,
        with_id_in_a_key: filled.per_message()?,
    })
}

/// A Redis of its own with rooms of two, and messages from the first of the two.
struct Filled {
    redis: Connection,
    rooms: usize,
    messages: usize,
    /// What the rooms used before the first message.
    empty: u64,
    _own: OwnRedis,
}

impl Filled {
    fn with_messages(args: &cli::Memory, with_ids: bool) -> Result<Self, Error> {
        let own = OwnRedis::start()?;
        let mut redis = Client::open(own.url.as_str())?.get_connection()?;
        make_rooms(&mut redis, args.rooms, 2)?;
        let sha: String = cmd("SCRIPT").arg("LOAD").arg(SEND).query(&mut redis)?;
        let mut filled = Self {
            empty: used_memory(&mut redis)?,
            redis,
            rooms: args.rooms,
            messages: args.rooms * args.messages,
            _own: own,
        };
        let content = "x".repeat(args.bytes);
        filled.for_each_message(|number, room| send(&sha, number, room, &content, with_ids))?;
        Ok(filled)
    }

    /// Drops what rooms remember, and creates one key per message instead.
    fn remember_in_keys(&mut self) -> Result<(), Error> {
        for room in 0..self.rooms {
            let mut delete = cmd("DEL");
            delete.arg(
                room_keys(room)
                    .iter()
                    .filter(|key| key.contains(":sent:"))
                    .collect::<Vec<_>>(),
            );
            delete.exec(&mut self.redis)?;
        }
        self.for_each_message(|number, room| {
            let mut set = cmd("SET");
            // As long as a message's id and a call's name.
            set.arg(old_key(number, room))
                .arg(format!("{number:014}-{room:03} {number:08x}"));
            set.arg("PX").arg(DAY_MS);
            set
        })
    }

    /// Makes a call for each message, given its number and room.
    fn for_each_message(&mut self, call: impl Fn(usize, usize) -> Cmd) -> Result<(), Error> {
        let mut calls = redis::pipe();
        for number in 0..self.messages {
            calls
                .add_command(call(number, number % self.rooms))
                .ignore();
            if calls.len() == AT_ONCE || number + 1 == self.messages {
                calls.exec(&mut self.redis)?;
                calls.clear();
            }
        }
        Ok(())
    }

    fn per_message(&mut self) -> Result<f64, Error> {
        let used = used_memory(&mut self.redis)?.saturating_sub(self.empty);
        Ok(used as f64 / self.messages as f64)
    }
}

/// A send in the form in which the server calls it.
fn send(sha: &str, number: usize, room: usize, content: &str, with_id: bool) -> Cmd {
    let (id, digest) = match with_id {
        true => (client_id(number), digest(number)),
        false => Default::default(),
    };
    let mut keys = room_keys(room).to_vec();
    if with_id {
        keys.push(old_key(number, room));
    }
    let mut send = cmd("EVALSHA");
    send.arg(sha).arg(keys.len()).arg(keys);
    send.arg(sender(room)).arg(content).arg(id).arg(digest);
    send.arg(0)
        .arg(DAY_MS)
        .arg(content.len())
        .arg(0)
        .arg(format!("{number:08x}"))
        .arg("text")
        .arg("");
    send
}

fn sender(room: usize) -> String {
    format!("{room}-0")
}

/// As long as a UUID.
fn client_id(number: usize) -> String {
    format!("{number:036}")
}

fn old_key(number: usize, room: usize) -> String {
    let (user, id) = (sender(room), client_id(number));
    format!("chat-bench-raw:{{room:{room}}}:sent:{user}:{id}")
}

/// 16 bytes that differ from those of other numbers in every position, as those of a digest do.
fn digest(number: usize) -> Vec<u8> {
    let spread = (number as u128 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
    spread.to_le_bytes().to_vec()
}

fn used_memory(redis: &mut Connection) -> Result<u64, Error> {
    let info: String = cmd("INFO").arg("memory").query(redis)?;
    let used = info
        .lines()
        .find_map(|line| line.strip_prefix("used_memory:"));
    let used = used.and_then(|bytes| bytes.trim().parse().ok());
    used.ok_or_else(|| Error::Redis("no used_memory in INFO".to_owned()))
}
