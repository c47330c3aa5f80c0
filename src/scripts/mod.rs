//! The chat rules as a set of Lua scripts: which scripts exist, which run, and how they are checked and replaced.

pub mod applied;
pub mod behaviour;
pub mod check;
pub mod commands;
pub mod folder;
pub mod keeper;
pub mod problem;
pub mod registry;
pub mod set;
pub mod verify;
pub mod watch;
pub mod wire;

pub use problem::Problem;
pub use registry::{CONTRACT, Contract, Script};
pub use set::{MissingScript, ScriptSet, ScriptText};
