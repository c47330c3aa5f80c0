//! Engine.IO, the transport of Socket.IO clients: long-polling, WebSocket, and the move from one to the other.
//!
//! `transport` has the rules of a long-polling session, `polling` its I/O, `session` its life cycle. `websocket`
//! handles clients that have not polled; once they have joined, all WebSockets are served as native ones are.

mod answer;
mod inbox;
mod polling;
mod probe;
mod request;
mod session;
mod transport;
mod websocket;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use http::Response;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::Request;
use hyper::body::Incoming;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use self::polling::{Event, Polling};
use self::request::{Asked, Begin, Wrong, text};
use self::session::Arrival;
use super::Gateway;
use super::connection::{Body, boxed};
use super::guests::Guest;
use super::joining::opening;
use super::upgrade::{switch, websocket_key};

/// Where Socket.IO clients connect.
pub(super) const PATH: &str = "/socket.io";
/// Requests of one session that may wait for its task, which takes them immediately.
const REQUESTS_MAX: usize = 4;

/// Serves Socket.IO clients.
pub(super) struct Engine {
    gateway: Arc<Gateway>,
    /// The sessions that began with long-polling.
    sessions: Mutex<HashMap<Uuid, Session>>,
}

/// What the engine keeps about a session that began with long-polling.
#[derive(Clone)]
struct Session {
    /// To the session's task. Events sent to a session that has moved or ended are returned.
    events: mpsc::Sender<Event>,
    /// Gone once the session has joined.
    guest: Weak<Guest>,
}

/// A session's entry in its engine.
struct Place {
    engine: Arc<Engine>,
    sid: Uuid,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.engine.sessions().remove(&self.sid);
    }
}

impl Engine {
    pub(super) fn new(gateway: Arc<Gateway>) -> Arc<Self> {
        Arc::new(Self {
            gateway,
            sessions: Mutex::default(),
        })
    }

    /// Answers a request of a Socket.IO client.
    pub(super) async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let query = request.uri().query().unwrap_or_default();
        let answer = match request::read(request.method(), query) {
            Ok(Asked::Open(Begin::Polling)) => Ok(self.open(&request)),
            Ok(Asked::Open(Begin::WebSocket)) => self.open_websocket(request),
            Ok(Asked::Poll(sid)) => {
                self.vouch(sid, &request);
                self.poll(sid).await
            }
            Ok(Asked::Post(sid)) => {
                self.vouch(sid, &request);
                self.post(sid, request.into_body()).await
            }
            Ok(Asked::Upgrade(sid)) => self.upgrade(sid, request).await,
            Err(wrong) => Err(wrong),
        };
        answer.unwrap_or_else(Wrong::response)
    }

    /// A session that polls begins.
    fn open(self: Arc<Self>, request: &Request<Incoming>) -> Response<Body> {
        let id = Uuid::new_v4();
        let arrival = self.arrival(id, request);
        let opened = opening(&self.gateway, &arrival.sid, &["websocket"]);
        let (events, receiver) = mpsc::channel(REQUESTS_MAX);
        let (gateway, sid) = (self.gateway.clone(), arrival.sid.clone());
        let polling = Box::new(Polling::new(gateway, sid, receiver));
        let guest = Arc::downgrade(&arrival.guest);
        self.sessions().insert(id, Session { events, guest });
        let place = Place {
            engine: self.clone(),
            sid: id,
        };
        let session = session::serve(self.gateway.clone(), arrival, polling);
        self.gateway.tasks.spawn(async move {
            session.await;
            drop(place);
        });
        text(Full::from(opened))
    }

    /// A session that never polls begins.
    fn open_websocket(&self, mut request: Request<Incoming>) -> Result<Response<Body>, Wrong> {
        let accept = websocket_key(request.headers()).ok_or(Wrong::Other)?;
        let arrival = self.arrival(Uuid::new_v4(), &request);
        let on_upgrade = hyper::upgrade::on(&mut request);
        let session = websocket::begin(self.gateway.clone(), arrival, on_upgrade);
        self.gateway.tasks.spawn(session);
        Ok(switch(accept, false).map(boxed))
    }

    async fn poll(&self, sid: Uuid) -> Result<Response<Body>, Wrong> {
        let answer = self.ask(sid, Event::Poll).await?;
        Ok(text(answer?))
    }

    async fn post(&self, sid: Uuid, body: Incoming) -> Result<Response<Body>, Wrong> {
        let session = self.session(sid)?;
        let payload = match payload(body, self.gateway.limits.max_frame_bytes).await {
            Ok(payload) => payload,
            Err(wrong) => {
                // The session may have ended meanwhile.
                let _ = session.events.send(Event::BadPost).await;
                return Err(wrong);
            }
        };
        let posted = self.ask(sid, |reply| Event::Post(payload, reply)).await?;
        match posted? {
            true => Ok(text(Full::from("ok"))),
            false => Err(Wrong::Other),
        }
    }

    async fn upgrade(
        &self,
        sid: Uuid,
        mut request: Request<Incoming>,
    ) -> Result<Response<Body>, Wrong> {
        let accept = websocket_key(request.headers()).ok_or(Wrong::Other)?;
        let on_upgrade = hyper::upgrade::on(&mut request);
        let begun = self.ask(sid, |reply| Event::Upgrade(on_upgrade, reply));
        begun.await??;
        Ok(switch(accept, false).map(boxed))
    }

    fn session(&self, sid: Uuid) -> Result<Session, Wrong> {
        self.sessions().get(&sid).cloned().ok_or(Wrong::Session)
    }

    /// Sends a request to a session's task, and waits for its answer.
    async fn ask<T>(
        &self,
        sid: Uuid,
        event: impl FnOnce(oneshot::Sender<T>) -> Event,
    ) -> Result<T, Wrong> {
        let session = self.session(sid)?;
        let (reply, answer) = oneshot::channel();
        // The session exists and no longer polls.
        let moved = |_| Wrong::Request;
        session.events.send(event(reply)).await.map_err(moved)?;
        answer.await.map_err(|_| Wrong::Session)
    }

    /// A connection that carries a request of a joined session is kept for as long as that request takes.
    fn vouch(&self, sid: Uuid, request: &Request<Incoming>) {
        let session = self.session(sid);
        let has_joined = session.is_ok_and(|session| session.guest.strong_count() == 0);
        if let Some(guest) = request
            .extensions()
            .get::<Arc<Guest>>()
            .filter(|_| has_joined)
        {
            guest.vouch();
        }
    }

    /// Takes a guest's place for a session that has not joined yet.
    fn arrival(&self, sid: Uuid, request: &Request<Incoming>) -> Arrival {
        Arrival {
            sid: sid.simple().to_string(),
            headers: request.headers().clone(),
            query: request.uri().query().unwrap_or_default().to_owned(),
            guest: Arc::new(self.gateway.guests.enter(None)),
        }
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<Uuid, Session>> {
        // No code under this lock panics halfway through a change.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The body of a post, as a text of at most `max_bytes` bytes.
async fn payload(body: Incoming, max_bytes: usize) -> Result<String, Wrong> {
    let whole = Limited::new(body, max_bytes).collect().await;
    let whole = whole.map_err(|error| match error.downcast_ref::<LengthLimitError>() {
        Some(_) => Wrong::TooLarge,
        None => Wrong::Other,
    })?;
    String::from_utf8(whole.to_bytes().into()).map_err(|_| Wrong::Other)
}
