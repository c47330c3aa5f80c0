//! What is recorded during a drill, for the checker to judge.

use std::collections::BTreeMap;

/// A message as a device or a fresh client received it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) room: String,
    pub(crate) id: String,
    pub(crate) seq: u64,
    pub(crate) sender: String,
    pub(crate) content: String,
}

/// The whole record of one drill: what the devices did and saw, and the final state.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record {
    pub(crate) devices: Vec<DeviceLog>,
    /// Each room's whole history, read by a client that took no part.
    pub(crate) histories: BTreeMap<String, Vec<Message>>,
    /// Each user's chat list, read the same way.
    pub(crate) lists: BTreeMap<String, Vec<Entry>>,
    /// The time after the load, in which nobody sent a request.
    pub(crate) rest: Rest,
}

/// How often the servers called Redis while no device sent them a request.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rest {
    /// Scripts that Redis ran.
    pub(crate) calls: u64,
    /// How many it may run in that time.
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

/// What one device did and saw, in order. It covers all of the device's connections.
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
    /// It is connected, and received a room's position: the next message in it is `seq` + 1.
    Began { room: String, seq: u64 },
    /// It sent a request, under a number that no other request of the device has.
    Asked { request: u64, event: &'static str },
    /// The server answered, by an ack or an error.
    Answered { request: u64 },
    /// It sent a message; `attempt` is a number of its own, even where the content was sent before.
    Sent {
        attempt: u64,
        room: String,
        content: String,
    },
    /// The server acked it as stored.
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
    /// A page that it requested to catch up; it begins after the message of this number.
    Page {
        room: String,
        after: u64,
        messages: Vec<Message>,
    },
    /// `HISTORY_RESET`: what it has of the room no longer counts.
    Reset { room: String },
    /// Its mark was accepted; its user has read up to here.
    Marked { room: String, seq: u64 },
    /// It requested a mark up to here, and does not know the outcome.
    MaybeMarked { room: String, seq: u64 },
    /// The connection ended; events may be missed.
    Disconnected,
}

impl Step {
    /// The room that it is about, if the step names one.
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
