//! What each client event does: check, one script call, reply. The rules themselves are in `lua/`.

pub mod authenticate;
pub mod budget;
pub mod enter;
pub mod entry_reads;
pub mod hello;
pub mod history;
pub mod initialize;
pub mod leave;
pub mod list;
pub mod list_reads;
pub mod mark;
pub mod new_rooms;
pub mod reset;
pub mod send;
pub mod session;
pub mod viewed;

use std::sync::Arc;
use std::time::Duration;

use self::budget::Budget;
use self::entry_reads::EntryReads;
use self::hello::Greeter;
use self::list_reads::ListReads;
use self::new_rooms::NewRooms;
use crate::auth::Verifier;
use crate::hub::Hub;
use crate::metrics::{ListMetrics, RequestMetrics};
use crate::store::Store;

/// What all sessions of a server share.
pub struct Chat {
    pub store: Store,
    pub hub: Arc<Hub>,
    pub verifier: Verifier,
    pub greeter: Greeter,
    pub requests: RequestMetrics,
    pub lists: ListMetrics,
    /// Chat lists that are to be read.
    pub list_reads: ListReads,
    /// The parts of chat lists that are to be read from the store.
    pub entry_reads: EntryReads,
    /// For pages and lists in progress.
    pub answers: Budget,
    /// How long a device waits for its first list.
    pub list_patience: Duration,
    pub new_rooms: NewRooms,
    /// Whether clients may delete everything: in development, on loopback.
    pub reset_allowed: bool,
}
