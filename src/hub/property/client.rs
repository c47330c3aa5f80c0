//! A device and its user: what they ask for, what they get, and what is wrong with that.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value as Json, json};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::timeout;

use super::server::{Call, Server, section};
use super::store::{History, Store};
use crate::hub::device::{Device, ListMode};
use crate::hub::hold::{Cuts, Section};
use crate::hub::lane::{Kind, Taken};
use crate::hub::snapshot::Snapshot;
use crate::protocol::frame::Frame;
use crate::protocol::ids::{RoomId, UserId};
use crate::room::{Topic, pause_after};

const LIST_PATIENCE: Duration = Duration::from_secs(30);

/// What a device asks for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ask {
    List,
    Page(RoomId),
    /// A room for the device's user and others; `None` stands for the other user.
    Make(RoomId, usize),
}

pub(super) struct Client {
    server: Rc<Server>,
    pub device: Arc<Device>,
    requests: mpsc::UnboundedSender<Ask>,
    session: JoinHandle<()>,
    /// Requests that have not been answered yet, the first list among them.
    pub open: Rc<Cell<usize>>,
    /// The first list could not be read in time: the connection is closed.
    pub refused: Rc<Cell<bool>>,
    seen: RefCell<Seen>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.session.abort();
        self.server.hub.unregister(&self.device);
    }
}

impl Client {
    pub(super) fn connect(server: &Rc<Server>, user: &UserId, mode: ListMode) -> Option<Self> {
        let device = server
            .hub
            .register(user.clone(), mode, Frame::event("hello", &()), 10)
            .ok()?;
        let (requests, mut asked) = mpsc::unbounded_channel();
        let (open, refused) = (Rc::new(Cell::new(1)), Rc::<Cell<bool>>::default());
        let session = Session {
            server: server.clone(),
            device: device.clone(),
        };
        let (to_answer, is_refused) = (open.clone(), refused.clone());
        let session = spawn_local(async move {
            if timeout(LIST_PATIENCE, session.start()).await.is_err() {
                is_refused.set(true);
                return;
            }
            to_answer.set(to_answer.get() - 1);
            while let Some(ask) = asked.recv().await {
                session.answer(ask).await;
                to_answer.set(to_answer.get() - 1);
            }
        });
        Some(Self {
            server: server.clone(),
            device,
            requests,
            session,
            open,
            refused,
            seen: RefCell::default(),
        })
    }

    pub(super) fn ask(&self, ask: Ask) {
        if self.requests.send(ask).is_ok() {
            self.open.set(self.open.get() + 1);
        }
    }

    /// Reads what has arrived.
    pub(super) fn read(&self) {
        let take = |frame: Frame| {
            let text = frame.native().map(|text| text.as_str().into_owned());
            let text = text.unwrap_or_default();
            self.seen.borrow_mut().take(&self.device, &text);
        };
        while self.device.take(take) == Taken::Frames {}
    }

    /// What was wrong with what arrived, and what is missing of what the store has.
    pub(super) fn flaws(&self, store: &Store) -> Vec<String> {
        let seen = self.seen.borrow();
        let missing = seen.differs_from(&self.device.user, store);
        let all = seen.flaws.iter().cloned().chain(missing);
        let (user, mode) = (&self.device.user, self.device.mode);
        all.map(|flaw| format!("{user}'s {mode:?} device: {flaw}"))
            .collect()
    }
}

struct Session {
    server: Rc<Server>,
    device: Arc<Device>,
}

impl Session {
    async fn start(&self) {
        let hub = &self.server.hub;
        // No longer wanted: the device has disconnected.
        let _ = hub
            .interest
            .heard(&Topic::User(self.device.user.clone()))
            .await;
        let snapshot = Snapshot::first(hub, &self.device);
        self.send_list(snapshot, true).await;
    }

    async fn send_list(&self, mut snapshot: Snapshot, patient: bool) {
        let mut times = 0;
        loop {
            snapshot.reads_list();
            let Ok(list) = self.server.list(&self.device).await else {
                if !patient {
                    return;
                }
                times += 1;
                tokio::time::sleep(pause_after(times)).await;
                continue;
            };
            let frame = list.frame_for(&self.device).unwrap();
            let section = section(&list.cuts, frame, Kind::Answer);
            let Err(overtaken) = snapshot.finish(vec![section]).await else {
                return;
            };
            match overtaken.read_again().await {
                Some(again) => snapshot = again,
                None => return self.server.give_up(),
            }
        }
    }

