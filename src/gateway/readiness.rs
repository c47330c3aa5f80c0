//! Whether this server takes clients, and if not, what is missing.

use std::sync::Arc;

use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::hub::interest::Interest;
use crate::room::Topic;
use crate::store::connection::{Current, Progress};
use crate::store::rights::Right;

/// What readiness depends on.
#[derive(Clone)]
pub struct Readiness {
    /// Present only with a Redis that was checked and has loaded the scripts.
    pub commands: Current,
    /// The progress of the connection for commands while it is not up yet.
    pub progress: Progress,
    /// The connection that listens to Redis; without it events would be missed.
    pub subscriber: Current,
    /// Knows whether the servers' channel is heard on it.
    pub interest: Arc<Interest>,
    /// The rights that Redis does not grant; `None` until it has answered.
    pub missing_rights: watch::Receiver<Option<Arc<[Right]>>>,
    /// Servers of another version on the same Redis.
    pub others: watch::Receiver<Others>,
    /// Set when the server begins to shut down.
    pub stopping: CancellationToken,
}

/// What is known about servers of other versions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Others {
    pub versions: Vec<OtherVersion>,
    /// Servers that received the question and did not answer.
    pub silent: usize,
}

/// Servers of one other version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OtherVersion {
    pub version: String,
    pub contract: u32,
    pub servers: usize,
}

/// The state of each part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Checks {
    /// A usable Redis answers.
    pub redis: bool,
    /// Redis has loaded the scripts.
    pub scripts: bool,
    /// Redis allows everything that the scripts and the server need.
    pub rights: bool,
    /// What Redis publishes is heard.
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
            rights: scripts && self.has_rights(),
            subscriptions: self.subscriber.borrow().is_some()
                && self.interest.hears(&Topic::Control),
            accepting: !self.stopping.is_cancelled(),
        }
    }

    fn has_rights(&self) -> bool {
        let missing = self.missing_rights.borrow();
        missing.as_ref().is_some_and(|missing| missing.is_empty())
    }

    /// The rights that Redis does not grant, as far as known.
    pub fn missing_rights(&self) -> Arc<[Right]> {
        let missing = self.missing_rights.borrow();
        missing.clone().unwrap_or_default()
    }

    /// Whether clients can be served.
    pub fn ready(&self) -> Result<(), NotReady> {
        let checks = self.checks();
        if !checks.accepting {
            return Err(NotReady::ShuttingDown);
        }
        match checks.scripts && checks.rights && checks.subscriptions {
            true => Ok(()),
            false => Err(NotReady::StoreUnreachable),
        }
    }
}
