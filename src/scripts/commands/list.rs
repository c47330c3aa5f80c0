//! `scripts list`.

use serde_json::json;

use super::desk::Desk;
use super::survey::{Survey, ask};
use super::{CommandError, say, say_json, short};
use crate::scripts::registry::CONTRACT;
use crate::scripts::set::ScriptSet;
use crate::scripts::wire::{Answer, ScriptReport, Want};

/// Shows each script and what every running server does with it.
pub(super) async fn list(desk: &Desk, as_json: bool) -> Result<(), CommandError> {
    let mut connection = desk.connect().await?;
    let set = desk.in_effect(&mut connection).await?;
    let mut exists = redis::cmd("SCRIPT");
    exists.arg("EXISTS");
    for (_, text) in set.iter() {
        exists.arg(&text.sha1);
    }
    let loaded: Vec<bool> = exists.query_async(&mut connection).await?;
    let survey = ask(desk, Want::Report, |_| ()).await?;
    if as_json {
        say_json(&as_value(&set, &loaded, &survey));
        return Ok(());
    }
    say(format_args!("{}, contract {CONTRACT}", set.origin));
    say("");
    say(format_args!(
        "{:<28} {:<12} {:>5}  {:<14} on Redis",
        "script", "sha1", "lines", "source"
    ));
    for ((script, text), loaded) in set.iter().zip(&loaded) {
        say(format_args!(
            "{:<28} {} {:>5}  {:<14} {}",
            script.name(),
            short(&text.sha1),
            text.text.lines().count(),
            text.source.to_string(),
            if *loaded { "loaded" } else { "not loaded" }
        ));
    }
    for answer in &survey.answers {
        tell_server(answer, &set);
    }
    say("");
    survey.tell_missing(desk).await?;
    tell_divergence(&survey, &set);
    Ok(())
}

fn tell_server(answer: &Answer, set: &ScriptSet) {
    say("");
    say(format_args!(
        "{}, chat-server {}, runs {}",
        answer.server, answer.server.version, answer.set
    ));
    for remark in answer.refused.iter().chain(&answer.note) {
        say(format_args!("  {remark}"));
    }
    say(format_args!(
        "  {:<28} {:<12} {:>12} {:>12} {:>12}",
        "script", "sha1", "calls", "average ms", "worst ms"
    ));
    for report in &answer.scripts {
        let mark = if diverges(report, set) { "  ≠" } else { "" };
        say(format_args!(
            "  {:<28} {:<12} {:>12} {:>12} {:>12}{mark}",
            report.name,
            short(&report.sha1),
            report.calls,
            millis(report.average_us),
            millis(report.worst_us)
        ));
    }
}

/// Whether a server runs a text other than the set's.
fn diverges(report: &ScriptReport, set: &ScriptSet) -> bool {
    let same = set
        .iter()
        .find(|(script, _)| script.name() == report.name)
        .is_some_and(|(_, text)| text.sha1 == report.sha1);
    !same
}

fn tell_divergence(survey: &Survey, set: &ScriptSet) {
    let other = |answer: &&Answer| answer.scripts.iter().any(|report| diverges(report, set));
    let others = survey.answers.iter().filter(other).count();
    say(match (survey.answers.len(), others) {
        (0, _) => "no server is running".to_owned(),
        (1, 0) => "1 server runs these scripts".to_owned(),
        (servers, 0) => format!("{servers} servers run these scripts"),
        (servers, others) => {
            format!("{others} of {servers} servers run other scripts: those marked ≠")
        }
    });
}

fn millis(micros: u64) -> String {
    format!("{}.{:03}", micros / 1000, micros % 1000)
}

fn as_value(set: &ScriptSet, loaded: &[bool], survey: &Survey) -> serde_json::Value {
    let scripts = set.iter().zip(loaded).map(|((script, text), loaded)| {
        json!({
            "name": script.name(),
            "sha1": text.sha1,
            "lines": text.text.lines().count(),
            "source": text.source.to_string(),
            "loaded": loaded,
        })
    });
    let diverging = survey.answers.iter().flat_map(|answer| {
        let reports = answer.scripts.iter().filter(|report| diverges(report, set));
        reports.map(|report| json!({ "server": answer.server.to_string(), "script": report.name }))
    });
    json!({
        "set": set.origin.to_string(),
        "contract": CONTRACT,
        "scripts": scripts.collect::<Vec<_>>(),
        "servers": survey.answers,
        "unanswered": survey.asked.saturating_sub(survey.answers.len()),
        "diverging": diverging.collect::<Vec<_>>(),
    })
}