    async fn answer(&self, ask: Ask) {
        let snapshot = Snapshot::begin(&self.server.hub, &self.device).await;
        match ask {
            Ask::List => self.send_list(snapshot, false).await,
            Ask::Page(room) => self.send_page(snapshot, room).await,
            Ask::Make(room, other) => self.make(snapshot, room, other).await,
        }
    }

    async fn send_page(&self, mut snapshot: Snapshot, room: RoomId) {
        loop {
            let read = |store: &mut Store| {
                let is_member = store.members(room).contains(&self.device.user);
                store.position(room).filter(|_| is_member)
            };
            let Ok(Some(cut)) = self.server.call(Call::Page, read).await else {
                return;
            };
            let page = json!({"roomId": room, "seq": cut.seq});
            let page = Section {
                cuts: Arc::new(Cuts::from([(room, cut)])),
                frames: vec![Frame::event("chatHistory", &page)],
                kind: Kind::Answer,
                tells_rooms: false,
            };
            let Err(overtaken) = snapshot.finish(vec![page]).await else {
                return;
            };
            match overtaken.read_again().await {
                Some(again) => snapshot = again,
                None => return self.server.give_up(),
            }
        }
    }

    /// The event arrives with the reply, and for everyone over their own channels.
    async fn make(&self, snapshot: Snapshot, room: RoomId, other: usize) {
        let (server, user) = (&self.server, &self.device.user);
        let members = [user.clone(), super::other_than(user, other)];
        let make = |store: &mut Store| {
            let gained = store.make(room, &members);
            for (user, gained) in members.iter().zip(std::iter::repeat(&gained)) {
                if let Some(gained) = gained {
                    server.wire.gained(user, gained);
                }
            }
            gained
        };
        let Ok(made) = server.call(Call::Make, make).await else {
            return;
        };
        if let Some(gained) = made {
            server.hub.room_gained(user, &gained);
        }
        if self.device.mode == ListMode::Full {
            self.send_list(snapshot, false).await;
        }
    }
}

/// What a device has got.
#[derive(Default)]
struct Seen {
    /// It has received `hello`, which comes first and once.
    greeted: bool,
    rooms: BTreeMap<String, View>,
    /// After a reset the entry follows, even if a list has sent it meanwhile.
    renewals: BTreeMap<String, usize>,
    flaws: Vec<String>,
}

/// A room as a device sees it.
#[derive(Default, Debug)]
struct View {
    /// An entry has announced it.
    told: bool,
    /// Up to here it has every message, from an entry or directly. `None` before it knows the room.
    last: Option<u64>,
    /// Messages since it has known the room.
    messages: Vec<(u64, String)>,
    /// The last message that an entry showed.
    entry: Option<(u64, String)>,
    /// How far its own user has read.
    read_seq: u64,
}

fn text<'a>(data: &'a Json, name: &str) -> &'a str {
    data[name].as_str().unwrap_or_default()
}

fn number(data: &Json, name: &str) -> u64 {
    data[name].as_u64().unwrap_or_default()
}

impl Seen {
    fn take(&mut self, device: &Device, text_of_frame: &str) {
        let frame: Json = serde_json::from_str(text_of_frame).unwrap_or_default();
        let (event, data) = (text(&frame, "event"), &frame["data"]);
        let room = text(data, "roomId").to_owned();
        if (event == "hello") == self.greeted {
            self.flaws.push(format!("{event} out of its turn"));
        }
        match event {
            "hello" => self.greeted = true,
            "chatList" => self.list(data),
            "chatEntry" => {
                let view = self.rooms.entry(room.clone()).or_default();
                let renewals = self.renewals.entry(room).or_default();
                match (view.told, *renewals) {
                    (false, _) => {}
                    (true, 0) => self.flaws.push(format!("told twice: {data}")),
                    (true, _) => *renewals -= 1,
                }
                self.entry(data);
            }
            "newMessage" => self.message(&room, device.user.as_str(), data),
            "messageRead" if text(data, "userId") == device.user.as_str() => {
                let view = self.rooms.entry(room).or_default();
                view.read_seq = view.read_seq.max(number(data, "seq"));
            }
            "chatHistory" => {
                let view = self.rooms.entry(room).or_default();
                if view.last.is_some_and(|last| last > number(data, "seq")) {
                    self.flaws.push(format!("a page comes too late: {data}"));
                }
            }
            "error" if text(data, "code") == "HISTORY_RESET" => {
                self.rooms.remove(&room);
                *self.renewals.entry(room).or_default() += 1;
            }
            "messageRead" => {}
            _ => self.flaws.push(format!("what is {event}?")),
        }
    }

