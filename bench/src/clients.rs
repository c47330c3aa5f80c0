//! All devices of a load: many sockets, one thread, one read buffer.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::door::{Door, Incoming, ListMode};
use crate::websocket::{self, Frame};

/// Bytes of the buffer through which all sockets are read.
const BUFFER_BYTES: usize = 256 * 1024;
/// Sockets reported in one turn, at most.
const EVENTS: usize = 1024;

/// Handles incoming data.
pub(crate) trait Handler {
    /// `now` is when the bytes were read. What is added to `outbox` is sent to the same device.
    fn incoming(
        &mut self,
        device: usize,
        incoming: Incoming<'_>,
        now: Instant,
        outbox: &mut Outbox<'_>,
    );
}

/// Outgoing requests of one device.
pub(crate) struct Outbox<'a> {
    door: Door,
    out: &'a mut Vec<u8>,
    scratch: &'a mut Vec<u8>,
}

impl Outbox<'_> {
    /// Queues a request; the parts of `data` together form its JSON.
    pub(crate) fn request(&mut self, name: &str, id: u64, data: &[&[u8]]) {
        self.scratch.clear();
        self.door.put_request(self.scratch, name, id, data);
        websocket::put_text(self.out, self.scratch);
    }
}

/// The devices, numbered in the order in which they connected.
pub(crate) struct Clients {
    poll: Poll,
    events: Events,
    devices: Vec<Device>,
    buffer: Vec<u8>,
    scratch: Vec<u8>,
    door: Door,
    address: SocketAddr,
    list: ListMode,
    /// Bytes received from the server.
    pub(crate) received_bytes: u64,
    /// Broken connections, and errors that no request caused.
    pub(crate) errors: u64,
    /// The text of the first error.
    pub(crate) first_error: Option<String>,
}

struct Device {
    stream: TcpStream,
    phase: Phase,
    /// Sent when Engine.IO has opened.
    join: String,
    /// The beginning of a frame whose rest has not arrived.
    rest: Vec<u8>,
    out: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Upgrading,
    Open,
    Gone,
}

