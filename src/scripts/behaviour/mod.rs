//! The behaviour contract: a set of scripts is tried on a scratch Redis before anything else runs it.
//!
//! The server relies on what its scripts return and publish. The cases call each of them as the server does, with its
//! own typed calls, and compare. Operators' rules may refuse what they like with `REJECTED`: the case ends there.
//!
//! - `cases`: what the server relies on, case by case
//! - `compare`: what was got against what is relied on
//! - `stage`: where a case plays: a store, what is published, what is stored
//! - `scratch`: the Redis of a trial
//! - `fault`, `trace`: which script was it, on which line

mod cases;
mod compare;
mod fault;
mod scratch;
mod stage;
mod trace;

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use self::cases::{CASES, Case};
use self::fault::{Cause, Ended, Fault};
use self::scratch::Scratch;
pub use self::scratch::ScratchError;
use self::stage::Stage;
use super::{Problem, Script, ScriptSet, ScriptText};
use crate::config;
use crate::store::embedded::find_program;

/// How long a trial may last in all.
const RUN_MAX: Duration = Duration::from_secs(15);

/// What a trial found.
#[derive(Debug)]
pub struct Report {
    /// How many cases there were.
    pub cases: usize,
    /// The cases that a rule of the operator's ended early.
    pub rejected: Vec<Rejection>,
}

/// A case that a rule ended early: what comes after it was not tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    pub case: &'static str,
    /// The rule's own words, as the client would get them.
    pub text: String,
}

/// Why a set was not found good.
#[derive(Debug, thiserror::Error)]
pub enum BehaviourError {
    /// The set does not do what the server relies on.
    #[error("{0}")]
    Broken(Problem),
    /// The trial could not be held.
    #[error(transparent)]
    Scratch(#[from] ScratchError),
}

/// The `redis-server` or `valkey-server` in PATH, if there is one.
pub fn scratch_program() -> Option<PathBuf> {
    find_program(config::search_path().as_deref())
}

/// Tries a set on a scratch Redis, which is gone when this returns.
///
/// # Errors
/// The first case that the set does not pass, or why it could not be tried.
pub async fn run(set: &ScriptSet, program: &Path) -> Result<Report, BehaviourError> {
    let deadline = Instant::now() + RUN_MAX;
    let scratch = Scratch::start(program).await?;
    let outcome = run_cases(&scratch, set, deadline).await;
    scratch.stop().await;
    match outcome {
        Ok(report) => Ok(report),
        Err(Stop::Scratch(error)) => Err(error.into()),
        Err(Stop::Broken(case, fault)) => {
            // What was found stands, whether or not its line is found in time.
            let located = timeout_at(deadline, locate(set, program, case, &fault)).await;
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

/// Why no further case is tried.
enum Stop {
    Broken(&'static Case, Fault),
    Scratch(ScratchError),
}

async fn run_cases(scratch: &Scratch, set: &ScriptSet, deadline: Instant) -> Result<Report, Stop> {
    let mut stage = Stage::open(scratch, set).await.map_err(Stop::Scratch)?;
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
    Ok(Report {
        cases: CASES.len(),
        rejected,
    })
}

/// Plays one case, on an empty Redis.
async fn play(stage: &mut Stage, case: &Case) -> Result<(), Ended> {
    stage.clear().await?;
    (case.play)(stage).await
}

/// The script to blame and its line, on a scratch Redis of their own: the first one may be stuck.
async fn locate(
    set: &ScriptSet,
    program: &Path,
    case: &Case,
    fault: &Fault,
) -> Result<(Script, usize), ScratchError> {
    if let Cause::Failed { line: Some(line) } = fault.cause {
        return Ok((fault.script, line));
    }
    let scratch = Scratch::start(program).await?;
    let place = replay(&scratch, set, case, fault).await;
    scratch.stop().await;
    place
}

/// Plays the case again, for what it did not tell.
async fn replay(
    scratch: &Scratch,
    set: &ScriptSet,
    case: &Case,
    fault: &Fault,
) -> Result<(Script, usize), ScratchError> {
    let script = match fault.cause {
        Cause::Wrong => culprit(scratch, set, case, fault.script).await?,
        Cause::Failed { .. } | Cause::Endless { .. } => fault.script,
    };
    let line = traced_line(scratch, set, case, script, fault).await?;
    Ok((script, line.or(fault.line()).unwrap_or(1)))
}

/// The edited script without whose edit the case passes; the suspect, where that tells nothing.
async fn culprit(
    scratch: &Scratch,
    set: &ScriptSet,
    case: &Case,
    suspect: Script,
) -> Result<Script, ScratchError> {
    let Ok(built_in) = ScriptSet::embedded() else {
        return Ok(suspect);
    };
    let edited = set
        .iter()
        .filter(|(script, text)| text.sha1 != built_in.get(*script).sha1);
    for (script, _) in edited {
        let mended = set.clone().with(script, built_in.get(script).clone());
        let mut stage = Stage::open(scratch, &mended).await?;
        if play(&mut stage, case).await.is_ok() {
            return Ok(script);
        }
    }
    Ok(suspect)
}

/// The line as a traced copy of the script tells it when the case is played again.
async fn traced_line(
    scratch: &Scratch,
    set: &ScriptSet,
    case: &Case,
    script: Script,
    fault: &Fault,
) -> Result<Option<usize>, ScratchError> {
    let original = set.get(script);
    let Some(traced) = trace::traced(script, &original.text) else {
        return Ok(None);
    };
    let traced = ScriptText::new(traced, original.source.clone());
    let mut stage = Stage::open(scratch, &set.clone().with(script, traced)).await?;
    let ended = play(&mut stage, case).await;
    if !matches!(fault.cause, Cause::Endless { .. }) {
        return Ok(trace::last_return(script, &scratch.log().await));
    }
    // The copy breaks its loop off with an error.
    Ok(match ended {
        Err(Ended::Broken(broken)) if broken.script == script => broken.line(),
        _ => None,
    })
}
