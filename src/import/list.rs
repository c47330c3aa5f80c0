//! The list of an old room's messages, read in chunks from its newest end.

use super::ImportError;
use super::members::Members;
use super::message::{self, OldMessage};
use super::old::OldServer;
use super::report::{Report, What, Why};
use crate::store::keys::replaced::{self, Part};

/// How many messages are read at a time: an image may take megabytes.
const CHUNK: i64 = 20;
/// How many messages of a list are imported, at most; the replaced server kept 100.
const MESSAGES_MAX: i64 = 10_000;
/// Bytes of the contents that are imported from a list, at most.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// An end of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Head,
    Tail,
}

/// The list that is being read.
pub(super) struct List<'a> {
    room: &'a str,
    length: i64,
    newest: End,
    taken: Vec<OldMessage>,
    bytes: usize,
}

impl<'a> List<'a> {
    /// The messages of a room in the order of the list: all that can be placed among the others, or the newest if there
    /// are too many. The others are listed in the report.
    pub(super) async fn read(
        room: &'a str,
        old: &mut OldServer,
        members: &Members,
        content_max_bytes: usize,
        report: &mut Report,
    ) -> Result<Vec<OldMessage>, ImportError> {
        let Some(length) = old.count_messages(room).await? else {
            let key = replaced::room(room, Part::Messages);
            report.refuse(What::Key(&key), &Why::WrongType);
            return Ok(Vec::new());
        };
        let mut list = Self {
            room,
            length,
            newest: newest_end(old, room).await?,
            taken: Vec::new(),
            bytes: 0,
        };
        let most = length.min(MESSAGES_MAX);
        let mut read = 0;
        while read < most && list.bytes < BYTES_MAX {
            let next = (read + CHUNK).min(most);
            for (from_end, json) in (read..).zip(list.chunk(old, read, next).await?) {
                match message::parse(&json, members, content_max_bytes) {
                    Ok(message) => list.take(message),
                    Err((Some(id), why)) => report.refuse(What::Message { room, id: &id }, &why),
                    Err((None, why)) => {
                        let index = list.index(from_end);
                        report.refuse(What::Entry { room, index }, &why);
                    }
                }
            }
            read = next;
        }
        if let (Ok(messages @ 1..), Ok(at_most)) = (u64::try_from(length - read), read.try_into()) {
            report.refuse(What::Room(room), &Why::TooMany { messages, at_most });
        }
        if list.newest == End::Tail {
            list.taken.reverse();
        }
        Ok(list.taken)
    }

    /// The messages between two distances from the newest end, nearest first.
    async fn chunk(
        &self,
        old: &mut OldServer,
        from: i64,
        to: i64,
    ) -> Result<Vec<Vec<u8>>, ImportError> {
        match self.newest {
            End::Head => old.messages(self.room, from, to - 1).await,
            End::Tail => {
                let mut found = old.messages(self.room, -to, -1 - from).await?;
                found.reverse();
                Ok(found)
            }
        }
    }

    fn take(&mut self, message: OldMessage) {
        self.bytes += message
            .said
            .as_ref()
            .map_or(0, |said| said.content.text.len());
        self.taken.push(message);
    }

    /// The index in the list of the message at this distance from the newest end.
    fn index(&self, from_end: i64) -> u64 {
        let index = match self.newest {
            End::Head => from_end,
            End::Tail => self.length - 1 - from_end,
        };
        u64::try_from(index).unwrap_or_default()
    }
}

/// The end of a list that has its newest messages; the tail if the times do not show it.
async fn newest_end(old: &mut OldServer, room: &str) -> Result<End, ImportError> {
    let mut time = async |index: i64| {
        let found = old.messages(room, index, index).await?;
        Ok::<_, ImportError>(found.first().and_then(|json| message::time_of(json)))
    };
    let (head, tail) = (time(0).await?, time(-1).await?);
    Ok(match (head, tail) {
        (Some(head), Some(tail)) if head > tail => End::Head,
        _ => End::Tail,
    })
}
