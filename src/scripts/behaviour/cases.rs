//! What the server relies on, case by case.
//!
//! Each case has users and rooms of its own on an empty Redis. A rule of the operator's may refuse any write, or have
//! said something in a new room, so cases count from where a room is, and let each user send once where they can.

use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::sleep;

use super::compare::{must, same, same_messages, same_position, same_text};
use super::fault::{Ended, Fault};
use super::stage::{Room, Stage};
use crate::error::ErrorCode;
use crate::hub::published::{Change, RoomEvent};
use crate::protocol::event::Message;
use crate::protocol::ids::{DeviceId, MessageId, RoomId, UserId};
use crate::protocol::request::Cursor;
use crate::scripts::Script;
use crate::store::calls::{Missed, NewRoom};
use crate::store::keys::Topic;
use crate::store::reply::{Page, Position};

/// Something that the server relies on.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) play: fn(&mut Stage) -> BoxFuture<'_, Outcome>,
}

type Outcome = Result<(), Ended>;

/// Cheap and telling ones first: the first that fails is the one that is reported.
pub(super) const CASES: [Case; 17] = [
    Case {
        name: "Redis takes every script",
        play: |stage| Box::pin(stage.load()),
    },
    Case {
        name: "two people's room is made once",
        play: |stage| Box::pin(direct_room(stage)),
    },
    Case {
        name: "a group has its name and its members",
        play: |stage| Box::pin(group(stage)),
    },
    Case {
        name: "a message is stored and told once",
        play: |stage| Box::pin(message(stage)),
    },
    Case {
        name: "a duplicate is one message",
        play: |stage| Box::pin(duplicate(stage)),
    },
    Case {
        name: "messages of many are in one order",
        play: |stage| Box::pin(order(stage)),
    },
    Case {
        name: "who is no member is refused",
        play: |stage| Box::pin(no_member(stage)),
    },
    Case {
        name: "who enters has read everything",
        play: |stage| Box::pin(entering(stage)),
    },
    Case {
        name: "who views a room has read what is sent",
        play: |stage| Box::pin(viewing(stage)),
    },
    Case {
        name: "a lease runs out unless it is renewed",
        play: |stage| Box::pin(leases(stage)),
    },
    Case {
        name: "a read marker only moves forward",
        play: |stage| Box::pin(marking(stage)),
    },
    Case {
        name: "an id that is no message is refused",
        play: |stage| Box::pin(no_message(stage)),
    },
    Case {
        name: "history comes in pages",
        play: |stage| Box::pin(history(stage)),
    },
    Case {
        name: "a server learns what it missed",
        play: |stage| Box::pin(syncing(stage)),
    },
    Case {
        name: "a server learns in which rooms it missed something",
        play: |stage| Box::pin(comparing(stage)),
    },
    Case {
        name: "a large room works alike",
        play: |stage| Box::pin(large_room(stage)),
    },
    Case {
        name: "a reset deletes this chat and nothing else",
        play: |stage| Box::pin(reset(stage)),
    },
];

const PAGE: u32 = 50;

async fn direct_room(stage: &mut Stage) -> Outcome {
    let script = Script::InitializeChat;
    let members = [UserId::random(), UserId::random()];
    let room = RoomId::direct(&members[0], &members[1]);
    for user in &members {
        stage.follow(Topic::User(user.clone())).await?;
    }
    let store = stage.store.clone();
    let new = |members| NewRoom {
        room,
        is_group: false,
        name: "",
        members,
    };
    let made = stage.call(script, store.initialize_chat(new(&members)));
    let made = made.await?;
    must(
        made.created,
        script,
        "a new room is said to be there already",
    )?;
    told_once(stage, room, &members).await?;
    for user in &members {
        let entry = stage.listed(room, user, script).await?.entry;
        must(!entry.is_group_chat, script, "two people's room is a group")?;
        in_index(stage, room, user).await?;
    }

    let at = stage.listed(room, &members[0], script).await?.position;
    let other_way = [members[1].clone(), members[0].clone()];
    let again = stage.call(script, store.initialize_chat(new(&other_way)));
    let again = again.await?;
    must(!again.created, script, "a room that is there is made again")?;
    let entry = again
        .entry
        .ok_or_else(|| Fault::wrong(script, "a room that is there comes back without its entry"))?;
    same_position(script, "of a room made again", &entry.position, &at)?;
    for user in &members {
        let told = stage.gained(user).await?.len();
        same(script, "the number of users told again", &told, &0)?;
        in_index(stage, room, user).await?;
    }
    Ok(())
}

