//! Texts of every kind: each is read as it was published, and none keeps Redis busy for long.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::Instant;

use super::super::compare::{must, same_message, same_preview};
use super::super::fault::Fault;
use super::super::stage::{Room, Stage};
use super::super::texts::{Probe, around_cuts, hard, names, of_every_kind};
use super::{Outcome, PAGE};
use crate::protocol::event::Message;
use crate::protocol::ids::{DeviceId, RoomId, UserId};
use crate::protocol::request::Cursor;
use crate::room::{Missed, Topic};
use crate::scripts::Script;
use crate::store::Store;
use crate::store::calls::NewRoom;

/// The number of members of a room in which each sends one message: a rule may limit how often a user sends.
const AUDIENCE: usize = 40;
/// The same, for texts so long that a page holds no more of them.
const FEW: usize = 16;
/// More members than events list by name.
const CROWD: usize = 101;
/// How long texts around cuts may be tried, how long hard ones, and how long both with a field set in `ext`.
const LONG_MAX: Duration = Duration::from_secs(3);
/// How many values of `ext` fields are tried.
const SWITCHES_MAX: usize = 8;

/// A field of `ext` and its value.
type Switch = (String, String);

pub(super) async fn every_kind(stage: &mut Stage) -> Outcome {
    let probes = of_every_kind(&stage.hints());
    in_groups(stage, AUDIENCE, &probes, None).await?;
    let crowd = &probes[..probes.len().min(CROWD - 1)];
    in_groups(stage, CROWD, crowd, None).await?;
    for probe in &probes {
        let room = stage.direct().await?;
        in_room(stage, room, std::slice::from_ref(probe), None).await?;
    }
    Ok(())
}

pub(super) async fn cuts(stage: &mut Stage) -> Outcome {
    let probes = around_cuts(&stage.hints());
    in_groups_for(stage, LONG_MAX, &probes, None).await
}

pub(super) async fn hard_ones(stage: &mut Stage) -> Outcome {
    let probes = hard(&stage.hints());
    in_groups_for(stage, LONG_MAX, &probes, None).await
}

/// The same, with each `ext` field that a script reads.
pub(super) async fn switches(stage: &mut Stage) -> Outcome {
    let hints = stage.hints();
    let fields = hints.iter().flat_map(|(_, hints)| &hints.switches);
    let switches = fields.flat_map(|(field, values)| {
        let values = values.iter().map(String::as_str).chain(["1"]);
        values.map(move |value| (field.clone(), value.to_owned()))
    });
    let mut switches: Vec<Switch> = switches.collect();
    switches.sort();
    switches.dedup();
    switches.truncate(SWITCHES_MAX);
    let (short, cuts, hard) = (of_every_kind(&hints), around_cuts(&hints), hard(&hints));
    let share = LONG_MAX / u32::try_from(switches.len().max(1)).unwrap_or(1);
    for switch in &switches {
        in_groups(stage, AUDIENCE, &short, Some(switch)).await?;
        in_groups_for(stage, share, &cuts, Some(switch)).await?;
        in_groups_for(stage, share, &hard, Some(switch)).await?;
    }
    Ok(())
}

async fn in_groups(
    stage: &mut Stage,
    size: usize,
    probes: &[Probe],
    switch: Option<&Switch>,
) -> Outcome {
    for probes in probes.chunks(size - 1) {
        let room = stage.group(size).await?;
        in_room(stage, room, probes, switch).await?;
    }
    Ok(())
}

/// The same, with as many texts as there is time for.
async fn in_groups_for(
    stage: &mut Stage,
    time: Duration,
    probes: &[Probe],
    switch: Option<&Switch>,
) -> Outcome {
    let until = Instant::now() + time;
    for probes in probes.chunks(FEW - 1) {
        if Instant::now() >= until {
            stage.left_out += probes.len();
            continue;
        }
        let room = stage.group(FEW).await?;
        in_room(stage, room, probes, switch).await?;
    }
    Ok(())
}

