//! Which rooms the replaced server has, and what each becomes.

use std::collections::{BTreeMap, BTreeSet};

use super::ImportError;
use super::old::OldServer;
use super::report::{Report, What, Why};
use crate::protocol::ids::RoomId;
use crate::store::keys::replaced::{self, Part};

/// The rooms to create, each with the old rooms that become it. Two people may have had several.
pub(super) type Rooms = BTreeMap<RoomId, Room>;

/// What is known about a room before it is read.
#[derive(Debug, Default)]
pub(super) struct Room {
    pub(super) is_group: bool,
    /// The ids of the old rooms.
    pub(super) from: Vec<Box<str>>,
}

/// The search for rooms, key by key.
struct Index<'a> {
    old: &'a mut OldServer,
    report: &'a mut Report,
    participants_max: usize,
    rooms: Rooms,
    /// Old rooms that are refused: each is listed only once.
    refused: BTreeSet<Box<str>>,
}

/// Finds the rooms that can be imported, and lists the others.
pub(super) async fn find_rooms(
    old: &mut OldServer,
    report: &mut Report,
    participants_max: usize,
) -> Result<Rooms, ImportError> {
    let mut index = Index {
        old,
        report,
        participants_max,
        rooms: Rooms::new(),
        refused: BTreeSet::new(),
    };
    index.scan_rooms().await?;
    index.scan_users().await?;
    Ok(index.rooms)
}

impl Index<'_> {
    async fn scan_rooms(&mut self) -> Result<(), ImportError> {
        let mut cursor = 0;
        loop {
            let (next, keys) = self.old.scan(cursor, replaced::ROOMS_PATTERN).await?;
            for key in keys {
                self.add_key(&key).await?;
            }
            self.report.progress.found(self.rooms.len());
            cursor = next;
            if cursor == 0 {
                return Ok(());
            }
        }
    }

    async fn add_key(&mut self, key: &[u8]) -> Result<(), ImportError> {
        let Ok(key) = std::str::from_utf8(key) else {
            let key = String::from_utf8_lossy(key);
            self.report.refuse(What::Key(&key), &Why::NotUtf8);
            return Ok(());
        };
        let Some((id, part)) = replaced::of_room(key) else {
            self.report.foreign_keys += 1;
            return Ok(());
        };
        match self.old.count_users(id).await? {
            Some(0) => self.refuse(id, &Why::NoMembers),
            _ if part != Part::Users => {}
            None => self.refuse(id, &Why::WrongType),
            Some(users) => self.add(id, users).await?,
        }
        Ok(())
    }

    fn refuse(&mut self, id: &str, why: &Why) {
        if self.refused.insert(id.into()) {
            self.report.refuse(What::Room(id), why);
        }
    }

    async fn add(&mut self, id: &str, users: u64) -> Result<(), ImportError> {
        match self.target(id, users).await? {
            Ok((room, is_group)) => {
                let room = self.rooms.entry(room).or_default();
                room.is_group = is_group;
                // SCAN may return a key more than once.
                if !room.from.iter().any(|known| **known == *id) {
                    room.from.push(id.into());
                    room.from.sort();
                }
            }
            Err(why) => self.refuse(id, &why),
        }
        Ok(())
    }

    /// The room that an old one becomes, and whether it is a group.
    async fn target(
        &mut self,
        id: &str,
        users: u64,
    ) -> Result<Result<(RoomId, bool), Why>, ImportError> {
        if users > self.participants_max as u64 {
            return Ok(Err(Why::TooManyMembers {
                members: users,
                at_most: self.participants_max,
            }));
        }
        if users > 2 {
            let room = RoomId::parse(id).filter(|room| room.to_string() == id);
            return Ok(room.map(|room| (room, true)).ok_or(Why::NoUuid));
        }
        let members = self.old.members(id, self.report).await?;
        Ok(match members.list() {
            [one, other] => Ok((RoomId::direct(one, other), false)),
            _ => Err(Why::OneMember),
        })
    }

    /// Checks whether users list rooms that are not theirs.
    async fn scan_users(&mut self) -> Result<(), ImportError> {
        let mut cursor = 0;
        loop {
            let (next, keys) = self.old.scan(cursor, replaced::USERS_PATTERN).await?;
            for key in keys {
                let key = String::from_utf8_lossy(&key).into_owned();
                if let Some(user) = replaced::of_user(&key) {
                    self.check_list(&key, user).await?;
                }
            }
            cursor = next;
            if cursor == 0 {
                return Ok(());
            }
        }
    }

    async fn check_list(&mut self, key: &str, user: &str) -> Result<(), ImportError> {
        let mut cursor = 0;
        loop {
            let Some((next, rooms)) = self.old.scan_chats(key, cursor).await? else {
                self.report.refuse(What::Key(key), &Why::WrongType);
                return Ok(());
            };
            for room in rooms {
                let room = String::from_utf8_lossy(&room).into_owned();
                if self.old.count_users(&room).await? == Some(0) {
                    self.refuse(&room, &Why::NoMembers);
                } else if !self.old.is_user(&room, user).await? {
                    let what = What::Member { room: &room, user };
                    self.report.refuse(what, &Why::NotMember);
                }
            }
            cursor = next;
            if cursor == 0 {
                return Ok(());
            }
        }
    }
}
