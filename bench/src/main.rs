//! Loads a chat server and reports how fast it was. BENCHMARKS.md explains the purpose.

mod attack;
mod cli;
mod clients;
mod crowd;
mod door;
mod fanout;
mod ledger;
mod load;
mod memory;
mod meter;
mod plot;
mod process;
mod raw;
mod report;
mod run;
mod table;
mod websocket;
mod world;

use std::fmt::Display;
use std::io;
use std::process::ExitCode;

use clap::Parser;
use serde::Serialize;

use self::cli::{Cli, Command, Output, Run};
use self::door::Door;
use self::ledger::Faults;
use self::world::World;

/// Why a measurement could not be made, or is worthless.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("cannot start {0}: {1}")]
    Start(String, #[source] io::Error),
    #[error("{0} did not come up")]
    NotUp(String),
    #[error("{0} is no address such as 127.0.0.1:3000")]
    NoAddress(String),
    #[error("--raw needs --redis-url or --self-contained")]
    NoRedis,
    #[error("the raw measurement needs redis://IP:PORT without a password, or unix://PATH")]
    NoRawAddress,
    #[error("the server's process cannot be seen: give --server-pid or --self-contained, on Linux")]
    NoProcess,
    #[error("Redis answered: {0}")]
    Redis(String),
    #[error("{0}")]
    RedisCall(#[from] redis::RedisError),
    #[error("cannot sign a token: {0}")]
    Token(#[from] jsonwebtoken::errors::Error),
    #[error("cannot keep latencies: {0}")]
    Histogram(#[from] hdrhistogram::CreationError),
    #[error("cannot draw: {0}")]
    Plot(String),
    #[error("cannot print: {0}")]
    Json(#[from] serde_json::Error),
    #[error("stopped: {0}")]
    Stuck(String),
    #[error("deliveries {0}")]
    Faulty(Faults),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match perform(cli) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns whether the measured results were correct.
fn perform(cli: Cli) -> Result<bool, Error> {
    match cli.command {
        None => load(&cli.run),
        Some(Command::Relay(mut run)) => {
            run.work.door = Door::Relay;
            load(&run)
        }
        Some(Command::Idle(args)) => print(&args.output, &crowd::idle(&args)?),
        Some(Command::Connect(args)) => print(&args.output, &crowd::connect(&args)?),
        Some(Command::Fanout(args)) => print(&args.output, &fanout::run(&args)?),
        Some(Command::Memory(args)) => print(&args.output, &memory::run(&args)?),
        Some(Command::Raw(args)) => print(&args.output, &raw::run(&args)?),
        Some(Command::Attack(args)) => {
            let attacks = attack::run(&args)?;
            print(&args.output, &attacks)?;
            Ok(attacks.held())
        }
        Some(Command::Table(args)) => {
            let rows = table::run(&args);
            print(&args.output, &rows)?;
            Ok(rows.failures == 0)
        }
    }
}

fn load(args: &Run) -> Result<bool, Error> {
    let world = World::open(&args.place, args.work.door)?;
    let figures = run::run(&args.work, &world, args.raw)?;
    if let Some(path) = &args.plot {
        plot::draw(path, &figures.seconds)?;
    }
    print(&args.output, &figures)?;
    Ok(figures.is_right())
}

fn print(output: &Output, figures: &(impl Serialize + Display)) -> Result<bool, Error> {
    if output.json {
        println!("{}", serde_json::to_string_pretty(figures)?);
    } else {
        println!("{figures}");
    }
    Ok(true)
}
