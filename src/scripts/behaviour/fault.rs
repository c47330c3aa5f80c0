//! How a case ends when it does not go through, and what Redis's words tell of it.

use std::fmt;

use redis::RedisError;

use super::scratch::ScratchError;
use crate::scripts::Script;
use crate::store::CallError;

/// A case that did not go through to its end.
pub(super) enum Ended {
    /// A rule of the operator's refused, with this text. That is its right.
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

/// What a script did that the server cannot live with.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    /// For a wrong result only the one suspected: what one script writes, another reads.
    pub(super) script: Script,
    pub(super) cause: Cause,
    /// A sentence without its full stop.
    pub(super) reason: String,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Cause {
    /// It raised an error, or returned what could not be read; with the line, where Redis told it.
    Failed { line: Option<usize> },
    /// It ran on and on, and was stopped at this line, if it could be.
    Endless { line: Option<usize> },
    /// It took too long with some text; with the line of what the text was made of.
    Slow { line: Option<usize> },
    /// It did something else than the server relies on.
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
                "it goes on without an end: it was stopped, for Redis does nothing else meanwhile"
                    .to_owned(),
        }
    }

    /// `took` says how long, `text` with what.
    pub(super) fn slow(
        script: Script,
        line: Option<usize>,
        took: &str,
        text: &dyn fmt::Display,
    ) -> Self {
        let reason = format!(
            "it takes {took} with {text}, and Redis does nothing else meanwhile. A pattern is tried from every place, \
             and each `*`, `+` and `-` in it anew: begin it with ^, look for words with find(word, 1, true) or go \
             through them with gmatch('%w+'), or look at the beginning only"
        );
        let cause = Cause::Slow { line };
        Self {
            script,
            cause,
            reason,
        }
    }

    /// Its line, where Redis told it.
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

    /// A text that Redis does not even load.
    pub(super) fn not_loaded(script: Script, error: &RedisError) -> Self {
        let text = text(error);
        let reason = format!("Redis does not load it: {}", plain(&text));
        Self::failed(script, line(&text).or(Some(1)), reason)
    }

    /// The fault behind a failed call; `None` where it was not the script's.
    pub(super) fn of_call(script: Script, error: &CallError) -> Option<Self> {
        match error {
            CallError::TimedOut => Some(Self::endless(script, None)),
            CallError::Unreadable(_) => {
                let reason = format!("{error}; its header says what it has to return");
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
                    format!("it answered an error that the server does not expect of it: {text}");
                Self::failed(script, None, reason)
            }
        }
    }
}

/// Code and sentence, as the script or Redis gave them; Redis's code for anything, `ERR`, is left out.
fn text(error: &RedisError) -> String {
    let detail = error.detail().unwrap_or_default();
    match error.code() {
        Some("ERR") => detail.to_owned(),
        Some(code) => format!("{code} {detail}"),
        None => error.to_string(),
    }
}

/// The last line that Redis names: it ends its text with the one that was running.
fn line(text: &str) -> Option<usize> {
    let (_, rest) = text.rsplit_once("user_script:")?;
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// The text without places, which are told apart, and without the script's hash.
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
