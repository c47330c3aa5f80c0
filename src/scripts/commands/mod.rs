//! The `chat-server scripts` commands.
//!
//! - `desk`: what they share: Redis, the keys, the choice of scripts
//! - `survey`: asks all running servers and collects their answers
//! - `check`, `exchange`, `list`, `texts`, `call`: the commands

mod call;
mod check;
mod desk;
mod exchange;
mod list;
mod survey;
mod texts;

use std::fmt::Display;
use std::io::{self, Write};

use redis::RedisError;

use super::applied::AppliedError;
use super::folder::ExportError;
use super::set::MissingScript;
use super::verify::Refusal;
use crate::cli::scripts::ScriptsCommand;
use crate::config::OperatorConfig;
use crate::error::ChatError;
use crate::store::connection::ConnectError;
use desk::Desk;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The problems have been printed already.
    #[error("{0}")]
    Told(&'static str),
    #[error(transparent)]
    Embedding(#[from] MissingScript),
    #[error("{0}")]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Export(#[from] ExportError),
    #[error(transparent)]
    Applied(#[from] AppliedError),
    /// What applying would change has been printed.
    #[error(
        "{current} is in effect, but this folder was made from {base}: applying it makes the changes shown above. \
         Export what is in effect into a new folder and make your change there, or use --force"
    )]
    Newer { current: String, base: String },
    #[error("REDIS_URL is not set, and no server runs a Redis of its own on {}", .0.display())]
    NoRedis(std::path::PathBuf),
    #[error("cannot use Redis at {address}: {source}")]
    Connect {
        address: String,
        source: ConnectError,
    },
    #[error("Redis: {0}")]
    Redis(#[from] RedisError),
    #[error("{0}")]
    Script(#[from] ChatError),
    #[error("{script} needs --{argument}")]
    Missing {
        script: &'static str,
        argument: &'static str,
    },
    #[error("nothing was done")]
    Declined,
    #[error("{0} writes: use --yes if nobody can be asked")]
    NobodyToAsk(&'static str),
}

/// Runs the command.
///
/// # Errors
/// The command failed, or what was checked is not in order.
pub async fn run(command: ScriptsCommand, config: OperatorConfig) -> Result<(), CommandError> {
    let desk = Desk::new(config)?;
    match command {
        ScriptsCommand::List { json } => list::list(&desk, json).await,
        ScriptsCommand::Show { script, dir, which } => texts::show(&desk, script, dir, which).await,
        ScriptsCommand::Diff { dir, which } => texts::diff(&desk, dir, which).await,
        ScriptsCommand::Export { dir, which, force } => {
            texts::export(&desk, &dir, which, force).await
        }
        ScriptsCommand::Check { dir, how, json } => {
            check::check(&desk, dir, how.wanted(), json).await
        }
        ScriptsCommand::Apply(args) => exchange::apply(&desk, args).await,
        ScriptsCommand::History { json } => exchange::history(&desk, json).await,
        ScriptsCommand::Rollback { target } => exchange::roll_back(&desk, target).await,
        ScriptsCommand::Run(args) => call::run(&desk, args).await,
    }
}

/// Prints a line. A reader that has closed the pipe (`| head`) is not an error.
fn say(line: impl Display) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// Prints JSON for programs.
fn say_json(value: &impl serde::Serialize) {
    match serde_json::to_string_pretty(value) {
        Ok(json) => say(json),
        Err(error) => log::error!("cannot write JSON: {error}"),
    }
}

/// The part of a SHA1 that people compare.
fn short(sha1: &str) -> &str {
    sha1.get(..12).unwrap_or(sha1)
}
