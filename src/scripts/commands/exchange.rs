//! `scripts apply`, `history` and `rollback`.

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::json;

use super::check::tell_verdict;
use super::desk::Desk;
use super::survey::ask;
use super::texts::say_diff;
use super::{CommandError, say, say_json};
use crate::cli::scripts::ApplyArgs;
use crate::config;
use crate::scripts::applied::{self, Applied, AppliedSet, History, Target};
use crate::scripts::folder::{Base, Sha1s, sha1s};
use crate::scripts::set::{Origin, ScriptSet};
use crate::scripts::verify::verify_for_operator;
use crate::scripts::wire::{Answer, Want};

/// Checks a folder's scripts, stores them, and makes every server run them.
pub(super) async fn apply(desk: &Desk, args: ApplyArgs) -> Result<(), CommandError> {
    let dir = args.dir;
    let set = desk.folder(dir.clone())?;
    let mut wanted = args.how.wanted();
    wanted.own = desk.own_cases(&dir)?;
    let verdict = verify_for_operator(&set, &wanted).await?;
    tell_verdict(&verdict);
    say(format_args!(
        "differs from the embedded scripts in: {}",
        names_of_differing(&set, &desk.embedded)
    ));
    let mut connection = desk.connect().await?;
    let history = applied::history(&mut connection, &desk.keys).await?;
    if !args.force {
        undoes_nothing(desk, &dir, &set, &history)?;
    }
    let by = args.by.unwrap_or_else(operator);
    let (keys, note) = (&desk.keys, &args.note);
    let applied = applied::apply(&mut connection, keys, &set, &by, note, history.current).await?;
    say(match applied {
        Applied::New(number) => format!("set {number} is stored and current"),
        Applied::Again(number) => format!("set {number} has the same scripts: it is current again"),
        Applied::Already(number) => format!("set {number} is current, and has the same scripts"),
    });
    let base = Base::of(&set.from_origin(Origin::Applied(applied.number())));
    if let Err(error) = base.write(&dir) {
        let file = Base::file(&dir);
        eprintln!(
            "cannot record in {} what was applied: {error}",
            file.display()
        );
    }
    settle(desk, Some(applied.number())).await
}

/// Whether the folder was made from what is in effect, or was applied last: applying it then undoes nobody's change.
fn undoes_nothing(
    desk: &Desk,
    dir: &Path,
    set: &ScriptSet,
    history: &History,
) -> Result<(), CommandError> {
    let current = history.current.and_then(|number| history.set(number));
    let in_effect: Sha1s = match current {
        Some(stored) => stored
            .scripts
            .iter()
            .map(|(name, script)| (name.clone(), script.sha1.clone()))
            .collect(),
        None => sha1s(&desk.embedded),
    };
    let base = Base::read(dir);
    let is_based = match &base {
        Some(base) => base.sha1 == in_effect,
        None => current.is_none(),
    };
    if is_based || sha1s(set) == in_effect {
        return Ok(());
    }
    match current.map(|stored| stored.to_set(&desk.embedded)) {
        None => say_diff(&desk.embedded, set),
        Some(Ok(stored)) => say_diff(&stored, set),
        Some(Err(unfit)) => say(unfit),
    }
    Err(CommandError::Newer {
        current: current.map_or_else(|| "the embedded set".to_owned(), in_words),
        base: base.map_or_else(|| "an unknown set".to_owned(), |base| base.set),
    })
}

/// Describes a set: its number, who applied it, when and why.
fn in_words(set: &AppliedSet) -> String {
    let note = match set.note.is_empty() {
        true => String::new(),
        false => format!(": {}", set.note),
    };
    let (number, by, at) = (set.number, &set.by, time(set.at_ms));
    format!("set {number} (by {by}, {at}{note})")
}

/// Goes back to an earlier set, on every server.
pub(super) async fn roll_back(desk: &Desk, target: Option<Target>) -> Result<(), CommandError> {
    let mut connection = desk.connect().await?;
    let before = applied::history(&mut connection, &desk.keys).await?;
    let target = target.unwrap_or(Target::Previous);
    let number = applied::roll_back(&mut connection, &desk.keys, &desk.embedded, target).await?;
    let words = |number: Option<u64>| match number {
        None => "the servers' own scripts".to_owned(),
        Some(number) => before
            .set(number)
            .map_or_else(|| format!("set {number}"), in_words),
    };
    say(match number == before.current {
        true => format!("current, as before: {}", words(number)),
        false => format!(
            "current: {}, in place of {}",
            words(number),
            words(before.current)
        ),
    });
    settle(desk, number).await
}

/// Asks every server to run the current set, and prints each answer.
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
    survey.tell_missing(desk).await?;
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
    match history.effect.before.last() {
        None => {}
        Some(None) => say("`scripts rollback` goes to the servers' own scripts"),
        Some(Some(number)) => say(format_args!("`scripts rollback` goes to set {number}")),
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
    json!({
        "current": history.current,
        "before": history.effect.before,
        "sets": sets.collect::<Vec<_>>(),
    })
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
