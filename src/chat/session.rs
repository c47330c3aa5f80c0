//! One device's session, over either protocol: its requests, one after the other.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::{Instant, timeout_at};

use super::{Chat, authenticate, enter, history, initialize, leave, list, mark, reset, send};
use crate::auth::Identity;
use crate::error::{ChatError, ErrorCode};
use crate::hub::Full;
use crate::hub::device::{Device, Preferences};
use crate::hub::hold::{Cuts, Section};
use crate::hub::lane::Kind;
use crate::hub::snapshot::{Overtaken, Snapshot};
use crate::protocol::event::Ack;
use crate::protocol::frame::{Frame, RequestId};
use crate::protocol::ids::{RoomId, UserId};
use crate::protocol::request::{ClientEvent, EventName, Request, SendMessage};
use crate::room::Position;
use crate::store::calls::NewMessage;

/// A connected device. One request at a time: requests take effect in the order in which they were sent.
pub struct Session {
    pub chat: Arc<Chat>,
    pub device: Arc<Device>,
    /// The room that this device views.
    pub viewing: Option<RoomId>,
    /// A room that it was about to view, where it is unknown whether the store recorded it.
    pub entering: Option<RoomId>,
    /// When its token expires.
    pub expires_at: Option<SystemTime>,
}

impl Session {
    /// Takes a device in. Nothing but `hello` is sent before [`Self::start`].
    pub fn open(
        chat: Arc<Chat>,
        user: UserId,
        identity: &Identity,
        preferences: Preferences,
        max_per_user: usize,
    ) -> Result<Self, Full> {
        let hello = chat.greeter.hello(&user);
        let device = chat.hub.register(user, preferences, hello, max_per_user)?;
        Ok(Self {
            chat,
            device,
            viewing: None,
            entering: None,
            expires_at: identity.expires_at,
        })
    }

    /// Follows the user's rooms and sends the first chat list, with no gap between it and later events.
    pub async fn start(&self) -> Result<(), ChatError> {
        let user = &self.device.user;
        let deadline = Instant::now() + self.chat.list_patience;
        list::follow_user(&self.chat, user, deadline).await?;
        let greeting = [
            format!("user:{user} connected"),
            "chat list updated".to_owned(),
        ];
        let greeting = greeting.iter().map(|text| Frame::status(text)).collect();
        let snapshot = Snapshot::first(&self.chat.hub, &self.device);
        let none = |_| Vec::new();
        let list = list::send_whole(
            &self.chat,
            &self.device,
            snapshot,
            greeting,
            none,
            Some(deadline),
        );
        timeout_at(deadline, list)
            .await
            .unwrap_or_else(|_| Err(list::unavailable()))
    }

    /// Answers one request: its events, then its ack or its error. Returns what was wrong with it, if anything.
    pub async fn handle(&mut self, request: Request) -> Option<ErrorCode> {
        let Request { id, event, body } = request;
        let outcome = match body {
            Ok(body) => {
                let (room, name) = (body.room(), body.name());
                let outcome = self.perform(body, id.as_ref()).await;
                if outcome.is_ok() {
                    self.chat.requests.done(name);
                }
                outcome.map_err(|error| match room {
                    Some(room) => error.in_room(room),
                    None => error,
                })
            }
            Err(error) => Err(error),
        };
        let error = outcome.err()?;
        let code = error.code;
        self.refuse(id.as_ref(), event.as_deref(), error);
        Some(code)
    }

    /// Answers requests in order; the messages before the last request take one round trip.
    ///
    /// Returns what was wrong with each.
    pub async fn handle_all(&mut self, mut requests: Vec<Request>) -> Vec<Option<ErrorCode>> {
        let last = match requests.len() {
            1 => requests.pop(),
            _ => requests.pop_if(|last| !last.is_message()),
        };
        let mut codes = self.handle_messages(&requests).await;
        if let Some(last) = last {
            codes.push(self.handle(last).await);
        }
        codes
    }

