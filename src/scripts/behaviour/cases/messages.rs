//! Messages: stored, published, counted, in order, and accepted from members only.

use super::super::compare::{must, same, same_messages, same_position, same_text};
use super::super::fault::{Ended, Fault};
use super::super::stage::{Room, Stage};
use super::{Outcome, PAGE, ids, latest};
use crate::error::ErrorCode;
use crate::protocol::ids::{DeviceId, MessageId, RoomId, UserId};
use crate::protocol::request::Cursor;
use crate::room::Missed;
use crate::scripts::Script;

pub(super) async fn message(stage: &mut Stage) -> Outcome {
    let script = Script::SendMessage;
    let mut room = stage.group(3).await?;
    let before = unread(stage, &room).await?;
    let start = room.at.seq;
    let said = stage.say(&mut room, 0, Some("m-1")).await?;
    let sent = room.at.seq - start;
    let sender = room.members[0].clone();
    must(
        said.read_by.contains(&sender.to_string()),
        script,
        "the sender is not among those who have read the message",
    )?;
    let after = unread(stage, &room).await?;
    same(script, "the sender's unread count", &after[0], &(sent - 1))?;
    same(
        script,
        "another member's unread count",
        &after[1],
        &(before[1] + sent),
    )?;
    same(
        script,
        "a third member's unread count",
        &after[2],
        &(before[2] + sent),
    )?;

    let entry = stage.entry(&room, &room.members[1], script).await?.entry;
    let last = entry
        .last_message
        .map(|message| message.id)
        .unwrap_or_default();
    same(
        script,
        "the last message in the list",
        &last,
        &room.at.last_id,
    )?;
    let page = latest(stage, &room, 1).await?;
    let stored = page.messages.iter().find(|message| message.id == said.id);
    let stored = stored
        .ok_or_else(|| Fault::wrong(script, "a message that was sent is not in the history"))?;
    same_text(
        script,
        "the sender stored",
        &stored.sender_id,
        sender.as_str(),
    )?;
    same_text(script, "the text stored", &stored.content, &said.text)?;
    same_position(script, "of the history", &page.position, &room.at)
}

/// The unread count of every member.
async fn unread(stage: &mut Stage, room: &Room) -> Result<Vec<u64>, Ended> {
    let mut counts = Vec::with_capacity(room.members.len());
    for user in &room.members {
        let entry = stage.entry(room, user, Script::GetChatList).await?.entry;
        counts.push(entry.unread_cnt);
    }
    Ok(counts)
}

pub(super) async fn duplicate(stage: &mut Stage) -> Outcome {
    let script = Script::SendMessage;
    let mut room = stage.group(3).await?;
    let first = stage.say(&mut room, 0, Some("m-1")).await?;
    let before = stage.snapshot().await?;
    let store = stage.store.clone();
    let call = store.send_message(room.id, &room.members[0], "Good morning", Some("m-1"));
    let second = stage.call(script, call).await?;
    same(
        script,
        "the id of a message sent twice",
        &second.id,
        &first.id,
    )?;
    must(
        second.duplicate,
        script,
        "a message sent twice is not reported as a duplicate",
    )?;
    stage
        .unchanged(&before, script, "a message sent twice")
        .await?;
    // A client id is the sender's own: the same id from another user is another message.
    stage.say(&mut room, 1, Some("m-1")).await?;
    Ok(())
}

pub(super) async fn order(stage: &mut Stage) -> Outcome {
    let mut room = stage.group(4).await?;
    let mut said = Vec::new();
    for sender in 0..4 {
        said.push(stage.say(&mut room, sender, None).await?.id);
    }
    let page = latest(stage, &room, 0).await?;
    let stored: Vec<MessageId> = ids(&page.messages)
        .into_iter()
        .filter(|id| said.contains(id))
        .collect();
    same_messages(Script::SendMessage, "in the history", &stored, &said)
}

pub(super) async fn no_member(stage: &mut Stage) -> Outcome {
    let mut room = stage.group(3).await?;
    let said = stage.say(&mut room, 0, None).await?;
    for id in [room.id, RoomId::random()] {
        strangers_calls(stage, id, said.id).await?;
    }
    let store = stage.store.clone();
    let call = store.sync_room(RoomId::random(), &room.at);
    let missed = stage.call(Script::SyncRoom, call).await?;
    must(
        matches!(missed, Missed::Gone),
        Script::SyncRoom,
        "it returns a room that does not exist",
    )
}

async fn strangers_calls(stage: &mut Stage, room: RoomId, message: MessageId) -> Outcome {
    const WHO: &str = "a user who is not a member";
    let code = ErrorCode::NotMember;
    let (user, device) = (UserId::random(), DeviceId::random());
    let store = stage.store.clone();
    let enter = store.enter_chat(room, &user, device, PAGE);
    stage.refused(Script::EnterChat, code, WHO, enter).await?;
    let send = store.send_message(room, &user, "Good morning", Some("m-1"));
    stage.refused(Script::SendMessage, code, WHO, send).await?;
    let mark = store.mark_as_read(room, &user, message);
    stage.refused(Script::MarkAsRead, code, WHO, mark).await?;
    for cursor in [
        Cursor::Latest,
        Cursor::Before(message),
        Cursor::After(message),
    ] {
        let history = store.get_history(room, &user, cursor, PAGE);
        stage
            .refused(Script::GetHistory, code, WHO, history)
            .await?;
    }
    let asked = [room];
    let list = store.get_chat_list(&user, &asked, false);
    let list = stage.call(Script::GetChatList, list).await?;
    let entry = list.entries.into_iter().next().flatten();
    must(
        entry.is_none(),
        Script::GetChatList,
        "a user who is not a member has the room in the list",
    )?;

    let before = stage.snapshot().await?;
    let what = "a user who is not a member";
    let leave = store.leave_chat(room, &user, device);
    stage.call(Script::LeaveChat, leave).await?;
    stage.unchanged(&before, Script::LeaveChat, what).await?;
    let viewers = [(device, user.clone())];
    let renew = store.renew_viewers(room, &viewers);
    stage.call(Script::RenewViewers, renew).await?;
    stage.unchanged(&before, Script::RenewViewers, what).await
}
