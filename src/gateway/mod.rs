//! The front doors: HTTP routes, `/ws`, one socket's two directions.

pub mod accept;
pub mod admission;
pub mod bad_requests;
pub mod conversation;
mod dialect;
mod engine_io;
pub mod heartbeat;
mod joining;
pub mod origin;
pub mod rate;
pub mod reply;
pub mod routes;
pub mod socket;
pub mod socket_io;
pub mod upgrade;
pub mod web;

use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::web::Web;
use crate::chat::Chat;
use crate::config::{AllowedOrigins, Limits, Timing};

/// What all connections of a server share.
pub struct Gateway {
    pub chat: Arc<Chat>,
    pub limits: Limits,
    pub timing: Timing,
    pub allow_query_token: bool,
    pub origins: AllowedOrigins,
    pub web: Web,
    /// One permit for each connected device.
    pub seats: Arc<Semaphore>,
    /// Every task that serves a connection.
    pub tasks: TaskTracker,
    /// The connection that listens to Redis; without it events would be missed.
    pub subscriber: watch::Receiver<Option<MultiplexedConnection>>,
    /// Set when the server begins to end.
    pub stopping: CancellationToken,
}

/// Why this server takes no clients right now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotReady {
    ShuttingDown,
    StoreUnreachable,
}

impl NotReady {
    pub fn message(self) -> &'static str {
        match self {
            Self::ShuttingDown => "the server is shutting down",
            Self::StoreUnreachable => "the chat store cannot be used right now: try again soon",
        }
    }
}

impl Gateway {
    /// Whether clients can be served.
    pub fn ready(&self) -> Result<(), NotReady> {
        if self.stopping.is_cancelled() {
            return Err(NotReady::ShuttingDown);
        }
        if !self.chat.store.is_up() || self.subscriber.borrow().is_none() {
            return Err(NotReady::StoreUnreachable);
        }
        Ok(())
    }
}
