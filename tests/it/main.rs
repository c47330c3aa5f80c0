//! The integration tests: the real `chat-server` binary, real `redis-server`
//! processes, real sockets. Each test starts what it needs and shares nothing.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod acl;
mod answers;
mod auth;
mod bad_edits;
mod bounds;
mod counting;
mod deploy;
mod developers;
mod documents;
mod doors;
mod edits;
mod embedded;
mod exchange;
mod failover;
mod faults;
mod figures;
mod heads;
mod hello;
mod import;
mod import_limits;
mod import_runs;
mod lifecycle;
mod metrics;
mod model;
mod observing;
mod page;
mod polling;
mod quiet;
mod races;
mod readiness;
mod reset;
mod restless;
mod retention;
mod rooms;
mod scripts;
mod spoiled;
mod stories;
mod support;
mod tls;
mod upgrade;
mod validation;
mod versions;
#[path = "../shared/worked_edits.rs"]
mod worked_edits;
