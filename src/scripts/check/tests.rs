//! Tests with mistakes planted into the real scripts, each reported on its line; and with edits that are correct.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use crate::scripts::set::Source as From;

mod edits;
mod planted;

fn embedded(script: Script) -> String {
    ScriptSet::embedded().unwrap().get(script).text.clone()
}

/// A script with one piece replaced.
struct Changed {
    script: Script,
    text: String,
    /// The line on which the replacement begins, from 1.
    first_line: usize,
}

impl Changed {
    fn new(script: Script, from: &str, to: &str) -> Self {
        let text = embedded(script);
        let pieces: Vec<&str> = text.split(from).collect();
        let name = script.name();
        let &[before, after] = pieces.as_slice() else {
            panic!("{name}: `{from}` is there {} times", pieces.len() - 1);
        };
        Self {
            script,
            first_line: 1 + before.matches('\n').count(),
            text: [before, to, after].concat(),
        }
    }

    fn line(&self, place: Where) -> usize {
        let first = |is_it: &dyn Fn(&str) -> bool| self.text.lines().position(is_it);
        match place {
            Where::Here(below) => self.first_line + below,
            Where::At(piece) => 1 + first(&|line| line.contains(piece)).expect(piece),
            Where::Body => 2 + first(&str::is_empty).expect("a blank line"),
        }
    }

    fn found(&self) -> Vec<Problem> {
        found_in(self.script, self.text.clone())
    }
}

/// A line of a changed script, described so that it stays the same line when lines are added above it.
#[derive(Clone, Copy)]
enum Where {
    /// This many lines below the first line of the replacement.
    Here(usize),
    /// The first line that contains this text.
    At(&'static str),
    /// The first line below the header, which ends with a blank one.
    Body,
}

fn found_in(script: Script, text: String) -> Vec<Problem> {
    check_script(script, &ScriptText::new(text, From::Embedded))
}

fn lines(found: &[Problem]) -> String {
    let lines: Vec<String> = found.iter().map(Problem::to_string).collect();
    lines.join("\n")
}

/// Each entry: script, what is replaced, its replacement, the problem's line, and a part of its reason.
type Planted = (Script, &'static str, &'static str, Where, &'static str);

fn each_is_found(planted: &[Planted]) {
    for (script, from, to, place, reason) in planted {
        let changed = Changed::new(*script, from, to);
        let (found, line) = (changed.found(), changed.line(*place));
        let is_said = |problem: &Problem| problem.line == line && problem.reason.contains(reason);
        assert!(
            found.iter().any(is_said),
            "{} with `{to}`: expected line {line}, `{reason}`, found:\n{}",
            script.name(),
            lines(&found)
        );
    }
}

/// Each must be the only finding: one mistake makes one problem.
fn only_this_is_found(planted: &[Planted]) {
    each_is_found(planted);
    for (script, from, to, _, _) in planted {
        let found = Changed::new(*script, from, to).found();
        assert_eq!(found.len(), 1, "`{to}`:\n{}", lines(&found));
    }
}

#[test]
fn the_embedded_scripts_have_no_problems() {
    let found = check_set(&ScriptSet::embedded().unwrap());
    assert!(found.is_empty(), "\n{}", lines(&found));
}

#[test]
fn a_problem_names_file_line_and_reason() {
    // Given a script in a folder, whose last line is cut off
    let text = Changed::new(Script::SyncRoom, "marks, 0}\n", "marks, 0\n").text;
    let source = From::File("rules/sync_room.lua".into());
    let found = check_script(Script::SyncRoom, &ScriptText::new(text, source));
    // Then the problem says so
    assert_eq!(found.len(), 1, "{}", lines(&found));
    let said = found[0].to_string();
    assert!(said.starts_with("rules/sync_room.lua:"), "{said}");
    assert!(said.contains("not Lua 5.1"), "{said}");
}

#[test]
fn problems_come_by_line_and_once() {
    let mut changed = Changed::new(
        Script::SendMessage,
        "redis.call('ZCARD', reads)",
        "os.time(os.time())",
    );
    changed.text = changed.text.replace("#!lua\n", "#!lua flags=no-writes\n");
    let found = changed.found();
    let by_line: Vec<usize> = found.iter().map(|problem| problem.line).collect();
    assert_eq!(
        by_line,
        [1, changed.line(Where::Here(0))],
        "{}",
        lines(&found)
    );
}

#[test]
fn what_is_nested_without_end_is_refused_and_does_no_harm() {
    let parts = [
        "(",
        "f(",
        "a = {",
        "not ",
        "- ",
        "1 .. ",
        "x or ",
        "do ",
        "if x then ",
        "a = function() ",
    ];
    for part in parts {
        let text = format!("#!lua\n\nreturn {}", part.repeat(100_000));
        let (line, reason) = lower::parse(&text).unwrap_err();
        assert_eq!(
            (line, reason.contains("too deeply")),
            (3, true),
            "{part}: {reason}"
        );
    }
}

#[test]
fn a_long_list_and_a_long_condition_are_not_nested() {
    let list = "'word', ".repeat(10_000);
    let condition = "text:find('word', 1, true) or ".repeat(500);
    let text = format!("#!lua\n\nlocal words = {{{list}}}\nreturn {condition}words");
    assert!(lower::parse(&text).is_ok());
}
