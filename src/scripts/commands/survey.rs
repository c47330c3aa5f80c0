//! Asks all running servers and collects their answers.

use std::time::Duration;

use redis::{PushInfo, PushKind, Value};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::desk::Desk;
use super::{CommandError, say};
use crate::room::Topic;
use crate::scripts::applied;
use crate::scripts::wire::{Announcement, Answer, Question, ServerFacts, Want};

/// How long a server may take to report what it runs.
const REPORT_WITHIN: Duration = Duration::from_secs(5);
/// How long a server may take to check a set, load it and swap.
const SETTLE_WITHIN: Duration = Duration::from_secs(30);
/// How many answers may wait to be read.
const ANSWERS: usize = 4096;

/// What the servers answered.
pub(super) struct Survey {
    /// The number of servers that received the question.
    pub(super) asked: usize,
    /// Sorted by the servers' names.
    pub(super) answers: Vec<Answer>,
}

impl Survey {
    /// Prints which servers did not answer, if any did not.
    pub(super) async fn tell_missing(&self, desk: &Desk) -> Result<(), CommandError> {
        let missing = self.asked.saturating_sub(self.answers.len());
        if missing == 0 {
            return Ok(());
        }
        let known = applied::history(&mut desk.connect().await?, &desk.keys).await?;
        let is_silent = |known: &&ServerFacts| {
            let mut answers = self.answers.iter().map(|answer| &answer.server);
            !answers.any(|it| (&it.host, &it.address) == (&known.host, &known.address))
        };
        let silent: Vec<String> = known
            .servers
            .iter()
            .filter(is_silent)
            .map(ToString::to_string)
            .collect();
        say(match (missing, silent.len()) {
            (1, 0) => "1 server did not answer in time; its log says why".to_owned(),
            (_, 0) => format!("{missing} servers did not answer in time; their logs say why"),
            (missing, named) if named <= missing => {
                format!(
                    "did not answer in time: {}; its log says why",
                    silent.join(", ")
                )
            }
            (missing, _) => format!(
                "{missing} of these did not answer in time, or no longer run: {}",
                silent.join(", ")
            ),
        });
        Ok(())
    }
}

/// Asks, and waits until every server that received the question has answered or its time is up.
pub(super) async fn ask(
    desk: &Desk,
    want: Want,
    mut on_answer: impl FnMut(&Answer),
) -> Result<Survey, CommandError> {
    let (sender, mut heard) = mpsc::channel(ANSWERS);
    let on_push = move |push| {
        if let Some(answer) = answer(push) {
            let _ = sender.try_send(answer);
        }
    };
    let mut connection = desk.listen(on_push).await?;
    let nonce = uuid::Uuid::new_v4().as_simple().to_string();
    let reply_to = desk.keys.answers(&nonce);
    let mut subscribe = redis::cmd("SSUBSCRIBE");
    subscribe.arg(&reply_to).exec_async(&mut connection).await?;
    let question = Announcement::Scripts(Question {
        want,
        reply_to,
        from: None,
    });
    let question = serde_json::to_string(&question).unwrap_or_default();
    let mut publish = redis::cmd("SPUBLISH");
    publish
        .arg(desk.keys.channel(&Topic::Control))
        .arg(question);
    let asked: usize = publish.query_async(&mut connection).await?;

    let within = match want {
        Want::Settle => SETTLE_WITHIN,
        Want::Report => REPORT_WITHIN,
    };
    let deadline = Instant::now() + within;
    let mut answers = Vec::new();
    while answers.len() < asked {
        match tokio::time::timeout_at(deadline, heard.recv()).await {
            Ok(Some(answer)) => {
                on_answer(&answer);
                answers.push(answer);
            }
            Ok(None) | Err(_) => break,
        }
    }
    answers.sort_by_key(|answer| answer.server.to_string());
    Ok(Survey { asked, answers })
}

fn answer(push: PushInfo) -> Option<Answer> {
    if push.kind != PushKind::SMessage {
        return None;
    }
    match push.data.into_iter().nth(1)? {
        Value::BulkString(json) => serde_json::from_slice(&json).ok(),
        _ => None,
    }
}
