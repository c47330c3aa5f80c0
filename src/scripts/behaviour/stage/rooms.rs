//! Rooms on a stage, and the messages in them.

use super::{Room, Said, Stage};
use crate::hub::published::Change;
use crate::protocol::ids::{RoomId, UserId};
use crate::room::{PositionedEntry, Topic};
use crate::scripts::Script;
use crate::scripts::behaviour::compare::{must, same, same_position, same_text};
use crate::scripts::behaviour::fault::{Ended, Fault};
use crate::store::calls::NewRoom;

impl Stage {
    /// The room as the user's list has it; its position must be that of the last event.
    pub(in crate::scripts::behaviour) async fn entry(
        &mut self,
        room: &Room,
        user: &UserId,
        script: Script,
    ) -> Result<PositionedEntry, Ended> {
        let entry = self.listed(room.id, user, script).await?;
        same_position(script, "after the last event", &entry.position, &room.at)?;
        Ok(entry)
    }

    /// The room as the user's list has it.
    pub(in crate::scripts::behaviour) async fn listed(
        &mut self,
        room: RoomId,
        user: &UserId,
        script: Script,
    ) -> Result<PositionedEntry, Ended> {
        let store = self.store.clone();
        let asked = [room];
        let call = store.get_chat_list(user, &asked, false);
        let chunk = self.call(Script::GetChatList, call).await?;
        let entry = chunk.entries.into_iter().next().flatten();
        entry.ok_or_else(|| {
            Fault::wrong(script, "a member does not have the room in the list").into()
        })
    }

    /// A new group of new users, with a subscription to it.
    pub(in crate::scripts::behaviour) async fn group(
        &mut self,
        size: usize,
    ) -> Result<Room, Ended> {
        let members = (0..size).map(|_| UserId::random()).collect();
        self.make(RoomId::random(), true, members).await
    }

    /// A new room of two new users, with a subscription to it.
    pub(in crate::scripts::behaviour) async fn direct(&mut self) -> Result<Room, Ended> {
        let members = vec![UserId::random(), UserId::random()];
        let id = RoomId::direct(&members[0], &members[1]);
        self.make(id, false, members).await
    }

    pub(in crate::scripts::behaviour) async fn make(
        &mut self,
        id: RoomId,
        is_group: bool,
        members: Vec<UserId>,
    ) -> Result<Room, Ended> {
        self.follow(Topic::Room(id)).await?;
        let store = self.store.clone();
        let new = NewRoom {
            room: id,
            is_group,
            name: if is_group { "Book club" } else { "" },
            members: &members,
        };
        let script = Script::InitializeChat;
        self.call(script, store.initialize_chat(new)).await?;
        // Messages that an operator's rule adds to a new room come before the trial.
        self.payloads(&Topic::Room(id)).await?;
        let creator = members.first().cloned().unwrap_or_else(UserId::random);
        let at = self.listed(id, &creator, script).await?.position;
        Ok(Room {
            id,
            is_group,
            members,
            at,
        })
    }

    /// A new message by a member; it must be the next one, and be published once.
    pub(in crate::scripts::behaviour) async fn say(
        &mut self,
        room: &mut Room,
        sender: usize,
        client_id: Option<&str>,
    ) -> Result<Said, Ended> {
        let script = Script::SendMessage;
        let user = room.members[sender].clone();
        let next = room.at.seq + 1;
        let store = self.store.clone();
        let call = store.send_message(room.id, &user, "Good morning", client_id);
        let sent = self.call(script, call).await?;
        must(
            !sent.duplicate,
            script,
            "a new message is reported as a duplicate",
        )?;
        same(
            script,
            "the number in the new message's id",
            &sent.id.seq,
            &next,
        )?;

        let events = self.events(room, script).await?;
        let mut tellings = events.into_iter().filter_map(|event| match event.change {
            Change::Message(message) if message.id == sent.id => Some(message),
            _ => None,
        });
        let Some(message) = tellings.next() else {
            return Err(Fault::wrong(script, "a new message was not published").into());
        };
        same_text(
            script,
            "the sender published",
            &message.sender_id,
            user.as_str(),
        )?;
        let published_id = message.client_message_id.as_deref().unwrap_or_default();
        let client_id = client_id.unwrap_or_default();
        same_text(
            script,
            "the clientMessageId published",
            published_id,
            client_id,
        )?;
        self.entry(room, &user, script).await?;
        Ok(Said {
            id: sent.id,
            text: message.content,
            read_by: message.read_by,
        })
    }
}
