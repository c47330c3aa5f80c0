//! A folder of scripts as an operator edits it, and the commands on it.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{Redis, Server, Value, server::Exit};

/// A folder with the embedded scripts, exported by the binary.
pub(crate) struct Rules {
    dir: TempDir,
}

impl Rules {
    pub(crate) async fn export() -> Self {
        let dir = TempDir::with_prefix("chat-rules-").expect("a temporary folder");
        let path = dir.path().display().to_string();
        let exported = Server::builder()
            .args(&["scripts", "export", &path])
            .run()
            .await;
        assert_eq!(exported.code, Some(0), "{}", exported.stderr);
        Self { dir }
    }

    /// The scripts in effect on a Redis, or those that `which` names.
    pub(crate) async fn export_of(redis: &Redis, which: &[&str]) -> Self {
        let dir = TempDir::with_prefix("chat-rules-").expect("a temporary folder");
        let path = dir.path().display().to_string();
        scripts_do(redis, &[&["export", &path], which].concat()).await;
        Self { dir }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn file(&self, script: &str) -> PathBuf {
        self.dir.path().join(format!("{script}.lua"))
    }

    /// Replaces the only place where a script says `from`, and returns the line of that place.
    #[track_caller]
    pub(crate) fn edit(&self, script: &str, from: &str, to: &str) -> usize {
        let text = fs::read_to_string(self.file(script)).expect("a script");
        assert_eq!(text.matches(from).count(), 1, "{script}: {from}");
        fs::write(self.file(script), text.replace(from, to)).expect("write a script");
        let before = text.split(from).next().expect("a beginning");
        1 + before.matches('\n').count()
    }

    /// Puts a tag in front of each message's content, except the messages that a device waits for as its fence.
    #[track_caller]
    pub(crate) fn tag(&self, tag: &str) {
        self.edit(
            "send_message",
            "local entry = {",
            &format!("content = content:sub(1, 1) == '~' and content or '{tag}' .. content\nlocal entry = {{"),
        );
    }

    /// `chat-server scripts apply` of this folder.
    pub(crate) async fn apply(&self, redis: &Redis, arguments: &[&str]) -> Exit {
        let path = self.path().display().to_string();
        let mut all = vec!["apply", &path];
        all.extend(arguments);
        scripts(redis, &all).await
    }
}

/// `chat-server scripts …` as an operator of `redis` types it: no token settings.
pub(crate) async fn scripts(redis: &Redis, arguments: &[&str]) -> Exit {
    let mut all = vec!["scripts"];
    all.extend(arguments);
    Server::on(redis)
        .without("JWT_SECRET")
        .args(&all)
        .run()
        .await
}

/// The same, which must succeed; returns what it printed.
#[track_caller]
pub(crate) fn scripts_do<'a>(
    redis: &'a Redis,
    arguments: &'a [&'a str],
) -> impl Future<Output = String> + 'a {
    let at = std::panic::Location::caller();
    async move {
        let exit = scripts(redis, arguments).await;
        let outcome = format!("{}{}", exit.stdout, exit.stderr);
        assert_eq!(exit.code, Some(0), "{at}: scripts {arguments:?}\n{outcome}");
        exit.stdout
    }
}

/// The output of `chat-server scripts list --json`.
pub(crate) async fn list(redis: &Redis) -> Value {
    let printed = scripts_do(redis, &["list", "--json"]).await;
    serde_json::from_str(&printed).expect("JSON")
}
