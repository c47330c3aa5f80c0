//! The import of one room: reads the old rooms that become it, and writes what it does not have yet.

use super::ImportError;
use super::index::Room;
use super::list::List;
use super::members::Members;
use super::message::OldMessage;
use super::old::OldServer;
use super::order;
use super::plan::{Plan, plan};
use super::report::{Report, What, Why};
use super::target::{RoomHead, Stored, Target, Written};
use crate::protocol::ids::RoomId;
use crate::protocol::request::NAME_MAX_CHARS;
use crate::store::keys::replaced::{self, Part};

/// How many messages one call writes, at most.
const CHUNK_MESSAGES: usize = 200;
/// Bytes of their contents, at most; a single message may have more.
const CHUNK_BYTES: usize = 1024 * 1024;
/// How many times the import tries to write a room that others write to.
const ATTEMPTS: usize = 3;

/// One room on its way from the old server to the new one.
pub(super) struct Transfer<'a> {
    pub(super) old: &'a mut OldServer,
    pub(super) target: &'a mut Target,
    pub(super) report: &'a mut Report,
    pub(super) room: &'a Room,
}

impl Transfer<'_> {
    /// Writes what the new server does not have of the room, and lists what is not imported.
    pub(super) async fn run(mut self, id: RoomId) -> Result<(), ImportError> {
        let Some(first) = self.room.from.first() else {
            return Ok(());
        };
        let stored = match self.target.read(id).await? {
            Ok(stored) => stored,
            Err(why) => {
                self.report.refuse(What::Room(first), &why);
                return Ok(());
            }
        };
        let members = self.old.members(first, self.report).await?;
        if members.list().len() < 2 {
            self.report.refuse(What::Room(first), &Why::OneMember);
            return Ok(());
        }
        let name = self.name().await?;
        let messages = self.messages(&members).await?;
        let head = RoomHead {
            room: id,
            is_group: self.room.is_group,
            name: &name,
            members: members.list(),
        };
        match self.write(&head, &members, &messages, stored).await? {
            Ok(refused) => {
                for (id, why) in refused {
                    self.report.refuse(What::Message { room: first, id }, &why);
                }
            }
            Err(why) => self.report.refuse(What::Room(first), &why),
        }
        Ok(())
    }

    /// The messages of all old rooms, in order of time.
    async fn messages(&mut self, members: &Members) -> Result<Vec<OldMessage>, ImportError> {
        let content_max_bytes = self.target.limits.max_content_bytes;
        let mut lists = Vec::with_capacity(self.room.from.len());
        for from in &self.room.from {
            let list = List::read(from, self.old, members, content_max_bytes, self.report);
            lists.push(list.await?);
        }
        Ok(order::merged(lists))
    }

    /// The room's name; empty for a direct room.
    async fn name(&mut self) -> Result<String, ImportError> {
        let mut taken = String::new();
        for room in &self.room.from {
            let name = match self.old.name(room).await? {
                Ok(name) => name.unwrap_or_default(),
                Err(why) => {
                    let key = replaced::room(room, Part::Name);
                    self.report.refuse(What::Key(&key), &why);
                    continue;
                }
            };
            taken = name.chars().take(NAME_MAX_CHARS).collect();
            if !self.room.is_group && !name.is_empty() {
                self.report.refuse(What::Room(room), &Why::NameOfTwo);
                taken.clear();
            } else if taken.len() < name.len() {
                self.report.refuse(What::Room(room), &Why::NameCut);
            }
        }
        Ok(taken)
    }

    /// Writes what the room does not have, starting over if others write to it meanwhile. Returns the messages that are
    /// refused.
    async fn write<'m>(
        &mut self,
        head: &RoomHead<'_>,
        members: &'m Members,
        messages: &'m [OldMessage],
        mut stored: Stored,
    ) -> Result<Result<Vec<(&'m str, Why)>, Why>, ImportError> {
        for _ in 0..ATTEMPTS {
            let plan = plan(messages, members, &stored);
            match self.write_plan(head, &plan, &stored).await? {
                Ok(()) => return Ok(Ok(plan.refused)),
                Err(Why::Contended) => {}
                Err(why) => return Ok(Err(why)),
            }
            stored = match self.target.read(head.room).await? {
                Ok(stored) => stored,
                Err(why) => return Ok(Err(why)),
            };
        }
        Ok(Err(Why::Contended))
    }

    async fn write_plan(
        &mut self,
        head: &RoomHead<'_>,
        plan: &Plan<'_>,
        stored: &Stored,
    ) -> Result<Result<(), Why>, ImportError> {
        let chunks = match self.target.dry_run {
            // In a dry run every chunk would repeat the same checks.
            true => vec![&[][..]],
            false => chunks(&plan.messages),
        };
        let (mut after, mut is_new, mut marks) = (stored.last, false, 0);
        for (chunk, left) in chunks.iter().zip((0..chunks.len()).rev()) {
            // A marker may refer to a message of the last chunk.
            let markers = if left == 0 { &plan.markers[..] } else { &[] };
            match self.target.write(head, after, chunk, markers).await? {
                Ok(Written::Done {
                    created,
                    moved,
                    last,
                }) => {
                    (after, is_new, marks) = (last, is_new || created, moved);
                    self.report.created += u64::from(created);
                    self.report.messages += chunk.len() as u64;
                }
                Ok(Written::Used) => return Ok(Err(Why::Used)),
                Ok(Written::Changed) => return Ok(Err(Why::Contended)),
                Err(why) => return Ok(Err(why)),
            }
        }
        if self.target.dry_run {
            self.report.messages += plan.messages.len() as u64;
        }
        self.report.markers += marks;
        if !is_new {
            match plan.messages.is_empty() && marks == 0 {
                true => self.report.unchanged += 1,
                false => self.report.followed_up += 1,
            }
        }
        Ok(Ok(()))
    }
}

