//! Static checks of a script, before it runs: the same at start-up, for a changed file and in tests.
//!
//! They find mistakes, not malice: a person who may change these scripts can do anything to this Redis anyway.

mod commands;
mod contract;
mod effects;
mod errors;
mod globals;
pub mod header;
mod hints;
mod keys;
mod lower;
mod order;
mod publishes;
mod repeats;
mod rights;
mod source;
mod unpacking;

#[cfg(test)]
mod tests;

pub use self::commands::CalledOn;
use self::header::Header;
pub use self::hints::Hints;
pub use self::rights::check_rights;
use self::source::Source;
use super::{Problem, Script, ScriptSet, ScriptText};

/// Everything that is wrong with one script, by line. If empty, the script may run as far as static checks can tell.
pub fn check_script(script: Script, text: &ScriptText) -> Vec<Problem> {
    let mut found = Findings::default();
    let header = header::parse(&text.text).map_err(|(line, reason)| found.add(line, reason));
    let source = lower::parse(&text.text).map_err(|(line, reason)| found.add(line, reason));
    if let Ok(header) = &header {
        contract::check(script, header, &mut found);
    }
    if let Ok(source) = &source {
        body(script, source, &mut found);
    }
    if let (Ok(header), Ok(source)) = (&header, &source) {
        body_against_header(script, header, source, &mut found);
    }
    let problem = |(line, reason)| Problem::new(script, text, line, reason);
    found.sorted().into_iter().map(problem).collect()
}

/// Everything that is wrong with the scripts of a set, script by script.
pub fn check_set(set: &ScriptSet) -> Vec<Problem> {
    set.iter()
        .flat_map(|(script, text)| check_script(script, text))
        .collect()
}

/// Every command that a script calls; none if it cannot be parsed.
pub fn commands_of(script: Script, text: &ScriptText) -> Vec<CalledOn> {
    let source = lower::parse(&text.text);
    source.map_or_else(
        |_| Vec::new(),
        |source| commands::called_on(script, &source).collect(),
    )
}

fn body(script: Script, source: &Source, found: &mut Findings) {
    globals::check(source, found);
    commands::check(script, source, found);
    keys::check(script, source, found);
    order::check(script, source, found);
    effects::check(source, found);
    repeats::check(script, source, found);
}

fn body_against_header(script: Script, header: &Header, source: &Source, found: &mut Findings) {
    commands::check_flags(script, header, source, found);
    unpacking::check(header, source, found);
    errors::check(script, header, source, found);
    publishes::check(header, source, found);
}

/// What the checks of one script found, each with its line.
#[derive(Default)]
struct Findings(Vec<(usize, String)>);

impl Findings {
    fn add(&mut self, line: usize, reason: impl Into<String>) {
        self.0.push((line, reason.into()));
    }

    /// By line, and within a line in the order found, without duplicates.
    fn sorted(mut self) -> Vec<(usize, String)> {
        self.0.sort_by_key(|(line, _)| *line);
        let mut said: Vec<(usize, String)> = Vec::new();
        for finding in self.0 {
            if !said.contains(&finding) {
                said.push(finding);
            }
        }
        said
    }
}

/// Names for people to read: `a`, `b`.
fn quoted<T: AsRef<str>>(names: &[T]) -> String {
    let names: Vec<String> = names
        .iter()
        .map(|name| format!("`{}`", name.as_ref()))
        .collect();
    names.join(", ")
}
