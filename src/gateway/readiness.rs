//! Whether this server takes clients, and if not, what is missing.

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::store::connection::{Current, Progress};

/// What readiness depends on.
#[derive(Clone)]
pub struct Readiness {
    /// There is one only with a Redis that was checked and has loaded the scripts.
    pub commands: Current,
    /// How far the connection for commands has come that is not there yet.
    pub progress: Progress,
    /// The connection that listens to Redis; without it events would be missed.
    pub subscriber: Current,
    /// Set when the server begins to end.
    pub stopping: CancellationToken,
}

/// What is there, each by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Checks {
    /// A Redis answers that may be used.
    pub redis: bool,
    /// It has the scripts.
    pub scripts: bool,
    /// What it publishes is heard.
    pub subscriptions: bool,
    /// The server is not shutting down.
    pub accepting: bool,
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

impl Readiness {
    pub fn checks(&self) -> Checks {
        let scripts = self.commands.borrow().is_some();
        Checks {
            redis: scripts || self.progress.lacks_scripts(),
            scripts,
            subscriptions: self.subscriber.borrow().is_some(),
            accepting: !self.stopping.is_cancelled(),
        }
    }

    /// Whether clients can be served.
    pub fn ready(&self) -> Result<(), NotReady> {
        let checks = self.checks();
        if !checks.accepting {
            return Err(NotReady::ShuttingDown);
        }
        match checks.scripts && checks.subscriptions {
            true => Ok(()),
            false => Err(NotReady::StoreUnreachable),
        }
    }
}
