//! The drills: real processes under load, a fault, and a checker that says whether a promise of the protocol broke.
//!
//! `cargo test --test drill` runs a short form of each, `make drill` the full one. A table of all of them is printed at
//! the end. A drill fails only because of what it finds wrong, never because of how long something took.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod checker;
mod faults;
mod load;
#[path = "../it/support/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    reason = "each binary uses its part of the harness"
)]
mod support;
mod table;
mod world;

use std::process::ExitCode;

use libtest_mimic::Arguments;

use self::faults::Scale;

/// How many drills run at once in the short form. In the full form they run one after the other.
const AT_ONCE: usize = 2;

fn main() -> ExitCode {
    let scale = Scale::from_environment();
    let mut args = Arguments::from_args();
    let at_once = if scale.is_full() { 1 } else { AT_ONCE };
    args.test_threads.get_or_insert(at_once);
    let drills = faults::ALL.iter().map(|drill| drill.trial(scale));
    let planted = checker::planted::trials().chain(checker::mishaps::trials());
    let trials = planted.chain(drills).collect();
    let conclusion = libtest_mimic::run(&args, trials);
    table::print();
    conclusion.exit_code()
}
