//! What was got is held against what is relied on; a difference is told in words.

use std::fmt::Display;

use super::fault::{Ended, Fault};
use crate::protocol::ids::MessageId;
use crate::room::Position;
use crate::scripts::Script;

/// `reason` says what is wrong where it does not hold.
pub(super) fn must(holds: bool, script: Script, reason: impl Into<String>) -> Result<(), Ended> {
    if holds {
        Ok(())
    } else {
        Err(Fault::wrong(script, reason).into())
    }
}

/// `what` says what was got.
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

/// The same messages in the same order.
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
