//! The send script alone, by EVALSHA, pipelined: what Redis could do if the server cost nothing.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Events, Interest, Poll, Token};
use redis::{Client, Connection, cmd};
use serde::Serialize;

use crate::Error;
use crate::cli;
use crate::world::OwnRedis;

pub(crate) const SEND: &str = include_str!("../../lua/send_message.lua");
const INITIALIZE: &str = include_str!("../../lua/initialize_chat.lua");
/// The keys of one room, in the order in which every room script gets them.
const ROOM_KEYS: [&str; 9] = [
    "meta", "members", "reads", "messages", "viewing", "ext", "sent:a", "sent:b", "events",
];
/// A separate prefix, so that no server hears of these rooms.
const PREFIX: &str = "chat-bench-raw";
const BUFFER_BYTES: usize = 64 * 1024;
/// Time before the measurement.
const WARMUP: Duration = Duration::from_millis(500);

/// What is sent, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) connections: usize,
    pub(crate) window: usize,
    pub(crate) rooms: usize,
    pub(crate) members: usize,
    pub(crate) bytes: usize,
    pub(crate) time: Duration,
}

/// The outcome.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Figures {
    pub(crate) sends_per_sec: f64,
}

/// `chat-bench raw`
pub(crate) fn run(args: &cli::Raw) -> Result<Figures, Error> {
    let plan = Plan {
        connections: args.connections,
        window: args.window,
        rooms: args.rooms,
        members: args.members,
        bytes: args.bytes,
        time: Duration::from_secs(args.secs),
    };
    if args.self_contained {
        let redis = OwnRedis::start()?;
        return measure(&redis.url, plan);
    }
    measure(&args.redis_url, plan)
}

/// Creates rooms in this Redis, sends to them in turn, and deletes them.
pub(crate) fn measure(url: &str, plan: Plan) -> Result<Figures, Error> {
    let mut redis = Client::open(url)?.get_connection()?;
    make_rooms(&mut redis, plan.rooms, plan.members)?;
    let commands = commands(&mut redis, plan)?;
    let figures = Flood::new(url, plan, commands)?.run(plan.time);
    delete_rooms(&mut redis, plan)?;
    figures
}

/// The keys of a room, for every script.
pub(crate) fn room_keys(room: usize) -> [String; ROOM_KEYS.len()] {
    ROOM_KEYS.map(|part| format!("{PREFIX}:{{room:{room}}}:{part}"))
}

fn user_keys(room: usize, member: usize) -> [String; 2] {
    ["rooms", "events"].map(|part| format!("{PREFIX}:{{user:{room}-{member}}}:{part}"))
}

/// Creates rooms of this many members, who are named `room-member`, both from 0.
pub(crate) fn make_rooms(
    redis: &mut Connection,
    rooms: usize,
    members: usize,
) -> Result<(), Error> {
    let sha: String = cmd("SCRIPT").arg("LOAD").arg(INITIALIZE).query(redis)?;
    let kind = if members == 2 { "direct" } else { "group" };
    for room in 0..rooms {
        let mut call = cmd("EVALSHA");
        call.arg(&sha).arg(ROOM_KEYS.len() + 2 * members);
        call.arg(&room_keys(room));
        for member in 0..members {
            call.arg(&user_keys(room, member));
        }
        call.arg(room).arg(kind).arg("").arg("raw").arg(members);
        // Each user is in one room.
        call.arg(1);
        for member in 0..members {
            call.arg(format!("{room}-{member}"));
        }
        call.exec(redis)?;
    }
    Ok(())
}

fn delete_rooms(redis: &mut Connection, plan: Plan) -> Result<(), Error> {
    for room in 0..plan.rooms {
        let mut call = cmd("UNLINK");
        call.arg(&room_keys(room));
        for member in 0..plan.members {
            call.arg(&user_keys(room, member));
        }
        call.exec(redis)?;
    }
    Ok(())
}

/// One send per room, in the form in which the server calls it, as bytes of Redis's protocol.
fn commands(redis: &mut Connection, plan: Plan) -> Result<Vec<Vec<u8>>, Error> {
    let sha: String = cmd("SCRIPT").arg("LOAD").arg(SEND).query(redis)?;
    let content = "x".repeat(plan.bytes);
    let command = |room| {
        let mut call = cmd("EVALSHA");
        call.arg(&sha).arg(ROOM_KEYS.len()).arg(&room_keys(room));
        call.arg(format!("{room}-0")).arg(&content).arg("").arg("");
        call.arg(0).arg(86_400_000).arg(plan.bytes).arg(0);
        call.arg("by-hand").arg("text").arg("");
        call.get_packed_command()
    };
    Ok((0..plan.rooms).map(command).collect())
}

/// A socket of either family.
trait Socket: Read + Write + Source {}
impl Socket for TcpStream {}
impl Socket for UnixStream {}

