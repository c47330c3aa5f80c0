//! One mistake each.

mod calls;
mod header;
mod names;
mod rules;
