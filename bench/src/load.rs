//! The message load: rooms, senders, and what every device must receive.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

use crate::Error;
use crate::cli::Work;
use crate::clients::{Clients, Handler, Outbox};
use crate::door::{self, Door, Incoming, Stamp};
use crate::ledger::{Faults, Ledger};
use crate::meter::{Meter, Second};
use crate::world::World;

/// Devices that connect at once, while a load is set up.
const CONNECTING: usize = 256;
/// Requests in flight per device while rooms and histories are created.
const SETUP_WINDOW: usize = 32;
/// How long no data at all may arrive while some is expected.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest wait for sockets, so that the clock is checked.
const TURN: Duration = Duration::from_millis(50);
/// The clock of an open load. Sends that are due within a tick go out together.
const TICK: Duration = Duration::from_millis(1);

/// Devices in their rooms, with a checked account of every message.
pub(crate) struct Load<'a> {
    work: &'a Work,
    world: &'a World,
    clients: Clients,
    state: State,
}

/// Everything but the sockets, so that both can be used at once.
struct State {
    /// The prefix of the users' names.
    run: String,
    bytes: usize,
    began: Instant,
    devices: Vec<Member>,
    senders: Vec<Sender>,
    /// Messages sent by each sender so far.
    sent: Vec<u64>,
    served: usize,
    pace: Pace,
    meter: Meter,
    faults: Faults,
    /// Deliveries that count, and how many all sends should produce.
    delivered: u64,
    expected: u64,
    deliveries_of_send: u64,
    /// Setup: requests made and answered, and the rooms' ids as they become known.
    asked: u64,
    answered: u64,
    room_ids: Vec<Option<String>>,
    refused: u64,
    first_refusal: Option<String>,
    scratch: Vec<u8>,
}

/// A device and its place.
struct Member {
    user: String,
    ledger: Ledger,
    served: bool,
    room: usize,
    /// The sender's index, if the device sends.
    sender: Option<usize>,
}

struct Sender {
    device: usize,
    room_id: String,
    /// Sends that have not been answered: their numbers, and when they were sent.
    in_flight: VecDeque<(u64, u64)>,
}

/// When a sender sends.
#[derive(Debug, Clone, Copy)]
enum Pace {
    /// Never on its own.
    Held,
    /// As soon as fewer than `window` sends are in flight, up to a number of messages.
    Window { window: usize, up_to: u64 },
}

/// Ids of requests that create rooms; sends use their number as id.
const SETUP_ID: u64 = 1 << 40;

impl<'a> Load<'a> {
    /// Connects all devices and creates all rooms.
    pub(crate) fn set_up(work: &'a Work, world: &'a World) -> Result<Self, Error> {
        let clients = Clients::new(world.address, work.door, work.list)?;
        let mut load = Self {
            work,
            world,
            clients,
            state: State::new(work, run_name())?,
        };
        load.connect_all()?;
        load.make_rooms()?;
        load.make_other_rooms()?;
        Ok(load)
    }

    fn connect_all(&mut self) -> Result<(), Error> {
        for device in 0..self.state.devices.len() {
            let user = self.state.devices[device].user.clone();
            let token = self.world.token(&user)?;
            self.clients.connect(&user, &token)?;
            let fewest = (device + 1).saturating_sub(CONNECTING);
            self.until("devices are served", |state| state.served >= fewest)?;
        }
        let all = self.state.devices.len();
        self.until("all devices are served", |state| state.served == all)
    }

    fn make_rooms(&mut self) -> Result<(), Error> {
        for device in 0..self.state.devices.len() {
            let is_first = device % self.work.room_devices() == 0;
            match self.work.door {
                Door::Relay => self.join_room(device),
                _ if is_first => self.initialize_room(device),
                _ => {}
            }
        }
        self.all_answered("rooms are made")?;
        for sender in &mut self.state.senders {
            let room = self.state.devices[sender.device].room;
            sender.room_id = self.state.room_ids[room]
                .clone()
                .ok_or(Error::Stuck("a room has no id".to_owned()))?;
        }
        Ok(())
    }