    async fn handle_messages(&mut self, requests: &[Request]) -> Vec<Option<ErrorCode>> {
        let messages: Vec<_> = requests.iter().filter_map(outgoing).collect();
        if messages.is_empty() {
            return Vec::new();
        }
        let outcomes = send::handle_all(self, &messages).await;
        let answer = |(outcome, request): (Result<(), ChatError>, &Request)| {
            let Err(error) = outcome else {
                self.chat.requests.done(EventName::SendMessage);
                return None;
            };
            let code = error.code;
            self.refuse(request.id.as_ref(), request.event.as_deref(), error);
            Some(code)
        };
        outcomes.into_iter().zip(requests).map(answer).collect()
    }

    /// Answers a request with an error.
    pub fn refuse(&self, id: Option<&RequestId>, event: Option<&str>, error: ChatError) {
        self.chat.requests.refused(event, error.code);
        let error = match event {
            Some(event) if event.len() <= 64 => error.of_event(event),
            _ => error,
        };
        self.device.answer(self.device.error_frame(id, &error));
    }

    /// Sends an error that is not the answer to a request.
    pub fn tell(&self, error: &ChatError) {
        self.device.answer(self.device.error_frame(None, error));
    }

    async fn perform(
        &mut self,
        event: ClientEvent,
        id: Option<&RequestId>,
    ) -> Result<(), ChatError> {
        match event {
            ClientEvent::InitializeChat {
                participants,
                name,
                client_room_id,
            } => {
                let wish = initialize::Wish {
                    participants,
                    name,
                    client_room_id,
                };
                initialize::handle(self, wish, id).await
            }
            ClientEvent::GetChatList => list::handle(self, id).await,
            ClientEvent::EnterChat { room, limit } => enter::handle(self, room, limit, id).await,
            ClientEvent::LeaveChat => leave::handle(self, id).await,
            ClientEvent::SendMessage(message) => {
                send::handle(self, new_message(&message), id).await
            }
            ClientEvent::MarkAsRead { room, message } => {
                mark::handle(self, room, message, id).await
            }
            ClientEvent::GetHistory {
                room,
                cursor,
                limit,
            } => history::handle(self, room, cursor, limit, id).await,
            ClientEvent::Authenticate { token } => authenticate::handle(self, &token, id),
            ClientEvent::ResetRedisForDevelopment => reset::handle(self, id).await,
        }
    }

    /// The ack of a request, if it asked for one.
    pub fn ack(id: Option<&RequestId>, result: &Ack) -> Option<Frame> {
        id.map(|id| Frame::ack(id, result))
    }

    /// Queues answers that belong to no room's order.
    pub fn send_all(&self, frames: impl IntoIterator<Item = Frame>) {
        frames
            .into_iter()
            .for_each(|frame| self.device.answer(frame));
    }

    /// Queues the result of a snapshot of a room's messages, each section after the events up to its position.
    pub async fn finish(
        snapshot: Snapshot,
        room: RoomId,
        parts: Vec<(Position, Vec<Frame>)>,
    ) -> Result<(), Overtaken> {
        let section = |(cut, frames)| section(room, cut, frames);
        let sections = parts.into_iter().map(section).collect();
        snapshot.finish(sections).await
    }

    /// The device has disconnected: it views nothing, and nothing more is sent to it.
    pub async fn end(mut self) {
        if let Err(error) = leave::leave_all(&mut self).await {
            // The lease expires on its own.
            log::debug!("a device could not leave its room: {error}");
        }
    }
}

/// Answers that follow a room's events up to this position.
pub fn section(room: RoomId, cut: Position, frames: Vec<Frame>) -> Section {
    Section {
        cuts: Arc::new(Cuts::from([(room, cut)])),
        frames,
        kind: Kind::Answer,
        tells_rooms: false,
    }
}

/// The message in a well-formed `sendMessage`, and the id of the request to answer.
fn outgoing(request: &Request) -> Option<(NewMessage<'_>, Option<&RequestId>)> {
    match &request.body {
        Ok(ClientEvent::SendMessage(message)) => Some((new_message(message), request.id.as_ref())),
        _ => None,
    }
}

fn new_message(wanted: &SendMessage) -> NewMessage<'_> {
    NewMessage {
        room: wanted.room,
        kind: &wanted.kind,
        content: &wanted.content.text,
        parts: wanted.content.parts.as_ref(),
        client_message_id: wanted.client_message_id.as_deref(),
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.chat.hub.set_viewing(&self.device, self.viewing, None);
        self.chat.hub.unregister(&self.device);
    }
}
