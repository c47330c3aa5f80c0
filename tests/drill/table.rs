//! The table of what the drills measured.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::load::Outcome;

static ROWS: Mutex<Vec<String>> = Mutex::new(Vec::new());

const HEAD: &str = "\
| fault | sends acked | unknown | refused | lost | doubled | reordered | repair p50 / p99 / max | found |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- | --- |";

/// Adds a row.
pub(crate) fn add(fault: &str, outcome: &Outcome) {
    let report = &outcome.report;
    let found = match report.problems.len() {
        0 => "nothing".to_owned(),
        count => format!("**{count}**"),
    };
    let row = format!(
        "| {fault} | {} | {} | {} | {} | {} | {} | {} | {found} |",
        report.acked,
        report.unknown,
        report.refused,
        report.lost,
        report.doubled,
        report.reordered,
        repairs(&outcome.repairs),
    );
    rows().push(row);
}

/// Prints the table to stderr, if there is anything in it.
pub(crate) fn print() {
    let rows = rows();
    if rows.is_empty() {
        return;
    }
    eprintln!("\n{HEAD}");
    for row in rows.iter() {
        eprintln!("{row}");
    }
}

fn rows() -> std::sync::MutexGuard<'static, Vec<String>> {
    // A drill that panicked has added no row, and harmed none.
    ROWS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn repairs(shortest_first: &[Duration]) -> String {
    let Some(max) = shortest_first.last() else {
        return "–".to_owned();
    };
    let at = |percent: usize| shortest_first[(shortest_first.len() - 1) * percent / 100];
    let ms = |duration: Duration| duration.as_millis();
    format!("{} / {} / {} ms", ms(at(50)), ms(at(99)), ms(*max))
}
