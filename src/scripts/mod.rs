//! The chat rules as a set of Lua scripts: which there are, which run, how they are checked and exchanged.

pub mod problem;
pub mod registry;
pub mod set;

pub use problem::Problem;
pub use registry::{CONTRACT, Contract, Script};
pub use set::{MissingScript, ScriptSet, ScriptText};
