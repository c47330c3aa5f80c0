//! Asks all running servers and collects their answers.

use std::time::Duration;

use redis::{PushInfo, PushKind, Value};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::desk::Desk;
use super::{CommandError, say};
use crate::room::Topic;
use crate::scripts::wire::{Announcement, Answer, Question, Want};

/// How long a server may take to tell what it runs.
const REPORT_WITHIN: Duration = Duration::from_secs(5);
/// How long a server may take to check a set, load it and swap.
const SETTLE_WITHIN: Duration = Duration::from_secs(30);
/// Answers that may wait to be read.
const ANSWERS: usize = 4096;

/// What the servers answered.
pub(super) struct Survey {
    /// Servers that heard the question.
    pub(super) asked: usize,
    /// In the order of their names.
    pub(super) answers: Vec<Answer>,
}

impl Survey {
    /// Says how many did not answer, if any did not.
    pub(super) fn tell_missing(&self) {
        match self.asked.saturating_sub(self.answers.len()) {
            0 => {}
            1 => say("1 server did not answer in time; its log says why"),
            missing => say(format_args!(
                "{missing} servers did not answer in time; their logs say why"
            )),
        }
    }
}

/// Asks, and waits until every server that heard the question has answered, or has had time enough.
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