    /// The relay knows no members: each device names the room that it wants.
    fn join_room(&mut self, device: usize) {
        let room = self.state.devices[device].room;
        let data = format!(r#"{{"roomId":"{}"}}"#, self.state.user(room, 0));
        self.ask(device, "join", &data);
    }

    fn initialize_room(&mut self, device: usize) {
        let room = self.state.devices[device].room;
        let others = (1..self.work.members).map(|member| self.state.user(room, member));
        let others = others.map(|user| format!("\"{user}\""));
        let others = others.collect::<Vec<_>>().join(",");
        let data = format!(r#"{{"participants":[{others}]}}"#);
        self.ask(device, "initializeChat", &data);
    }

    /// Creates each sender's rooms with people who are not connected.
    fn make_other_rooms(&mut self) -> Result<(), Error> {
        if self.work.door == Door::Relay {
            return Ok(());
        }
        for other in 0..self.work.other_rooms {
            for sender in 0..self.state.senders.len() {
                let device = self.state.senders[sender].device;
                let user = &self.state.devices[device].user;
                let body = format!(r#"{{"participants":["{user}-friend{other}"]}}"#);
                self.ask(device, "initializeChat", &body);
            }
            if other % SETUP_WINDOW == 0 {
                self.all_answered("other rooms are made")?;
            }
        }
        self.all_answered("other rooms are made")
    }

    fn ask(&mut self, device: usize, name: &str, data: &str) {
        self.state.asked += 1;
        self.clients
            .request(device, name, SETUP_ID, &[data.as_bytes()]);
    }

    fn all_answered(&mut self, what: &str) -> Result<(), Error> {
        self.until(what, |state| state.answered == state.asked)
    }

    /// Runs until the state satisfies `is_so`. Fails if nothing progresses for long, or a request is refused.
    fn until(&mut self, what: &str, is_so: impl Fn(&State) -> bool) -> Result<(), Error> {
        let mut moved = (Instant::now(), self.clients.received_bytes);
        while !is_so(&self.state) {
            self.clients.turn(TURN, &mut self.state)?;
            self.check_health()?;
            if self.clients.received_bytes != moved.1 {
                moved = (Instant::now(), self.clients.received_bytes);
            }
            if moved.0.elapsed() > PATIENCE {
                return Err(Error::Stuck(format!("waiting until {what}")));
            }
        }
        Ok(())
    }

    /// An error ends the run at once, except during the measurement, where it is counted.
    fn check_health(&self) -> Result<(), Error> {
        match self.first_error() {
            Some(error) if !self.state.meter.has_started() => Err(Error::Stuck(error)),
            _ => Ok(()),
        }
    }

    /// Each sender fills its room with the messages that are to exist beforehand.
    pub(crate) fn fill(&mut self) -> Result<(), Error> {
        let up_to = self.work.history;
        self.go(Pace::Window {
            window: SETUP_WINDOW,
            up_to,
        });
        self.until("the history is there", |state| {
            state.sent.iter().all(|sent| *sent >= up_to) && state.is_complete()
        })
    }

    /// Sends for this long, without counting.
    pub(crate) fn warm_up(&mut self, time: Duration) -> Result<(), Error> {
        self.send_for(time)
    }

    /// Begins to count.
    pub(crate) fn start_meter(&mut self) {
        self.clients.received_bytes = 0;
        self.state.meter.start(self.state.now_ns());
    }

    /// Sends for one more second.
    pub(crate) fn one_second(&mut self) -> Result<Second, Error> {
        self.send_for(Duration::from_secs(1))?;
        Ok(self.state.meter.end_second())
    }

    /// Ends the counting; sends are still in flight.
    pub(crate) fn stop_meter(&mut self) {
        self.state.meter.stop(self.state.now_ns());
    }

    /// Stops sending, and waits until every device has received everything, or nothing arrives any more.
    pub(crate) fn drain(&mut self) -> Faults {
        self.state.pace = Pace::Held;
        // Whatever has not arrived counts as lost below.
        let _ = self.until("all is delivered", State::is_complete);
        let lost = self
            .state
            .devices
            .iter()
            .map(|device| device.ledger.lost(&self.state.sent));
        self.state.faults.lost = lost.sum();
        self.state.faults
    }

    fn send_for(&mut self, time: Duration) -> Result<(), Error> {
        match self.work.rate {
            Some(rate) => self.send_at(rate, time),
            None => self.send_in_windows(time),
        }
    }

    fn send_in_windows(&mut self, time: Duration) -> Result<(), Error> {
        self.go(Pace::Window {
            window: self.work.window,
            up_to: u64::MAX,
        });
        let began = Instant::now();
        while began.elapsed() < time {
            let left = time.saturating_sub(began.elapsed());
            self.clients.turn(left.min(TURN), &mut self.state)?;
            self.check_health()?;
        }
        Ok(())
    }

    /// An open load: each send goes out when it is due, whether or not answers arrive, and its latency counts from
    /// then.
    fn send_at(&mut self, rate: u64, time: Duration) -> Result<(), Error> {
        let tick_ns = u64::try_from(TICK.as_nanos()).unwrap_or(u64::MAX);
        let rate_of_tick = rate as f64 * TICK.as_secs_f64();
        let (began, began_ns) = (Instant::now(), self.state.now_ns());
        let mut gone = 0;
        let mut tick = 0;
        while began.elapsed() < time {
            while began.elapsed() >= TICK * tick {
                let due = (f64::from(tick + 1) * rate_of_tick) as usize;
                let due_ns = began_ns + u64::from(tick) * tick_ns;
                (gone..due).for_each(|number| self.send_due(number, due_ns));
                gone = due;
                tick += 1;
            }
            self.clients.turn(TICK, &mut self.state)?;
            self.check_health()?;
        }
        Ok(())
    }

    /// The senders take turns.
    fn send_due(&mut self, number: usize, due_ns: u64) {
        let sender = number % self.state.senders.len();
        let (device, state) = (self.state.senders[sender].device, &mut self.state);
        self.clients
            .with_outbox(device, |outbox| state.send(sender, due_ns, outbox));
    }

    /// Sets the pace and lets every sender start.
    fn go(&mut self, pace: Pace) {
        self.state.pace = pace;
        for sender in 0..self.state.senders.len() {
            let (device, state) = (self.state.senders[sender].device, &mut self.state);
            self.clients
                .with_outbox(device, |outbox| state.send_on(sender, outbox));
        }
    }

    /// Sends one message from the first sender; returns the time until the last device has it.
    pub(crate) fn send_one(&mut self) -> Result<Duration, Error> {
        let began = Instant::now();
        let (device, state) = (self.state.senders[0].device, &mut self.state);
        let now_ns = state.now_ns();
        self.clients
            .with_outbox(device, |outbox| state.send(0, now_ns, outbox));
        while self.state.delivered < self.state.expected {
            self.clients.turn(TURN, &mut self.state)?;
            if began.elapsed() > PATIENCE {
                return Err(Error::Stuck("a message did not come to all".to_owned()));
            }
        }
        Ok(began.elapsed())
    }

    /// The counts.
    pub(crate) fn meter(&self) -> &Meter {
        &self.state.meter
    }

    /// Bytes received since the meter was started.
    pub(crate) fn received_bytes(&self) -> u64 {
        self.clients.received_bytes
    }

    /// Refused requests and broken connections.
    pub(crate) fn errors(&self) -> u64 {
        self.state.refused + self.clients.errors
    }

    /// The text of the first error.
    pub(crate) fn first_error(&self) -> Option<String> {
        let first = self.clients.first_error.as_ref();
        first.or(self.state.first_refusal.as_ref()).cloned()
    }
}

impl State {
    fn new(work: &Work, run: String) -> Result<Self, Error> {
        let mut state = Self {
            run,
            bytes: work.bytes,
            began: Instant::now(),
            devices: Vec::new(),
            senders: Vec::new(),
            sent: vec![0; work.rooms * work.room_senders()],
            served: 0,
            pace: Pace::Held,
            meter: Meter::new()?,
            faults: Faults::default(),
            delivered: 0,
            expected: 0,
            deliveries_of_send: work.room_devices() as u64,
            asked: 0,
            answered: 0,
            room_ids: vec![None; work.rooms],
            refused: 0,
            first_refusal: None,
            scratch: Vec::new(),
        };
        for room in 0..work.rooms {
            for index in 0..work.room_devices() {
                state.add_device(work, room, index);
            }
        }
        Ok(state)
    }

    fn add_device(&mut self, work: &Work, room: usize, index: usize) {
        let (member, device) = (index / work.devices, index % work.devices);
        let sends = device == 0 && member < work.room_senders();
        let sender = sends.then_some(self.senders.len());
        if sends {
            self.senders.push(Sender {
                device: self.devices.len(),
                room_id: String::new(),
                in_flight: VecDeque::new(),
            });
        }
        self.devices.push(Member {
            user: self.user(room, member),
            ledger: Ledger::new(room * work.room_senders(), work.room_senders()),
            served: false,
            room,
            sender,
        });
    }

    /// The name of a member, connected or not.
    fn user(&self, room: usize, member: usize) -> String {
        format!("{}-{room}-{member}", self.run)
    }

    fn now_ns(&self) -> u64 {
        ns_between(self.began, Instant::now())
    }

    fn is_complete(&self) -> bool {
        self.delivered == self.expected
            && self
                .senders
                .iter()
                .all(|sender| sender.in_flight.is_empty())
    }

    /// Sends as much as the pace allows.
    fn send_on(&mut self, sender: usize, outbox: &mut Outbox<'_>) {
        let Pace::Window { window, up_to } = self.pace else {
            return;
        };
        while self.senders[sender].in_flight.len() < window && self.sent[sender] < up_to {
            let now_ns = self.now_ns();
            self.send(sender, now_ns, outbox);
        }
    }

    fn send(&mut self, sender: usize, sent_ns: u64, outbox: &mut Outbox<'_>) {
        self.sent[sender] += 1;
        self.expected += self.deliveries_of_send;
        let number = self.sent[sender];
        let stamp = Stamp {
            sender,
            number,
            sent_ns,
        };
        self.scratch.clear();
        stamp.put(&mut self.scratch, self.bytes);
        let Sender {
            room_id, in_flight, ..
        } = &mut self.senders[sender];
        in_flight.push_back((number, sent_ns));
        let data: [&[u8]; 5] = [
            br#"{"roomId":""#,
            room_id.as_bytes(),
            br#"","content":""#,
            &self.scratch,
            br#""}"#,
        ];
        outbox.request("sendMessage", number, &data);
    }

    fn delivery(&mut self, device: usize, text: &[u8], now_ns: u64) {
        let Some(stamp) = Stamp::find(text) else {
            self.faults.foreign += 1;
            return;
        };
        let ledger = &mut self.devices[device].ledger;
        if ledger.enter(
            stamp.sender,
            stamp.number,
            door::seq(text),
            &mut self.faults,
        ) {
            self.delivered += 1;
            self.meter.delivered(stamp.sent_ns, now_ns);
        }
    }

    fn set_up_ack(&mut self, device: usize, body: &[u8]) {
        self.answered += 1;
        // The first room that a device creates is the one it sends in.
        let room = &mut self.room_ids[self.devices[device].room];
        if room.is_none() {
            *room = door::room_id(body);
        }
    }

    fn send_ack(&mut self, device: usize, number: u64, now_ns: u64, outbox: &mut Outbox<'_>) {
        let Some(sender) = self.devices[device].sender else {
            return;
        };
        let in_flight = &mut self.senders[sender].in_flight;
        let at = in_flight.iter().position(|(sent, _)| *sent == number);
        if let Some((_, sent_ns)) = at.and_then(|at| in_flight.remove(at)) {
            self.meter.acked(sent_ns, now_ns);
        }
        self.send_on(sender, outbox);
    }

    fn refusal(&mut self, body: &[u8]) {
        self.refused += 1;
        let words = || String::from_utf8_lossy(body).into_owned();
        self.first_refusal.get_or_insert_with(words);
    }
}

impl Handler for State {
    fn incoming(
        &mut self,
        device: usize,
        incoming: Incoming<'_>,
        now: Instant,
        outbox: &mut Outbox<'_>,
    ) {
        let now_ns = ns_between(self.began, now);
        match incoming {
            Incoming::Delivery(text) => self.delivery(device, text, now_ns),
            Incoming::Ack { id, ok, body } => {
                if !ok {
                    self.refusal(body);
                }
                match id {
                    SETUP_ID => self.set_up_ack(device, body),
                    number => self.send_ack(device, number, now_ns, outbox),
                }
            }
            Incoming::Served if !self.devices[device].served => {
                self.devices[device].served = true;
                self.served += 1;
            }
            _ => {}
        }
    }
}

fn ns_between(earlier: Instant, later: Instant) -> u64 {
    u64::try_from(later.saturating_duration_since(earlier).as_nanos()).unwrap_or(u64::MAX)
}

/// A name that no earlier run used: a room of two is always the same one, and must be empty.
fn run_name() -> String {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let ms = since_1970.map_or(0, |time| time.as_millis());
    format!("b{ms}p{}", std::process::id())
}
