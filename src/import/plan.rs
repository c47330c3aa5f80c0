//! Decides which old messages a room gets, and where its read markers move.

use std::collections::HashMap;

use super::members::Members;
use super::message::OldMessage;
use super::report::Why;
use super::target::Stored;
use crate::protocol::ids::UserId;

/// What will be written, and what is refused.
#[derive(Debug, Default)]
pub(super) struct Plan<'a> {
    /// In the order of sending.
    pub(super) messages: Vec<&'a OldMessage>,
    /// How far members have read, by the numbers that the messages will get.
    pub(super) markers: Vec<(&'a UserId, u64)>,
    pub(super) refused: Vec<(&'a str, Why)>,
}

/// What became of the first message with some id.
enum Met {
    Known,
    Taken(usize),
    Refused,
}

/// Compares what a room has with all old messages, in order.
pub(super) fn plan<'a>(
    messages: &'a [OldMessage],
    members: &'a Members,
    stored: &Stored,
) -> Plan<'a> {
    let mut plan = Plan::default();
    let mut met: HashMap<&str, (Met, u64)> = HashMap::with_capacity(messages.len());
    let mut marks = vec![0; members.list().len()];
    // The number of the last message that is in the room or will be.
    let mut last = 0;
    for message in messages {
        let reached = match met.get(&*message.id) {
            Some((met, reached)) => {
                if let (Met::Taken(_) | Met::Refused, false) = (met, plan.repeats(met, message)) {
                    plan.refused.push((&message.id, Why::SameId));
                }
                *reached
            }
            None => {
                let (is, reached) = plan.add(message, stored, last);
                met.insert(&message.id, (is, reached));
                reached
            }
        };
        last = last.max(reached);
        for reader in &message.readers {
            marks[*reader] = reached.max(marks[*reader]);
        }
    }
    let marked = members.list().iter().zip(marks);
    plan.markers = marked.filter(|(_, seq)| *seq > 0).collect();
    plan
}

impl<'a> Plan<'a> {
    /// Handles a message whose id is new: returns what became of it, and the number in the room that it reaches.
    fn add(&mut self, message: &'a OldMessage, stored: &Stored, last: u64) -> (Met, u64) {
        if let Some(seq) = stored.known.get(&message.id) {
            return (Met::Known, *seq);
        }
        let why = match &message.said {
            Err(why) => why.clone(),
            Ok(_) if message.at_ms < stored.last.ms => Why::TooLate,
            Ok(_) => {
                self.messages.push(message);
                let seq = stored.last.seq + self.messages.len() as u64;
                return (Met::Taken(self.messages.len() - 1), seq);
            }
        };
        self.refused.push((&message.id, why));
        (Met::Refused, last)
    }

    /// Whether this message is a repeat of the one with its id.
    fn repeats(&self, met: &Met, message: &OldMessage) -> bool {
        match met {
            Met::Known => true,
            Met::Taken(place) => self
                .messages
                .get(*place)
                .is_some_and(|first| first.said == message.said),
            Met::Refused => message.said.is_err(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::import::message::Said;
    use crate::protocol::content::Content;
    use crate::protocol::ids::MessageId;

    fn user(name: &str) -> UserId {
        UserId::parse(name).unwrap()
    }

    fn members() -> Members {
        Members::new(["alice", "bob", "carol"].map(user).to_vec())
    }

    fn message(id: &str, at_ms: u64, readers: &[usize]) -> OldMessage {
        OldMessage {
            id: id.to_owned(),
            at_ms,
            readers: readers.to_vec(),
            said: Ok(Said {
                sender: user("alice"),
                kind: "text".into(),
                content: Content {
                    text: format!("{id} at {at_ms}"),
                    parts: None,
                },
            }),
        }
    }

    fn stored(known: &[&str], ms: u64) -> Stored {
        let seqs = (1..).map(|seq: u64| seq);
        Stored {
            last: MessageId {
                ms,
                seq: known.len() as u64,
            },
            known: known.iter().map(|id| (*id).to_owned()).zip(seqs).collect(),
        }
    }

    fn ids<'a>(plan: &Plan<'a>) -> Vec<&'a str> {
        plan.messages.iter().map(|message| &*message.id).collect()
    }

    fn marks(plan: &Plan<'_>) -> Vec<(String, u64)> {
        let mark = |(user, seq): &(&UserId, u64)| (user.to_string(), *seq);
        plan.markers.iter().map(mark).collect()
    }

    #[test]
    fn a_marker_is_at_the_last_message_that_was_read() {
        let mut messages = vec![
            message("1", 1, &[0, 1, 2]),
            message("2", 2, &[0, 1]),
            message("3", 3, &[0, 1]),
            message("4", 4, &[0]),
        ];
        // Bob has read an image that is refused.
        messages[2].said = Err(Why::DataImage { bytes: 9 });
        let members = members();
        let plan = plan(&messages, &members, &stored(&[], 0));
        assert_eq!(ids(&plan), ["1", "2", "4"]);
        let expected = [("alice", 3), ("bob", 2), ("carol", 1)];
        assert_eq!(
            marks(&plan),
            expected.map(|(who, seq)| (who.to_owned(), seq))
        );
        assert_eq!(plan.refused, [("3", Why::DataImage { bytes: 9 })]);
    }

    #[test]
    fn what_is_there_is_not_taken_again() {
        let messages = [
            message("1", 1, &[0, 1]),
            message("2", 2, &[0, 1]),
            message("3", 3, &[0]),
        ];
        let members = members();
        let plan = plan(&messages, &members, &stored(&["0", "1", "2"], 2));
        assert_eq!(ids(&plan), ["3"]);
        let expected = [("alice", 4), ("bob", 3)];
        assert_eq!(
            marks(&plan),
            expected.map(|(who, seq)| (who.to_owned(), seq))
        );
    }

    #[test]
    fn an_older_message_comes_too_late() {
        let messages = [message("0", 1, &[1]), message("1", 5, &[0])];
        let members = members();
        let plan = plan(&messages, &members, &stored(&["1"], 5));
        assert_eq!(ids(&plan), Vec::<&str>::new());
        assert_eq!(plan.refused, [("0", Why::TooLate)]);
    }

    #[test]
    fn a_repeated_message_is_taken_once_and_another_with_its_id_is_refused() {
        let messages = [
            message("1", 1, &[0]),
            message("2", 2, &[0]),
            message("1", 1, &[1]),
            message("2", 3, &[0]),
        ];
        let members = members();
        let plan = plan(&messages, &members, &stored(&[], 0));
        assert_eq!(ids(&plan), ["1", "2"]);
        assert_eq!(plan.refused, [("2", Why::SameId)]);
        let expected = [("alice", 2), ("bob", 1)];
        assert_eq!(
            marks(&plan),
            expected.map(|(who, seq)| (who.to_owned(), seq))
        );
    }
}
