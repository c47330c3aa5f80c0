//! What is written down during a drill, for the checker to judge.

use std::collections::BTreeMap;

/// A message as a device or a fresh client was given it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) room: String,
    pub(crate) id: String,
    pub(crate) seq: u64,
    pub(crate) sender: String,
    pub(crate) content: String,
}

/// All of one drill: what the devices went through, and what there is in the end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record {
    pub(crate) devices: Vec<DeviceLog>,
    /// Each room's whole history, read by a client that took no part.
    pub(crate) histories: BTreeMap<String, Vec<Message>>,
    /// Each user's chat list, read the same way.
    pub(crate) lists: BTreeMap<String, Vec<Entry>>,
    /// The time after the load, in which nobody asked for anything.
    pub(crate) rest: Rest,
}

/// What the servers asked Redis for while no device asked them for anything.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rest {
    /// Scripts that Redis ran.
    pub(crate) calls: u64,
    /// How many it may be asked for in that time.
    pub(crate) allowed: u64,
}

/// One room of a chat list.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) room: String,
    pub(crate) seq: u64,
    pub(crate) read_seq: u64,
    pub(crate) unread: u64,
}

/// What one device did and saw, in its order. It lives on over its connections.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeviceLog {
    pub(crate) name: String,
    pub(crate) user: String,
    /// Whether it was connected in the end, and so must have everything.
    pub(crate) stayed: bool,
    pub(crate) steps: Vec<Step>,
}

/// One thing that happened to a device.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// It is connected, and was told where a room is: what comes next in it is `seq` + 1.
    Began { room: String, seq: u64 },
    /// It asked for something, by a number that no other request of the device has.
    Asked { request: u64, event: &'static str },
    /// The server answered, by an ack or an error.
    Answered { request: u64 },
    /// It sent something; `attempt` is a number of its own, also where the content was sent before.
    Sent {
        attempt: u64,
        room: String,
        content: String,
    },
    /// The server said that it is stored.
    Acked {
        attempt: u64,
        id: String,
        seq: u64,
        duplicate: bool,
    },
    /// The server said that it is not stored.
    Refused { attempt: u64, code: String },
    /// The server said that it does not know, or the connection ended before it answered.
    Unknown { attempt: u64 },
    /// `newMessage`.
    Saw(Message),
    /// A page that it asked for to catch up; it begins after the message of this number.
    Page {
        room: String,
        after: u64,
        messages: Vec<Message>,
    },
    /// `HISTORY_RESET`: what it has of the room counts no more.
    Reset { room: String },
    /// Its mark was taken; its user has read up to here.
    Marked { room: String, seq: u64 },
    /// It asked for a mark up to here, and does not know what came of it.
    MaybeMarked { room: String, seq: u64 },
    /// The connection ended; events may pass it by.
    Disconnected,
}

impl Step {
    /// The room that it is about, where it says so itself.
    pub(crate) fn room(&self) -> Option<&str> {
        match self {
            Self::Began { room, .. }
            | Self::Sent { room, .. }
            | Self::Page { room, .. }
            | Self::Reset { room }
            | Self::Marked { room, .. }
            | Self::MaybeMarked { room, .. } => Some(room),
            Self::Saw(message) => Some(&message.room),
            Self::Acked { .. }
            | Self::Refused { .. }
            | Self::Unknown { .. }
            | Self::Asked { .. }
            | Self::Answered { .. }
            | Self::Disconnected => None,
        }
    }
}

/// The beginning of a content, for messages: some are long.
pub(crate) fn short(content: &str) -> &str {
    let end = content.char_indices().nth(40).map(|(end, _)| end);
    &content[..end.unwrap_or(content.len())]
}
