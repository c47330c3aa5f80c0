//! What Redis sends unasked, and which parts receive it.

use std::sync::Arc;

use redis::PushInfo;
use tokio::sync::mpsc;

use super::peers::Heard;
use crate::hub::Hub;
use crate::hub::published::{RoomEvent, RoomGained, room_left};
use crate::metrics::PublishedMetrics;
use crate::protocol::ids::RoomId;
use crate::room::Topic;
use crate::room::flaws::Flaws;
use crate::scripts::keeper::{Order, Orders};
use crate::scripts::wire::{Announcement, Answer};
use crate::store::flaw_log::FlawLog;
use crate::store::keys::Keys;
use crate::store::subscriber::Pushed;

/// Handles what Redis sends unasked. Runs on the connection's own task: it must not block.
#[derive(Clone)]
pub(super) struct Listener {
    pub(super) keys: Keys,
    pub(super) hub: Arc<Hub>,
    pub(super) orders: Orders,
    /// Receives what is heard of other servers.
    pub(super) peers: mpsc::Sender<Heard>,
    pub(super) metrics: PublishedMetrics,
    pub(super) flaw_log: Arc<FlawLog>,
}

impl Listener {
    /// Handles a push on the connection with this number.
    pub(super) fn take(&self, number: u64, push: PushInfo) {
        match Pushed::read(&self.keys, push) {
            Some(Pushed::Published(topic, payload)) => self.published(&topic, &payload),
            Some(Pushed::Subscribed(topic)) => self.subscribed(number, topic),
            Some(Pushed::Unsubscribed(topic)) => {
                self.hub.interest.confirmed(number, topic, false);
            }
            None => {}
        }
    }

    fn subscribed(&self, number: u64, topic: Topic) {
        if self.hub.interest.confirmed(number, topic.clone(), true) {
            self.hub.heard(&topic);
            if topic == Topic::Control {
                self.orders.give(Order::LookAgain);
            }
        }
    }

    fn published(&self, topic: &Topic, payload: &[u8]) {
        self.metrics.heard(topic);
        match topic {
            Topic::Room(room) => self.published_in_room(*room, payload),
            Topic::User(user) => match (RoomGained::read(payload), room_left(payload)) {
                (Some(gained), _) => self.hub.room_gained(user, &gained),
                (None, Some(room)) => self.hub.room_left(user, room),
                (None, None) => {
                    self.metrics.unreadable(topic);
                    log::warn!("an event of a user's channel could not be read");
                    // The room that the event concerns is in the user's index.
                    self.hub.recounts.add(user.clone());
                }
            },
            Topic::Answers(_) => match serde_json::from_slice::<Answer>(payload) {
                Ok(answer) => self.tell_peers(Heard::Answer(answer.server)),
                Err(_) => self.metrics.unreadable(topic),
            },
            Topic::Server(_) => {
                let number = std::str::from_utf8(payload).ok();
                match number.and_then(|number| number.parse().ok()) {
                    Some(number) => self.hub.beats.heard(number),
                    None => self.metrics.unreadable(topic),
                }
            }
            Topic::Control => match serde_json::from_slice(payload) {
                Ok(Announcement::Reset) => self.hub.reset(),
                Ok(Announcement::Scripts(question)) => {
                    if let Some(server) = question.from.clone() {
                        self.tell_peers(Heard::Question(server));
                    }
                    self.orders.give(Order::Answer(question));
                }
                Ok(Announcement::Unknown) => {}
                Err(error) => {
                    self.metrics.unreadable(topic);
                    log::warn!("an announcement to all servers is not understood: {error}");
                }
            },
        }
    }

    /// Whatever does not fit in the queue is asked for again in the next round.
    fn tell_peers(&self, heard: Heard) {
        let _ = self.peers.try_send(heard);
    }

    fn published_in_room(&self, room: RoomId, payload: &[u8]) {
        let mut flaws = Flaws::default();
        let event = RoomEvent::read(room, payload, &mut flaws);
        if event.is_none() {
            flaws.add(room, None, "an event could not be read");
        }
        if !flaws.0.is_empty() {
            self.metrics.unreadable(&Topic::Room(room));
            self.flaw_log.tell(&flaws);
        }
        if let Some(event) = event {
            self.hub.room_event(room, event);
        }
    }
}
