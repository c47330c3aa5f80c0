//! The report of an import: each thing that is not imported is listed at once, and the summary has the counts.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};

use super::progress::Progress;

/// How many characters of an id from the replaced server are shown, at most.
const SHOWN_CHARS: usize = 80;

/// Why something is not imported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Why {
    #[error("it is not a JSON object")]
    NotJson,
    #[error("its id is missing, or has more than 64 characters")]
    NoId,
    #[error("its timestamp is missing or cannot be read")]
    NoTime,
    #[error("its senderId is missing or is not a user id")]
    NoSender,
    #[error("its type is not 1 to 32 printable ASCII characters, or is system")]
    Type,
    #[error("its content is neither a text nor a list of texts")]
    NoContent,
    #[error(
        "it is an image in the text (data:, {bytes} bytes): store it elsewhere and send its address"
    )]
    DataImage { bytes: usize },
    #[error("it is an image, and its content is not an http or https address")]
    ImageNoUrl,
    #[error("its content has {bytes} bytes, and MAX_CONTENT_BYTES is {at_most}")]
    TooLarge { bytes: usize, at_most: usize },
    #[error("its id is also that of another message of this chat")]
    SameId,
    #[error("it is older than what was imported before")]
    TooLate,
    #[error("{messages} of its messages are older than the newest {at_most} that are imported")]
    TooMany { messages: u64, at_most: u64 },
    #[error("its key has the wrong type")]
    WrongType,
    #[error("its name is not UTF-8")]
    NotUtf8,
    #[error("it has no members")]
    NoMembers,
    #[error("it has only one member")]
    OneMember,
    #[error("it has {members} members, and MAX_PARTICIPANTS is {at_most}")]
    TooManyMembers { members: u64, at_most: usize },
    #[error("its id is not a UUID in lower case, as the id of a group must be")]
    NoUuid,
    #[error("this member's id is not a user id here (1 to 128 bytes, no control characters)")]
    MemberId,
    #[error("its name has more than 128 characters: it was cut")]
    NameCut,
    #[error("it has a name, which a chat of two people cannot have")]
    NameOfTwo,
    #[error("it is in this user's list of chats, but the user is not one of its members")]
    NotMember,
    #[error("the new Redis does not accept it: {0}")]
    Store(String),
    #[error("somebody else is importing it too")]
    Contended,
    #[error("it has messages of the new server, so it is not updated")]
    Used,
}

impl Why {
    /// The summary's heading for it.
    fn heading(&self) -> &'static str {
        match self {
            Self::NotJson | Self::NoId | Self::NoTime | Self::NoSender | Self::Type => {
                "broken messages"
            }
            Self::NoContent | Self::ImageNoUrl => "messages without usable content",
            Self::DataImage { .. } => "images in the text (data:)",
            Self::TooLarge { .. } => "messages that are too large",
            Self::SameId => "messages whose id was used before",
            Self::TooLate => "messages older than what was imported before",
            Self::TooMany { .. } => "chats with more messages than are imported",
            Self::WrongType | Self::NotUtf8 => "keys that cannot be read",
            Self::NoMembers => "chats without members",
            Self::OneMember => "chats with one member",
            Self::TooManyMembers { .. } => "chats with too many members",
            Self::NoUuid => "groups whose id is not a UUID",
            Self::MemberId => "members whose id is not a user id here",
            Self::NameCut | Self::NameOfTwo => "names that were cut or left out",
            Self::NotMember => "users who list a chat without being members",
            Self::Store(_) | Self::Contended => "chats that the new Redis did not accept",
            Self::Used => "chats with messages of the new server",
        }
    }
}

/// The thing that is not imported.
#[derive(Debug, Clone, Copy)]
pub(super) enum What<'a> {
    Room(&'a str),
    Message {
        room: &'a str,
        id: &'a str,
    },
    /// A message without an id, identified by its index in the list.
    Entry {
        room: &'a str,
        index: u64,
    },
    Member {
        room: &'a str,
        user: &'a str,
    },
    Key(&'a str),
}

impl fmt::Display for What<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Room(room) => write!(f, "room {}", shown(room)),
            Self::Message { room, id } => {
                write!(f, "room {}, message {}", shown(room), shown(id))
            }
            Self::Entry { room, index } => {
                write!(f, "room {}, message at index {index}", shown(room))
            }
            Self::Member { room, user } => {
                write!(f, "room {}, user {}", shown(room), shown(user))
            }
            Self::Key(key) => write!(f, "key {}", shown(key)),
        }
    }
}

/// A text from the replaced server, on one line.
fn shown(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(SHOWN_CHARS)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().nth(SHOWN_CHARS).is_some() {
        shown.push('…');
    }
    shown
}

/// What an import has done so far, and its output to the operator.
pub(super) struct Report {
    pub(super) progress: Progress,
    /// Whether this is a dry run, which writes nothing.
    dry_run: bool,
    pub(super) created: u64,
    pub(super) followed_up: u64,
    pub(super) unchanged: u64,
    pub(super) messages: u64,
    pub(super) markers: u64,
    pub(super) foreign_keys: u64,
    refused: BTreeMap<&'static str, u64>,
}

impl Report {
    pub(super) fn new(dry_run: bool) -> Self {
        Self {
            progress: Progress::new(),
            dry_run,
            created: 0,
            followed_up: 0,
            unchanged: 0,
            messages: 0,
            markers: 0,
            foreign_keys: 0,
            refused: BTreeMap::new(),
        }
    }

    /// Prints a line on standard output. A reader that has closed the pipe (`| head`) is not an error.
    pub(super) fn refuse(&mut self, what: What<'_>, why: &Why) {
        *self.refused.entry(why.heading()).or_default() += 1;
        self.progress.clear();
        let word = if *why == Why::Used {
            "skipped"
        } else {
            "refused"
        };
        let _ = writeln!(io::stdout(), "{word}: {what}: {why}");
    }

    /// Whether everything was imported.
    pub(super) fn is_clean(&self) -> bool {
        self.refused.is_empty()
    }

    /// Ends the progress display and prints the summary.
    pub(super) fn sum_up(&mut self) {
        self.progress.clear();
        let _ = write!(io::stdout(), "{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let title = match self.dry_run {
            true => "Dry run, nothing was written. To be imported:",
            false => "Imported:",
        };
        writeln!(f, "{title}")?;
        for (count, of) in [
            (self.created, "new chats"),
            (self.followed_up, "chats updated"),
            (self.messages, "messages"),
            (self.markers, "read markers"),
        ] {
            writeln!(f, "  {count:>9} {of}")?;
        }
        writeln!(f, "  {:>9} chats have nothing new", self.unchanged)?;
        if self.foreign_keys > 0 {
            let keys = self.foreign_keys;
            writeln!(
                f,
                "  {keys:>9} keys under chat: do not belong to the replaced server"
            )?;
        }
        if self.refused.is_empty() {
            return writeln!(f, "Nothing was refused.");
        }
        writeln!(f, "Not imported, each listed above:")?;
        for (heading, count) in &self.refused {
            writeln!(f, "  {count:>9} {heading}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_ids_stay_in_one_line() {
        assert_eq!(shown("a\nb\u{1b}[2J"), "a\\nb\\u{1b}[2J");
        assert_eq!(shown(&"x".repeat(100)).chars().count(), SHOWN_CHARS + 1);
    }
}
