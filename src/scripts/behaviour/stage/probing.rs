//! Texts that the rules are tried with: what is published for each, and how long it takes.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::calling::{Watched, is_refusal};
use super::{Room, Stage};
use crate::error::{ChatError, ErrorCode};
use crate::hub::published::Change;
use crate::protocol::event::Message;
use crate::protocol::ids::MessageId;
use crate::scripts::Script;
use crate::scripts::behaviour::compare::must;
use crate::scripts::behaviour::fault::{Cause, Ended, Fault};
use crate::scripts::behaviour::texts::{Probe, What};
use crate::store::Store;

/// A call that takes longer than this every time is too slow: Redis does nothing else meanwhile.
const SLOW: Duration = Duration::from_millis(500);
/// How many times a call that seems slow is made: this machine may be busy with something else.
const TRIES: usize = 3;

impl Stage {
    /// Sends a text as a member and returns what was published; `None` if a rule refused it.
    pub(in crate::scripts::behaviour) async fn probe(
        &mut self,
        room: &mut Room,
        sender: usize,
        probe: &Probe,
        client_id: Option<&str>,
    ) -> Result<Option<Message>, Ended> {
        let script = Script::SendMessage;
        let (id, user) = (room.id, room.members[sender].clone());
        let (user, text) = (&user, &probe.text);
        let send = |store: Arc<Store>| {
            async move { store.send_message(id, user, text, client_id).await }.boxed()
        };
        let sent = self.patiently(script, probe, send).await?;
        let events = self.events(room, script).await?;
        let sent = match sent {
            Ok(sent) => sent.id,
            Err(refused) if refused.code == ErrorCode::Rejected => {
                let reason = format!("it answered REJECTED to {probe}, but published something");
                must(events.is_empty(), script, reason)?;
                return Ok(None);
            }
            Err(refused) => return Err(refused_wrongly(script, probe, &refused)),
        };
        let told = events.into_iter().find_map(|event| match event.change {
            Change::Message(message) if message.id == sent => Some(message),
            _ => None,
        });
        let reason = || format!("{probe} was stored, but not published");
        told.map(Some)
            .ok_or_else(|| Fault::wrong(script, reason()).into())
    }

    /// Sends a stored message again with another text: the reply must be the first one, whatever the rules say.
    pub(in crate::scripts::behaviour) async fn repeat(
        &mut self,
        room: &Room,
        probe: &Probe,
        (first, client_id): (MessageId, &str),
    ) -> Result<(), Ended> {
        let script = Script::SendMessage;
        let (id, user) = (room.id, room.members[0].clone());
        let (user, text) = (&user, &probe.text);
        let send = |store: Arc<Store>| {
            async move { store.send_message(id, user, text, Some(client_id)).await }.boxed()
        };
        match self.patiently(script, probe, send).await? {
            Ok(again) => must(
                again.id == first && again.duplicate,
                script,
                "a message sent again with its clientMessageId does not get the first reply",
            ),
            Err(refused) => {
                let code = refused.code;
                let reason = format!(
                    "a stored message is sent again with its clientMessageId and gets {code}: rules belong \
                     after the answer to a repeat"
                );
                Err(Fault::wrong(script, reason).into())
            }
        }
    }

    /// A reader's call, which must not be refused.
    pub(in crate::scripts::behaviour) async fn reading<'c, T>(
        &mut self,
        script: Script,
        probe: &Probe,
        call: impl Fn(Arc<Store>) -> BoxFuture<'c, Result<T, ChatError>> + Send,
    ) -> Result<Option<T>, Ended> {
        match self.patiently(script, probe, call).await? {
            Ok(read) => Ok(Some(read)),
            Err(refused) if refused.code == ErrorCode::Rejected && script.may_reject() => Ok(None),
            Err(refused) => Err(refused_wrongly(script, probe, &refused)),
        }
    }

    /// Makes a call, and returns its result or its refusal. A slow call is repeated, and must not be slow every time.
    async fn patiently<'c, T>(
        &mut self,
        script: Script,
        probe: &Probe,
        call: impl Fn(Arc<Store>) -> BoxFuture<'c, Result<T, ChatError>> + Send,
    ) -> Result<Result<T, ChatError>, Ended> {
        let mut shortest = Duration::MAX;
        for _ in 0..TRIES {
            let store = self.store.clone();
            let Watched {
                outcome,
                stopped,
                took,
            } = self.watched(call(store)).await;
            match outcome {
                Err(failed) if !is_refusal(failed.code) && failed.code != ErrorCode::Rejected => {
                    return Err(self.failed(script, probe, stopped));
                }
                outcome if took < SLOW => {
                    self.worst.note(script, took.min(shortest));
                    return Ok(outcome);
                }
                _ => shortest = shortest.min(took),
            }
        }
        let took = format!("{:.1} s", shortest.as_secs_f64());
        Err(Fault::slow(script, line_of(script, probe), &took, probe).into())
    }

    /// Blames a long text for a call that did not end.
    fn failed(&self, script: Script, probe: &Probe, stopped: bool) -> Ended {
        let failure = self.failure(script, stopped);
        let endless = matches!(
            &failure,
            Ended::Broken(Fault {
                cause: Cause::Endless { line: None },
                ..
            })
        );
        match probe.what {
            What::Long { .. } | What::Hard { .. } if endless => {
                let took = "more than 2 s, where SCRIPT KILL does not help,";
                Fault::slow(script, line_of(script, probe), took, probe).into()
            }
            _ => failure,
        }
    }
}

/// The line on which the script has what the text was made from.
fn line_of(script: Script, probe: &Probe) -> Option<usize> {
    match probe.what {
        What::Hard {
            script: of, line, ..
        } if of == script => Some(line),
        _ => None,
    }
}

fn refused_wrongly(script: Script, probe: &Probe, refused: &ChatError) -> Ended {
    let reason = format!("{probe} gets {} {}", refused.code, refused.message);
    Fault::wrong(script, reason).into()
}
