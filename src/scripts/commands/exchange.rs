//! `scripts apply`, `history` and `rollback`.

use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::json;

use super::check::tell_verdict;
use super::desk::Desk;
use super::survey::ask;
use super::{CommandError, say, say_json};
use crate::config;
use crate::scripts::applied::{self, AppliedSet, History, Target};
use crate::scripts::set::{Origin, ScriptSet};
use crate::scripts::verify::{Wanted, verify_for_operator};
use crate::scripts::wire::{Answer, Want};

/// Checks a folder's scripts, stores them, and has every server run them.
pub(super) async fn apply(
    desk: &Desk,
    dir: PathBuf,
    note: &str,
    by: Option<String>,
    wanted: &Wanted,
) -> Result<(), CommandError> {
    let set = desk.folder(dir)?;
    let verdict = verify_for_operator(&set, wanted).await?;
    tell_verdict(&verdict);
    say(format_args!(
        "differs from the embedded scripts in: {}",
        names_of_differing(&set, &desk.embedded)
    ));
    let mut connection = desk.connect().await?;
    let by = by.unwrap_or_else(operator);
    let number = applied::apply(&mut connection, &desk.keys, &set, &by, note).await?;
    say(format_args!("set {number} is stored and current"));
    settle(desk, Some(number)).await
}

/// Goes back to an earlier set, and has every server do so.
pub(super) async fn roll_back(desk: &Desk, target: Option<Target>) -> Result<(), CommandError> {
    let mut connection = desk.connect().await?;
    let target = target.unwrap_or(Target::Previous);
    let number = applied::roll_back(&mut connection, &desk.keys, &desk.embedded, target).await?;
    match number {
        Some(number) => say(format_args!("set {number} is current")),
        None => say("the servers' own scripts are current"),
    }
    settle(desk, number).await
}

/// Asks every server to run what is current, and tells what each answers.
async fn settle(desk: &Desk, number: Option<u64>) -> Result<(), CommandError> {
    let runs_it = |answer: &Answer| match number {
        Some(_) => answer.applied == number,
        None => answer.set == Origin::Embedded.to_string(),
    };
    let survey = ask(desk, Want::Settle, |answer| {
        tell_answer(answer, runs_it(answer))
    })
    .await?;
    let running = survey.answers.iter().filter(|answer| runs_it(answer));
    let running = running.count();
    survey.tell_missing();
    say(match survey.asked {
        0 => "no server is running: those that start will run it".to_owned(),
        asked => format!("{running} of {asked} servers run it"),
    });
    if running < survey.asked {
        return Err(CommandError::Told(
            "not every server runs it; `scripts rollback` goes back",
        ));
    }
    Ok(())
}

fn tell_answer(answer: &Answer, runs_it: bool) {
    let outcome = match &answer.refused {
        _ if runs_it => "runs it".to_owned(),
        Some(reason) => format!("runs {}: {reason}", answer.set),
        None => format!("runs {}", answer.set),
    };
    say(format_args!("  {}: {outcome}", answer.server));
    if let Some(note) = &answer.note {
        say(format_args!("    {note}"));
    }
}

/// Lists the sets that are kept.
pub(super) async fn history(desk: &Desk, as_json: bool) -> Result<(), CommandError> {
    let mut connection = desk.connect().await?;
    let history = applied::history(&mut connection, &desk.keys).await?;
    if as_json {
        say_json(&as_value(&history));
        return Ok(());
    }
    if history.sets.is_empty() {
        say("no set was applied");
    }
    for set in &history.sets {
        let mark = if history.current == Some(set.number) {
            '*'
        } else {
            ' '
        };
        say(format_args!(
            "{mark} {:>3}  {}  {}  changed: {}  {}",
            set.number,
            time(set.at_ms),
            set.by,
            changed(set, &desk.embedded),
            set.note
        ));
    }
    if history.current.is_none() {
        say("* the servers' own scripts are current");
    }
    Ok(())
}

fn as_value(history: &History) -> serde_json::Value {
    let sets = history.sets.iter().map(|set| {
        let sha1s = set
            .scripts
            .iter()
            .map(|(name, script)| (name, &script.sha1));
        json!({
            "number": set.number,
            "by": set.by,
            "at": time(set.at_ms),
            "note": set.note,
            "contract": set.contract,
            "sha1": sha1s.collect::<std::collections::BTreeMap<_, _>>(),
        })
    });
    json!({ "current": history.current, "sets": sets.collect::<Vec<_>>() })
}

/// The scripts in which a set differs from the embedded one.
fn changed(set: &AppliedSet, embedded: &ScriptSet) -> String {
    match set.to_set(embedded) {
        Ok(texts) => names_of_differing(&texts, embedded),
        Err(unfit) => format!("({unfit})"),
    }
}

fn names_of_differing(set: &ScriptSet, embedded: &ScriptSet) -> String {
    let differing = set.differing(embedded);
    let names: Vec<&str> = differing.iter().map(|script| script.name()).collect();
    if names.is_empty() {
        return "nothing".to_owned();
    }
    names.join(", ")
}

fn time(at_ms: u64) -> String {
    let at = UNIX_EPOCH.checked_add(Duration::from_millis(at_ms));
    at.map(|at| humantime::format_rfc3339_seconds(at).to_string())
        .unwrap_or_default()
}

/// `user@host`
fn operator() -> String {
    let user = config::user_name().unwrap_or_else(|| "unknown".to_owned());
    format!("{user}@{}", gethostname::gethostname().to_string_lossy())
}