async fn group(stage: &mut Stage) -> Outcome {
    let script = Script::InitializeChat;
    let members = [UserId::random(), UserId::random(), UserId::random()];
    let room = RoomId::random();
    for user in &members {
        stage.follow(Topic::User(user.clone())).await?;
    }
    let store = stage.store.clone();
    let new = || NewRoom {
        room,
        is_group: true,
        name: "Book club",
        members: &members,
    };
    let made = stage.call(script, store.initialize_chat(new())).await?;
    must(
        made.created,
        script,
        "a new group is said to be there already",
    )?;
    told_once(stage, room, &members).await?;
    for user in &members {
        let entry = stage.listed(room, user, script).await?.entry;
        let Some(group) = entry.group else {
            return Err(Fault::wrong(script, "a group is none in a member's list").into());
        };
        same_text(script, "the group's name", &group.group_name, "Book club")?;
        same(script, "the number of members", &group.member_count, &3)?;
        same(
            script,
            "the number of other members",
            &group.members.len(),
            &2,
        )?;
        in_index(stage, room, user).await?;
    }
    let again = stage.call(script, store.initialize_chat(new())).await?;
    must(
        !again.created,
        script,
        "a group that is there is made again",
    )
}

/// Every member was told of the room, and no one twice.
async fn told_once(stage: &mut Stage, room: RoomId, members: &[UserId]) -> Outcome {
    let script = Script::InitializeChat;
    for user in members {
        let told = stage.gained(user).await?;
        let [told] = told.as_slice() else {
            let reason = format!("a member is told of the new room {} times", told.len());
            return Err(Fault::wrong(script, reason).into());
        };
        same(script, "the room published", &told.room, &room)?;
        let count = told.facts.member_count;
        same(
            script,
            "the number of members published",
            &count,
            &(members.len() as u64),
        )?;
        // A server takes a fresh room for empty without a look.
        let empty = told.position.seq == 0;
        must(
            !told.fresh || empty,
            script,
            "a room with messages in it is published as fresh",
        )?;
        let now = stage.listed(room, user, script).await?.position;
        same(
            script,
            "the epoch published",
            &told.position.epoch,
            &now.epoch,
        )?;
        must(
            told.position.rev <= now.rev,
            script,
            "the rev published is ahead of the room's",
        )?;
    }
    Ok(())
}

async fn in_index(stage: &mut Stage, room: RoomId, user: &UserId) -> Outcome {
    let store = stage.store.clone();
    let list = stage.call(Script::GetChatList, store.get_chat_list(user, &[], true));
    let index = list.await?.index;
    let times = index.iter().filter(|id| **id == room).count();
    let what = "how often a member's list has the room";
    same(Script::InitializeChat, what, &times, &1)
}

async fn message(stage: &mut Stage) -> Outcome {
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
    let stored =
        stored.ok_or_else(|| Fault::wrong(script, "a message sent is not in the history"))?;
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

async fn duplicate(stage: &mut Stage) -> Outcome {
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
        "a message sent twice is not called a duplicate",
    )?;
    stage
        .unchanged(&before, script, "a message sent twice")
        .await?;
    // The id is the sender's own: another user's message is another.
    stage.say(&mut room, 1, Some("m-1")).await?;
    Ok(())
}

async fn order(stage: &mut Stage) -> Outcome {
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

async fn no_member(stage: &mut Stage) -> Outcome {
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
        "it tells of a room that does not exist",
    )
}

