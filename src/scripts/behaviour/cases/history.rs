//! History: in pages, after a gap, and compared.

use super::super::compare::{must, same, same_messages, same_position};
use super::super::fault::{Ended, Fault};
use super::super::stage::{Room, Stage};
use super::{Outcome, ids, latest, newest};
use crate::protocol::ids::{MessageId, RoomId};
use crate::protocol::request::Cursor;
use crate::room::Missed;
use crate::room::{Page, Position};
use crate::scripts::Script;

pub(super) async fn history(stage: &mut Stage) -> Outcome {
    let script = Script::GetHistory;
    let mut room = stage.group(5).await?;
    for sender in 0..5 {
        stage.say(&mut room, sender, None).await?;
    }
    let before = stage.snapshot().await?;
    let all = latest(stage, &room, 0).await?;
    must(
        !all.has_more,
        script,
        "it reports more messages than there are",
    )?;
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
    same_messages(script, "going forward page by page", &forth, &all[1..])?;
    stage.unchanged(&before, script, "reading history").await
}

/// The history from the cursor to its end, in pages of two, oldest first.
async fn walk(stage: &mut Stage, room: &Room, from: Cursor) -> Result<Vec<MessageId>, Ended> {
    /// More pages than these cases have.
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
            must(
                !page.has_more,
                script,
                "an empty page reports more messages",
            )?;
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
    Err(Fault::wrong(script, "page after page reports more messages").into())
}

pub(super) async fn syncing(stage: &mut Stage) -> Outcome {
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
            format!("a server that is at {what} gets no reset"),
        )?;
    }
    Ok(())
}

async fn sync_page(stage: &mut Stage, room: &Room, from: &Position) -> Result<Page, Ended> {
    let script = Script::SyncRoom;
    let store = stage.store.clone();
    match stage.call(script, store.sync_room(room.id, from)).await? {
        Missed::Page(page) => Ok(page),
        Missed::Gone => Err(Fault::wrong(script, "it reports an existing room as gone").into()),
        Missed::Reset(_) => {
            let reason = "a server that only missed the latest events gets a reset";
            Err(Fault::wrong(script, reason).into())
        }
    }
}

pub(super) async fn comparing(stage: &mut Stage) -> Outcome {
    let mut asked = Vec::new();
    for _ in 0..5 {
        let room = stage.group(2).await?;
        asked.push((room.id, room.at));
    }
    let before = stage.snapshot().await?;
    changed_rooms(stage, "is up to date everywhere", &asked, &[]).await?;

    let there = asked[0].1.clone();
    asked[1].1.rev = asked[1].1.rev.saturating_sub(1);
    asked[2].1.rev += 1;
    asked[3].1.epoch = "0-other".into();
    asked[4].1.last_id = MessageId { ms: 1, seq: 1 };
    asked.push((RoomId::random(), there));
    let who = "is behind in room 2, ahead in 3, in another epoch in 4, behind another message in 5, and in no room in 6";
    changed_rooms(stage, who, &asked, &[2, 3, 4, 5, 6]).await?;
    stage
        .unchanged(&before, Script::CompareRooms, "comparing rooms")
        .await
}

/// Checks that exactly the rooms at these places, from 1, are named to a server whose position is `asked`.
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
    let reason = format!("for a server that {who}, it names the rooms {got:?}, not {places:?}");
    must(got == places, script, reason)
}
