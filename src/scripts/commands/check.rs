//! `scripts check`.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use super::desk::Desk;
use super::{CommandError, say, say_json, short};
use crate::scripts::problem::Problem;
use crate::scripts::registry::Script;
use crate::scripts::set::{ScriptSet, Source};
use crate::scripts::verify::{Refusal, Verdict, Wanted, verify_for_operator};

/// Checks a folder, `LUA_DIR`, or the embedded scripts, and prints a line for each script, or JSON.
pub(super) async fn check(
    desk: &Desk,
    dir: Option<PathBuf>,
    mut wanted: Wanted,
    as_json: bool,
) -> Result<(), CommandError> {
    let outcome = match dir.or_else(|| desk.config.lua_dir.clone()) {
        Some(dir) => desk.own_cases(&dir).and_then(|own| {
            wanted.own = own;
            desk.folder(dir)
        }),
        None => Ok(desk.embedded.clone()),
    };
    let (set, outcome) = match outcome {
        Ok(set) => {
            let verdict = verify_for_operator(&set, &wanted).await;
            (set, verdict)
        }
        // Files that are not readable as scripts are reported like any other problem.
        Err(CommandError::Refused(refusal)) => (desk.embedded.clone(), Err(refusal)),
        Err(other) => return Err(other),
    };
    if as_json {
        say_json(&as_value(&set, &outcome));
    } else {
        tell(&set, &outcome);
    }
    match outcome {
        Ok(_) => Ok(()),
        Err(Refusal::Problems(_)) => Err(CommandError::Told("the scripts are not in order")),
        Err(refusal) => Err(refusal.into()),
    }
}

fn tell(set: &ScriptSet, outcome: &Result<Verdict, Refusal>) {
    let problems = problems(outcome);
    for (script, _) in set.iter() {
        let wrong = of(script, problems);
        if wrong.is_empty() && (outcome.is_ok() || !problems.is_empty()) {
            say(script_line(set, script, worst(outcome, script)));
        }
        wrong.iter().for_each(say);
    }
    let of_no_script = |problem: &&Problem| {
        Script::ALL
            .into_iter()
            .all(|script| !concerns(problem, script))
    };
    problems.iter().filter(of_no_script).for_each(say);
    if let Ok(verdict) = outcome {
        tell_verdict(verdict);
    }
}

/// The longest call of a script in the trial.
fn worst(outcome: &Result<Verdict, Refusal>, script: Script) -> Option<Duration> {
    let Ok(Verdict::Behaves(report)) = outcome else {
        return None;
    };
    let worst = report.worst.iter().find(|(called, _)| *called == script);
    worst.map(|(_, took)| *took)
}

fn millis(took: Duration) -> String {
    format!("{:.1} ms", took.as_secs_f64() * 1000.0)
}

fn script_line(set: &ScriptSet, script: Script, worst: Option<Duration>) -> String {
    let text = set.get(script);
    let from = match &text.source {
        Source::File(path) => path.display().to_string(),
        source => source.to_string(),
    };
    let worst = worst.map_or_else(String::new, |took| format!("  worst {:>9}", millis(took)));
    format!(
        "ok  {:<28} {}{worst}  {from}",
        script.name(),
        short(&text.sha1)
    )
}

/// Prints what was tried of the scripts.
pub(super) fn tell_verdict(verdict: &Verdict) {
    match verdict {
        Verdict::Behaves(report) => {
            say(format_args!(
                "behaviour: {} cases on a scratch Redis, as servers rely on it",
                report.cases
            ));
            if report.own > 0 {
                say(format_args!("  and {} cases of your own", report.own));
            }
            if report.left_out > 0 {
                say(format_args!(
                    "  {} long texts were not tried for lack of time: some of these scripts are slow",
                    report.left_out
                ));
            }
            for ended in &report.rejected {
                say(format_args!(
                    "  a rule ended the case `{}`: {}",
                    ended.case, ended.text
                ));
            }
        }
        Verdict::Reads(reason) => say(format_args!("behaviour: not tried, {reason}")),
    }
}

fn problems(outcome: &Result<Verdict, Refusal>) -> &[Problem] {
    match outcome {
        Err(Refusal::Problems(problems)) => problems,
        _ => &[],
    }
}

fn of(script: Script, problems: &[Problem]) -> Vec<&Problem> {
    let of_script = |problem: &&Problem| concerns(problem, script);
    problems.iter().filter(of_script).collect()
}

/// Whether the problem is in the script's file.
fn concerns(problem: &Problem, script: Script) -> bool {
    let name = format!("{}.lua", script.name());
    let file = problem.file.split(" (").next().unwrap_or_default();
    file.rsplit('/').next() == Some(&name)
}

fn as_value(set: &ScriptSet, outcome: &Result<Verdict, Refusal>) -> serde_json::Value {
    let problems = problems(outcome);
    let scripts: Vec<serde_json::Value> = set
        .iter()
        .map(|(script, text)| {
            json!({
                "name": script.name(),
                "sha1": text.sha1,
                "lines": text.text.lines().count(),
                "source": text.source.to_string(),
                "ok": of(script, problems).is_empty(),
                "worstMs": worst(outcome, script).map(|took| took.as_secs_f64() * 1000.0),
            })
        })
        .collect();
    let behaviour = match outcome {
        Ok(Verdict::Behaves(report)) => json!({
            "tried": true,
            "cases": report.cases,
            "endedByRules": report.rejected.len(),
            "own": report.own,
            "leftOut": report.left_out,
        }),
        Ok(Verdict::Reads(reason)) => json!({ "tried": false, "why": reason }),
        Err(Refusal::Problems(_)) => json!({ "tried": false, "why": "there are problems" }),
        Err(refusal) => json!({ "tried": false, "why": refusal.to_string() }),
    };
    json!({
        "ok": outcome.is_ok(),
        "problems": problems,
        "behaviour": behaviour,
        "scripts": scripts,
    })
}
