//! Rooms: created, found, announced, large ones, and the deletion of all rooms.

use serde_json::json;

use super::super::compare::{must, same, same_position, same_text};
use super::super::fault::{Ended, Fault};
use super::super::stage::Stage;
use super::{Outcome, PAGE};
use crate::protocol::content::ContentShape;
use crate::protocol::event::Shown;
use crate::protocol::ids::{DeviceId, RoomId, UserId};
use crate::room::{PositionedEntry, Topic};
use crate::scripts::Script;
use crate::store::calls::NewRoom;
use crate::store::lists::{ListCall, Reader};

pub(super) async fn direct_room(stage: &mut Stage) -> Outcome {
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
    must(made.created, script, "a new room is reported as existing")?;
    told_once(stage, room, &members).await?;
    for user in &members {
        let entry = stage.listed(room, user, script).await?.entry;
        must(
            !entry.is_group_chat,
            script,
            "a direct room is listed as a group",
        )?;
        in_index(stage, room, user).await?;
    }

    shared_reading(stage, room, [&members[0], &members[1]]).await?;
    let at = stage.listed(room, &members[0], script).await?.position;
    let other_way = [members[1].clone(), members[0].clone()];
    let again = stage.call(script, store.initialize_chat(new(&other_way)));
    let again = again.await?;
    must(!again.created, script, "an existing room is created again")?;
    let entry = again
        .entry
        .ok_or_else(|| Fault::wrong(script, "an existing room is returned without its entry"))?;
    same_position(script, "of an existing room", &entry.position, &at)?;
    for user in &members {
        let told = stage.gained(user).await?.len();
        same(script, "the number of users notified again", &told, &0)?;
        in_index(stage, room, user).await?;
    }
    Ok(())
}

pub(super) async fn group(stage: &mut Stage) -> Outcome {
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
    must(made.created, script, "a new group is reported as existing")?;
    told_once(stage, room, &members).await?;
    for user in &members {
        let entry = stage.listed(room, user, script).await?.entry;
        let Some(group) = entry.group else {
            return Err(
                Fault::wrong(script, "a group is not listed as a group for a member").into(),
            );
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
    must(!again.created, script, "an existing group is created again")
}

/// Checks that the room was announced to every member, and to none twice.
async fn told_once(stage: &mut Stage, room: RoomId, members: &[UserId]) -> Outcome {
    let script = Script::InitializeChat;
    for user in members {
        let told = stage.gained(user).await?;
        let [told] = told.as_slice() else {
            let reason = format!("the new room is announced to a member {} times", told.len());
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
        // A server takes a new room for empty without reading it.
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

/// A read of a room for one member serves another member who waits for it, and no other user.
async fn shared_reading(stage: &mut Stage, room: RoomId, members: [&UserId; 2]) -> Outcome {
    let script = Script::GetChatList;
    let reader = |user: &UserId| Reader {
        place: 0,
        user: user.clone(),
    };
    let call = ListCall {
        user: members[0].clone(),
        rooms: vec![room],
        want_index: false,
        readers: vec![reader(members[1]), reader(&UserId::random())],
    };
    let store = stage.store.clone();
    let answer = stage.call(script, store.get_chat_lists(&call)).await?;
    let shared = match answer.for_readers.as_slice() {
        [Some(entry), None] => entry,
        [_, Some(_)] => {
            return Err(
                Fault::wrong(script, "a further user who is not a member has an entry").into(),
            );
        }
        _ => return Err(Fault::wrong(script, "a further member has no entry").into()),
    };
    let own = stage.listed(room, members[1], script).await?;
    same_position(
        script,
        "for a further user",
        &shared.position,
        &own.position,
    )?;
    let shown = |read: &PositionedEntry| json!(Shown(&read.entry, ContentShape::AsSent));
    let (shared, own) = (shown(shared), shown(&own));
    same(script, "the entry of a further user", &shared, &own)
}

async fn in_index(stage: &mut Stage, room: RoomId, user: &UserId) -> Outcome {
    let store = stage.store.clone();
    let list = stage.call(Script::GetChatList, store.get_chat_list(user, &[], true));
    let index = list.await?.index;
    let times = index.iter().filter(|id| **id == room).count();
    let what = "the number of times a member's list has the room";
    same(Script::InitializeChat, what, &times, &1)
}

pub(super) async fn large_room(stage: &mut Stage) -> Outcome {
    /// One more member than events list by name.
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
    shared_reading(stage, room.id, [&room.members[0], &viewer]).await?;

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

pub(super) async fn reset(stage: &mut Stage) -> Outcome {
    const FOREIGN: [&str; 2] = ["chat2:{room:1}:meta", "shop:orders"];
    let script = Script::ResetRedisForDevelopment;
    let mut room = stage.group(2).await?;
    // Whether this is refused or not, there is a room to delete.
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
    same(script, "the number of announcements to servers", &told, &1)
}
