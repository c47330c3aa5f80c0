//! One device: a WebSocket connection of one user.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fmt::Write,
    future::Future,
    panic::Location,
    sync::atomic::{AtomicU64, Ordering},
};

use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use tokio::{
    net::TcpStream,
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, timeout_at},
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest},
};

use super::{PATIENCE, Server, Value, json, server::Log, token};

/// The user and messages that only [`Client::fence`] makes; tests never see them.
const FENCE: &str = "~fence";
static FENCES: AtomicU64 = AtomicU64::new(0);

/// An event from the server.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Frame {
    pub(crate) event: String,
    pub(crate) data: Value,
}

/// How the connection ended.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Ended(Option<u16>);

/// A connected device.
///
/// Frames are in the inbox in the order the server sent them; answers to requests (`ack`, and `error` with an id) are
/// kept apart.
pub(crate) struct Client {
    pub(crate) user: String,
    /// The first event.
    pub(crate) hello: Value,
    /// The list that came after connecting.
    pub(crate) first_list: Value,
    full: bool,
    sink: SplitSink<WebSocketStream<TcpStream>, Message>,
    incoming: mpsc::UnboundedReceiver<Result<String, Ended>>,
    reader: JoinHandle<()>,
    inbox: VecDeque<Frame>,
    answers: HashMap<u64, Result<Value, Value>>,
    fences: HashSet<String>,
    /// The rooms of fences that this device was notified of.
    fence_rooms: HashSet<String>,
    ended: Option<Ended>,
    last_id: u64,
    log: Log,
}

/// How a device is to connect.
pub(crate) struct Device {
    user: String,
    token: String,
    full: bool,
    content: Option<&'static str>,
}

impl Device {
    /// Gets contents in this shape.
    pub(crate) fn content(mut self, shape: &'static str) -> Self {
        self.content = Some(shape);
        self
    }

    /// Is notified of changes by `chatEntry`, `newMessage` and `messageRead` alone.
    pub(crate) fn delta(mut self) -> Self {
        self.full = false;
        self
    }

    /// Connects with this token instead of an ordinary one of the user.
    pub(crate) fn token(mut self, token: &str) -> Self {
        self.token = token.into();
        self
    }

    /// Connects, and checks that the server greets as it should.
    pub(crate) async fn connect(self, server: &Server) -> Client {
        let lists = if self.full { "" } else { "&chatList=delta" };
        let content = self.content.map(|shape| format!("&content={shape}"));
        let query = format!("{lists}{}", content.unwrap_or_default());
        let url = format!(
            "ws://{}/ws?{}",
            server.address,
            query.trim_start_matches('&')
        );
        let mut request = url.into_client_request().expect("a request");
        request
            .headers_mut()
            .insert("token", self.token.parse().expect("a header value"));
        let stream = TcpStream::connect(server.address)
            .await
            .expect("the server listens");
        stream.set_nodelay(true).expect("no delay");
        let (socket, _) = match client_async(request, stream).await {
            Ok(connected) => connected,
            Err(error) => panic!("{} is not let in: {error}\n{}", self.user, server.log),
        };
        let (sink, stream) = socket.split();
        let (sender, incoming) = mpsc::unbounded_channel();
        let mut client = Client {
            hello: Value::Null,
            first_list: Value::Null,
            full: self.full,
            sink,
            incoming,
            reader: tokio::spawn(read(stream, sender)),
            inbox: VecDeque::new(),
            answers: HashMap::new(),
            fences: HashSet::new(),
            fence_rooms: HashSet::new(),
            ended: None,
            last_id: 0,
            log: server.log.clone(),
            user: self.user,
        };
        let hello = client.next().await;
        assert_eq!(hello.event, "hello");
        client.hello = hello.data;
        let greeting = format!("user:{} connected", client.user);
        assert_eq!(client.next().await, Frame::new("status", json!(greeting)));
        assert_eq!(
            client.next().await,
            Frame::new("status", json!("chat list updated"))
        );
        let list = client.next().await;
        assert_eq!(list.event, "chatList");
        client.first_list = list.data;
        client
    }
}

async fn read(
    mut stream: SplitStream<WebSocketStream<TcpStream>>,
    sender: mpsc::UnboundedSender<Result<String, Ended>>,
) {
    let mut ended = Ended(None);
    while let Some(Ok(message)) = stream.next().await {
        match message {
            Message::Text(text) => drop(sender.send(Ok(text.to_string()))),
            Message::Close(frame) => ended = Ended(frame.map(|frame| frame.code.into())),
            _ => {}
        }
    }
    sender.send(Err(ended)).ok();
}

