//! The scripts: their texts, embedded at build, and what each of them takes.

use include_dir::{Dir, include_dir};

use super::keys::ROOM_KEYS;

static LUA: Dir = include_dir!("$CARGO_MANIFEST_DIR/lua");

/// A script of `lua/`, by the name of its file.
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
    ResetRedisForDevelopment,
}

/// What a script takes, as its header must say. A name that ends in `…` stands for any number of what follows it.
#[derive(Debug)]
pub struct Contract {
    pub keys: &'static [&'static str],
    pub argv: &'static [&'static str],
    /// Error codes of its own.
    pub errors: &'static [&'static str],
}

impl Script {
    /// Every script, in the order in which they are loaded; also their index in a [`ScriptSet`].
    pub const ALL: [Self; 10] = [
        Self::InitializeChat,
        Self::GetChatList,
        Self::EnterChat,
        Self::LeaveChat,
        Self::SendMessage,
        Self::MarkAsRead,
        Self::GetHistory,
        Self::RenewViewers,
        Self::SyncRoom,
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
            Self::ResetRedisForDevelopment => "reset_redis_for_development",
        }
    }

    /// What the server passes to the script. The contract test holds each header against it.
    pub fn contract(self) -> Contract {
        let (keys, argv, errors): (&[&str], &[&str], &[&str]) = match self {
            Self::InitializeChat => (
                &[
                    "meta",
                    "members",
                    "reads",
                    "messages",
                    "viewers",
                    "ext",
                    "sent",
                    "events",
                    "rooms…",
                    "user_events",
                ],
                &["room", "kind", "name", "nonce", "member…"],
                &[],
            ),
            Self::GetChatList => (
                &["rooms", "meta…", "members", "reads", "messages"],
                &["user", "want_index"],
                &[],
            ),
            Self::EnterChat => (
                &ROOM_KEYS,
                &["user", "device", "lease_ms", "limit", "max_bytes"],
                &["NOT_MEMBER"],
            ),
            Self::LeaveChat => (&ROOM_KEYS, &["user", "device"], &[]),
            Self::SendMessage => (
                &ROOM_KEYS,
                &[
                    "user",
                    "content",
                    "client_id",
                    "history_max",
                    "dedupe_ttl_secs",
                ],
                &["NOT_MEMBER"],
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
            Self::ResetRedisForDevelopment => (&["control"], &["pattern"], &[]),
        };
        Contract { keys, argv, errors }
    }
}

/// A script's text and the SHA1 that Redis knows it by.
#[derive(Debug)]
pub struct ScriptText {
    pub text: String,
    pub sha1: String,
}

/// One text for each script: what a server runs.
#[derive(Debug)]
pub struct ScriptSet {
    texts: Vec<ScriptText>,
}

/// A file of `lua/` is missing from the binary. Never so in a binary whose tests passed.
#[derive(Debug, thiserror::Error)]
#[error("the script {0}.lua is not embedded in this binary")]
pub struct MissingScript(&'static str);

impl ScriptSet {
    /// The scripts that were embedded when the binary was built.
    pub fn embedded() -> Result<Self, MissingScript> {
        let read = |script: Script| {
            let name = script.name();
            let file = LUA
                .get_file(format!("{name}.lua"))
                .ok_or(MissingScript(name))?;
            let text = file.contents_utf8().ok_or(MissingScript(name))?.to_owned();
            let sha1 = redis::Script::new(&text).get_hash().to_owned();
            Ok(ScriptText { text, sha1 })
        };
        Ok(Self {
            texts: Script::ALL
                .into_iter()
                .map(read)
                .collect::<Result<_, _>>()?,
        })
    }

    pub fn get(&self, script: Script) -> &ScriptText {
        // ALL lists the variants in their order; a test holds it to that.
        &self.texts[script as usize]
    }

    pub fn iter(&self) -> impl Iterator<Item = &ScriptText> {
        self.texts.iter()
    }
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
