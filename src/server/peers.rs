//! Which servers of another version run on the same Redis: each server asks all others at regular intervals.
//!
//! Servers of every version answer the question that `chat-server scripts list` asks. When a server asks it, the
//! question itself carries that server's version.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use redis::RedisError;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::gateway::readiness::{OtherVersion, Others};
use crate::hub::interest::Interest;
use crate::room::Topic;
use crate::scripts::wire::{Announcement, Question, ServerFacts, Want};
use crate::store::connection::Current;
use crate::store::keys::Keys;

/// How often each server asks.
const EVERY: Duration = Duration::from_secs(60);
/// How long after a failed attempt it asks again.
const AGAIN: Duration = Duration::from_secs(2);
/// How long servers may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Servers that are remembered, at most.
const SERVERS_MAX: usize = 1024;

/// What is heard from a server.
#[derive(Debug)]
pub(super) enum Heard {
    Answer(ServerFacts),
    /// The server asks, so it is running.
    Question(ServerFacts),
}

/// What the task that asks needs.
pub(super) struct Peers {
    pub(super) own: ServerFacts,
    /// The nonce in the name of the channel for the answers.
    pub(super) nonce: String,
    pub(super) keys: Keys,
    pub(super) interest: Arc<Interest>,
    pub(super) commands: Current,
    pub(super) inbox: mpsc::Receiver<Heard>,
    pub(super) others: watch::Sender<Others>,
}

/// A queue for what is heard from servers.
pub(super) fn inbox() -> (mpsc::Sender<Heard>, mpsc::Receiver<Heard>) {
    mpsc::channel(SERVERS_MAX)
}

impl Peers {
    pub(super) async fn run(mut self, cancel: CancellationToken) {
        self.interest.want(Topic::Answers(self.nonce.clone()));
        let rounds = async {
            loop {
                self.round().await;
            }
        };
        cancel.run_until_cancelled(rounds).await;
    }

    /// Asks once, reports the answers, and keeps listening until it is time to ask again.
    async fn round(&mut self) {
        let Some(asked) = self.ask().await else {
            return sleep(AGAIN).await;
        };
        let (mut seen, mut answers) = (HashSet::new(), 0);
        let now = Instant::now();
        while answers < asked
            && let Some(heard) = self.next(now + ANSWER_WITHIN).await
        {
            answers += usize::from(matches!(heard, Heard::Answer(_)));
            self.remember(&mut seen, heard);
        }
        self.tell(&seen, asked.saturating_sub(answers));
        while let Some(heard) = self.next(now + EVERY).await {
            answers += usize::from(matches!(heard, Heard::Answer(_)));
            self.remember(&mut seen, heard);
            self.tell(&seen, asked.saturating_sub(answers));
        }
    }

    /// How many servers received the question, this one included.
    async fn ask(&self) -> Option<usize> {
        let answers = Topic::Answers(self.nonce.clone());
        for topic in [&answers, &Topic::Control] {
            self.interest.heard(topic).await.ok()?;
        }
        let connection = self.commands.borrow().clone()?;
        let question = Announcement::Scripts(Question {
            want: Want::Report,
            reply_to: self.keys.channel(&answers),
            from: Some(self.own.clone()),
        });
        let question = serde_json::to_string(&question).ok()?;
        let mut publish = redis::cmd("SPUBLISH");
        publish
            .arg(self.keys.channel(&Topic::Control))
            .arg(question);
        let mut redis = connection.redis;
        let asked = publish.query_async(&mut redis);
        let asked: Result<usize, RedisError> = timeout_at(Instant::now() + ANSWER_WITHIN, asked)
            .await
            .ok()?;
        asked
            .inspect_err(|error| log::debug!("other servers cannot be asked: {error}"))
            .ok()
    }

    async fn next(&mut self, deadline: Instant) -> Option<Heard> {
        timeout_at(deadline, self.inbox.recv()).await.ok().flatten()
    }

    fn remember(&self, seen: &mut HashSet<ServerFacts>, heard: Heard) {
        let (Heard::Answer(server) | Heard::Question(server)) = heard;
        let is_other = (&server.version, server.contract) != (&self.own.version, self.own.contract);
        if is_other && seen.len() < SERVERS_MAX {
            seen.insert(server);
        }
    }

    fn tell(&self, seen: &HashSet<ServerFacts>, silent: usize) {
        let mut counted: BTreeMap<(&str, u32), usize> = BTreeMap::new();
        for server in seen {
            *counted
                .entry((&server.version, server.contract))
                .or_default() += 1;
        }
        let versions = counted.into_iter();
        let versions = versions.map(|((version, contract), servers)| OtherVersion {
            version: version.to_owned(),
            contract,
            servers,
        });
        let others = Others {
            versions: versions.collect(),
            silent,
        };
        self.others.send_if_modified(|known| {
            if known.versions != others.versions {
                log_change(&others.versions);
            }
            let changed = *known != others;
            *known = others;
            changed
        });
    }
}

fn log_change(versions: &[OtherVersion]) {
    if versions.is_empty() {
        return log::info!("no server of another version runs any more");
    }
    let each = versions.iter().map(|other| {
        let OtherVersion {
            version,
            contract,
            servers,
        } = other;
        format!("{servers} of version {version} (contract {contract})")
    });
    let each: Vec<String> = each.collect();
    log::warn!(
        "servers of another version run on this Redis: {}; docs/operating.md, Upgrades, says which may run together",
        each.join(", ")
    );
}
