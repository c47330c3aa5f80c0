//! A simple model of the store as a server sees it: rooms that change step by step and can be set back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::hub::published::{Change, RoomEvent, RoomGained};
use crate::protocol::content::TEXT;
use crate::protocol::event::Message;
use crate::protocol::ids::{MessageId, RoomId, UserId};
use crate::room::{Marks, Missed, Page, Position, PositionedEntry, RoomFacts};

/// Messages in a page of a repair: few, so that repairs take several.
const SYNC_PAGE: usize = 3;

#[derive(Default)]
pub(super) struct Store {
    rooms: BTreeMap<RoomId, Room>,
    /// Counts what is stored, so that nothing is stored twice under the same id.
    written: u64,
}

struct Room {
    members: BTreeSet<UserId>,
    history: History,
    /// What the history was before each of its changes.
    before: Vec<History>,
    /// Markers were lost, and no message with them.
    lost_marks: bool,
}

#[derive(Clone)]
pub(super) struct History {
    epoch: Arc<str>,
    rev: u64,
    pub messages: Vec<Message>,
    pub marks: BTreeMap<UserId, u64>,
}

impl History {
    fn position(&self) -> Position {
        let last = self.messages.last();
        Position {
            epoch: self.epoch.clone(),
            rev: self.rev,
            seq: last.map_or(0, |last| last.seq),
            last_id: last.map_or(MessageId::NONE, |last| last.id),
        }
    }

    fn marks(&self) -> Marks {
        let mark = |(user, seq): (&UserId, &u64)| (user.clone(), *seq);
        Marks(self.marks.iter().map(mark).collect())
    }

    /// The messages after the first `count`, as readers get them.
    fn read_after(&self, count: usize) -> Vec<Message> {
        let marks = self.marks();
        let read = |message: &Message| Message {
            read_by: marks.read_by(message.seq),
            ..message.clone()
        };
        self.messages.iter().skip(count).map(read).collect()
    }
}

impl Store {
    fn new_epoch(&mut self) -> Arc<str> {
        self.written += 1;
        format!("{}-epoch", self.written).into()
    }

    /// Creates the room. `None` if it exists already.
    pub(super) fn make(&mut self, room: RoomId, members: &[UserId]) -> Option<RoomGained> {
        if self.rooms.contains_key(&room) {
            return None;
        }
        let history = History {
            epoch: self.new_epoch(),
            rev: 1,
            messages: Vec::new(),
            marks: BTreeMap::new(),
        };
        let made = Room {
            members: members.iter().cloned().collect(),
            history,
            before: Vec::new(),
            lost_marks: false,
        };
        self.rooms.insert(room, made);
        self.gained(room)
    }

    /// The user becomes a member. `None` if the room does not exist, or the user is a member already.
    pub(super) fn add(&mut self, room: RoomId, user: &UserId) -> Option<RoomGained> {
        let is_new = self.rooms.get_mut(&room)?.members.insert(user.clone());
        is_new.then(|| self.gained(room)).flatten()
    }

    fn gained(&self, room: RoomId) -> Option<RoomGained> {
        let Room {
            members, history, ..
        } = self.rooms.get(&room)?;
        Some(RoomGained {
            room,
            position: history.position(),
            facts: facts(members),
            fresh: history.rev == 1 && members.len() == FOUNDERS,
        })
    }

    /// Changes the room. `None` if the user is no member.
    fn change(
        &mut self,
        room: RoomId,
        user: &UserId,
        change: impl FnOnce(&mut History, u64) -> Option<Change>,
    ) -> Option<RoomEvent> {
        self.written += 1;
        let room = self.rooms.get_mut(&room)?;
        if !room.members.contains(user) {
            return None;
        }
        let before = room.history.clone();
        let change = change(&mut room.history, self.written)?;
        room.history.rev += 1;
        room.before.push(before);
        let position = room.history.position();
        Some(RoomEvent { position, change })
    }

    pub(super) fn send(&mut self, room: RoomId, user: &UserId) -> Option<RoomEvent> {
        self.change(room, user, |history, written| {
            let seq = history.position().seq + 1;
            let id = MessageId { ms: written, seq };
            let message = Message {
                id,
                room_id: room,
                seq,
                sender_id: user.to_string(),
                kind: TEXT.into(),
                content: id.to_string(),
                parts: None,
                timestamp: id.timestamp(),
                read_by: vec![user.to_string()],
                read_count: 1,
                client_message_id: None,
                truncated: false,
            };
            history.messages.push(message.clone());
            history.marks.insert(user.clone(), seq);
            Some(Change::Message(message))
        })
    }

