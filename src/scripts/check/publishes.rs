//! Checks that the header's Publishes names what the body publishes.

use super::Findings;
use super::commands::called;
use super::header::{Header, Labelled};
use super::source::{ExprId, Kind, Source};

const EVENT: &str = "\"event\":\"";

pub(super) fn check(header: &Header, source: &Source, found: &mut Findings) {
    let publishes = called(source).find(|called| {
        let name = called.name.unwrap_or_default();
        name.eq_ignore_ascii_case("SPUBLISH")
    });
    let Labelled { line, text } = &header.publishes;
    let says_nothing = text == "nothing";
    match publishes {
        Some(publish) if says_nothing => found.add(
            source.line(publish.id),
            "the body publishes here, but the header's Publishes says `nothing`",
        ),
        None if !says_nothing => found.add(
            *line,
            format!("Publishes says `{text}`, but the body publishes nothing"),
        ),
        _ => {}
    }
    if !says_nothing {
        channel(header, found);
        events(&header.publishes, source, found);
    }
}

fn channel(header: &Header, found: &mut Findings) {
    let Labelled { line, text } = &header.publishes;
    let name = text.split(' ').next().unwrap_or_default();
    let mut keys = header.keys.all();
    if !keys.any(|key| key.name == name && key.kind == "channel") {
        found.add(
            *line,
            format!("Publishes names `{name}`, which is not a channel of KEYS"),
        );
    }
}

fn events(publishes: &Labelled, source: &Source, found: &mut Findings) {
    let Labelled { line, text } = publishes;
    let mut named = events_in(text).peekable();
    if named.peek().is_none() {
        found.add(*line, format!("Publishes names no event: {EVENT}…\""));
    }
    for event in named {
        if !(0..source.exprs.len()).any(|id| makes(source, id, event)) {
            found.add(*line, format!("the body publishes no event `{event}`"));
        }
    }
}

/// The event names in a text like `{"event":"read",…}`.
fn events_in(text: &str) -> impl Iterator<Item = &str> {
    let behind = text.split(EVENT).skip(1);
    behind.filter_map(|rest| rest.split('"').next())
}

/// Whether an expression is a table with this event, or its JSON.
fn makes(source: &Source, id: ExprId, event: &str) -> bool {
    let says = |id: ExprId, text: &str| source.string(id) == Some(text);
    match source.kind(id) {
        Kind::String(text) => events_in(text).any(|found| found == event),
        Kind::Table(fields) => fields
            .iter()
            .any(|(key, value)| key.is_some_and(|key| says(key, "event")) && says(*value, event)),
        _ => false,
    }
}
