//! Reading: entering, viewing, and read markers.

use std::time::Duration;

use tokio::time::sleep;

use super::super::compare::{must, same, same_position};
use super::super::stage::Stage;
use super::{Outcome, PAGE, newest};
use crate::error::ErrorCode;
use crate::hub::published::{Change, RoomEvent};
use crate::protocol::ids::{DeviceId, MessageId, UserId};
use crate::protocol::request::Cursor;
use crate::scripts::Script;

pub(super) async fn entering(stage: &mut Stage) -> Outcome {
    let script = Script::EnterChat;
    let mut room = stage.group(3).await?;
    stage.say(&mut room, 0, None).await?;
    let last = stage.say(&mut room, 1, None).await?;
    let (reader, before) = (room.members[2].clone(), room.at.clone());
    let store = stage.store.clone();
    let enter = store.enter_chat(room.id, &reader, DeviceId::random(), PAGE);
    let entered = stage.call(script, enter).await?;
    same_position(script, "of the page", &entered.page.position, &before)?;
    let newest = newest(&entered.page);
    same(
        script,
        "the newest message of the page",
        &newest,
        &before.last_id,
    )?;
    let events = stage.events(&mut room, script).await?;
    marker_told(script, &events, &reader, last.id.seq)?;
    same(
        script,
        "the rev after the marker moved",
        &entered.rev_after,
        &room.at.rev,
    )?;
    let entry = stage.entry(&room, &reader, script).await?.entry;
    same(
        script,
        "the unread count of the user who entered",
        &entry.unread_cnt,
        &0,
    )?;

    let enter = store.enter_chat(room.id, &reader, DeviceId::random(), PAGE);
    let again = stage.call(script, enter).await?;
    let told = stage.events(&mut room, script).await?.len();
    same(script, "the events when nothing is left to read", &told, &0)?;
    same(
        script,
        "the rev when nothing is left to read",
        &again.rev_after,
        &room.at.rev,
    )
}

/// Checks that exactly one event says that the user has read up to this number.
fn marker_told(script: Script, events: &[RoomEvent], user: &UserId, seq: u64) -> Outcome {
    let moved = events.iter().filter(|event| {
        matches!(&event.change, Change::Read { user: who, read_seq, .. } if who == user && *read_seq == seq)
    });
    let times = moved.count();
    same(
        script,
        "the number of times the marker's move is published",
        &times,
        &1,
    )
}

pub(super) async fn viewing(stage: &mut Stage) -> Outcome {
    let script = Script::SendMessage;
    let mut room = stage.group(3).await?;
    let (viewer, device) = (room.members[2].clone(), DeviceId::random());
    let store = stage.store.clone();
    let enter = store.enter_chat(room.id, &viewer, device, PAGE);
    stage.call(Script::EnterChat, enter).await?;
    stage.events(&mut room, Script::EnterChat).await?;
    let seen = stage.say(&mut room, 0, None).await?;
    must(
        seen.read_by.contains(&viewer.to_string()),
        script,
        "a user who views the room is not listed as having read a new message",
    )?;
    let entry = stage.entry(&room, &viewer, script).await?.entry;
    same(
        script,
        "the unread count of a user who views the room",
        &entry.unread_cnt,
        &0,
    )?;

    let leave = store.leave_chat(room.id, &viewer, device);
    stage.call(Script::LeaveChat, leave).await?;
    stage.events(&mut room, Script::LeaveChat).await?;
    let unseen = stage.say(&mut room, 1, None).await?;
    must(
        !unseen.read_by.contains(&viewer.to_string()),
        Script::LeaveChat,
        "a user who left is still listed as having read a new message",
    )?;
    let entry = stage.entry(&room, &viewer, script).await?.entry;
    must(
        entry.unread_cnt > 0,
        script,
        "a user who left has nothing unread after a new message",
    )
}

pub(super) async fn leases(stage: &mut Stage) -> Outcome {
    let mut room = stage.group(4).await?;
    let (renewed, forgotten) = (room.members[2].clone(), room.members[3].clone());
    let forgetful = stage.forgetful.clone();
    let device = DeviceId::random();
    for (user, device) in [(&renewed, device), (&forgotten, DeviceId::random())] {
        let enter = forgetful.enter_chat(room.id, user, device, PAGE);
        stage.call(Script::EnterChat, enter).await?;
    }
    // Both leases last 1 ms.
    sleep(Duration::from_millis(5)).await;
    let (store, viewers) = (stage.store.clone(), [(device, renewed.clone())]);
    let renew = store.renew_viewers(room.id, &viewers);
    stage.call(Script::RenewViewers, renew).await?;
    stage.events(&mut room, Script::EnterChat).await?;
    let said = stage.say(&mut room, 0, None).await?;
    must(
        said.read_by.contains(&renewed.to_string()),
        Script::RenewViewers,
        "a user whose lease was renewed does not view the room",
    )?;
    must(
        !said.read_by.contains(&forgotten.to_string()),
        Script::SendMessage,
        "a user whose lease has expired still counts as a viewer",
    )
}

pub(super) async fn marking(stage: &mut Stage) -> Outcome {
    let script = Script::MarkAsRead;
    let mut room = stage.group(3).await?;
    let first = stage.say(&mut room, 0, None).await?.id;
    let second = stage.say(&mut room, 1, None).await?.id;
    let reader = room.members[2].clone();
    for id in [first, second] {
        let store = stage.store.clone();
        let mark = store.mark_as_read(room.id, &reader, id);
        let marked = stage.call(script, mark).await?;
        same(script, "the marker returned", &marked.read_seq, &id.seq)?;
        let events = stage.events(&mut room, script).await?;
        marker_told(script, &events, &reader, id.seq)?;
        same(
            script,
            "the rev returned",
            &marked.position.rev,
            &room.at.rev,
        )?;
        let entry = stage.entry(&room, &reader, script).await?.entry;
        let left = room.at.seq - id.seq;
        same(
            script,
            "the unread count after marking",
            &entry.unread_cnt,
            &left,
        )?;
    }
    let before = stage.snapshot().await?;
    let store = stage.store.clone();
    let mark = store.mark_as_read(room.id, &reader, first);
    let marked = stage.call(script, mark).await?;
    let what = "the marker after an older message was marked";
    same(script, what, &marked.read_seq, &second.seq)?;
    stage
        .unchanged(&before, script, "marking an older message")
        .await
}

pub(super) async fn no_message(stage: &mut Stage) -> Outcome {
    let mut room = stage.group(3).await?;
    let said = stage.say(&mut room, 0, None).await?.id;
    let reader = room.members[1].clone();
    let none = MessageId {
        ms: said.ms + 60_000,
        seq: said.seq + 60,
    };
    let who = "an unknown message id";
    let store = stage.store.clone();
    let code = ErrorCode::MessageNotFound;
    let mark = store.mark_as_read(room.id, &reader, none);
    stage.refused(Script::MarkAsRead, code, who, mark).await?;
    let history = store.get_history(room.id, &reader, Cursor::Before(none), PAGE);
    stage
        .refused(Script::GetHistory, code, who, history)
        .await?;
    let history = store.get_history(room.id, &reader, Cursor::After(none), PAGE);
    let code = ErrorCode::HistoryReset;
    stage.refused(Script::GetHistory, code, who, history).await
}
