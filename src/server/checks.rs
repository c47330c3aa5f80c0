//! Regular questions to Redis: the answers seldom change, and no call waits for them.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::config::Durability;
use crate::scripts::ScriptSet;
use crate::scripts::set::InEffect;
use crate::store::connection::Current;
use crate::store::keys::Keys;
use crate::store::rights::{Needed, Right};

/// How often the question is asked while all is well.
const EVERY: Duration = Duration::from_secs(30);
/// How often it is asked while something is missing or not known yet.
const AGAIN: Duration = Duration::from_secs(2);
/// How long Redis may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Asks on each new connection, for each new set of scripts, and at regular intervals.
pub(super) struct Checks {
    pub(super) commands: Current,
    pub(super) scripts: InEffect,
    pub(super) keys: Keys,
    pub(super) durability: Durability,
    pub(super) missing: watch::Sender<Option<Arc<[Right]>>>,
}

impl Checks {
    pub(super) async fn run(mut self, cancel: CancellationToken) {
        let mut needed = None;
        loop {
            let set = self.scripts.borrow_and_update().clone();
            let needed = match &needed {
                Some((of, needed)) if Arc::ptr_eq(of, &set) => needed,
                _ => match self.needed(set.clone()).await {
                    Some(read) => &needed.insert((set, read)).1,
                    None => return,
                },
            };
            let up = self.commands.borrow_and_update().clone();
            let pause = match up {
                Some(up) => self.ask(up.redis, needed).await,
                None => EVERY,
            };
            tokio::select! {
                () = cancel.cancelled() => return,
                changed = self.commands.changed() => if changed.is_err() { return },
                changed = self.scripts.changed() => if changed.is_err() { return },
                () = sleep(pause) => {}
            }
        }
    }

    /// Parses the scripts, which takes a thread some time.
    async fn needed(&self, set: Arc<ScriptSet>) -> Option<Needed> {
        let (keys, durability) = (self.keys.clone(), self.durability);
        let read = tokio::task::spawn_blocking(move || Needed::of(&set, &keys, durability));
        let read = read.await;
        read.inspect_err(|panic| log::error!("cannot tell which rights the scripts need: {panic}"))
            .ok()
    }

    /// Asks which rights are missing. Returns when to ask again.
    async fn ask(&self, mut redis: MultiplexedConnection, needed: &Needed) -> Duration {
        let missing = match timeout(ANSWER_WITHIN, needed.missing(&mut redis)).await {
            Ok(Ok(missing)) => missing,
            Ok(Err(error)) if error.code() == Some("ERR") => {
                log::debug!("this Redis does not say which rights its user has: {error}");
                Vec::new()
            }
            // The last result remains valid.
            Ok(Err(_)) | Err(_) => return AGAIN,
        };
        let pause = if missing.is_empty() { EVERY } else { AGAIN };
        self.missing.send_if_modified(|known| {
            let changed = known.as_deref() != Some(&missing);
            if changed {
                log_change(known.as_deref(), &missing);
                *known = Some(missing.into());
            }
            changed
        });
        pause
    }
}

fn log_change(known: Option<&[Right]>, missing: &[Right]) {
    if !missing.is_empty() {
        let rights: Vec<String> = missing.iter().map(Right::to_string).collect();
        let rights = rights.join("; ");
        log::error!("Redis does not allow its user what the chat needs: {rights}");
    } else if known.is_some() {
        log::info!("Redis allows its user all that the chat needs");
    }
}