struct Link {
    socket: Box<dyn Socket>,
    out: Vec<u8>,
    rest: Vec<u8>,
}

/// Connections that are kept full of calls.
struct Flood {
    poll: Poll,
    links: Vec<Link>,
    commands: Vec<Vec<u8>>,
    next: usize,
    answered: u64,
}

impl Flood {
    fn new(url: &str, plan: Plan, commands: Vec<Vec<u8>>) -> Result<Self, Error> {
        let mut flood = Self {
            poll: Poll::new()?,
            links: Vec::new(),
            commands,
            next: 0,
            answered: 0,
        };
        for index in 0..plan.connections {
            let mut socket = open(url)?;
            let interest = Interest::READABLE | Interest::WRITABLE;
            flood
                .poll
                .registry()
                .register(&mut socket, Token(index), interest)?;
            flood.links.push(Link {
                socket,
                out: Vec::new(),
                rest: Vec::new(),
            });
            flood.call(index, plan.window);
        }
        Ok(flood)
    }

    fn call(&mut self, link: usize, count: usize) {
        for _ in 0..count {
            let command = &self.commands[self.next % self.commands.len()];
            self.links[link].out.extend_from_slice(command);
            self.next += 1;
        }
    }

    fn run(mut self, time: Duration) -> Result<Figures, Error> {
        self.run_for(WARMUP)?;
        let before = self.answered;
        let took = self.run_for(time)?;
        let sends_per_sec = (self.answered - before) as f64 / took.as_secs_f64();
        Ok(Figures { sends_per_sec })
    }

    fn run_for(&mut self, time: Duration) -> Result<Duration, Error> {
        let mut events = Events::with_capacity(self.links.len());
        let began = Instant::now();
        while began.elapsed() < time {
            for link in 0..self.links.len() {
                self.flush(link)?;
            }
            self.poll
                .poll(&mut events, Some(Duration::from_millis(10)))?;
            for event in &events {
                self.read(event.token().0)?;
            }
        }
        Ok(began.elapsed())
    }

    fn flush(&mut self, link: usize) -> io::Result<()> {
        let Link { socket, out, .. } = &mut self.links[link];
        while !out.is_empty() {
            match socket.write(out) {
                Ok(len) => drop(out.drain(..len)),
                Err(error) if is_not_yet(&error) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Counts the answers that arrived, and makes as many calls.
    fn read(&mut self, link: usize) -> Result<(), Error> {
        let mut buffer = [0; BUFFER_BYTES];
        loop {
            let Link { socket, rest, .. } = &mut self.links[link];
            match socket.read(&mut buffer) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Ok(len) => rest.extend_from_slice(&buffer[..len]),
                Err(error) if is_not_yet(&error) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            let (mut at, mut count) = (0, 0);
            while let Some(len) = reply_len(&rest[at..])? {
                at += len;
                count += 1;
            }
            rest.drain(..at);
            self.answered += count as u64;
            self.call(link, count);
        }
    }
}

fn is_not_yet(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected
    )
}

fn open(url: &str) -> Result<Box<dyn Socket>, Error> {
    if let Some(path) = url.strip_prefix("unix://") {
        return Ok(Box::new(UnixStream::connect(path)?));
    }
    let address = url.strip_prefix("redis://").unwrap_or(url);
    let address = address.trim_end_matches('/').parse();
    let address = address.map_err(|_| Error::NoRawAddress)?;
    Ok(Box::new(TcpStream::connect(address)?))
}

/// How many bytes the first answer takes; `None` if it is not complete yet. A Redis error becomes an error here.
fn reply_len(bytes: &[u8]) -> Result<Option<usize>, Error> {
    let Some(line) = memchr::memmem::find(bytes, b"\r\n") else {
        return Ok(None);
    };
    let (kind, text) = (bytes[0], &bytes[1..line]);
    let text = String::from_utf8_lossy(text);
    let number = || text.parse::<usize>().unwrap_or(0);
    let mut end = line + 2;
    match kind {
        b'-' => return Err(Error::Redis(text.into_owned())),
        b'$' => end += number() + 2,
        b'*' => {
            for _ in 0..number() {
                match reply_len(&bytes[end..])? {
                    Some(len) => end += len,
                    None => return Ok(None),
                }
            }
        }
        _ => {}
    }
    Ok((end <= bytes.len()).then_some(end))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn answers_are_counted_only_when_whole() {
        let answer = b"*3\r\n$3\r\n1-2\r\n:2\r\n:0\r\n";
        for end in 0..answer.len() {
            assert_eq!(reply_len(&answer[..end]).unwrap(), None, "{end}");
        }
        let two = answer.repeat(2);
        assert_eq!(reply_len(&two).unwrap(), Some(answer.len()));
        assert!(reply_len(b"-NOT_MEMBER no\r\n").is_err());
    }
}
