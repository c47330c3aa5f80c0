//! What is wrong with a script, and where.

use std::fmt;

use super::registry::Script;
use super::set::{ScriptText, Source};

/// One thing that is wrong with a script. It is displayed as `file:line: reason`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// The file's path; for a text that is not a file, its name and origin.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// What is wrong, as a sentence without its full stop.
    pub reason: String,
}

impl Problem {
    pub fn new(script: Script, text: &ScriptText, line: usize, reason: impl Into<String>) -> Self {
        let file = match &text.source {
            Source::File(path) => path.display().to_string(),
            source => format!("{}.lua ({source})", script.name()),
        };
        Self {
            file,
            line,
            reason: reason.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.reason)
    }
}

/// The problems as text, one per line.
pub fn lines(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
    lines.join("\n")
}
