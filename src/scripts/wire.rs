//! What is asked of running servers about their scripts, and what they answer: JSON on Redis channels.
//!
//! A question goes to `chat:control`, which every server hears, and names the channel for the answers.

use serde::{Deserialize, Serialize};

/// A question to all servers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Question {
    pub want: Want,
    /// The channel to answer on.
    pub reply_to: String,
    /// The server that asks, if one does: it wants to know who runs, not what the scripts do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<ServerFacts>,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Want {
    /// Run the set that is current now, then tell what runs.
    Settle,
    /// Tell what runs, and how long it takes.
    Report,
}

/// What is published to all servers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "camelCase")]
pub enum Announcement {
    /// All chats were deleted.
    Reset,
    Scripts(Question),
    /// What servers of another version tell one another.
    #[serde(other, skip_serializing)]
    Unknown,
}

/// What one server answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    pub server: ServerFacts,
    /// What it runs, in words.
    pub set: String,
    /// The applied set that it runs, if it is one.
    pub applied: Option<u64>,
    /// Why it does not run the current applied set, if so.
    pub refused: Option<String>,
    /// What else its operator should know.
    pub note: Option<String>,
    pub scripts: Vec<ScriptReport>,
}

/// Which server it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerFacts {
    pub host: String,
    /// Where it listens.
    pub address: String,
    pub pid: u32,
    pub version: String,
    pub contract: u32,
}

impl std::fmt::Display for ServerFacts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} (pid {})", self.host, self.address, self.pid)
    }
}

/// One script on one server.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScriptReport {
    pub name: String,
    pub sha1: String,
    /// Calls since the server started.
    pub calls: u64,
    /// Of a call, from when it was made to its reply, in microseconds.
    pub average_us: u64,
    /// The longest such time.
    pub worst_us: u64,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_later_versions_announce_is_passed_over() {
        let later = r#"{"event": "somethingNew", "servers": [1, 2]}"#;
        let read: Announcement = serde_json::from_str(later).unwrap();
        assert!(matches!(read, Announcement::Unknown));
    }

    #[test]
    fn a_question_of_version_0_1_0_is_understood() {
        let former =
            r#"{"event": "scripts", "want": "report", "replyTo": "chat:scripts:answers:1"}"#;
        let read: Announcement = serde_json::from_str(former).unwrap();
        let Announcement::Scripts(question) = read else {
            panic!("{read:?}")
        };
        assert_eq!(question.from, None);
    }
}
