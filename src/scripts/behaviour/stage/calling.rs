//! Calls on a stage: what is expected of them, and how long they may take.

use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{CALL_MAX, Stage};
use crate::error::{ChatError, ErrorCode};
use crate::scripts::Script;
use crate::scripts::behaviour::fault::{Ended, Fault};
use crate::scripts::behaviour::scratch::ScratchError;

/// The longest call of each script, as the caller sees it.
#[derive(Debug, Clone, Default)]
pub(in crate::scripts::behaviour) struct Worst([Duration; Script::ALL.len()]);

impl Worst {
    pub(super) fn note(&mut self, script: Script, took: Duration) {
        let worst = &mut self.0[script as usize];
        *worst = took.max(*worst);
    }

    /// The longest call of each script that was called.
    pub(in crate::scripts::behaviour) fn each(&self) -> Vec<(Script, Duration)> {
        let all = Script::ALL.into_iter().zip(self.0);
        all.filter(|(_, worst)| !worst.is_zero()).collect()
    }
}

/// How a call went.
pub(super) struct Watched<T> {
    pub(super) outcome: T,
    /// Whether it had to be stopped.
    pub(super) stopped: bool,
    pub(super) took: Duration,
}

impl Stage {
    /// A call that has to succeed, unless an operator's rule refuses it.
    pub(in crate::scripts::behaviour) async fn call<T>(
        &mut self,
        script: Script,
        call: impl Future<Output = Result<T, ChatError>>,
    ) -> Result<T, Ended> {
        self.attempt(script, call).await?.map_err(|refused| {
            let reason = format!(
                "it refused a call that has to succeed, with {}",
                words(&refused)
            );
            Fault::wrong(script, reason).into()
        })
    }

    /// A call that has to be refused with this code and must change nothing.
    pub(in crate::scripts::behaviour) async fn refused<T>(
        &mut self,
        script: Script,
        code: ErrorCode,
        who: &str,
        call: impl Future<Output = Result<T, ChatError>>,
    ) -> Result<(), Ended> {
        let before = self.snapshot().await?;
        let answer = match self.attempt(script, call).await? {
            Err(refused) if refused.code == code => {
                let what = format!("it refused {who}, but");
                return self.unchanged(&before, script, &what).await;
            }
            Err(refused) => words(&refused),
            Ok(_) => "a result".to_owned(),
        };
        let reason = format!("{who} gets {answer}, not {}", code);
        Err(Fault::wrong(script, reason).into())
    }

    /// Makes a call, and returns its result or the script's refusal. Any other failure ends the case, as does a rule's
    /// refusal.
    async fn attempt<T>(
        &mut self,
        script: Script,
        call: impl Future<Output = Result<T, ChatError>>,
    ) -> Result<Result<T, ChatError>, Ended> {
        let before = self.snapshot().await?;
        let Watched {
            outcome,
            stopped,
            took,
        } = self.watched(call).await;
        self.worst.note(script, took);
        match outcome {
            Err(refused) if refused.code == ErrorCode::Rejected && script.may_reject() => {
                self.unchanged(&before, script, "it answered REJECTED, but")
                    .await?;
                Err(Ended::Rejected(refused.message))
            }
            Err(failed) if !is_refusal(failed.code) => Err(self.failure(script, stopped)),
            outcome => Ok(outcome),
        }
    }

    /// Stops the script if it does not end by itself.
    pub(super) async fn watched<T>(&mut self, call: impl Future<Output = T>) -> Watched<T> {
        let began = Instant::now();
        let mut call = std::pin::pin!(call);
        // Set before KILL is sent: the call may end before the reply to KILL is read.
        let stopped = AtomicBool::new(false);
        let stop = async {
            sleep(CALL_MAX).await;
            stopped.store(true, Ordering::Relaxed);
            let mut kill = redis::cmd("SCRIPT");
            // Redis refuses this once the script has written: the call then runs into its own time limit.
            kill.arg("KILL").exec_async(&mut self.admin).await
        };
        let outcome = tokio::select! {
            biased;
            outcome = &mut call => outcome,
            _ = stop => call.await,
        };
        Watched {
            outcome,
            stopped: stopped.load(Ordering::Relaxed),
            took: began.elapsed(),
        }
    }

    /// Why a call failed, in more detail than the client gets.
    pub(super) fn failure(&self, script: Script, stopped: bool) -> Ended {
        let noted = self
            .last_fault
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        match noted {
            Some(fault) if stopped => Fault::endless(script, fault.line()).into(),
            Some(fault) => fault.into(),
            None => Ended::Scratch(ScratchError::Lost),
        }
    }
}

/// A refusal as the scripts write it.
fn words(refused: &ChatError) -> String {
    format!("{} {}", refused.code, refused.message)
}

/// Whether the headers list this code among their errors.
pub(super) fn is_refusal(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::NotMember | ErrorCode::MessageNotFound | ErrorCode::HistoryReset
    )
}