/// A different member sends each text, and what readers get is compared with what was published.
async fn in_room(
    stage: &mut Stage,
    mut room: Room,
    probes: &[Probe],
    switch: Option<&Switch>,
) -> Outcome {
    const FIRST: &str = "m-0";
    let (script, hello) = (Script::SendMessage, Probe::short("Good morning"));
    let first = stage.probe(&mut room, 0, &hello, Some(FIRST)).await?;
    let first = first.map(|message| (message.id, FIRST));
    if let Some((field, value)) = switch {
        stage.set_in_ext(&room, field, value).await?;
    }
    if let Some(first) = first {
        stage.repeat(&room, &hello, first).await?;
    }
    let (start, mut told) = (room.at.clone(), Vec::new());
    for (place, probe) in probes.iter().enumerate() {
        let client_id = (place % 2 == 0).then_some("m-1");
        match (
            stage.probe(&mut room, place + 1, probe, client_id).await?,
            first,
        ) {
            (Some(message), _) => {
                same_client_id(&message, client_id)?;
                just_read(stage, &room, probe, &message).await?;
                told.push(message);
            }
            (None, Some(first)) => stage.repeat(&room, probe, first).await?,
            (None, None) => {}
        }
    }
    let all = Probe::long(
        told.iter().map(|message| &*message.content).collect(),
        format!("in {} messages", told.len()),
    );
    let (id, from) = (room.id, &start);
    let missed = |store: Arc<Store>| async move { store.sync_room(id, from).await }.boxed();
    if let Some(Missed::Page(page)) = stage.reading(Script::SyncRoom, &all, missed).await? {
        same_where_both(Script::SyncRoom, &page.messages, &told)?;
    }
    let reader = &room.members[0];
    let enter = |store: Arc<Store>| {
        let device = DeviceId::random();
        async move { store.enter_chat(id, reader, device, PAGE).await }.boxed()
    };
    if let Some(entered) = stage.reading(Script::EnterChat, &all, enter).await? {
        same_where_both(Script::EnterChat, &entered.page.messages, &told)?;
    }
    stage.events(&mut room, script).await?;
    found_again(stage, &room, &all, &told).await
}

fn same_client_id(told: &Message, client_id: Option<&str>) -> Outcome {
    must(
        told.client_message_id.as_deref() == client_id,
        Script::SendMessage,
        "the clientMessageId published is not the one that was sent",
    )
}

/// Checks that history and list have a message as it was published, right after it was sent.
async fn just_read(stage: &mut Stage, room: &Room, probe: &Probe, told: &Message) -> Outcome {
    let (script, id, user) = (Script::GetHistory, room.id, &room.members[0]);
    let latest = |store: Arc<Store>| {
        async move { store.get_history(id, user, Cursor::Latest, 2).await }.boxed()
    };
    if let Some(page) = stage.reading(script, probe, latest).await? {
        let found = page.messages.iter().find(|message| message.id == told.id);
        let reason = || format!("{probe} was stored, but is not in the history");
        let found = found.ok_or_else(|| Fault::wrong(script, reason()))?;
        same_message(script, found, told, true)?;
    }
    let script = Script::GetChatList;
    let list =
        |store: Arc<Store>| async move { store.get_chat_list(user, &[id], false).await }.boxed();
    let list = stage.reading(script, probe, list).await?;
    let entry = list.and_then(|list| list.entries.into_iter().next().flatten());
    match entry.and_then(|entry| entry.entry.last_message) {
        Some(last) if last.id == told.id => same_preview(script, &last, told, true),
        _ => Ok(()),
    }
}

/// Checks a room's own entry when it is requested again.
async fn found_again(stage: &mut Stage, room: &Room, all: &Probe, told: &[Message]) -> Outcome {
    let script = Script::InitializeChat;
    let again = |store: Arc<Store>| {
        let new = NewRoom {
            room: room.id,
            is_group: room.is_group,
            name: "",
            members: &room.members,
        };
        async move { store.initialize_chat(new).await }.boxed()
    };
    let found = stage.reading(script, all, again).await?;
    let last = found.and_then(|found| found.entry?.entry.last_message);
    match (last, told.last()) {
        (Some(last), Some(told)) if last.id == told.id => same_preview(script, &last, told, false),
        _ => Ok(()),
    }
}

/// Checks that messages that are in both are the same.
fn same_where_both(script: Script, got: &[Message], told: &[Message]) -> Outcome {
    for message in got {
        if let Some(told) = told.iter().find(|told| told.id == message.id) {
            same_message(script, message, told, false)?;
        }
    }
    Ok(())
}

pub(super) async fn group_names(stage: &mut Stage) -> Outcome {
    for probe in names() {
        let members = [UserId::random(), UserId::random()];
        let [maker, other] = &members;
        stage.follow(Topic::User(other.clone())).await?;
        let (script, room) = (Script::InitializeChat, RoomId::random());
        let make = |store: Arc<Store>| {
            let new = NewRoom {
                room,
                is_group: true,
                name: &probe.text,
                members: &members,
            };
            async move { store.initialize_chat(new).await }.boxed()
        };
        if stage.reading(script, &probe, make).await?.is_none() {
            continue;
        }
        let gained = stage.gained(other).await?;
        let told = gained.into_iter().find(|gained| gained.room == room);
        let Some(told) = told else {
            let reason = format!("a group was made with {probe} as its name, but not published");
            return Err(Fault::wrong(script, reason).into());
        };
        for user in [maker, other] {
            let entry = stage.listed(room, user, Script::GetChatList).await?.entry;
            let name = entry
                .group
                .map(|group| group.group_name)
                .unwrap_or_default();
            let reason = format!(
                "a group's name is {:?} in the event and {name:?} in the list",
                told.facts.name
            );
            must(name == told.facts.name, script, reason)?;
        }
    }
    Ok(())
}
