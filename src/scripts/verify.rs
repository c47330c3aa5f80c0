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
    /// It must be: if there is no `redis-server`, that is an error.
    Required,
    /// It is, if there is a `redis-server`.
    WherePossible,
    /// It is not.
    Skipped,
}

/// What an operator wants checked, before any server gets the set.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    pub no_behaviour: bool,
    /// Commands that the server's Redis user may run besides those of `deploy/redis.acl`.
    pub allow: Vec<String>,
    /// The operator's own cases.
    pub own: Vec<OwnCase>,
}

/// The verdict on a set that may go live.
#[derive(Debug)]
pub enum Verdict {
    /// It passes the static checks and does what the server relies on.
    Behaves(Report),
    /// It passes the static checks. Its behaviour was not tried, for this reason.
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
        "there is no redis-server in PATH to try the scripts on: install one, or use --no-behaviour"
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

/// Checks the scripts statically, then runs them, as an operator wants it. The rights of the servers' Redis user are
/// not known here: a server asks its Redis before it runs a set.
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

/// Checks the scripts statically, then runs them.
///
/// # Errors
/// Everything that the static checks find, or the first thing that is wrong with the behaviour.
pub async fn verify(set: &ScriptSet, behaviour: Behaviour) -> Result<Verdict, Refusal> {
    let problems = read(set).await?;
    if !problems.is_empty() {
        return Err(Refusal::Problems(problems));
    }
    tried(set, &[], behaviour).await
}

async fn tried(set: &ScriptSet, own: &[OwnCase], behaviour: Behaviour) -> Result<Verdict, Refusal> {
    if behaviour == Behaviour::Skipped {
        return Ok(Verdict::Reads("it was turned off".to_owned()));
    }
    match behaviour::scratch_program() {
        Some(program) => run(set, own, &program, behaviour).await,
        None if behaviour == Behaviour::Required => Err(Refusal::NoProgram),
        None => Ok(Verdict::Reads("no redis-server is in PATH".to_owned())),
    }
}

/// The static checks occupy a thread for tens of milliseconds.
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
