//! Everything that a set must pass before it goes live: the same for start-up, reload, `check` and `apply`.

use std::path::Path;

use super::behaviour::{self, BehaviourError, OwnCase, Report};
use super::check::{check_rights, check_set};
use super::folder::FolderError;
use super::problem::{self, Problem};
use super::set::ScriptSet;

/// Whether a set is also run against a scratch Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// It must be: no `redis-server` at hand is an error.
    Required,
    /// Where there is a `redis-server`.
    WherePossible,
    /// It is not.
    Skipped,
}

/// What an operator wants to be checked, before the set is anywhere near a server.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    pub no_behaviour: bool,
    /// Commands that the server's Redis user may run besides those of `deploy/redis.acl`.
    pub allow: Vec<String>,
    /// The operator's own cases.
    pub own: Vec<OwnCase>,
}

/// What was found of a set that may go live.
#[derive(Debug)]
pub enum Verdict {
    /// It reads well and does what the server relies on.
    Behaves(Report),
    /// It reads well. What it does was not tried, for this reason.
    Reads(String),
}

/// Why a set may not go live.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("{}", problem::lines(.0))]
    Problems(Vec<Problem>),
    #[error(transparent)]
    Folder(FolderError),
    #[error(
        "there is no redis-server in PATH to try the scripts on: install one, or say --no-behaviour"
    )]
    NoProgram,
    #[error("the scripts could not be tried: {0}")]
    Scratch(String),
}

impl From<FolderError> for Refusal {
    fn from(error: FolderError) -> Self {
        match error {
            FolderError::Problems(problems) => Self::Problems(problems),
            other => Self::Folder(other),
        }
    }
}

/// Reads the scripts, then runs them, as an operator wants it. Which rights the servers' user has is not known here: a
/// server asks its Redis before it runs a set.
///
/// # Errors
/// As [`verify`].
pub async fn verify_for_operator(set: &ScriptSet, wanted: &Wanted) -> Result<Verdict, Refusal> {
    let mut problems = read(set).await?;
    problems.extend(check_rights(set, &wanted.allow));
    if !problems.is_empty() {
        return Err(Refusal::Problems(problems));
    }
    let behaviour = match wanted.no_behaviour {
        true => Behaviour::Skipped,
        false => Behaviour::Required,
    };
    tried(set, &wanted.own, behaviour).await
}

/// Reads the scripts, then runs them.
///
/// # Errors
/// All that is wrong with how they read; or the first thing that is wrong with what they do.
pub async fn verify(set: &ScriptSet, behaviour: Behaviour) -> Result<Verdict, Refusal> {
    let problems = read(set).await?;
    if !problems.is_empty() {
        return Err(Refusal::Problems(problems));
    }
    tried(set, &[], behaviour).await
}

async fn tried(set: &ScriptSet, own: &[OwnCase], behaviour: Behaviour) -> Result<Verdict, Refusal> {
    if behaviour == Behaviour::Skipped {
        return Ok(Verdict::Reads("it was asked not to be".to_owned()));
    }
    match behaviour::scratch_program() {
        Some(program) => run(set, own, &program, behaviour).await,
        None if behaviour == Behaviour::Required => Err(Refusal::NoProgram),
        None => Ok(Verdict::Reads("no redis-server is in PATH".to_owned())),
    }
}

/// Reading takes tens of milliseconds of a thread.
async fn read(set: &ScriptSet) -> Result<Vec<Problem>, Refusal> {
    let set = set.clone();
    let problems = tokio::task::spawn_blocking(move || check_set(&set)).await;
    problems.map_err(|panic| Refusal::Scratch(panic.to_string()))
}

async fn run(
    set: &ScriptSet,
    own: &[OwnCase],
    program: &Path,
    behaviour: Behaviour,
) -> Result<Verdict, Refusal> {
    match behaviour::run_with(set, own, program).await {
        Ok(report) => Ok(Verdict::Behaves(report)),
        Err(BehaviourError::Broken(problem)) => Err(Refusal::Problems(vec![problem])),
        Err(BehaviourError::Scratch(reason)) if behaviour == Behaviour::Required => {
            Err(Refusal::Scratch(reason.to_string()))
        }
        Err(BehaviourError::Scratch(reason)) => Ok(Verdict::Reads(reason.to_string())),
    }
}
