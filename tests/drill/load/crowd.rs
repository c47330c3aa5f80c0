//! Many light clients: each has a socket and a small buffer, reads what comes, and does what a server asks of it.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, copy, sink},
    net::TcpStream,
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::survey::Surveyor;
use crate::checker::crowd::Life;
use crate::support::{raw, token};

/// Bytes of a frame that a client looks at.
const KEPT: u64 = 512;
const BUFFER: usize = 1024;
/// Clients that make rooms at once.
const MAKERS: usize = 8;
/// The message that is sent so that everybody receives something.
const CALL: &str = "is everybody back?";
/// The value that names no server.
const NONE: usize = usize::MAX;

/// How many clients there are, and how many rooms each of them is in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) clients: usize,
    /// A divisor of `clients`. There are as many rooms as clients, and each room has as many members as each client has
    /// rooms.
    pub(crate) rooms_each: usize,
}

/// What is counted over all of them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) lists: usize,
    pub(crate) heard: usize,
    pub(crate) put_off: u64,
    pub(crate) let_down: usize,
}

/// The state that all of them share.
struct Common {
    addresses: Vec<SocketAddr>,
    /// The number of the server that is killed.
    killed: AtomicUsize,
    counts: watch::Sender<Counts>,
    leaving: CancellationToken,
}

/// The clients.
pub(crate) struct Crowd {
    size: Size,
    rooms: Vec<(usize, String)>,
    common: Arc<Common>,
    clients: Vec<JoinHandle<Life>>,
}

impl Crowd {
    /// Makes the rooms, with a message in each.
    pub(crate) async fn gather(addresses: &[SocketAddr], size: Size) -> Self {
        let makers = (0..MAKERS).map(|maker| make_rooms(addresses[0], size, maker));
        let made = join_all(makers).await;
        Self {
            size,
            rooms: made.into_iter().flatten().collect(),
            common: Arc::new(Common {
                addresses: addresses.to_vec(),
                killed: AtomicUsize::new(NONE),
                counts: watch::Sender::default(),
                leaving: CancellationToken::new(),
            }),
            clients: Vec::new(),
        }
    }

    /// Connects them all at once, each to the next server in turn.
    pub(crate) fn connect(&mut self) {
        for number in 0..self.size.clients {
            let client = Client::new(number, self.common.clone());
            self.clients.push(tokio::spawn(client.run()));
        }
    }

    /// The clients on this server while all servers run.
    pub(crate) fn at(&self, server: usize) -> usize {
        let servers = self.common.addresses.len();
        (self.size.clients + servers - 1 - server) / servers
    }

    /// The connections to this server end from now on because it is killed.
    pub(crate) fn server_is_killed(&self, server: usize) {
        self.common.killed.store(server, Ordering::SeqCst);
    }

    /// Sends a message in enough rooms that every client receives it once.
    pub(crate) async fn call(&self, address: SocketAddr) {
        for maker in 0..MAKERS {
            let mut surveyor = Surveyor::connect(address, &maker_name(maker)).await;
            for (number, room) in &self.rooms {
                if number % MAKERS == maker && *number < self.size.stride() {
                    surveyor.tell(room, CALL).await;
                }
            }
        }
    }

    /// The counts by now.
    pub(crate) fn counts(&self) -> Counts {
        *self.common.counts.borrow()
    }

    /// Waits until the counts are as wished; returns false if they are not in time. Does not wait for clients that were
    /// let down.
    pub(crate) async fn reached(
        &self,
        limit: Duration,
        wished: impl Fn(&Counts) -> usize,
        count: usize,
    ) -> bool {
        let mut counts = self.common.counts.subscribe();
        let reached = counts.wait_for(|counts| wished(counts) + counts.let_down >= count);
        timeout(limit, reached).await.is_ok()
    }

    /// Lets all clients leave, and returns what they went through.
    pub(crate) async fn leave(self) -> Vec<Life> {
        self.common.leaving.cancel();
        let lives = join_all(self.clients).await;
        let lives = lives.into_iter();
        lives
            .map(|life| life.expect("no client panicked"))
            .collect()
    }
}

impl Size {
    /// The members of one room are this far apart.
    fn stride(self) -> usize {
        self.clients / self.rooms_each
    }

    fn members_of(self, room: usize) -> Vec<String> {
        let members = (0..self.rooms_each).map(|nth| (room + nth * self.stride()) % self.clients);
        members.map(name_of).collect()
    }
}

fn name_of(number: usize) -> String {
    format!("c{number}")
}

fn maker_name(number: usize) -> String {
    format!("maker{number}")
}

/// Makes every `MAKERS`th room, and returns their numbers and ids.
async fn make_rooms(address: SocketAddr, size: Size, maker: usize) -> Vec<(usize, String)> {
    let mut surveyor = Surveyor::connect(address, &maker_name(maker)).await;
    let mut rooms = Vec::new();
    for room in (maker..size.clients).step_by(MAKERS) {
        let id = surveyor.room(&size.members_of(room)).await;
        surveyor.tell(&id, "hello everybody").await;
        rooms.push((room, id));
    }
    rooms
}

