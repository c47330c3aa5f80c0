//! How long calls of scripts take, and which fail.

use std::sync::Arc;
use std::time::Duration;

use ::metrics::{Counter, Histogram};

use super::{counter, histogram, label};
use crate::error::ErrorCode;
use crate::scripts::Script;

/// Failures that are no refusals by a rule.
const FAILURES: [ErrorCode; 3] = [
    ErrorCode::Unavailable,
    ErrorCode::Timeout,
    ErrorCode::Internal,
];

#[derive(Debug, Clone)]
pub struct ScriptMetrics(Arc<[PerScript; Script::ALL.len()]>);

#[derive(Debug)]
struct PerScript {
    seconds: Histogram,
    failures: [Counter; FAILURES.len()],
}

impl ScriptMetrics {
    pub(super) fn register() -> Self {
        let one = |script: Script| {
            let name = || label("script", script.name());
            PerScript {
                seconds: histogram(
                    "chat_script_seconds",
                    "Time from the call of a script to its reply or failure, including waiting and repeats.",
                    &[name()],
                ),
                failures: FAILURES.map(|code| {
                    counter(
                        "chat_script_failures_total",
                        "Round trips with calls of a script that failed for another reason than a rule, by the error code.",
                        &[name(), label("code", code)],
                    )
                }),
            }
        };
        Self(Arc::new(Script::ALL.map(one)))
    }

    pub fn took(&self, script: Script, time: Duration) {
        self.0[script as usize].seconds.record(time.as_secs_f64());
    }

    pub fn failed(&self, script: Script, code: ErrorCode) {
        if let Some(index) = FAILURES.iter().position(|failure| *failure == code) {
            self.0[script as usize].failures[index].increment(1);
        }
    }
}

/// Counts nothing.
impl Default for ScriptMetrics {
    fn default() -> Self {
        Self::register()
    }
}