async fn strangers_calls(stage: &mut Stage, room: RoomId, message: MessageId) -> Outcome {
    const WHO: &str = "a user who is no member";
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
        "a user who is no member has the room in the list",
    )?;

    let before = stage.snapshot().await?;
    let what = "a user who is no member";
    let leave = store.leave_chat(room, &user, device);
    stage.call(Script::LeaveChat, leave).await?;
    stage.unchanged(&before, Script::LeaveChat, what).await?;
    let viewers = [(device, user.clone())];
    let renew = store.renew_viewers(room, &viewers);
    stage.call(Script::RenewViewers, renew).await?;
    stage.unchanged(&before, Script::RenewViewers, what).await
}

async fn entering(stage: &mut Stage) -> Outcome {
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
        "the unread count of who entered",
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

/// One event says that the user has read up to this number.
fn marker_told(script: Script, events: &[RoomEvent], user: &UserId, seq: u64) -> Outcome {
    let moved = events.iter().filter(|event| {
        matches!(&event.change, Change::Read { user: who, read_seq, .. } if who == user && *read_seq == seq)
    });
    let times = moved.count();
    same(
        script,
        "how often the marker's move is published",
        &times,
        &1,
    )
}

async fn viewing(stage: &mut Stage) -> Outcome {
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
        "who views the room is not among those who have read a new message",
    )?;
    let entry = stage.entry(&room, &viewer, script).await?.entry;
    same(
        script,
        "the unread count of who views the room",
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
        "who left is still among those who read new messages",
    )?;
    let entry = stage.entry(&room, &viewer, script).await?.entry;
    must(
        entry.unread_cnt > 0,
        script,
        "who left has nothing unread after a new message",
    )
}

async fn leases(stage: &mut Stage) -> Outcome {
    let mut room = stage.group(4).await?;
    let (renewed, forgotten) = (room.members[2].clone(), room.members[3].clone());
    let forgetful = stage.forgetful.clone();
    let device = DeviceId::random();
    for (user, device) in [(&renewed, device), (&forgotten, DeviceId::random())] {
        let enter = forgetful.enter_chat(room.id, user, device, PAGE);
        stage.call(Script::EnterChat, enter).await?;
    }
    // Both leases are of 1 ms.
    sleep(Duration::from_millis(5)).await;
    let (store, viewers) = (stage.store.clone(), [(device, renewed.clone())]);
    let renew = store.renew_viewers(room.id, &viewers);
    stage.call(Script::RenewViewers, renew).await?;
    stage.events(&mut room, Script::EnterChat).await?;
    let said = stage.say(&mut room, 0, None).await?;
    must(
        said.read_by.contains(&renewed.to_string()),
        Script::RenewViewers,
        "whose lease was renewed does not view the room",
    )?;
    must(
        !said.read_by.contains(&forgotten.to_string()),
        Script::SendMessage,
        "whose lease has run out still counts as a viewer",
    )
}