/// Why a connection has ended.
#[derive(Debug, thiserror::Error)]
enum Gone {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Broken(#[from] websocket::Broken),
    #[error("the server answered: {0}")]
    Refused(String),
    #[error("the server closed with code {0}")]
    Closed(u16),
    #[error("the server hung up")]
    HungUp,
}

impl Clients {
    /// No devices yet, for a server at `address`.
    pub(crate) fn new(address: SocketAddr, door: Door, list: ListMode) -> io::Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(EVENTS),
            devices: Vec::new(),
            buffer: vec![0; BUFFER_BYTES],
            scratch: Vec::new(),
            door,
            address,
            list,
            received_bytes: 0,
            errors: 0,
            first_error: None,
        })
    }

    /// Starts connecting a device of `user`.
    pub(crate) fn connect(&mut self, user: &str, token: &str) -> io::Result<()> {
        let mut stream = TcpStream::connect(self.address)?;
        let id = Token(self.devices.len());
        // Only changes are reported, so both interests cost nothing while nothing happens.
        self.poll
            .registry()
            .register(&mut stream, id, Interest::READABLE | Interest::WRITABLE)?;
        self.devices.push(Device {
            stream,
            phase: Phase::Upgrading,
            join: self.door.join(user, token),
            rest: Vec::new(),
            out: self.door.upgrade(self.list, token).into_bytes(),
        });
        Ok(())
    }

    /// Sends a request of a device.
    pub(crate) fn request(&mut self, device: usize, name: &str, id: u64, data: &[&[u8]]) {
        self.with_outbox(device, |outbox| outbox.request(name, id, data));
    }

    /// Lets `fill` queue requests of a device, and sends them together.
    pub(crate) fn with_outbox(&mut self, device: usize, fill: impl FnOnce(&mut Outbox<'_>)) {
        let Some(state) = self.devices.get_mut(device) else {
            return;
        };
        fill(&mut Outbox {
            door: self.door,
            out: &mut state.out,
            scratch: &mut self.scratch,
        });
        if let Err(gone) = state.flush() {
            self.lose(device, &gone.into());
        }
    }

    /// Waits until data arrives, at most `patience`, and passes it to `handler`.
    pub(crate) fn turn(
        &mut self,
        patience: Duration,
        handler: &mut impl Handler,
    ) -> io::Result<()> {
        match self.poll.poll(&mut self.events, Some(patience)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            polled => polled?,
        }
        let ready: Vec<(usize, bool, bool)> = self
            .events
            .iter()
            .map(|event| (event.token().0, event.is_readable(), event.is_read_closed()))
            .collect();
        for (device, readable, ending) in ready {
            if let Err(gone) = self.serve(device, readable, ending, handler) {
                self.lose(device, &gone);
            }
        }
        Ok(())
    }

    fn serve(
        &mut self,
        device: usize,
        readable: bool,
        ending: bool,
        handler: &mut impl Handler,
    ) -> Result<(), Gone> {
        if self.devices[device].phase == Phase::Gone {
            return Ok(());
        }
        if readable {
            self.read_all(device, ending, handler)?;
        }
        Ok(self.devices[device].flush()?)
    }

    fn read_all(
        &mut self,
        device: usize,
        ending: bool,
        handler: &mut impl Handler,
    ) -> Result<(), Gone> {
        loop {
            match self.devices[device].stream.read(&mut self.buffer) {
                Ok(0) => return Err(Gone::HungUp),
                Ok(len) => {
                    self.received_bytes += len as u64;
                    self.take(device, len, handler)?;
                    // Fewer bytes than the buffer holds: nothing more is available, unless the connection has ended.
                    if len < self.buffer.len() && !ending {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Passes on the frames in the first `len` bytes of the buffer, after those that had arrived before.
    fn take(&mut self, index: usize, len: usize, handler: &mut impl Handler) -> Result<(), Gone> {
        let device = &mut self.devices[index];
        let mut rest = std::mem::take(&mut device.rest);
        let bytes = if rest.is_empty() {
            &self.buffer[..len]
        } else {
            rest.extend_from_slice(&self.buffer[..len]);
            &rest[..]
        };
        let mut at = 0;
        if device.phase == Phase::Upgrading {
            match upgraded(bytes)? {
                Some(head) => at = head,
                None => {
                    device.rest = bytes.to_vec();
                    return Ok(());
                }
            }
            device.phase = Phase::Open;
        }
        let now = Instant::now();
        while let Some((frame, len)) = websocket::read(&bytes[at..])? {
            at += len;
            let text = match frame {
                Frame::Text(text) => text,
                Frame::Ping(payload) => {
                    websocket::put_pong(&mut device.out, payload);
                    continue;
                }
                Frame::Close(code) => return Err(Gone::Closed(code)),
                Frame::Other => continue,
            };
            match self.door.read(text) {
                Incoming::Opened => websocket::put_text(&mut device.out, device.join.as_bytes()),
                Incoming::Ping => websocket::put_text(&mut device.out, b"3"),
                Incoming::Error(text) => {
                    self.errors += 1;
                    let words = || String::from_utf8_lossy(text).into_owned();
                    self.first_error.get_or_insert_with(words);
                }
                incoming => {
                    if incoming == Incoming::Served && self.door == Door::Native {
                        // A client that has sent nothing yet has its kernel acknowledge packet by packet, which costs
                        // both ends. Socket.IO clients have sent their join; this has the same effect (RFC 6455,
                        // 5.5.3).
                        websocket::put_pong(&mut device.out, b"");
                    }
                    let mut outbox = Outbox {
                        door: self.door,
                        out: &mut device.out,
                        scratch: &mut self.scratch,
                    };
                    handler.incoming(index, incoming, now, &mut outbox);
                }
            }
        }
        device.rest = bytes[at..].to_vec();
        Ok(())
    }

    fn lose(&mut self, device: usize, gone: &Gone) {
        self.devices[device].phase = Phase::Gone;
        self.errors += 1;
        self.first_error
            .get_or_insert_with(|| format!("device {device}: {gone}"));
    }
}

impl Device {
    /// Writes what is queued, as far as the socket takes it.
    fn flush(&mut self) -> io::Result<()> {
        while !self.out.is_empty() {
            match self.stream.write(&self.out) {
                Ok(len) => drop(self.out.drain(..len)),
                // Still connecting, or full: the poll reports when it is writable.
                Err(error) if is_not_yet(&error) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn is_not_yet(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected
    )
}

/// Where the answer to the upgrade ends; `None` if it is not complete yet.
fn upgraded(bytes: &[u8]) -> Result<Option<usize>, Gone> {
    let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else {
        return Ok(None);
    };
    if bytes.starts_with(b"HTTP/1.1 101 ") {
        return Ok(Some(end + 4));
    }
    let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or(bytes);
    Err(Gone::Refused(String::from_utf8_lossy(line).into_owned()))
}
