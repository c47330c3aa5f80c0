//! Which scripts exist, and what the server passes to each of them.

use crate::store::keys::ROOM_KEYS;

/// The number of the contract between the server and the scripts: keys, arguments, results and what is published.
///
/// Raised whenever the Rust side of a script's contract changes. A set that was checked against another number is not
/// accepted, so that a rolling upgrade never runs old rules under a new server.
pub const CONTRACT: u32 = 3;

/// A script in `lua/`, named after its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Script {
    InitializeChat,
    GetChatList,
    EnterChat,
    LeaveChat,
    SendMessage,
    MarkAsRead,
    GetHistory,
    RenewViewers,
    SyncRoom,
    CompareRooms,
    ResetRedisForDevelopment,
}

/// What a script takes, as its header must state. A name that ends in `…` stands for any number of what follows it.
#[derive(Debug)]
pub struct Contract {
    pub keys: &'static [&'static str],
    pub argv: &'static [&'static str],
    /// Error codes specific to this script.
    pub errors: &'static [&'static str],
}

impl Script {
    /// Every script, in the order in which they are loaded, which is also their index in a
    /// [`ScriptSet`](super::ScriptSet).
    pub const ALL: [Self; 11] = [
        Self::InitializeChat,
        Self::GetChatList,
        Self::EnterChat,
        Self::LeaveChat,
        Self::SendMessage,
        Self::MarkAsRead,
        Self::GetHistory,
        Self::RenewViewers,
        Self::SyncRoom,
        Self::CompareRooms,
        Self::ResetRedisForDevelopment,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::InitializeChat => "initialize_chat",
            Self::GetChatList => "get_chat_list",
            Self::EnterChat => "enter_chat",
            Self::LeaveChat => "leave_chat",
            Self::SendMessage => "send_message",
            Self::MarkAsRead => "mark_as_read",
            Self::GetHistory => "get_history",
            Self::RenewViewers => "renew_viewers",
            Self::SyncRoom => "sync_room",
            Self::CompareRooms => "compare_rooms",
            Self::ResetRedisForDevelopment => "reset_redis_for_development",
        }
    }

    /// Whether an operator's rule may refuse it: a client asks for it, and gets the reason. The others are called by
    /// servers, which have no client to report it to.
    pub fn may_reject(self) -> bool {
        matches!(
            self,
            Self::InitializeChat
                | Self::EnterChat
                | Self::SendMessage
                | Self::MarkAsRead
                | Self::GetHistory
        )
    }

    /// The script with this name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|script| script.name() == name)
    }

    /// What the server passes to the script. The checks compare each header with it.
    pub fn contract(self) -> Contract {
        let (keys, argv, errors): (&[&str], &[&str], &[&str]) = match self {
            Self::InitializeChat => (
                &[
                    "meta",
                    "members",
                    "reads",
                    "messages",
                    "viewing",
                    "ext",
                    "sent_a",
                    "sent_b",
                    "events",
                    "rooms…",
                    "user_events",
                ],
                &[
                    "room",
                    "kind",
                    "name",
                    "nonce",
                    "participants_max",
                    "rooms_max",
                    "member…",
                ],
                &["TOO_MANY_PARTICIPANTS", "TOO_MANY_ROOMS"],
            ),
            Self::GetChatList => (
                &["rooms", "meta…", "members", "reads", "messages", "ext"],
                &["user", "want_index", "place…", "reader"],
                &[],
            ),
            Self::EnterChat => (
                &const { room_keys_and("viewers") },
                &["user", "device", "lease_ms", "limit", "max_bytes"],
                &["NOT_MEMBER"],
            ),
            Self::LeaveChat => (&ROOM_KEYS, &["user", "device"], &[]),
            Self::SendMessage => (
                &const { room_keys_and("sent_before") },
                &[
                    "user",
                    "content",
                    "client_id",
                    "digest",
                    "history_max",
                    "dedupe_ttl_ms",
                    "content_max_bytes",
                    "room_max_bytes",
                    "call",
                    "kind",
                    "parts",
                ],
                &["MESSAGE_TOO_LARGE", "NOT_MEMBER"],
            ),
            Self::MarkAsRead => (
                &ROOM_KEYS,
                &["user", "message_id"],
                &["NOT_MEMBER", "MESSAGE_NOT_FOUND"],
            ),
            Self::GetHistory => (
                &ROOM_KEYS,
                &["user", "before", "after", "limit", "max_bytes"],
                &["NOT_MEMBER", "MESSAGE_NOT_FOUND", "HISTORY_RESET"],
            ),
            Self::RenewViewers => (&ROOM_KEYS, &["lease_ms", "device…", "user"], &[]),
            Self::SyncRoom => (
                &ROOM_KEYS,
                &["epoch", "rev", "last_id", "limit", "max_bytes"],
                &[],
            ),
            Self::CompareRooms => (&["meta…"], &["epoch…", "rev", "last_id"], &[]),
            Self::ResetRedisForDevelopment => (&["control"], &["pattern"], &[]),
        };
        Contract { keys, argv, errors }
    }
}

/// The keys of every room script, followed by one more.
const fn room_keys_and(last: &'static str) -> [&'static str; ROOM_KEYS.len() + 1] {
    let mut keys = [last; ROOM_KEYS.len() + 1];
    let mut place = 0;
    while place < ROOM_KEYS.len() {
        keys[place] = ROOM_KEYS[place];
        place += 1;
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_found_at_its_index() {
        for (index, script) in Script::ALL.into_iter().enumerate() {
            assert_eq!(script as usize, index, "{script:?}");
        }
    }
}
