//! `initializeChat`: a room for the caller and others.

use std::sync::Arc;
use std::time::Instant;

use super::list;
use super::session::Session;
use crate::error::{ChatError, ErrorCode};
use crate::hub::hold::{Cuts, Section};
use crate::hub::lane::Kind;
use crate::hub::published::RoomGained;
use crate::hub::snapshot::Snapshot;
use crate::protocol::event::{Ack, RoomMembers, Shown};
use crate::protocol::frame::{Frame, RequestId};
use crate::protocol::ids::{RoomId, UserId};
use crate::room::PositionedEntry;
use crate::store::calls::{Initialized, NewRoom};

/// The room that a client asks for.
pub struct Wish {
    pub participants: Vec<UserId>,
    pub name: Option<String>,
    pub client_room_id: Option<String>,
}

/// Creates the room or finds it, announces it to this device, then sends its `status` and ack.
pub async fn handle(
    session: &Session,
    wish: Wish,
    id: Option<&RequestId>,
) -> Result<(), ChatError> {
    let members = members(session, wish.participants)?;
    let is_group = members.len() > 2;
    let room = room_id(&members, is_group, wish.client_room_id.as_deref());
    // Begun before the call: the list that this device gets for the new room precedes its status.
    let snapshot = Snapshot::begin(&session.chat.hub, &session.device).await;
    let name = wish.name.filter(|_| is_group).unwrap_or_default();
    let new = NewRoom {
        room,
        is_group,
        name: &name,
        members: &members,
    };
    let done = make(session, new).await?;
    if let Some(gained) = done
        .event
        .as_ref()
        .and_then(|event| RoomGained::parse(event.as_bytes()))
    {
        session.chat.hub.room_gained(&session.device.user, &gained);
    }
    let mut last = Vec::new();
    if session.device.is_classic {
        let told = RoomMembers {
            room_id: room,
            members: others(&members, done.entry.as_ref()),
        };
        last.push(Frame::event("roomMembers", &told));
    }
    last.push(Frame::status(&format!("{room} initialized")));
    last.extend(Session::ack(
        id,
        &Ack::Initialized {
            room_id: room,
            created: done.created,
        },
    ));
    tell_caller(session, snapshot, room, done, last).await
}

/// Creates the room or finds it, within what the user has left for new rooms.
async fn make(session: &Session, new: NewRoom<'_>) -> Result<Initialized, ChatError> {
    let (chat, user) = (&session.chat, &session.device.user);
    let members = new.members.len();
    let taken = chat.new_rooms.take(user, members, Instant::now());
    // A room that already exists is not new.
    if !taken && !chat.hub.follows(user, new.room) {
        return Err(ChatError::new(
            ErrorCode::RateLimited,
            "too many new chats in a short time: this one was not made, try again in a minute",
        ));
    }
    let done = chat.store.initialize_chat(new).await;
    let made = match &done {
        Ok(done) => done.created,
        Err(error) => error.code == ErrorCode::Timeout,
    };
    if taken && !made {
        chat.new_rooms.give_back(user, members);
    }
    done
}

async fn tell_caller(
    session: &Session,
    snapshot: Snapshot,
    room: RoomId,
    done: Initialized,
    last: Vec<Frame>,
) -> Result<(), ChatError> {
    if list::is_full(&session.device) {
        let Session { chat, device, .. } = session;
        let after = |_| last.clone();
        let told = list::send_whole(chat, device, snapshot, Vec::new(), after, None).await;
        if told.is_err() {
            // The room exists all the same; the list follows when it can be read.
            session.send_all(last);
        }
        return Ok(());
    }
    match done.entry {
        Some(read) => {
            let mut frames = vec![Frame::event(
                "chatEntry",
                &Shown(&read.entry, session.device.shape),
            )];
            frames.extend(last.clone());
            let entry = Section {
                cuts: Arc::new(Cuts::from([(room, read.position)])),
                frames,
                kind: Kind::Answer,
                tells_rooms: true,
            };
            if snapshot.finish(vec![entry]).await.is_err() {
                session.chat.hub.entry_outdated(&session.device, room);
                session.send_all(last);
            }
        }
        None => {
            // `room_gained` queued the entry of a new room; it is held until the snapshot ends.
            drop(snapshot);
            session.send_all(last);
        }
    }
    Ok(())
}

/// Everyone in the room, each once, the caller first.
fn members(session: &Session, participants: Vec<UserId>) -> Result<Vec<UserId>, ChatError> {
    let caller = &session.device.user;
    let others = participants.into_iter().filter(|user| user != caller);
    let members: Vec<UserId> = std::iter::once(caller.clone()).chain(others).collect();
    if members.len() < 2 {
        return Err(ChatError::invalid_payload(
            "\"participants\" must name at least one other user",
        ));
    }
    Ok(members)
}

/// The others in the room. A room that existed before keeps its members.
fn others(members: &[UserId], found: Option<&PositionedEntry>) -> Vec<String> {
    let Some(PositionedEntry { entry, .. }) = found else {
        return members.iter().skip(1).map(UserId::to_string).collect();
    };
    match &entry.group {
        Some(group) => group.members.clone(),
        None => entry.friend_id.iter().cloned().collect(),
    }
}

fn room_id(members: &[UserId], is_group: bool, client_room_id: Option<&str>) -> RoomId {
    match (members, client_room_id) {
        ([one, other], _) if !is_group => RoomId::direct(one, other),
        ([creator, ..], Some(client_room_id)) => RoomId::named_group(creator, client_room_id),
        _ => RoomId::random(),
    }
}
