//! The wire: ids, requests, events and frames. No I/O, no Redis.

pub mod content;
pub mod engine_io;
pub mod event;
pub mod frame;
pub mod ids;
pub mod request;
pub mod socket_io;
pub mod surrogates;
pub mod text;
