//! The operator's own cases: given a room, when a user does something, then this is the result.
//!
//! They are in a file beside the scripts, a JSON object per line. Empty lines and lines starting with `#` are skipped.

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

use serde::Deserialize;

use super::fault::Ended;
use super::stage::{Room, Stage};
use crate::error::ChatError;
use crate::hub::published::Change;
use crate::protocol::ids::{DeviceId, RoomId, UserId};
use crate::protocol::request::Cursor;
use crate::scripts::{Problem, Script};

/// The file's name.
pub const FILE: &str = "cases.jsonl";
const PAGE: u32 = 50;

/// A case, and where it is written.
#[derive(Debug, Clone)]
pub struct OwnCase {
    /// The file's path.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    told: Told,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Told {
    case: String,
    given: Given,
    when: When,
    then: Then,
}

/// A new room, the messages sent in it, and the fields of its `ext`, set after the messages.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Given {
    /// The members of a group; the first is its owner.
    group: Option<Vec<String>>,
    /// Or the two members of a direct room.
    direct: Option<[String; 2]>,
    #[serde(default)]
    said: Vec<(String, String)>,
    #[serde(default)]
    ext: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
enum When {
    /// User and content.
    SendMessage(String, String),
    EnterChat(String),
    GetHistory(String),
    /// Marks the latest message as read.
    MarkAsRead(String),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Then {
    /// The action succeeds.
    Done,
    /// The message is stored with this content.
    Stored(String),
    /// A rule refuses it; the error that the client gets contains this text.
    Refused(String),
}

/// The cases of a folder; none if it has no such file.
///
/// # Errors
/// The file cannot be read.
pub fn read(dir: &Path) -> io::Result<Result<Vec<OwnCase>, Vec<Problem>>> {
    let path = dir.join(FILE);
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Ok(Vec::new())),
        text => text?,
    };
    let file = path.display().to_string();
    let (mut cases, mut problems) = (Vec::new(), Vec::new());
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let (file, line, told) = (file.clone(), index + 1, serde_json::from_str(line));
        match told {
            Ok(told) => cases.push(OwnCase { file, line, told }),
            Err(error) => {
                let reason = format!("this is not a case as lua/README.md describes it: {error}");
                problems.push(Problem { file, line, reason });
            }
        }
    }
    Ok(if problems.is_empty() {
        Ok(cases)
    } else {
        Err(problems)
    })
}

impl OwnCase {
    pub(super) fn name(&self) -> &str {
        &self.told.case
    }

    /// What is wrong, as a problem on the case's line.
    pub(super) fn problem(&self, what: &str) -> Problem {
        Problem {
            file: self.file.clone(),
            line: self.line,
            reason: format!("case `{}`: {what}", self.name()),
        }
    }

    /// Runs the case; the inner error says how its result differs.
    pub(super) async fn play(&self, stage: &mut Stage) -> Result<Result<(), String>, Ended> {
        let mut room = match self.room(stage).await? {
            Ok(room) => room,
            Err(wrong) => return Ok(Err(wrong)),
        };
        let outcome = match self.act(stage, &mut room).await {
            Ok(Ok(stored)) => Ok(stored),
            Ok(Err(wrong)) => return Ok(Err(wrong)),
            Err(Ended::Rejected(words)) => Err(words),
            Err(Ended::Broken(fault)) => return Ok(Err(fault.reason)),
            Err(other) => return Err(other),
        };
        Ok(match (&self.told.then, outcome) {
            (Then::Done, Ok(_)) => Ok(()),
            (Then::Stored(content), Ok(Some(stored))) if *content == stored => Ok(()),
            (Then::Refused(words), Err(refused)) if refused.contains(words) => Ok(()),
            (_, Err(refused)) => Err(format!("it is refused: {refused}")),
            (_, Ok(Some(stored))) => Err(format!("the message is stored as {stored:?}")),
            (_, Ok(None)) => Err("it succeeds".to_owned()),
        })
    }

    async fn room(&self, stage: &mut Stage) -> Result<Result<Room, String>, Ended> {
        let given = &self.told.given;
        let (is_group, members) = match (&given.group, &given.direct) {
            (Some(group), None) => (true, group.as_slice()),
            (None, Some(direct)) => (false, direct.as_slice()),
            _ => return Ok(Err("a room needs either `group` or `direct`".to_owned())),
        };
        let members: Option<Vec<UserId>> = members.iter().map(|id| UserId::parse(id)).collect();
        let members = match members {
            Some(members) if members.len() > 1 => members,
            _ => {
                return Ok(Err(
                    "a room needs two or more members, each a user id".to_owned()
                ));
            }
        };
        let id = match (is_group, members.as_slice()) {
            (false, [one, other]) => RoomId::direct(one, other),
            _ => RoomId::random(),
        };
        let mut room = stage.make(id, is_group, members).await?;
        for (user, content) in &given.said {
            let sent = self.send(stage, &mut room, user, content).await;
            if let Ok(Err(wrong)) = sent {
                return Ok(Err(wrong));
            }
            sent?.ok();
        }
        for (field, value) in &given.ext {
            stage.set_in_ext(&room, field, value).await?;
        }
        Ok(Ok(room))
    }

    /// Does the case's action; returns the stored content, if a message was stored.
    async fn act(
        &self,
        stage: &mut Stage,
        room: &mut Room,
    ) -> Result<Result<Option<String>, String>, Ended> {
        let (script, user) = match &self.told.when {
            When::SendMessage(user, content) => return self.send(stage, room, user, content).await,
            When::EnterChat(user) => (Script::EnterChat, user),
            When::GetHistory(user) => (Script::GetHistory, user),
            When::MarkAsRead(user) => (Script::MarkAsRead, user),
        };
        let Some(user) = UserId::parse(user) else {
            return Ok(Err(format!("{user:?} is not a user id")));
        };
        let (store, id, last) = (stage.store.clone(), room.id, room.at.last_id);
        let call = async {
            match script {
                Script::EnterChat => {
                    let entered = store.enter_chat(id, &user, DeviceId::random(), PAGE).await;
                    entered.map(|_| ())
                }
                Script::GetHistory => {
                    let page = store.get_history(id, &user, Cursor::Latest, PAGE).await;
                    page.map(|_| ())
                }
                _ => store.mark_as_read(id, &user, last).await.map(|_| ()),
            }
        };
        let done: Result<(), ChatError> = Ok(stage.call(script, call).await?);
        Ok(done.map(|()| None).map_err(|error| error.message))
    }

    async fn send(
        &self,
        stage: &mut Stage,
        room: &mut Room,
        user: &str,
        content: &str,
    ) -> Result<Result<Option<String>, String>, Ended> {
        let Some(user) = UserId::parse(user) else {
            return Ok(Err(format!("{user:?} is not a user id")));
        };
        let (script, store) = (Script::SendMessage, stage.store.clone());
        let call = store.send_message(room.id, &user, content, None);
        let sent = stage.call(script, call).await?;
        let events = stage.events(room, script).await?;
        let stored = events.into_iter().find_map(|event| match event.change {
            Change::Message(message) if message.id == sent.id => Some(message.content),
            _ => None,
        });
        Ok(Ok(stored))
    }
}
