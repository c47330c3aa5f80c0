//! Compares results with what the server relies on, and describes each difference.

use std::fmt::Display;

use super::fault::{Ended, Fault};
use crate::protocol::event::Message;
use crate::protocol::ids::MessageId;
use crate::room::Position;
use crate::scripts::Script;

/// `reason` describes the fault if the condition is false.
pub(super) fn must(holds: bool, script: Script, reason: impl Into<String>) -> Result<(), Ended> {
    if holds {
        Ok(())
    } else {
        Err(Fault::wrong(script, reason).into())
    }
}

/// `what` names the value that is compared.
pub(super) fn same<T: PartialEq + Display + ?Sized>(
    script: Script,
    what: &str,
    got: &T,
    want: &T,
) -> Result<(), Ended> {
    must(got == want, script, format!("{what} is {got}, not {want}"))
}

pub(super) fn same_text(script: Script, what: &str, got: &str, want: &str) -> Result<(), Ended> {
    must(
        got == want,
        script,
        format!("{what} is \"{got}\", not \"{want}\""),
    )
}

/// `what` says whose position it is.
pub(super) fn same_position(
    script: Script,
    what: &str,
    got: &Position,
    want: &Position,
) -> Result<(), Ended> {
    same(script, &format!("the rev {what}"), &got.rev, &want.rev)?;
    same(script, &format!("the seq {what}"), &got.seq, &want.seq)?;
    let (last_id, epoch) = (format!("the last id {what}"), format!("the epoch {what}"));
    same(script, &last_id, &got.last_id, &want.last_id)?;
    same(script, &epoch, &got.epoch, &want.epoch)
}

/// Checks that both have the same messages in the same order.
pub(super) fn same_messages(
    script: Script,
    what: &str,
    got: &[MessageId],
    want: &[MessageId],
) -> Result<(), Ended> {
    let list = |ids: &[MessageId]| {
        let ids: Vec<String> = ids.iter().map(MessageId::to_string).collect();
        ids.join(", ")
    };
    must(
        got == want,
        script,
        format!(
            "{what}: the messages are [{}], not [{}]",
            list(got),
            list(want)
        ),
    )
}

/// How many characters of a difference between texts are shown, at most.
const SHOWN: usize = 40;

/// Checks that a message as a script reads it is the one published; `right_then` if nothing happened in between.
pub(super) fn same_message(
    script: Script,
    got: &Message,
    told: &Message,
    right_then: bool,
) -> Result<(), Ended> {
    same_content(script, &got.content, &told.content)?;
    same_text(script, "the sender", &got.sender_id, &told.sender_id)?;
    same_text(script, "the type", &got.kind, &told.kind)?;
    let client_id = |message: &Message| message.client_message_id.clone().unwrap_or_default();
    let what = "the clientMessageId";
    same_text(script, what, &client_id(got), &client_id(told))?;
    if !right_then {
        return Ok(());
    }
    let what = "the number of users who have read it";
    same(script, what, &got.read_count, &told.read_count)?;
    let sorted = |message: &Message| {
        let mut read_by = message.read_by.clone();
        read_by.sort();
        read_by.join(", ")
    };
    same_text(script, "the list of readers", &sorted(got), &sorted(told))
}

/// Checks that a message in a list is the one published, or its beginning.
pub(super) fn same_preview(
    script: Script,
    got: &Message,
    told: &Message,
    right_then: bool,
) -> Result<(), Ended> {
    const PREVIEW_BYTES: usize = 512;
    let told_content = match got.truncated {
        true => told.content.get(..got.content.len()).unwrap_or_default(),
        false => &told.content,
    };
    same_content(script, &got.content, told_content)?;
    let json = serde_json::to_string(&got.content).unwrap_or_default();
    must(
        json.len() <= PREVIEW_BYTES + 2,
        script,
        format!(
            "the last message in the list has {} bytes as JSON",
            json.len()
        ),
    )?;
    let whole = Message {
        content: told.content.clone(),
        ..got.clone()
    };
    same_message(script, &whole, told, right_then)
}

fn same_content(script: Script, got: &str, told: &str) -> Result<(), Ended> {
    let pairs = got.char_indices().zip(told.chars());
    let differs = pairs.into_iter().find(|((_, one), other)| one != other);
    let at = match differs {
        Some(((at, _), _)) => at,
        None if got.len() == told.len() => return Ok(()),
        None => got.len().min(told.len()),
    };
    let from = |text: &str| -> String {
        text.get(at..)
            .unwrap_or_default()
            .chars()
            .take(SHOWN)
            .collect()
    };
    let reason = format!(
        "from byte {at} on, a text is read as {:?} but was published as {:?}: a rule that changes a text must do so \
         before it is stored and published",
        from(got),
        from(told)
    );
    Err(Fault::wrong(script, reason).into())
}
