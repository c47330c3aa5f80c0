//! Messages of types other than text, and contents of several strings: every read returns them as they were sent.

use super::super::compare::same_text;
use super::super::fault::{Ended, Fault};
use super::super::stage::{Room, Stage};
use super::{Outcome, PAGE, latest};
use crate::hub::published::{Change, RoomEvent};
use crate::protocol::content::Parts;
use crate::protocol::event::Message;
use crate::protocol::ids::{DeviceId, MessageId};
use crate::room::{Missed, Position};
use crate::scripts::Script;
use crate::store::calls::{NewMessage, NewRoom};

const KIND: &str = "image";
const PARTS: &str = "4,7";

pub(super) async fn shape(stage: &mut Stage) -> Outcome {
    let mut room = stage.group(3).await?;
    let before = room.at.clone();
    let id = send(stage, &mut room).await?;
    let member = room.members[1].clone();
    let store = stage.store.clone();

    let page = latest(stage, &room, 1).await?;
    is_kept(Script::GetHistory, &page.messages, id)?;
    is_kept(Script::SyncRoom, &missed(stage, &room, &before).await?, id)?;
    let enter = store.enter_chat(room.id, &member, DeviceId::random(), PAGE);
    let entered = stage.call(Script::EnterChat, enter).await?;
    is_kept(Script::EnterChat, &entered.page.messages, id)?;
    let listed = stage.listed(room.id, &member, Script::GetChatList).await?;
    is_kept(
        Script::GetChatList,
        listed.entry.last_message.as_slice(),
        id,
    )?;
    let again = NewRoom {
        room: room.id,
        is_group: true,
        name: "Book club",
        members: &room.members,
    };
    let script = Script::InitializeChat;
    let found = stage.call(script, store.initialize_chat(again)).await?;
    let last = found.entry.and_then(|read| read.entry.last_message);
    is_kept(script, last.as_slice(), id)
}

async fn send(stage: &mut Stage, room: &mut Room) -> Result<MessageId, Ended> {
    let script = Script::SendMessage;
    let (store, sender) = (stage.store.clone(), room.members[0].clone());
    let parts = Parts::parse(PARTS);
    let message = NewMessage {
        room: room.id,
        kind: KIND,
        content: "Good\nmorning",
        parts: parts.as_ref(),
        client_message_id: None,
    };
    let sent = stage.call(script, store.send(&sender, &message)).await?;
    let events = stage.events(room, script).await?;
    let message = |event: RoomEvent| match event.change {
        Change::Message(message) => Some(message),
        Change::Read { .. } | Change::Unknown => None,
    };
    let told: Vec<Message> = events.into_iter().filter_map(message).collect();
    is_kept(script, &told, sent.id)?;
    Ok(sent.id)
}

async fn missed(stage: &mut Stage, room: &Room, from: &Position) -> Result<Vec<Message>, Ended> {
    let (store, script) = (stage.store.clone(), Script::SyncRoom);
    match stage.call(script, store.sync_room(room.id, from)).await? {
        Missed::Page(page) => Ok(page.messages),
        Missed::Gone | Missed::Reset(_) => {
            Err(Fault::wrong(script, "it does not return what was missed").into())
        }
    }
}

/// Checks that the message is among these, with its type and its parts.
fn is_kept(script: Script, messages: &[Message], id: MessageId) -> Outcome {
    let message = messages.iter().find(|message| message.id == id);
    let Some(message) = message else {
        return Err(Fault::wrong(
            script,
            "a message that was sent is not among those returned",
        )
        .into());
    };
    let parts = message.parts.as_ref().map(Parts::to_string);
    same_text(script, "a message's type", &message.kind, KIND)?;
    same_text(
        script,
        "a message's parts",
        &parts.unwrap_or_default(),
        PARTS,
    )
}