/// Splits messages into parts for one call each; one empty part if there are no messages.
fn chunks<'m, 'a>(messages: &'m [&'a OldMessage]) -> Vec<&'m [&'a OldMessage]> {
    let bytes = |message: &OldMessage| {
        message
            .said
            .as_ref()
            .map_or(0, |said| said.content.text.len())
    };
    let (mut chunks, mut begin, mut size) = (Vec::new(), 0, 0);
    for (index, message) in messages.iter().enumerate() {
        size += bytes(message);
        let is_full = index - begin == CHUNK_MESSAGES || size > CHUNK_BYTES;
        if is_full && index > begin {
            chunks.push(&messages[begin..index]);
            (begin, size) = (index, bytes(message));
        }
    }
    chunks.push(&messages[begin..]);
    chunks
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::import::message::Said;
    use crate::protocol::content::Content;
    use crate::protocol::ids::UserId;

    fn message(bytes: usize) -> OldMessage {
        OldMessage {
            id: String::new(),
            at_ms: 0,
            readers: Vec::new(),
            said: Ok(Said {
                sender: UserId::parse("alice").unwrap(),
                kind: "text".into(),
                content: Content {
                    text: "x".repeat(bytes),
                    parts: None,
                },
            }),
        }
    }

    fn lengths(bytes: &[usize]) -> Vec<usize> {
        let messages: Vec<OldMessage> = bytes.iter().map(|bytes| message(*bytes)).collect();
        let messages: Vec<&OldMessage> = messages.iter().collect();
        chunks(&messages).iter().map(|chunk| chunk.len()).collect()
    }

    #[test]
    fn chunks_are_bounded_by_number_and_by_bytes() {
        assert_eq!(lengths(&[]), [0]);
        assert_eq!(lengths(&[1; 200]), [200]);
        assert_eq!(lengths(&[1; 401]), [200, 200, 1]);
        assert_eq!(lengths(&[CHUNK_BYTES, 1]), [1, 1]);
        assert_eq!(lengths(&[CHUNK_BYTES / 2; 5]), [2, 2, 1]);
        assert_eq!(lengths(&[2 * CHUNK_BYTES, 1, 1]), [1, 2]);
    }
}