struct Client {
    number: usize,
    common: Arc<Common>,
    life: Life,
}

/// How an attempt to connect, or a connection, ended.
enum End {
    /// Its server was killed.
    Killed,
    /// It must come back after this many seconds.
    PutOff(u64),
    LetDown(String),
}

impl Client {
    fn new(number: usize, common: Arc<Common>) -> Self {
        let life = Life {
            name: name_of(number),
            ..Life::default()
        };
        Self {
            number,
            common,
            life,
        }
    }

    /// Runs until all leave, or a server lets it down.
    async fn run(mut self) -> Life {
        let leaving = self.common.leaving.clone();
        leaving.run_until_cancelled(self.stay()).await;
        self.life
    }

    async fn stay(&mut self) {
        loop {
            match self.connect_and_listen().await {
                End::Killed => {}
                End::PutOff(secs) => {
                    self.life.put_off += 1;
                    self.count(|counts| counts.put_off += 1);
                    sleep(Duration::from_secs(secs)).await;
                }
                End::LetDown(why) => {
                    self.life.let_down = Some(why);
                    return self.count(|counts| counts.let_down += 1);
                }
            }
        }
    }

    fn count(&self, change: impl FnOnce(&mut Counts)) {
        self.common.counts.send_modify(change);
    }

    async fn connect_and_listen(&mut self) -> End {
        let servers = self.common.addresses.len();
        let mut server = self.number % servers;
        if server == self.common.killed.load(Ordering::SeqCst) {
            server = (server + 1) % servers;
        }
        let connections = self.life.connections;
        let end = match self.connect(server).await {
            Ok(mut socket) => self.listen(&mut socket).await,
            Err(end) => end,
        };
        if server == self.common.killed.load(Ordering::SeqCst) {
            self.life.kills += self.life.connections - connections;
            return End::Killed;
        }
        end
    }

    async fn connect(&mut self, server: usize) -> Result<BufReader<TcpStream>, End> {
        let failed = |error| End::LetDown(format!("could not connect: {error}"));
        let address = self.common.addresses[server];
        let mut stream = TcpStream::connect(address).await.map_err(failed)?;
        let token = token::of(&self.life.name);
        let request = format!(
            "GET /ws?chatList=delta HTTP/1.1\r\nHost: {address}\r\ntoken: {token}\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.map_err(failed)?;
        let mut socket = BufReader::with_capacity(BUFFER, stream);
        let head = read_head(&mut socket).await;
        let head = head.ok_or_else(|| End::LetDown("was not answered".to_owned()))?;
        if head.starts_with("http/1.1 101 ") {
            self.life.connections += 1;
            return Ok(socket);
        }
        Err(match come_back_after(&head) {
            Some(secs) if head.starts_with("http/1.1 503 ") => End::PutOff(secs),
            _ => End::LetDown(format!("was refused: {head}")),
        })
    }

    /// Reads until the connection ends.
    async fn listen(&mut self, socket: &mut BufReader<TcpStream>) -> End {
        let mut has_list = false;
        while let Some((opcode, payload)) = read_frame(socket).await {
            match opcode {
                raw::TEXT => {
                    let text = String::from_utf8_lossy(&payload);
                    if !has_list && text.contains("\"chatList\"") {
                        has_list = true;
                        self.life.lists += 1;
                        self.count(|counts| counts.lists += 1);
                    }
                    if !self.life.heard && text.contains(CALL) {
                        self.life.heard = true;
                        self.count(|counts| counts.heard += 1);
                    }
                }
                raw::PING => {
                    let pong = raw::frame(raw::FIN | raw::PONG, &payload);
                    // A connection that has broken reports it on the next read.
                    socket.write_all(&pong).await.ok();
                }
                raw::CLOSE => {
                    let code = raw::close_code(&payload);
                    return End::LetDown(format!("was closed with {code:?}"));
                }
                _ => {}
            }
        }
        End::LetDown("the connection just ended".to_owned())
    }
}

/// The head of the answer, in lower case. `None` where the connection ends before.
async fn read_head(socket: &mut BufReader<TcpStream>) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if socket.read_line(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    Some(head.to_lowercase())
}

/// The seconds after which a client that was refused may come back.
fn come_back_after(head: &str) -> Option<u64> {
    let secs = head
        .lines()
        .find_map(|line| line.strip_prefix("retry-after: "));
    secs?.parse().ok()
}

/// One frame: its opcode and the beginning of its payload. `None` where the connection has ended.
async fn read_frame(socket: &mut BufReader<TcpStream>) -> Option<(u8, Vec<u8>)> {
    let first = socket.read_u8().await.ok()?;
    let length = match socket.read_u8().await.ok()? {
        126 => u64::from(socket.read_u16().await.ok()?),
        127 => socket.read_u64().await.ok()?,
        short => u64::from(short),
    };
    let mut payload = vec![0; usize::try_from(length.min(KEPT)).expect("it is small")];
    socket.read_exact(&mut payload).await.ok()?;
    let mut rest = socket.take(length.saturating_sub(KEPT));
    copy(&mut rest, &mut sink()).await.ok()?;
    Some((first & 0x0F, payload))
}
