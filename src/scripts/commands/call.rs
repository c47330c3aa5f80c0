//! `scripts run`: one call with real keys, and its decoded result.

use std::io::{IsTerminal, Write, stdin, stdout};

use serde_json::{Value as Json, json};
use tokio::sync::watch;

use super::desk::Desk;
use super::{CommandError, say_json};
use crate::cli::scripts::RunArgs;
use crate::protocol::content::ContentShape;
use crate::protocol::event::Shown;
use crate::protocol::ids::{DeviceId, RoomId, UserId};
use crate::protocol::request::Cursor;
use crate::room::{Missed, Page, Position, PositionedEntry};
use crate::scripts::registry::Script;
use crate::scripts::set::fixed;
use crate::store::calls::NewRoom;
use crate::store::connection::Connection;
use crate::store::lists::LIST_CHUNK;
use crate::store::{Bounds, Rules, Store};

/// Calls a script and prints what it returned; asks first if the script writes.
pub(super) async fn run(desk: &Desk, args: RunArgs) -> Result<(), CommandError> {
    let connection = desk.connect().await?;
    let set = desk.in_effect(&mut connection.clone()).await?;
    if writes(args.script) && !args.yes {
        confirm(args.script, desk.connector()?.address())?;
    }
    let (_, commands) = watch::channel(Some(Connection::unkept(connection)));
    let rules = Rules::new(&desk.config.chat, &desk.config.limits);
    let bounds = Bounds::within(desk.config.redis.call_timeout);
    let store = Store::new(desk.keys.clone(), fixed(set), commands, bounds, rules);
    say_json(&call(&store, &args).await?);
    Ok(())
}

fn writes(script: Script) -> bool {
    match script {
        Script::GetChatList | Script::GetHistory | Script::SyncRoom | Script::CompareRooms => false,
        Script::InitializeChat
        | Script::EnterChat
        | Script::LeaveChat
        | Script::SendMessage
        | Script::MarkAsRead
        | Script::RenewViewers
        | Script::ResetRedisForDevelopment => true,
    }
}

fn confirm(script: Script, address: &str) -> Result<(), CommandError> {
    if !stdin().is_terminal() {
        return Err(CommandError::NobodyToAsk(script.name()));
    }
    let warning = match script {
        Script::ResetRedisForDevelopment => "deletes ALL CHATS of this installation",
        _ => "writes, and servers pass on what it publishes",
    };
    let _ = write!(
        stdout(),
        "{} {warning} (Redis at {address}). Continue? [y/N] ",
        script.name()
    );
    let _ = stdout().flush();
    let mut answer = String::new();
    match stdin().read_line(&mut answer) {
        Ok(_) if ["y", "yes"].contains(&answer.trim().to_lowercase().as_str()) => Ok(()),
        _ => Err(CommandError::Declined),
    }
}

async fn call(store: &Store, args: &RunArgs) -> Result<Json, CommandError> {
    match args.script {
        Script::InitializeChat => initialize_chat(store, args).await,
        Script::GetChatList => get_chat_list(store, args).await,
        Script::EnterChat => {
            let device = args.device.unwrap_or_else(DeviceId::random);
            let (room, user) = (args.room()?, args.user()?);
            let entered = store.enter_chat(room, user, device, args.limit).await?;
            let page = page(&entered.page);
            Ok(json!({ "device": device.to_string(), "revAfter": entered.rev_after, "page": page }))
        }
        Script::LeaveChat => {
            let (room, user) = (args.room()?, args.user()?);
            store.leave_chat(room, user, args.device()?).await?;
            Ok(json!({ "left": true }))
        }
        Script::SendMessage => {
            let content = args.needed(args.content.as_deref(), "content")?;
            let client_id = args.client_id.as_deref();
            let (room, user) = (args.room()?, args.user()?);
            let sent = store.send_message(room, user, content, client_id).await?;
            Ok(
                json!({ "id": sent.id.to_string(), "seq": sent.id.seq, "duplicate": sent.duplicate }),
            )
        }
        Script::MarkAsRead => {
            let message = args.needed(args.message, "message")?;
            let (room, user) = (args.room()?, args.user()?);
            let marked = store.mark_as_read(room, user, message).await?;
            let (rev, seq) = (marked.position.rev, marked.position.seq);
            let epoch = &*marked.position.epoch;
            Ok(json!({ "epoch": epoch, "rev": rev, "seq": seq, "readSeq": marked.read_seq }))
        }
        Script::GetHistory => {
            let cursor = match (args.before, args.after) {
                (Some(id), _) => Cursor::Before(id),
                (None, Some(id)) => Cursor::After(id),
                (None, None) => Cursor::Latest,
            };
            let (room, user) = (args.room()?, args.user()?);
            Ok(page(
                &store.get_history(room, user, cursor, args.limit).await?,
            ))
        }
        Script::RenewViewers => {
            let viewer = (args.device()?, args.user()?.clone());
            store.renew_viewers(args.room()?, &[viewer]).await?;
            Ok(json!({ "renewed": true }))
        }
        Script::SyncRoom => sync_room(store, args).await,
        Script::CompareRooms => compare_rooms(store, args).await,
        Script::ResetRedisForDevelopment => {
            store.reset().await?;
            Ok(json!({ "reset": true }))
        }
    }
}