impl Drop for Client {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Frame {
    pub(crate) fn new(event: &str, data: Value) -> Self {
        Self {
            event: event.into(),
            data,
        }
    }
}

impl Client {
    /// Connects a device of `user` that gets whole chat lists.
    pub(crate) async fn connect(server: &Server, user: &str) -> Self {
        Self::device(user).connect(server).await
    }

    /// Connects a device of `user` that is a delta device: it keeps count itself.
    pub(crate) async fn connect_delta(server: &Server, user: &str) -> Self {
        Self::device(user).delta().connect(server).await
    }

    /// A device of `user`, to be configured further.
    pub(crate) fn device(user: &str) -> Device {
        Device {
            user: user.into(),
            token: token::of(user),
            full: true,
            content: None,
        }
    }

    /// Sends an event that needs no answer.
    pub(crate) async fn emit(&mut self, event: &str, data: Value) {
        self.send_text(&json!({ "event": event, "data": data }).to_string())
            .await;
    }

    /// Sends a text frame as it is.
    pub(crate) async fn send_text(&mut self, text: &str) {
        self.send(Message::text(text)).await;
    }

    /// Sends any message.
    pub(crate) async fn send(&mut self, message: Message) {
        if let Err(error) = self.sink.send(message).await {
            panic!("{} can't send: {error}\n{}", self.user, self.log);
        }
    }

    /// Sends an event with an id, and returns the id without waiting.
    pub(crate) async fn ask(&mut self, event: &str, data: Value) -> u64 {
        self.last_id += 1;
        let id = self.last_id;
        self.send_text(&json!({ "event": event, "data": data, "id": id }).to_string())
            .await;
        id
    }

    /// Waits for the answer to a request: the ack's data, or the error's.
    #[track_caller]
    pub(crate) fn answer(&mut self, id: u64) -> impl Future<Output = Result<Value, Value>> {
        let at = Location::caller();
        async move { self.answer_at(at, id).await }
    }

