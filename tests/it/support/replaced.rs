//! What the replaced server leaves in its Redis, and the command that imports it.

use redis::{cmd, pipe};

use super::server::{Builder, Exit};
use super::{Redis, Server, Value, json};

pub(crate) const GROUP: &str = "6f9619ff-8b86-4011-b42d-00c04fc964ff";
pub(crate) const DIRECT: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";
pub(crate) const DIRECT_TOO: &str = "7c9e6679-7425-40de-944b-e07fc1f90ae7";
/// The room of Alice and Bob in this server.
pub(crate) const ALICE_AND_BOB: &str = "5b534b82-d924-5ce9-a884-b847bb4d73be";

pub(crate) fn key(room: &str, part: &str) -> String {
    format!("chat:{{room:{room}}}:{part}")
}

/// The sender and text of each message.
pub(crate) fn said(history: &[Value]) -> Vec<(&str, &str)> {
    fn text<'a>(it: &'a Value, name: &str) -> &'a str {
        it[name].as_str().unwrap()
    }
    let row = |it| (text(it, "senderId"), text(it, "content"));
    history.iter().map(row).collect()
}

/// The summary must have these lines.
#[track_caller]
pub(crate) fn assert_counts(printed: &str, counts: &[(u64, &str)]) {
    for (count, of) in counts {
        let line = format!("  {count:>9} {of}");
        assert!(
            printed.lines().any(|it| it == line),
            "no `{line}` in\n{printed}"
        );
    }
}

/// The lines that list what was not imported, ordered by their texts.
pub(crate) fn listed(exit: &Exit) -> Vec<&str> {
    let is_listed = |line: &&str| line.starts_with("refused: ") || line.starts_with("skipped: ");
    let mut lines: Vec<&str> = exit.stdout.lines().filter(is_listed).collect();
    lines.sort_unstable();
    lines
}

/// A message of the first versions. Its time is this many seconds after noon.
pub(crate) fn text(id: &str, sender: &str, content: &str, secs: u64, read_by: &[&str]) -> Value {
    json!({
        "id": id, "senderId": sender, "content": content, "timestamp": time(secs), "readBy": read_by,
    })
}

/// A message of later versions: with a type, and a list of contents.
pub(crate) fn typed(kind: &str, content: &[&str], mut message: Value) -> Value {
    message["type"] = json!(kind);
    message["content"] = json!(content);
    message
}

/// This many seconds after noon of some day, as the replaced server writes times.
pub(crate) fn time(secs: u64) -> String {
    let (hours, minutes, secs) = (12 + secs / 3600, secs / 60 % 60, secs % 60);
    format!("2024-08-20T{hours:02}:{minutes:02}:{secs:02}.000Z")
}

/// The Redis of a replaced server.
pub(crate) struct Replaced<'a> {
    pub(crate) redis: &'a Redis,
}

impl Replaced<'_> {
    /// A room, which is in the sets of its users too, with its messages in the order of the list, from head to tail.
    pub(crate) async fn room(&self, id: &str, users: &[&str], list: &[Value]) {
        self.set(&format!("chat:{id}:users"), users).await;
        for user in users {
            self.set(&format!("user:{user}:chats"), &[id]).await;
        }
        self.push(id, list).await;
    }

    /// Adds members to a set.
    pub(crate) async fn set(&self, key: &str, members: &[&str]) {
        let mut add = cmd("SADD");
        add.arg(key).arg(members);
        add.exec_async(&mut self.redis.admin()).await.unwrap();
    }

    /// Adds messages at the tail of a room's list.
    pub(crate) async fn push(&self, id: &str, list: &[Value]) {
        let texts: Vec<String> = list.iter().map(Value::to_string).collect();
        self.push_raw(id, &texts).await;
    }

    /// Adds any value at the tail of a room's list.
    pub(crate) async fn push_raw(&self, id: &str, list: &[impl AsRef<[u8]>]) {
        if list.is_empty() {
            return;
        }
        let mut pipe = pipe();
        for entry in list {
            let key = format!("chat:{id}:messages");
            pipe.cmd("RPUSH").arg(key).arg(entry.as_ref()).ignore();
        }
        pipe.exec_async(&mut self.redis.admin()).await.unwrap();
    }

    pub(crate) async fn name(&self, id: &str, name: &str) {
        let mut set = cmd("SET");
        set.arg(format!("chat:{id}:name")).arg(name);
        set.exec_async(&mut self.redis.admin()).await.unwrap();
    }
}

/// `chat-server import` from one Redis into the other, as an operator types it: no token settings.
pub(crate) fn importing(from: &str, into: &Redis, arguments: &[&str]) -> Builder {
    let mut all = vec!["import", "--from", from];
    all.extend(arguments);
    Server::on(into).without("JWT_SECRET").args(&all)
}

/// Runs the import, and checks that it leaves the old Redis unchanged.
pub(crate) async fn import(from: &Redis, into: &Redis, arguments: &[&str]) -> Exit {
    leaving_alone(from, importing(&from.url(), into, arguments)).await
}

/// Runs a command to its end, and checks that it leaves this Redis unchanged.
pub(crate) async fn leaving_alone(from: &Redis, command: Builder) -> Exit {
    let (before, changes) = (from.dump().await, from.changes().await);
    let exit = command.run().await;
    assert_eq!(
        from.changes().await,
        changes,
        "an import wrote to the old Redis"
    );
    before.assert_same(&from.dump().await, "an import");
    exit
}

/// The same; the import must take everything.
#[track_caller]
pub(crate) fn import_all<'a>(
    from: &'a Redis,
    into: &'a Redis,
) -> impl Future<Output = String> + 'a {
    let at = std::panic::Location::caller();
    async move {
        let exit = import(from, into, &[]).await;
        let outcome = format!("{}{}", exit.stdout, exit.stderr);
        assert_eq!(exit.code, Some(0), "{at}: {outcome}");
        exit.stdout
    }
}