async fn initialize_chat(store: &Store, args: &RunArgs) -> Result<Json, CommandError> {
    let user = args.user()?;
    let others = args.with.iter().filter(|other| *other != user).cloned();
    let members: Vec<UserId> = std::iter::once(user.clone()).chain(others).collect();
    let [_, other, rest @ ..] = members.as_slice() else {
        return args.needed(None, "with");
    };
    let is_group = !rest.is_empty();
    let room = match args.room {
        _ if !is_group => RoomId::direct(user, other),
        Some(room) => room,
        None => RoomId::random(),
    };
    let new = NewRoom {
        room,
        is_group,
        name: args.name.as_deref().unwrap_or_default(),
        members: &members,
    };
    let done = store.initialize_chat(new).await?;
    Ok(json!({
        "room": room.to_string(),
        "created": done.created,
        "published": done.event.and_then(|event| serde_json::from_str::<Json>(&event).ok()),
        "entry": done.entry.as_ref().map(entry),
    }))
}

async fn get_chat_list(store: &Store, args: &RunArgs) -> Result<Json, CommandError> {
    let user = args.user()?;
    let index = store.get_chat_list(user, &[], true).await?.index;
    let rooms = match args.room {
        Some(room) => vec![room],
        None => index.clone(),
    };
    let mut entries = Vec::new();
    for rooms in rooms.chunks(LIST_CHUNK) {
        let chunk = store.get_chat_list(user, rooms, false).await?;
        entries.extend(chunk.entries.iter().flatten().map(entry));
    }
    let index: Vec<String> = index.iter().map(RoomId::to_string).collect();
    Ok(json!({ "index": index, "entries": entries }))
}

async fn sync_room(store: &Store, args: &RunArgs) -> Result<Json, CommandError> {
    let from = args.position()?;
    Ok(match store.sync_room(args.room()?, &from).await? {
        Missed::Gone => json!({ "gone": true }),
        Missed::Reset(now) => json!({ "reset": position(&now) }),
        Missed::Page(missed) => page(&missed),
    })
}

async fn compare_rooms(store: &Store, args: &RunArgs) -> Result<Json, CommandError> {
    let asked = [(args.room()?, args.position()?)];
    let changed = store.compare_rooms(&asked).await?;
    Ok(json!({ "changed": !changed.is_empty() }))
}

impl RunArgs {
    fn needed<T>(&self, value: Option<T>, argument: &'static str) -> Result<T, CommandError> {
        let script = self.script.name();
        value.ok_or(CommandError::Missing { script, argument })
    }

    fn room(&self) -> Result<RoomId, CommandError> {
        self.needed(self.room, "room")
    }

    fn user(&self) -> Result<&UserId, CommandError> {
        self.needed(self.user.as_ref(), "user")
    }

    fn device(&self) -> Result<DeviceId, CommandError> {
        self.needed(self.device, "device")
    }

    /// The server's position in the room.
    fn position(&self) -> Result<Position, CommandError> {
        let epoch = self.needed(self.epoch.as_deref(), "epoch")?;
        Ok(Position {
            epoch: epoch.into(),
            rev: self.rev,
            seq: self.last.seq,
            last_id: self.last,
        })
    }
}

fn page(page: &Page) -> Json {
    let marks: Vec<Json> = page
        .marks
        .0
        .iter()
        .map(|(user, seq)| json!({ "user": user.as_str(), "readSeq": seq }))
        .collect();
    json!({
        "position": position(&page.position),
        "hasMore": page.has_more,
        "messages": Shown(&*page.messages, ContentShape::AsSent),
        "marks": page.small.then_some(marks),
    })
}

fn entry(read: &PositionedEntry) -> Json {
    json!({ "position": position(&read.position), "entry": Shown(&read.entry, ContentShape::AsSent) })
}

fn position(position: &Position) -> Json {
    json!({
        "epoch": &*position.epoch,
        "rev": position.rev,
        "seq": position.seq,
        "lastId": position.last_id.to_string(),
    })
}