async fn marking(stage: &mut Stage) -> Outcome {
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

async fn no_message(stage: &mut Stage) -> Outcome {
    let mut room = stage.group(3).await?;
    let said = stage.say(&mut room, 0, None).await?.id;
    let reader = room.members[1].clone();
    let none = MessageId {
        ms: said.ms + 60_000,
        seq: said.seq + 60,
    };
    let who = "an id that is no message";
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

async fn history(stage: &mut Stage) -> Outcome {
    let script = Script::GetHistory;
    let mut room = stage.group(5).await?;
    for sender in 0..5 {
        stage.say(&mut room, sender, None).await?;
    }
    let before = stage.snapshot().await?;
    let all = latest(stage, &room, 0).await?;
    must(!all.has_more, script, "more is announced than there is")?;
    same(
        script,
        "the newest message",
        &newest(&all),
        &room.at.last_id,
    )?;
    let all = ids(&all.messages);

    let back = walk(stage, &room, Cursor::Latest).await?;
    same_messages(script, "going back page by page", &back, &all)?;
    let first = all.first().copied().unwrap_or_default();
    let forth = walk(stage, &room, Cursor::After(first)).await?;
    same_messages(script, "going forth page by page", &forth, &all[1..])?;
    stage.unchanged(&before, script, "reading history").await
}

/// The history from the cursor on to its end, in pages of two; the oldest first.
async fn walk(stage: &mut Stage, room: &Room, from: Cursor) -> Result<Vec<MessageId>, Ended> {
    /// More than these cases have.
    const PAGES_MAX: usize = 100;
    let script = Script::GetHistory;
    let forth = matches!(from, Cursor::After(_));
    let (mut cursor, mut found) = (from, Vec::new());
    for _ in 0..PAGES_MAX {
        let store = stage.store.clone();
        let call = store.get_history(room.id, &room.members[0], cursor, 2);
        let page = stage.call(script, call).await?;
        let ids = ids(&page.messages);
        must(
            ids.len() <= 2,
            script,
            "a page has more messages than were asked for",
        )?;
        let (Some(first), Some(last)) = (ids.first().copied(), ids.last().copied()) else {
            must(!page.has_more, script, "an empty page announces more")?;
            return Ok(found);
        };
        cursor = if forth {
            found.extend(ids);
            Cursor::After(last)
        } else {
            found.splice(0..0, ids);
            Cursor::Before(first)
        };
        if !page.has_more {
            return Ok(found);
        }
    }
    Err(Fault::wrong(script, "page after page announces more").into())
}

async fn syncing(stage: &mut Stage) -> Outcome {
    let script = Script::SyncRoom;
    let mut room = stage.group(4).await?;
    let start = room.at.clone();
    for sender in 0..3 {
        stage.say(&mut room, sender, None).await?;
    }
    let all = ids(&latest(stage, &room, 0).await?.messages);
    let missed = sync_page(stage, &room, &start).await?;
    same_position(script, "after what was missed", &missed.position, &room.at)?;
    let later: Vec<MessageId> = all.into_iter().filter(|id| *id > start.last_id).collect();
    same_messages(script, "what was missed", &ids(&missed.messages), &later)?;
    let current = sync_page(stage, &room, &room.at).await?;
    same_messages(
        script,
        "what an up-to-date server missed",
        &ids(&current.messages),
        &[],
    )?;

    let other_epoch = Position {
        epoch: "0-other".into(),
        ..start
    };
    let ahead = Position {
        rev: room.at.rev + 7,
        ..room.at.clone()
    };
    for (from, what) in [(other_epoch, "another epoch"), (ahead, "a later rev")] {
        let store = stage.store.clone();
        let missed = stage.call(script, store.sync_room(room.id, &from)).await?;
        must(
            matches!(missed, Missed::Reset(_)),
            script,
            format!("a server that is at {what} is not told to begin anew"),
        )?;
    }
    Ok(())
}

async fn sync_page(stage: &mut Stage, room: &Room, from: &Position) -> Result<Page, Ended> {
    let script = Script::SyncRoom;
    let store = stage.store.clone();
    match stage.call(script, store.sync_room(room.id, from)).await? {
        Missed::Page(page) => Ok(page),
        Missed::Gone => Err(Fault::wrong(script, "it says that a room is gone").into()),
        Missed::Reset(_) => {
            let reason = "a server that only missed the latest is told to begin anew";
            Err(Fault::wrong(script, reason).into())
        }
    }
}

async fn comparing(stage: &mut Stage) -> Outcome {
    let mut asked = Vec::new();
    for _ in 0..4 {
        let room = stage.group(2).await?;
        asked.push((room.id, room.at));
    }
    let before = stage.snapshot().await?;
    changed_rooms(stage, "is up to date everywhere", &asked, &[]).await?;

    let there = asked[0].1.clone();
    asked[1].1.rev = asked[1].1.rev.saturating_sub(1);
    asked[2].1.rev += 1;
    asked[3].1.epoch = "0-other".into();
    asked.push((RoomId::random(), there));
    let who = "is behind in room 2, ahead in 3, in another epoch in 4, and in no room in 5";
    changed_rooms(stage, who, &asked, &[2, 3, 4, 5]).await?;
    stage
        .unchanged(&before, Script::CompareRooms, "comparing rooms")
        .await
}

/// Holds that exactly the rooms at these places, from 1, are named to a server that is where `asked` says.
async fn changed_rooms(
    stage: &mut Stage,
    who: &str,
    asked: &[(RoomId, Position)],
    places: &[usize],
) -> Outcome {
    let script = Script::CompareRooms;
    let store = stage.store.clone();
    let changed = stage.call(script, store.compare_rooms(asked)).await?;
    let place = |room: &RoomId| 1 + asked.iter().take_while(|(id, _)| id != room).count();
    let got: Vec<usize> = changed.iter().map(place).collect();
    let reason = format!("to a server that {who} it names the rooms {got:?}, not {places:?}");
    must(got == places, script, reason)
}

async fn large_room(stage: &mut Stage) -> Outcome {
    /// One more than are listed by name.
    const LARGE: usize = 101;
    let mut room = stage.group(LARGE).await?;
    let (viewer, device) = (room.members[2].clone(), DeviceId::random());
    let store = stage.store.clone();
    let enter = store.enter_chat(room.id, &viewer, device, PAGE);
    stage.call(Script::EnterChat, enter).await?;
    stage.events(&mut room, Script::EnterChat).await?;

    stage.say(&mut room, 0, None).await?;
    let viewers = [(device, viewer.clone())];
    let script = Script::RenewViewers;
    stage
        .call(script, store.renew_viewers(room.id, &viewers))
        .await?;
    stage.events(&mut room, script).await?;
    let entry = stage.entry(&room, &viewer, script).await?.entry;
    same(
        script,
        "a viewer's unread count after the renewal",
        &entry.unread_cnt,
        &0,
    )?;

    stage.say(&mut room, 1, None).await?;
    let script = Script::LeaveChat;
    stage
        .call(script, store.leave_chat(room.id, &viewer, device))
        .await?;
    stage.events(&mut room, script).await?;
    let entry = stage.entry(&room, &viewer, script).await?.entry;
    same(
        script,
        "a viewer's unread count after leaving",
        &entry.unread_cnt,
        &0,
    )
}

async fn reset(stage: &mut Stage) -> Outcome {
    const FOREIGN: [&str; 2] = ["chat2:{room:1}:meta", "shop:orders"];
    let script = Script::ResetRedisForDevelopment;
    let mut room = stage.group(2).await?;
    // Refused or not, there is a room to delete.
    match stage.say(&mut room, 0, None).await {
        Ok(_) | Err(Ended::Rejected(_)) => {}
        Err(ended) => return Err(ended),
    }
    for key in FOREIGN {
        let () = stage.command(&["SET", key, "kept"]).await?;
    }
    stage.follow(Topic::Control).await?;
    let store = stage.store.clone();
    stage.call(script, store.reset()).await?;
    let mut left: Vec<String> = stage.command(&["KEYS", "*"]).await?;
    left.sort();
    same_text(script, "what is left", &left.join(" "), &FOREIGN.join(" "))?;
    let told = stage.payloads(&Topic::Control).await?.len();
    same(script, "how often servers are told", &told, &1)
}

/// The latest messages as one member gets them.
async fn latest(stage: &mut Stage, room: &Room, member: usize) -> Result<Page, Ended> {
    let store = stage.store.clone();
    let call = store.get_history(room.id, &room.members[member], Cursor::Latest, PAGE);
    stage.call(Script::GetHistory, call).await
}

/// The newest message of a page, or none.
fn newest(page: &Page) -> MessageId {
    ids(&page.messages).last().copied().unwrap_or_default()
}

fn ids(messages: &[Message]) -> Vec<MessageId> {
    messages.iter().map(|message| message.id).collect()
}
