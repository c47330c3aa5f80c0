//! What a delta device knows of its rooms: it follows the protocol's own recipe to the letter, so that a wrong, missing
//! or repeated event shows.

use std::collections::BTreeMap;

use super::{Frame, Value, find_entry};

/// The state of one delta device.
#[derive(Debug)]
pub(crate) struct Mirror {
    user: String,
    rooms: BTreeMap<String, Room>,
}

/// One room in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Room {
    pub(crate) seq: u64,
    /// How far each user has read, as far as this device was notified.
    pub(crate) markers: BTreeMap<String, u64>,
    /// The messages that arrived, in order of arrival.
    pub(crate) contents: Vec<String>,
}

impl Mirror {
    /// Starts with the list that came after connecting.
    pub(crate) fn new(user: &str, first_list: &Value) -> Self {
        let mut mirror = Self {
            user: user.into(),
            rooms: BTreeMap::new(),
        };
        for entry in first_list.as_array().expect("a list") {
            mirror.take(entry);
        }
        mirror
    }

    /// Takes one entry as the room's state.
    fn take(&mut self, entry: &Value) {
        let room = self.rooms.entry(text(&entry["roomId"])).or_default();
        room.seq = number(&entry["seq"]);
        room.markers
            .insert(self.user.clone(), number(&entry["readSeq"]));
    }

    /// Takes an event into account.
    #[track_caller]
    pub(crate) fn apply(&mut self, frame: &Frame) {
        let data = &frame.data;
        match frame.event.as_str() {
            "chatEntry" => self.take(data),
            "newMessage" => {
                let seq = number(&data["seq"]);
                let user = &self.user;
                let room = self.rooms.get_mut(&text(&data["roomId"]));
                let room = room.unwrap_or_else(|| panic!("{user} never heard of the room: {data}"));
                assert_eq!(seq, room.seq + 1, "{user}: a hole or a repeat at {data}");
                room.seq = seq;
                room.contents.push(text(&data["content"]));
                let readers = data["readBy"].as_array().expect("readBy").iter().map(text);
                for reader in readers.chain([text(&data["senderId"])]) {
                    room.markers.insert(reader, seq);
                }
            }
            "messageRead" => {
                let user = &self.user;
                let room = self.rooms.get_mut(&text(&data["roomId"]));
                let room = room.unwrap_or_else(|| panic!("{user} never heard of the room: {data}"));
                let marker = room.markers.entry(text(&data["userId"])).or_default();
                *marker = (*marker).max(number(&data["seq"]));
            }
            _ => {}
        }
    }

    /// One room.
    #[track_caller]
    pub(crate) fn room(&self, room: &str) -> &Room {
        self.rooms
            .get(room)
            .unwrap_or_else(|| panic!("{} has no room {room}", self.user))
    }

    /// How far the device's own user has read.
    pub(crate) fn read_seq(&self, room: &str) -> u64 {
        self.room(room)
            .markers
            .get(&self.user)
            .copied()
            .unwrap_or(0)
    }

    /// Checks that a list from the server says the same.
    #[track_caller]
    pub(crate) fn assert_agrees(&self, list: &Value) {
        if let Some(difference) = self.difference(list) {
            panic!("{}: {difference}", self.user);
        }
    }

    /// Where a list from the server differs.
    pub(crate) fn difference(&self, list: &Value) -> Option<String> {
        for (id, room) in &self.rooms {
            let Some(entry) = find_entry(list, id) else {
                return Some(format!("room {id} is missing in {list}"));
            };
            let read = self.read_seq(id);
            let kept = (room.seq, read, room.seq - read);
            let told = (
                number(&entry["seq"]),
                number(&entry["readSeq"]),
                number(&entry["unreadCnt"]),
            );
            if kept != told {
                return Some(format!(
                    "(seq, readSeq, unread) in room {id}: kept {kept:?}, told {told:?}"
                ));
            }
        }
        let (kept, told) = (self.rooms.len(), list.as_array().expect("a list").len());
        (kept != told).then(|| format!("{kept} rooms were kept, {told} told"))
    }
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("not a string: {value}"))
        .to_owned()
}

fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("not a count: {value}"))
}