    fn list(&mut self, data: &Json) {
        let entries = data.as_array().map(Vec::as_slice).unwrap_or_default();
        let is_listed = |room: &String| entries.iter().any(|entry| text(entry, "roomId") == room);
        self.rooms.retain(|room, _| is_listed(room));
        entries.iter().for_each(|entry| self.entry(entry));
    }

    fn entry(&mut self, data: &Json) {
        let view = self
            .rooms
            .entry(text(data, "roomId").to_owned())
            .or_default();
        let seq = number(data, "seq");
        match view.last {
            None => view.last = Some(seq),
            Some(last) if seq < last => {
                let flaw = format!("an entry comes after message {last}: {data}");
                self.flaws.push(flaw);
            }
            Some(_) => {}
        }
        view.told = true;
        let content = text(&data["lastMessage"], "content").to_owned();
        view.entry = Some((seq, content));
        view.read_seq = number(data, "readSeq");
    }

    fn message(&mut self, room: &str, user: &str, data: &Json) {
        let view = self.rooms.entry(room.to_owned()).or_default();
        let seq = number(data, "seq");
        if let Some(last) = view.last
            && seq != last + 1
        {
            let flaw = format!("after message {last} comes {data}");
            self.flaws.push(flaw);
        }
        view.last = Some(seq);
        view.messages.push((seq, text(data, "content").to_owned()));
        let readers = data["readBy"].as_array();
        if readers.is_some_and(|readers| readers.iter().any(|reader| reader == user)) {
            view.read_seq = view.read_seq.max(seq);
        }
    }

    fn differs_from(&self, user: &UserId, store: &Store) -> Vec<String> {
        let mut flaws = Vec::new();
        let index = store.index(user);
        for room in &index {
            let (Some(view), Some(history)) =
                (self.rooms.get(&room.to_string()), store.history(*room))
            else {
                flaws.push(format!("was never told of room {room}"));
                continue;
            };
            let marks_count = !store.lost_marks(*room);
            let differences = view.differs_from(user, history, marks_count);
            flaws.extend(differences.map(|what| format!("room {room}: {what}: {view:?}")));
        }
        let is_there = |room: &String| index.iter().any(|there| there.to_string() == *room);
        let gone = self
            .rooms
            .iter()
            .filter(|(room, view)| view.told && !is_there(room));
        flaws.extend(gone.map(|(room, _)| format!("room {room} is no more")));
        flaws
    }
}

impl View {
    fn differs_from(
        &self,
        user: &UserId,
        history: &History,
        marks_count: bool,
    ) -> impl Iterator<Item = &'static str> {
        let seq = history.messages.len() as u64;
        let is_stored = |(seq, content): &(u64, String)| {
            let place = usize::try_from(*seq).unwrap_or_default();
            let message = place.checked_sub(1).and_then(|at| history.messages.get(at));
            message.map_or("", |message| &message.content) == content
        };
        let mark = history.marks.get(user).copied().unwrap_or_default();
        let checks = [
            (self.told, "it has no entry"),
            (self.last == Some(seq), "it is not up to date"),
            (
                self.messages.iter().all(is_stored),
                "a message is not the store's",
            ),
            (
                self.entry.iter().all(is_stored),
                "the entry is not the store's",
            ),
            (
                !marks_count || self.read_seq == mark,
                "the marker is not the store's",
            ),
        ];
        checks
            .into_iter()
            .filter_map(|(holds, what)| (!holds).then_some(what))
    }
}