    /// The user has read everything.
    pub(super) fn mark(&mut self, room: RoomId, user: &UserId) -> Option<RoomEvent> {
        self.change(room, user, |history, _| {
            let Position { seq, last_id, .. } = history.position();
            let former = history.marks.insert(user.clone(), seq).unwrap_or_default();
            (former < seq).then(|| Change::Read {
                user: user.clone(),
                read_seq: seq,
                message_id: Some(last_id),
                to_members: true,
            })
        })
    }

    /// The last changes of the room are lost.
    pub(super) fn set_back(&mut self, room: RoomId, changes: usize) {
        let Some(room) = self.rooms.get_mut(&room) else {
            return;
        };
        let kept = room.before.len().saturating_sub(changes);
        let Some(history) = room.before.drain(kept..).next() else {
            return;
        };
        room.lost_marks |= history.messages.len() == room.history.messages.len();
        room.history = history;
    }

    /// Another history replaces the room's.
    pub(super) fn replace(&mut self, room: RoomId) {
        let epoch = self.new_epoch();
        if let Some(room) = self.rooms.get_mut(&room) {
            room.history.epoch = epoch;
            room.before.clear();
        }
    }

    pub(super) fn remove(&mut self, room: RoomId) {
        self.rooms.remove(&room);
    }

    pub(super) fn position(&self, room: RoomId) -> Option<Position> {
        Some(self.rooms.get(&room)?.history.position())
    }

    pub(super) fn members(&self, room: RoomId) -> Vec<UserId> {
        let room = self.rooms.get(&room);
        room.map(|room| room.members.iter().cloned().collect())
            .unwrap_or_default()
    }

    /// The user's rooms.
    pub(super) fn index(&self, user: &UserId) -> Vec<RoomId> {
        let of_user = |(id, room): (&RoomId, &Room)| room.members.contains(user).then_some(*id);
        self.rooms.iter().filter_map(of_user).collect()
    }

    pub(super) fn history(&self, room: RoomId) -> Option<&History> {
        Some(&self.rooms.get(&room)?.history)
    }

    /// Whether markers of the room were ever lost without a message.
    pub(super) fn lost_marks(&self, room: RoomId) -> bool {
        self.rooms.get(&room).is_some_and(|room| room.lost_marks)
    }

    /// As `get_chat_list` reads it.
    pub(super) fn entry(&self, user: &UserId, room: RoomId) -> Option<PositionedEntry> {
        let Room {
            members, history, ..
        } = self.rooms.get(&room)?;
        if !members.contains(user) {
            return None;
        }
        let position = history.position();
        let mut entry = facts(members).entry_for(user.as_str(), room, &position, 0);
        entry.read_seq = history.marks.get(user).copied().unwrap_or_default();
        entry.last_message = history.messages.last().cloned();
        Some(PositionedEntry { entry, position })
    }

    /// As `compare_rooms` does.
    pub(super) fn is_elsewhere(&self, room: RoomId, at: &Position) -> bool {
        self.position(room).as_ref() != Some(at)
    }

    /// As `sync_room` does.
    pub(super) fn missed(&self, room: RoomId, from: &Position) -> Missed {
        let Some(room) = self.rooms.get(&room) else {
            return Missed::Gone;
        };
        let (history, position) = (&room.history, room.history.position());
        let known = match from.last_id {
            MessageId::NONE => Some(0),
            last => history
                .messages
                .iter()
                .position(|message| message.id == last),
        };
        let is_same = position.epoch == from.epoch && position.rev >= from.rev;
        let Some(known) = known.filter(|_| is_same) else {
            return Missed::Reset(position);
        };
        let known = known + usize::from(from.last_id != MessageId::NONE);
        let mut messages = history.read_after(known);
        let has_more = messages.len() > SYNC_PAGE;
        messages.truncate(SYNC_PAGE);
        Missed::Page(Page {
            position,
            has_more,
            messages,
            small: true,
            marks: history.marks(),
        })
    }
}

/// The number of members that a room is created with.
pub(super) const FOUNDERS: usize = 2;

fn facts(members: &BTreeSet<UserId>) -> RoomFacts {
    RoomFacts {
        is_group: true,
        name: String::new(),
        member_count: members.len() as u64,
        members: members.iter().map(UserId::to_string).collect(),
    }
}
