//! Redis's channels as a server hears them: one connection, in the order of publication, with a delay.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::hub::Hub;
use crate::hub::interest::Step;
use crate::hub::published::{RoomEvent, RoomGained};
use crate::protocol::ids::{RoomId, UserId};
use crate::room::Topic;

/// What arrives over the connection.
#[derive(Debug)]
pub(super) enum Push {
    Subscribed(Topic),
    Unsubscribed(Topic),
    Event(RoomId, RoomEvent),
    Gained(UserId, RoomGained),
    Beat(u64),
}

/// A message in flight: its earliest time of arrival, and its connection.
struct UnderWay {
    due: Instant,
    connection: u64,
    push: Push,
}

pub(super) struct Wire {
    /// How long what is published now is in flight.
    pub lag: Cell<Duration>,
    /// How many of the next events are lost.
    pub to_lose: Cell<usize>,
    connection: Cell<u64>,
    subscribed: RefCell<HashSet<Topic>>,
    sender: mpsc::UnboundedSender<UnderWay>,
    receiver: tokio::sync::Mutex<mpsc::UnboundedReceiver<UnderWay>>,
}

impl Wire {
    pub(super) fn new() -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        Self {
            lag: Cell::default(),
            to_lose: Cell::default(),
            connection: Cell::default(),
            subscribed: RefCell::default(),
            sender,
            receiver: tokio::sync::Mutex::new(receiver),
        }
    }

    fn put(&self, push: Push) {
        let under_way = UnderWay {
            due: Instant::now() + self.lag.get(),
            connection: self.connection.get(),
            push,
        };
        // The receiver lives as long as `self`.
        let _ = self.sender.send(under_way);
    }

    fn publish(&self, topic: &Topic, push: Push) {
        if self.subscribed.borrow().contains(topic) {
            self.put(push);
        }
    }

    pub(super) fn event(&self, room: RoomId, event: RoomEvent) {
        match self.to_lose.get() {
            0 => self.publish(&Topic::Room(room), Push::Event(room, event)),
            count => self.to_lose.set(count - 1),
        }
    }

    pub(super) fn gained(&self, user: &UserId, gained: &RoomGained) {
        let push = Push::Gained(user.clone(), gained.clone());
        self.publish(&Topic::User(user.clone()), push);
    }

    pub(super) fn beat(&self, hub: &Hub, number: u64) {
        self.publish(&Topic::Server(hub.server), Push::Beat(number));
    }

    /// The connection breaks with everything in flight on it; a new one replaces it.
    pub(super) fn reconnect(&self, hub: &Hub) {
        self.connection.set(self.connection.get() + 1);
        self.subscribed.borrow_mut().clear();
        hub.interest.use_connection(self.connection.get());
    }

    /// Redis ends the subscription of its own accord, as it does when a slot moves.
    pub(super) fn end(&self, topic: Topic) {
        if self.subscribed.borrow_mut().remove(&topic) {
            self.put(Push::Unsubscribed(topic));
        }
    }

    /// Subscribes to what the hub wants to hear. Never returns.
    pub(super) async fn subscribe(&self, hub: &Hub) {
        loop {
            while let Some(step) = hub.interest.next_step(Instant::now()) {
                self.take_step(step);
            }
            let review = hub.interest.next_review();
            let review = review.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
            tokio::select! {
                () = hub.interest.changed() => {}
                () = sleep_until(review) => {}
            }
        }
    }

    fn take_step(&self, step: Step) {
        match step {
            Step::Subscribe(topic) => {
                self.subscribed.borrow_mut().insert(topic.clone());
                self.put(Push::Subscribed(topic));
            }
            Step::Unsubscribe(topic) => {
                self.subscribed.borrow_mut().remove(&topic);
                self.put(Push::Unsubscribed(topic));
            }
        }
    }

    /// Passes on what arrives. Never returns.
    pub(super) async fn listen(&self, hub: &Hub) {
        let mut receiver = self.receiver.lock().await;
        while let Some(UnderWay {
            due,
            connection,
            push,
        }) = receiver.recv().await
        {
            sleep_until(due).await;
            if connection == self.connection.get() {
                hand_on(hub, connection, push);
            }
        }
    }
}

fn hand_on(hub: &Hub, connection: u64, push: Push) {
    match push {
        Push::Subscribed(topic) => {
            if hub.interest.confirmed(connection, topic.clone(), true) {
                hub.heard(&topic);
            }
        }
        Push::Unsubscribed(topic) => {
            hub.interest.confirmed(connection, topic, false);
        }
        Push::Event(room, event) => hub.room_event(room, event),
        Push::Gained(user, gained) => hub.room_gained(&user, &gained),
        Push::Beat(number) => hub.beats.heard(number),
    }
}
