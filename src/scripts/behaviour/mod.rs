//! The behaviour contract: a set of scripts is tried on a scratch Redis before any server runs it.
//!
//! The server relies on what its scripts return and publish. The cases call each script as the server does, with its
//! own typed calls, and compare. An operator's rule may refuse anything with `REJECTED`: the case ends there.
//!
//! - `cases`: what the server relies on, case by case
//! - `own`: the operator's own cases
//! - `texts`, `pattern`: the texts that the rules are tried with
//! - `compare`: compares what the scripts gave with what the server relies on
//! - `stage`: what a case runs on: a store, and what is published and stored
//! - `scratch`: the Redis of a trial
//! - `fault`, `trace`: which script failed, and on which line

mod cases;
mod compare;
mod fault;
pub mod own;
mod pattern;
mod scratch;
mod stage;
mod texts;
mod trace;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use self::cases::{CASES, Case};
use self::fault::{Cause, Ended, Fault};
pub use self::own::OwnCase;
use self::scratch::Scratch;
pub use self::scratch::ScratchError;
use self::stage::Stage;
use super::check::Hints;
use super::{Problem, Script, ScriptSet, ScriptText};
use crate::config;
use crate::store::embedded::find_program;

/// How long a trial may take in total.
const RUN_MAX: Duration = Duration::from_secs(20);

/// The result of a trial.
#[derive(Debug)]
pub struct Report {
    /// The number of cases.
    pub cases: usize,
    /// The number of the operator's own cases.
    pub own: usize,
    /// The cases that an operator's rule ended early.
    pub rejected: Vec<Rejection>,
    /// The longest call of each script, as the caller saw it.
    pub worst: Vec<(Script, Duration)>,
    /// The number of hard texts that were not tried for lack of time.
    pub left_out: usize,
}

/// What is tried.
#[derive(Clone)]
struct Trial {
    set: ScriptSet,
    /// The hints in the edited scripts of the original set: copies made to locate a fault are tried with the same
    /// texts.
    hints: Arc<[(Script, Hints)]>,
}

impl Trial {
    fn of(set: &ScriptSet) -> Self {
        Self {
            set: set.clone(),
            hints: texts::hints(set).into(),
        }
    }

    /// The same trial, with another text for one script.
    fn with(&self, script: Script, text: ScriptText) -> Self {
        Self {
            set: self.set.clone().with(script, text),
            hints: self.hints.clone(),
        }
    }
}

/// A case that a rule ended early: the rest of it was not tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    pub case: &'static str,
    /// The rule's error text, as the client would get it.
    pub text: String,
}

/// Why a set failed its trial.
#[derive(Debug, thiserror::Error)]
pub enum BehaviourError {
    /// The set does not do what the server relies on.
    #[error("{0}")]
    Broken(Problem),
    /// The trial could not be run.
    #[error(transparent)]
    Scratch(#[from] ScratchError),
}

/// The `redis-server` or `valkey-server` in PATH, if there is one.
pub fn scratch_program() -> Option<PathBuf> {
    find_program(config::search_path().as_deref())
}

/// Tries a set on a scratch Redis, which is stopped before this returns.
///
/// # Errors
/// The first case that the set fails, or why the set could not be tried.
pub async fn run(set: &ScriptSet, program: &Path) -> Result<Report, BehaviourError> {
    run_with(set, &[], program).await
}

/// Like [`run`], and then tries the operator's own cases.
///
/// # Errors
/// As [`run`], or the first of the operator's cases that fails.
pub async fn run_with(
    set: &ScriptSet,
    own: &[OwnCase],
    program: &Path,
) -> Result<Report, BehaviourError> {
    let deadline = Instant::now() + RUN_MAX;
    let trial = Trial::of(set);
    let scratch = Scratch::start(program).await?;
    let outcome = run_cases(&scratch, &trial, own, deadline).await;
    scratch.stop().await;
    match outcome {
        Ok(report) => Ok(report),
        Err(Stop::Scratch(error)) => Err(error.into()),
        Err(Stop::Own(problem)) => Err(BehaviourError::Broken(problem)),
        Err(Stop::Broken(case, fault)) => {
            // The fault is reported whether or not its line is found in time.
            let located = timeout_at(deadline, locate(&trial, program, case, &fault)).await;
            let (script, line) = match located {
                Ok(Ok(place)) => place,
                Ok(Err(_)) | Err(_) => (fault.script, fault.line().unwrap_or(1)),
            };
            let reason = format!("case `{}`: {}", case.name, fault.reason);
            let problem = Problem::new(script, set.get(script), line, reason);
            Err(BehaviourError::Broken(problem))
        }
    }
}

/// Why no more cases are tried.
enum Stop {
    Broken(&'static Case, Fault),
    /// One of the operator's own cases.
    Own(Problem),
    Scratch(ScratchError),
}

async fn run_cases(
    scratch: &Scratch,
    trial: &Trial,
    own: &[OwnCase],
    deadline: Instant,
) -> Result<Report, Stop> {
    let mut stage = Stage::open(scratch, trial).await.map_err(Stop::Scratch)?;
    let mut rejected = Vec::new();
    for case in &CASES {
        match timeout_at(deadline, play(&mut stage, case)).await {
            Ok(Ok(())) => {}
            Ok(Err(Ended::Rejected(text))) => rejected.push(Rejection {
                case: case.name,
                text,
            }),
            Ok(Err(Ended::Broken(fault))) => return Err(Stop::Broken(case, fault)),
            Ok(Err(Ended::Scratch(error))) => return Err(Stop::Scratch(error)),
            Err(_) => return Err(Stop::Scratch(ScratchError::TooSlow(case.name))),
        }
    }
    for case in own {
        match timeout_at(deadline, play_own(&mut stage, case)).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(what))) => return Err(Stop::Own(case.problem(&what))),
            Ok(Err(Ended::Rejected(words))) => {
                let what = format!("its room cannot be created as described: {words}");
                return Err(Stop::Own(case.problem(&what)));
            }
            Ok(Err(Ended::Broken(fault))) => return Err(Stop::Own(case.problem(&fault.reason))),
            Ok(Err(Ended::Scratch(error))) => return Err(Stop::Scratch(error)),
            Err(_) => return Err(Stop::Own(case.problem("there was no time left to run it"))),
        }
    }
    Ok(Report {
        cases: CASES.len(),
        own: own.len(),
        rejected,
        worst: stage.worst.each(),
        left_out: stage.left_out,
    })
}