    async fn answer_at(&mut self, at: &Location<'_>, id: u64) -> Result<Value, Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(answer) = self.answers.remove(&id) {
                return answer;
            }
            if !self.pump(deadline).await {
                self.fail(at, &format!("no answer to request {id}"));
            }
        }
    }

    /// Sends an event and waits for its answer. Events that arrive meanwhile stay in the inbox.
    #[track_caller]
    pub(crate) fn request(
        &mut self,
        event: &str,
        data: Value,
    ) -> impl Future<Output = Result<Value, Value>> {
        let at = Location::caller();
        async move {
            let id = self.ask(event, data).await;
            self.answer_at(at, id).await
        }
    }

    /// A request that must succeed.
    #[track_caller]
    pub(crate) fn done(&mut self, event: &str, data: Value) -> impl Future<Output = Value> {
        let at = Location::caller();
        async move {
            let id = self.ask(event, data).await;
            match self.answer_at(at, id).await {
                Ok(result) => result,
                Err(error) => self.fail(at, &format!("`{event}` was refused: {error}")),
            }
        }
    }

    /// A request that must be refused with this code.
    #[track_caller]
    pub(crate) fn refused(
        &mut self,
        event: &str,
        data: Value,
        code: &str,
    ) -> impl Future<Output = Value> {
        let at = Location::caller();
        async move {
            let about = data.to_string();
            let id = self.ask(event, data).await;
            match self.answer_at(at, id).await {
                Err(error) if error["code"] == code => error,
                other => self.fail(at, &format!("`{event}` {about}: not {code} but {other:?}")),
            }
        }
    }

    /// The next event, whatever it is.
    #[track_caller]
    pub(crate) fn next(&mut self) -> impl Future<Output = Frame> {
        let at = Location::caller();
        async move {
            let deadline = Instant::now() + PATIENCE;
            loop {
                if let Some(frame) = self.inbox.pop_front() {
                    return frame;
                }
                if !self.pump(deadline).await {
                    self.fail(at, "no event came");
                }
            }
        }
    }

    /// The data of the next event, which must be `event`. On a full device, chat lists, which may come at any time, are
    /// skipped and kept.
    #[track_caller]
    pub(crate) fn expect(&mut self, event: &str) -> impl Future<Output = Value> {
        let at = Location::caller();
        async move {
            let deadline = Instant::now() + PATIENCE;
            let mut skipped = 0;
            loop {
                while let Some(frame) = self.inbox.get(skipped) {
                    if frame.event == event {
                        return self.inbox.remove(skipped).expect("it is there").data;
                    }
                    if !(self.full && frame.event == "chatList") {
                        let got = &frame.event;
                        self.fail(at, &format!("`{got}` came where `{event}` was expected"));
                    }
                    skipped += 1;
                }
                if !self.pump(deadline).await {
                    self.fail(at, &format!("no `{event}` came"));
                }
            }
        }
    }

    /// The data of the first `event` for which `matches` holds; what comes before stays in the inbox.
    #[track_caller]
    pub(crate) fn until(
        &mut self,
        event: &str,
        matches: impl Fn(&Value) -> bool,
    ) -> impl Future<Output = Value> {
        let at = Location::caller();
        async move {
            let deadline = Instant::now() + PATIENCE;
            let mut seen = 0;
            loop {
                while let Some(frame) = self.inbox.get(seen) {
                    if frame.event == event && matches(&frame.data) {
                        return self.inbox.remove(seen).expect("it is there").data;
                    }
                    seen += 1;
                }
                if !self.pump(deadline).await {
                    self.fail(at, &format!("no such `{event}` came"));
                }
            }
        }
    }

    /// The data of the first `event`, wherever it is in the inbox.
    #[track_caller]
    pub(crate) fn expect_any(&mut self, event: &str) -> impl Future<Output = Value> {
        self.until(event, |_| true)
    }

    /// Waits until everything that Redis published before now has arrived here: a message in a room that only fences
    /// use takes the same way behind it.
    #[track_caller]
    pub(crate) fn fence(&mut self) -> impl Future<Output = ()> {
        let at = Location::caller();
        async move {
            let partner = format!("{FENCE}-{}", self.user.chars().take(20).collect::<String>());
            let room = self
                .done("initializeChat", json!({ "participants": [partner] }))
                .await;
            let number = FENCES.fetch_add(1, Ordering::Relaxed);
            let text = format!("{FENCE} {number}");
            self.done(
                "sendMessage",
                json!({ "roomId": room["roomId"], "content": text }),
            )
            .await;
            let deadline = Instant::now() + PATIENCE;
            while !self.fences.remove(&text) {
                if !self.pump(deadline).await {
                    self.fail(at, "the fence did not come through");
                }
            }
            let status = format!(
                "{} initialized",
                room["roomId"].as_str().expect("a room id")
            );
            self.inbox.retain(|frame| frame.data != status.as_str());
        }
    }

    /// Checks that nothing named `event` has arrived or is on its way.
    #[track_caller]
    pub(crate) fn expect_nothing_of(&mut self, event: &str) -> impl Future<Output = ()> {
        let at = Location::caller();
        async move {
            self.fence().await;
            if self.inbox.iter().any(|frame| frame.event == event) {
                self.fail(at, &format!("`{event}` came and should not have"));
            }
        }
    }

    /// Checks that nothing has arrived or is on its way (apart from chat lists, on a full device).
    #[track_caller]
    pub(crate) fn expect_nothing(&mut self) -> impl Future<Output = ()> {
        let at = Location::caller();
        async move {
            self.fence().await;
            let full = self.full;
            if self
                .inbox
                .iter()
                .any(|frame| !(full && frame.event == "chatList"))
            {
                self.fail(at, "nothing should have come");
            }
        }
    }

    /// Takes everything that has arrived, after a [`fence`](Self::fence).
    pub(crate) async fn settle(&mut self) -> Vec<Frame> {
        self.fence().await;
        self.take_inbox()
    }

    /// Takes what is in the inbox by now.
    pub(crate) fn take_inbox(&mut self) -> Vec<Frame> {
        self.inbox.drain(..).collect()
    }

    /// The code with which the server closed the connection; `None` where it ended without one.
    #[track_caller]
    pub(crate) fn close_code(&mut self) -> impl Future<Output = Option<u16>> {
        let at = Location::caller();
        async move {
            let deadline = Instant::now() + PATIENCE;
            while self.ended.is_none() {
                if !self.pump(deadline).await && self.ended.is_none() {
                    self.fail(at, "the server did not close the connection");
                }
            }
            self.ended.and_then(|ended| ended.0)
        }
    }

    /// Sends a close frame and waits until the server has answered it.
    pub(crate) async fn disconnect(mut self) {
        self.send(Message::Close(None)).await;
        self.close_code().await;
    }

    /// Files whatever comes next. False where nothing came before the deadline, or nothing more can come.
    async fn pump(&mut self, deadline: Instant) -> bool {
        if self.ended.is_some() {
            return false;
        }
        let Ok(Some(incoming)) = timeout_at(deadline, self.incoming.recv()).await else {
            return false;
        };
        match incoming {
            Ok(text) => self.file(&text),
            Err(ended) => self.ended = Some(ended),
        }
        true
    }

    fn file(&mut self, text: &str) {
        let mut frame: Value = serde_json::from_str(text).expect("a frame is JSON");
        let event = frame["event"]
            .as_str()
            .expect("a frame names its event")
            .to_owned();
        let data = frame["data"].take();
        if let Some(id) = frame["id"].as_u64() {
            let answer = match event.as_str() {
                "ack" => Ok(data),
                "error" => Err(data),
                _ => panic!("an event with an id: {text}"),
            };
            assert!(
                self.answers.insert(id, answer).is_none(),
                "answered twice: {text}"
            );
            return;
        }
        if let Some(frame) = self.without_fences(Frame { event, data }) {
            self.inbox.push_back(frame);
        }
    }

    fn without_fences(&mut self, mut frame: Frame) -> Option<Frame> {
        let is_fence = |text: &Value| text.as_str().is_some_and(|text| text.starts_with(FENCE));
        match frame.event.as_str() {
            "newMessage" if is_fence(&frame.data["content"]) => {
                self.fences
                    .insert(frame.data["content"].as_str()?.to_owned());
                return None;
            }
            "chatEntry" if is_fence(&frame.data["friendId"]) => {
                self.fence_rooms
                    .insert(frame.data["roomId"].as_str()?.to_owned());
                return None;
            }
            // A repair sends the read marks of its room, too.
            "messageRead" if self.fence_rooms.contains(frame.data["roomId"].as_str()?) => {
                return None;
            }
            "chatList" => {
                frame
                    .data
                    .as_array_mut()?
                    .retain(|entry| !is_fence(&entry["friendId"]));
            }
            _ => {}
        }
        Some(frame)
    }

    /// Fails the test with everything that is known.
    fn fail(&self, at: &Location<'_>, what: &str) -> ! {
        let mut message = format!("{}: {what} (at {at})\n--- inbox ---\n", self.user);
        for frame in &self.inbox {
            let data: String = frame.data.to_string().chars().take(600).collect();
            writeln!(message, "{} {data}", frame.event).expect("write to a string");
        }
        if let Some(Ended(code)) = self.ended {
            writeln!(message, "the connection has ended, code {code:?}").expect("write");
        }
        panic!("{message}{}", self.log);
    }
}

