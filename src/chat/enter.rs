//! `enterChat`: this device views a room, and all of the room is marked as read.

use std::time::Duration;

use tokio::time::timeout;

use super::leave;
use super::list::{self, restless};
use super::session::{Session, section};
use crate::error::{ChatError, ErrorCode};
use crate::hub::hold::Section;
use crate::hub::lane::Kind;
use crate::hub::snapshot::Snapshot;
use crate::protocol::event::Ack;
use crate::protocol::frame::{Frame, RequestId};
use crate::protocol::ids::RoomId;
use crate::room::Position;
use crate::store::calls::{Entered, PAGE_MAX_BYTES};
use crate::store::lists::LIST_CHUNK;

/// How long a device that enters waits for the accompanying list.
const LIST_PATIENCE: Duration = Duration::from_secs(1);

/// Sends the latest messages to this device, then its `status` and ack. The device leaves its former room.
pub async fn handle(
    session: &mut Session,
    room: RoomId,
    limit: u32,
    id: Option<&RequestId>,
) -> Result<(), ChatError> {
    let mut snapshot = Snapshot::begin(&session.chat.hub, &session.device).await;
    loop {
        let share = session.chat.answers.take(PAGE_MAX_BYTES).await?;
        let entered = enter(session, room, limit).await?;
        let before = entered.page.position;
        let after = Position {
            rev: entered.rev_after,
            ..before.clone()
        };
        let history = Frame::chat_history(&entered.page.messages, session.device.shape);
        let history = share.cover(history).await?;
        let mut last = vec![Frame::status(&format!("{room} entered"))];
        let result = Ack::Entered {
            room_id: room,
            seq: before.seq,
            has_more: entered.page.has_more,
        };
        last.extend(Session::ack(id, &result));
        // The marker's own event comes between the two.
        let mut sections = vec![section(room, before, vec![history])];
        sections.extend(list(session, &mut snapshot).await);
        sections.push(section(room, after, last));
        let Err(overtaken) = snapshot.finish(sections).await else {
            return Ok(());
        };
        snapshot = overtaken.read_again().await.ok_or_else(restless)?;
    }
}

/// The list that a classic device gets when it enters. One that takes long, or more than one call, is sent later.
async fn list(session: &Session, snapshot: &mut Snapshot) -> Option<Section> {
    let Session { chat, device, .. } = session;
    if !device.is_classic {
        return None;
    }
    let read = async {
        let is_short = chat.hub.rooms_of(&device.user).len() <= LIST_CHUNK;
        if !is_short {
            return None;
        }
        snapshot.reads_list();
        let read = timeout(LIST_PATIENCE, chat.list_reads.read(device)).await;
        list::section(&*read.ok()??.ok()?, device, Kind::Answer)
    };
    let read = read.await;
    if read.is_none() {
        chat.hub.list_untold(device);
    }
    read
}

/// The device views the room, and leaves the one that it viewed before.
async fn enter(session: &mut Session, room: RoomId, limit: u32) -> Result<Entered, ChatError> {
    leave::leave_entered(session, room).await;
    // If the connection ends meanwhile, this is the room to leave.
    session.entering = Some(room);
    let Session { chat, device, .. } = session;
    let entered = chat
        .store
        .enter_chat(room, &device.user, device.id, limit)
        .await;
    let entered = match entered {
        Ok(entered) => entered,
        Err(error) => {
            if error.code != ErrorCode::Timeout {
                session.entering = None;
            }
            return Err(error);
        }
    };
    if session.viewing != Some(room) {
        if let Err(error) = leave::leave_room(session).await {
            // Its lease expires on its own.
            log::debug!("a device could not leave its former room: {error}");
        }
        session
            .chat
            .hub
            .set_viewing(&session.device, None, Some(room));
        session.viewing = Some(room);
    }
    session.entering = None;
    Ok(entered)
}