async fn play_own(stage: &mut Stage, case: &OwnCase) -> Result<Result<(), String>, Ended> {
    stage.clear().await?;
    case.play(stage).await
}

/// Runs one case on an empty Redis.
async fn play(stage: &mut Stage, case: &Case) -> Result<(), Ended> {
    stage.clear().await?;
    (case.play)(stage).await
}

/// Finds the script to blame and its line, on a second scratch Redis: a script may still be running on the first.
async fn locate(
    trial: &Trial,
    program: &Path,
    case: &Case,
    fault: &Fault,
) -> Result<(Script, usize), ScratchError> {
    match fault.cause {
        Cause::Failed { line: Some(line) } => return Ok((fault.script, line)),
        Cause::Slow { line } => {
            let line = line.or_else(|| texts::first_pattern(&trial.hints, fault.script));
            return Ok((fault.script, line.unwrap_or(1)));
        }
        _ => {}
    }
    let scratch = Scratch::start(program).await?;
    let place = replay(&scratch, trial, case, fault).await;
    scratch.stop().await;
    place
}

/// Runs the case again, to learn more about its fault.
async fn replay(
    scratch: &Scratch,
    trial: &Trial,
    case: &Case,
    fault: &Fault,
) -> Result<(Script, usize), ScratchError> {
    let script = match fault.cause {
        Cause::Wrong => culprit(scratch, trial, case, fault.script).await?,
        Cause::Failed { .. } | Cause::Endless { .. } | Cause::Slow { .. } => fault.script,
    };
    let line = traced_line(scratch, trial, case, script, fault).await?;
    Ok((script, line.or(fault.line()).unwrap_or(1)))
}

/// The edited script without whose edit the case passes; the suspect, if that finds none.
async fn culprit(
    scratch: &Scratch,
    trial: &Trial,
    case: &Case,
    suspect: Script,
) -> Result<Script, ScratchError> {
    let Ok(built_in) = ScriptSet::embedded() else {
        return Ok(suspect);
    };
    for script in trial.set.differing(&built_in) {
        let mended = trial.with(script, built_in.get(script).clone());
        let mut stage = Stage::open(scratch, &mended).await?;
        if play(&mut stage, case).await.is_ok() {
            return Ok(script);
        }
    }
    Ok(suspect)
}

/// Runs the case again with a traced copy of the script, and returns the line that the copy reports.
async fn traced_line(
    scratch: &Scratch,
    trial: &Trial,
    case: &Case,
    script: Script,
    fault: &Fault,
) -> Result<Option<usize>, ScratchError> {
    let original = trial.set.get(script);
    let Some(traced) = trace::traced(script, &original.text) else {
        return Ok(None);
    };
    let traced = ScriptText::new(traced, original.source.clone());
    let mut stage = Stage::open(scratch, &trial.with(script, traced)).await?;
    let ended = play(&mut stage, case).await;
    if !matches!(fault.cause, Cause::Endless { .. }) {
        return Ok(trace::last_return(script, &scratch.log().await));
    }
    // The copy ends its loop with an error.
    Ok(match ended {
        Err(Ended::Broken(broken)) if broken.script == script => broken.line(),
        _ => None,
    })
}