/// Requests in the words of a test's story.
impl Client {
    /// Makes a room, or finds the existing one; the events that this causes are consumed.
    pub(crate) async fn open_room(&mut self, participants: &[&str]) -> String {
        let opened = self
            .done("initializeChat", json!({ "participants": participants }))
            .await;
        let room = opened["roomId"].as_str().expect("a room id").to_owned();
        let status = format!("{room} initialized");
        self.until("status", |text| *text == status).await;
        self.settle().await;
        room
    }

    /// Sends a message, and returns the ack.
    pub(crate) async fn say(&mut self, room: &str, content: &str) -> Value {
        self.done("sendMessage", json!({ "roomId": room, "content": content }))
            .await
    }

    /// Views a room, and returns the ack.
    pub(crate) async fn enter(&mut self, room: &str) -> Value {
        self.done("enterChat", json!({ "roomId": room })).await
    }

    /// Stops viewing any room.
    pub(crate) async fn leave(&mut self) {
        assert_eq!(self.done("leaveChat", Value::Null).await, json!({}));
    }

    /// Marks a message as read, and returns the ack.
    pub(crate) async fn mark(&mut self, room: &str, message: &Value) -> Value {
        self.done(
            "markAsRead",
            json!({ "roomId": room, "messageId": message }),
        )
        .await
    }

    /// Asks for the chat list, and returns it.
    pub(crate) async fn list(&mut self) -> Value {
        self.inbox.retain(|frame| frame.event != "chatList");
        self.done("getChatList", Value::Null).await;
        // The requested list came before the ack; a refresh may have come before it.
        let at = self
            .inbox
            .iter()
            .rposition(|frame| frame.event == "chatList");
        let at = at.unwrap_or_else(|| panic!("no chatList before the ack of getChatList"));
        self.inbox.remove(at).expect("it is there").data
    }

    /// The whole history of a room, oldest first, page by page.
    pub(crate) async fn history(&mut self, room: &str) -> Vec<Value> {
        let mut messages: Vec<Value> = Vec::new();
        loop {
            let mut page = json!({ "roomId": room, "limit": 100 });
            if let Some(first) = messages.first() {
                page["before"] = first["id"].clone();
            }
            let page = self.done("getHistory", page).await;
            let older = page["messages"].as_array().expect("messages").clone();
            messages.splice(0..0, older);
            if page["hasMore"] == false {
                return messages;
            }
        }
    }
}
