//! The tables of what the drills measured.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::load::{Outcome, Return, crowd::Size};

static ROWS: Mutex<Vec<String>> = Mutex::new(Vec::new());
static RETURNS: Mutex<Vec<String>> = Mutex::new(Vec::new());

const HEAD: &str = "\
| fault | sends acked | unknown | refused | lost | doubled | reordered | repair p50 / p99 / max | found |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- | --- |";

const RETURNS_HEAD: &str = "\
| fault | clients | rooms of each | told to come later | until the last is back | script calls | peak memory of the server |
| --- | ---: | ---: | ---: | ---: | ---: | ---: |";

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
    lock(&ROWS).push(row);
    lock(&RETURNS).extend(outcome.returns.iter().map(row_of_return));
}

fn row_of_return(back: &Return) -> String {
    let Size {
        clients,
        rooms_each,
    } = back.size;
    format!(
        "| {} | {clients} | {rooms_each} | {} | {:.1} s | {} | {} MB |",
        back.fault,
        back.put_off,
        back.took.as_secs_f64(),
        back.calls,
        back.peak_bytes / 1_000_000,
    )
}

/// Prints the tables that have rows to stderr.
pub(crate) fn print() {
    print_table(HEAD, &lock(&ROWS));
    print_table(RETURNS_HEAD, &lock(&RETURNS));
}

fn print_table(head: &str, rows: &[String]) {
    if rows.is_empty() {
        return;
    }
    eprintln!("\n{head}");
    for row in rows {
        eprintln!("{row}");
    }
}

fn lock(rows: &'static Mutex<Vec<String>>) -> MutexGuard<'static, Vec<String>> {
    // A drill that panicked has added no row, and has left the others intact.
    rows.lock().unwrap_or_else(PoisonError::into_inner)
}

fn repairs(shortest_first: &[Duration]) -> String {
    let Some(max) = shortest_first.last() else {
        return "–".to_owned();
    };
    let at = |percent: usize| shortest_first[(shortest_first.len() - 1) * percent / 100];
    let ms = |duration: Duration| duration.as_millis();
    format!("{} / {} / {} ms", ms(at(50)), ms(at(99)), ms(*max))
}
