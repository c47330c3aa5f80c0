//! A real-time chat server: WebSocket clients in front, atomic Lua scripts in Redis behind.
//!
//! The flow of a request: [`gateway`] reads a frame, [`protocol`] checks its shape, [`chat`] makes one script call
//! through [`store`] and replies. The script publishes what happened; every server's subscriber hands it to its
//! [`hub`], which queues it for the devices concerned. [`upkeep`] repairs what got lost on the way.

pub mod auth;
pub mod chat;
pub mod cli;
pub mod config;
pub mod error;
pub mod gateway;
pub mod hub;
pub mod import;
pub mod logging;
pub mod metrics;
pub mod protocol;
pub mod rate;
pub mod room;
pub mod scripts;
pub mod server;
pub mod store;
pub mod upkeep;

pub use server::{ServeError, serve};
