//! The scripts of `lua/`: each does what its header says and what the server relies on, and can be run by hand as
//! `lua/README.md` shows. On real `redis-server` processes, without a chat server.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod behaviour;
mod bounds;
mod by_hand;
mod comparing;
mod connections;
mod contract;
mod edits;
mod faults;
mod files;
mod harm;
mod made_anew;
mod messages;
mod pages;
mod readme;
mod rooms;
mod support;
mod viewing;
#[path = "../shared/worked_edits.rs"]
mod worked_edits;
