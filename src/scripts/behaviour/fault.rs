//! How a case that did not complete ended, and what Redis's error text says about it.

use std::fmt;

use redis::RedisError;

use super::scratch::ScratchError;
use crate::scripts::Script;
use crate::store::CallError;

/// A case that did not complete.
pub(super) enum Ended {
    /// An operator's rule refused, with this text, as it may.
    Rejected(String),
    Broken(Fault),
    /// The trial itself failed.
    Scratch(ScratchError),
}

impl<E: Into<ScratchError>> From<E> for Ended {
    fn from(error: E) -> Self {
        Self::Scratch(error.into())
    }
}

impl From<Fault> for Ended {
    fn from(fault: Fault) -> Self {
        Self::Broken(fault)
    }
}

/// Something a script did that the server cannot work with.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    /// For a wrong result this is only the suspect: one script reads what another writes.
    pub(super) script: Script,
    pub(super) cause: Cause,
    /// A sentence without its full stop.
    pub(super) reason: String,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Cause {
    /// It raised an error or returned something unreadable; with the line, if Redis named it.
    Failed { line: Option<usize> },
    /// It did not end, and was stopped at this line, if it could be stopped.
    Endless { line: Option<usize> },
    /// It took too long with some text; with the line of what the text was made from.
    Slow { line: Option<usize> },
    /// It did something other than what the server relies on.
    Wrong,
}

impl Fault {
    pub(super) fn wrong(script: Script, reason: impl Into<String>) -> Self {
        Self {
            script,
            cause: Cause::Wrong,
            reason: reason.into(),
        }
    }

    pub(super) fn endless(script: Script, line: Option<usize>) -> Self {
        Self {
            script,
            cause: Cause::Endless { line },
            reason:
                "it runs without end: it was stopped, because Redis does nothing else meanwhile"
                    .to_owned(),
        }
    }

    /// `took` is the duration, `text` describes the text.
    pub(super) fn slow(
        script: Script,
        line: Option<usize>,
        took: &str,
        text: &dyn fmt::Display,
    ) -> Self {
        let reason = format!(
            "it takes {took} with {text}, and Redis does nothing else meanwhile. A pattern is tried from every place, \
             and there each `*`, `+` and `-` again: begin it with ^, search for words with find(word, 1, true), \
             iterate over them with gmatch('%w+'), or search only the beginning"
        );
        let cause = Cause::Slow { line };
        Self {
            script,
            cause,
            reason,
        }
    }

    /// Its line, if Redis named it.
    pub(super) fn line(&self) -> Option<usize> {
        match self.cause {
            Cause::Failed { line } | Cause::Endless { line } | Cause::Slow { line } => line,
            Cause::Wrong => None,
        }
    }

    fn failed(script: Script, line: Option<usize>, reason: String) -> Self {
        Self {
            script,
            cause: Cause::Failed { line },
            reason,
        }
    }

    /// A script that Redis cannot load.
    pub(super) fn not_loaded(script: Script, error: &RedisError) -> Self {
        let text = text(error);
        let reason = format!("Redis does not load it: {}", plain(&text));
        Self::failed(script, line(&text).or(Some(1)), reason)
    }

    /// The fault behind a failed call; `None` if the script did not cause it.
    pub(super) fn of_call(script: Script, error: &CallError) -> Option<Self> {
        match error {
            CallError::TimedOut => Some(Self::endless(script, None)),
            CallError::Unreadable(_) => {
                let reason = format!("{error}; its header says what it must return");
                Some(Self::failed(script, None, reason))
            }
            CallError::Redis(error) if error.code().is_some() => Some(Self::raised(script, error)),
            CallError::Redis(_)
            | CallError::Down
            | CallError::Crowded
            | CallError::Unconfirmed
            | CallError::NoMembers => None,
        }
    }

    fn raised(script: Script, error: &RedisError) -> Self {
        let text = text(error);
        match line(&text) {
            line @ Some(_) => Self::failed(script, line, format!("it fails: {}", plain(&text))),
            None => {
                let reason =
                    format!("it returned an error that the server does not expect of it: {text}");
                Self::failed(script, None, reason)
            }
        }
    }
}

/// Code and sentence as the script or Redis gave them, without Redis's general code `ERR`.
fn text(error: &RedisError) -> String {
    let detail = error.detail().unwrap_or_default();
    match error.code() {
        Some("ERR") => detail.to_owned(),
        Some(code) => format!("{code} {detail}"),
        None => error.to_string(),
    }
}

/// The last line that Redis names: its text ends with the line that was running.
fn line(text: &str) -> Option<usize> {
    let (_, rest) = text.rsplit_once("user_script:")?;
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// The text without line references, which are reported separately, and without the script's hash.
fn plain(text: &str) -> String {
    let text = text.split(" script: ").next().unwrap_or(text);
    match text.rsplit_once("user_script:") {
        Some((_, rest)) => rest
            .trim_start_matches(|c: char| c.is_ascii_digit())
            .trim_start_matches(": ")
            .to_owned(),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_from_what_redis_says() {
        let said =
            "user_script:57: attempt to index a nil value script: 965cfba3, on @user_script:57.";
        assert_eq!(line(said), Some(57));
        assert_eq!(plain(said), "attempt to index a nil value");
        let said = "Wrong number of args calling Redis command from script script: bdff, on @user_script:2.";
        assert_eq!(line(said), Some(2));
        assert_eq!(
            plain(said),
            "Wrong number of args calling Redis command from script"
        );
        assert_eq!(line("REJECTED This chat is closed."), None);
    }
}
