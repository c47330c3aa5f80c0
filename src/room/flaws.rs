//! Stored or published data that does not match the scripts' headers: it is shown as far as it can be read.
//!
//! A message that an operator's rule or manual edit has damaged affects only itself. In texts, bytes that are not UTF-8
//! become U+FFFD, and what cannot be read at all is empty.

use std::fmt;

use crate::protocol::content::Parts;
use crate::protocol::ids::{MessageId, RoomId};

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    pub room: RoomId,
    /// `None` if it does not concern a single message.
    pub message: Option<MessageId>,
    /// A clause without a full stop. It never contains what people wrote.
    pub what: String,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "room {}", self.room)?;
        if let Some(id) = self.message {
            write!(f, ", message {id}")?;
        }
        write!(f, ": {}", self.what)
    }
}

/// The flaws of one reply or event.
#[derive(Debug, Default)]
pub struct Flaws(pub Vec<Flaw>);

impl Flaws {
    pub fn add(&mut self, room: RoomId, message: Option<MessageId>, what: impl Into<String>) {
        let what = what.into();
        self.0.push(Flaw {
            room,
            message,
            what,
        });
    }

    /// For the fields of a room, or of a message in it.
    pub fn of(&mut self, room: RoomId, message: Option<MessageId>) -> Reading<'_> {
        Reading {
            flaws: self,
            room,
            message,
        }
    }
}

/// The fields of one thing, while they are being read.
pub struct Reading<'a> {
    flaws: &'a mut Flaws,
    room: RoomId,
    message: Option<MessageId>,
}

impl Reading<'_> {
    /// Notes what is wrong with the field of this name.
    pub fn note(&mut self, name: &str, what: &str) {
        self.flaws
            .add(self.room, self.message, format!("its {name} {what}"));
    }

    /// How a content is divided into strings; `None` if that cannot be read, and the content is then one string.
    pub fn parts(&mut self, text: &str) -> Option<Parts> {
        let parts = Parts::parse(text);
        if parts.is_none() {
            self.note("parts", "are no numbers of bytes");
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flaw_names_its_place() {
        let room = RoomId::random();
        let mut flaws = Flaws::default();
        flaws
            .of(room, Some(MessageId { ms: 7, seq: 1 }))
            .note("content", "is not UTF-8");
        flaws.add(room, None, "an event could not be read");
        let texts: Vec<String> = flaws.0.iter().map(Flaw::to_string).collect();
        let message = format!("room {room}, message 7-1: its content is not UTF-8");
        assert_eq!(
            texts,
            [message, format!("room {room}: an event could not be read")]
        );
    }
}
