//! How clients connect: HTTP routes, `/ws`, Socket.IO, and the two directions of a socket.

pub mod accept;
pub mod admission;
pub mod bad_requests;
mod clock;
mod connection;
pub mod conversation;
mod cors;
mod dialect;
mod engine;
pub mod guests;
mod head;
pub mod heartbeat;
mod joining;
pub mod operations;
pub mod origin;
pub mod outlet;
mod pipe;
pub mod readiness;
pub mod reply;
pub mod routes;
pub mod socket;
pub mod upgrade;
pub mod web;

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::guests::Guests;
use self::readiness::{NotReady, Readiness};
use self::web::Web;
use crate::chat::Chat;
use crate::config::{AllowedOrigins, Limits, Timing};
use crate::metrics::{DoorMetrics, Exposition};

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
    /// Places for connections that have no seat yet.
    pub guests: Arc<Guests>,
    /// Every task that serves a connection.
    pub tasks: TaskTracker,
    pub readiness: Readiness,
    /// What `/metrics` reports, if it is served on the clients' port.
    pub exposition: Option<Arc<Exposition>>,
    pub metrics: DoorMetrics,
    /// Set when the server begins to shut down.
    pub stopping: CancellationToken,
}

impl Gateway {
    /// Whether clients can be served.
    pub fn ready(&self) -> Result<(), NotReady> {
        self.readiness.ready()
    }
}
