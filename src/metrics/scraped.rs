//! What is looked at only when somebody asks for it.

use ::metrics::Gauge;

use super::{gauge, label, number};
use crate::scripts::CONTRACT;

/// Gauges that are set before each answer.
#[derive(Debug, Clone)]
pub struct Scraped {
    ready: Gauge,
    commands_up: Gauge,
    subscriptions_up: Gauge,
    confirmations_up: Gauge,
    users: Gauge,
    rooms: Gauge,
}

/// How a server is right now.
#[derive(Debug, Clone, Copy)]
pub struct Standing {
    pub ready: bool,
    pub commands_up: bool,
    pub subscriptions_up: bool,
    pub confirmations_up: bool,
    /// Users with a device here.
    pub users: usize,
    /// Rooms that are followed.
    pub rooms: usize,
}

impl Scraped {
    pub(super) fn register(confirms: bool) -> Self {
        let up = |connection: &str| {
            gauge(
                "chat_redis_up",
                "Whether the connection to Redis is up and answers: 1 or 0.",
                &[label("connection", connection)],
            )
        };
        let build = [
            label("version", env!("CARGO_PKG_VERSION")),
            label("contract", CONTRACT),
        ];
        let help =
            "Always 1; its labels say which version runs, and with which contract of scripts.";
        gauge("chat_build_info", help, &build).set(1);
        Self {
            ready: gauge("chat_ready", "What /readyz says: 1 for ready, or 0.", &[]),
            commands_up: up("commands"),
            subscriptions_up: up("subscriptions"),
            confirmations_up: match confirms {
                true => up("confirmations"),
                false => Gauge::noop(),
            },
            users: gauge("chat_users", "Users with a device on this server.", &[]),
            rooms: gauge(
                "chat_rooms",
                "Rooms that this server follows: those with a member connected here.",
                &[],
            ),
        }
    }

    pub fn set(&self, standing: Standing) {
        let flag = |gauge: &Gauge, value: bool| gauge.set(u8::from(value));
        flag(&self.ready, standing.ready);
        flag(&self.commands_up, standing.commands_up);
        flag(&self.subscriptions_up, standing.subscriptions_up);
        flag(&self.confirmations_up, standing.confirmations_up);
        self.users.set(number(standing.users));
        self.rooms.set(number(standing.rooms));
    }
}
