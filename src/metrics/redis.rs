//! The connections to Redis, and what comes over the one that listens.

use std::time::Duration;

use ::metrics::{Counter, Histogram};

use super::{counter, histogram, label};
use crate::room::Topic;

/// One connection that is kept open.
#[derive(Debug, Clone)]
pub struct ConnectionMetrics {
    reconnects: Counter,
    answers: Histogram,
}

impl ConnectionMetrics {
    pub(super) fn commands() -> Self {
        let seconds = histogram(
            "chat_redis_ping_seconds",
            "How long Redis takes to answer on the connection for commands, where the server asks every half second whether Redis is the master.",
            &[],
        );
        Self::new("commands", seconds)
    }

    /// What Redis publishes to a connection comes in one order. So what a server publishes to itself comes behind all that
    /// was published to it before, and takes as long as an event that is published now.
    pub(super) fn subscriptions() -> Self {
        let seconds = histogram(
            "chat_pubsub_lag_seconds",
            "How long what the server publishes to itself takes to arrive over the connection that listens, behind all events on their way; measured each second.",
            &[],
        );
        Self::new("subscriptions", seconds)
    }

    /// Its PINGs wait behind WAIT, for disk or replicas: their time says nothing of its own.
    pub(super) fn confirmations(there: bool) -> Self {
        match there {
            true => Self::new("confirmations", Histogram::noop()),
            false => Self::default(),
        }
    }

    fn new(connection: &str, answers: Histogram) -> Self {
        let reconnects = counter(
            "chat_redis_reconnects_total",
            "Connections to Redis that replaced an earlier one.",
            &[label("connection", connection)],
        );
        Self {
            reconnects,
            answers,
        }
    }

    pub fn reconnected(&self) {
        self.reconnects.increment(1);
    }

    /// Redis has answered.
    pub fn answered_after(&self, time: Duration) {
        self.answers.record(time.as_secs_f64());
    }
}

/// Counts nothing.
impl Default for ConnectionMetrics {
    fn default() -> Self {
        Self {
            reconnects: Counter::noop(),
            answers: Histogram::noop(),
        }
    }
}

/// What other servers and this one have published.
#[derive(Debug, Clone)]
pub struct PublishedMetrics {
    room: PerChannel,
    user: PerChannel,
    control: PerChannel,
    server: PerChannel,
}

#[derive(Debug, Clone)]
struct PerChannel {
    heard: Counter,
    unreadable: Counter,
}

impl PublishedMetrics {
    pub(super) fn register() -> Self {
        let channel = |channel: &str| {
            let labels = [label("channel", channel)];
            PerChannel {
                heard: counter(
                    "chat_published_total",
                    "Events that came from Redis, by the kind of channel.",
                    &labels,
                ),
                unreadable: counter(
                    "chat_published_unreadable_total",
                    "Events from Redis that do not match the headers of the scripts.",
                    &labels,
                ),
            }
        };
        Self {
            room: channel("room"),
            user: channel("user"),
            control: channel("control"),
            server: channel("server"),
        }
    }

    pub fn heard(&self, topic: &Topic) {
        self.of(topic).heard.increment(1);
    }

    pub fn unreadable(&self, topic: &Topic) {
        self.of(topic).unreadable.increment(1);
    }

    fn of(&self, topic: &Topic) -> &PerChannel {
        match topic {
            Topic::Room(_) => &self.room,
            Topic::User(_) => &self.user,
            Topic::Control | Topic::Answers(_) => &self.control,
            Topic::Server(_) => &self.server,
        }
    }
}
