//! Questions to running servers about their scripts, and their answers: JSON on Redis channels.
//!
//! A question goes to `chat:control`, to which every server subscribes, and names the channel for the answers.

use serde::{Deserialize, Serialize};

/// A question to all servers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Question {
    pub want: Want,
    /// The channel to answer on.
    pub reply_to: String,
    /// The server that asks, if it is one: it wants to know which servers run, not about their scripts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<ServerFacts>,
}

/// What a question asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Want {
    /// Run the set that is current now, then report what runs.
    Settle,
    /// Report what runs, and how long its calls take.
    Report,
}

/// What is published to all servers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "camelCase")]
pub enum Announcement {
    /// All chats were deleted.
    Reset,
    Scripts(Question),
    /// An announcement of a server of another version.
    #[serde(other, skip_serializing)]
    Unknown,
}

/// The answer of one server.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    pub server: ServerFacts,
    /// A description of what it runs.
    pub set: String,
    /// The applied set that it runs, if any.
    pub applied: Option<u64>,
    /// Why it does not run the current applied set, if it does not.
    pub refused: Option<String>,
    /// A further note for its operator.
    pub note: Option<String>,
    pub scripts: Vec<ScriptReport>,
}

/// The identity of a server.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerFacts {
    pub host: String,
    /// The address where it listens.
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
    /// The average time from a call to its reply, in microseconds.
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
