//! What Redis must allow its user for this server to work, and which of these rights are missing.
//!
//! Redis answers this itself (`redis.acl_check_cmd`), in one script that runs none of the commands and needs no rights
//! of its own: so missing rights are known before the first client needs them.

use std::collections::BTreeSet;
use std::fmt;

use redis::aio::MultiplexedConnection;
use redis::{RedisResult, Script};
use serde::Serialize;
use uuid::Uuid;

use super::keys::{Keys, ROOM_KEYS};
use crate::config::Durability;
use crate::protocol::ids::{RoomId, UserId};
use crate::room::Topic;
use crate::scripts::check::{CalledOn, commands_of};
use crate::scripts::{Script as ChatScript, ScriptSet};

/// A command that Redis must allow.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Right {
    /// `ZADD`, `SCRIPT LOAD`.
    pub command: String,
    /// The keys or channels it is run on; `None` if only the command itself is meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on: Option<Place>,
}

/// The keys and channels of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Place {
    RoomKeys,
    RoomChannels,
    UserKeys,
    UserChannels,
    ServerKeys,
    ServerChannels,
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on = match self.on {
            None => "",
            Some(Place::RoomKeys) => " on the keys of rooms",
            Some(Place::RoomChannels) => " on the channels of rooms",
            Some(Place::UserKeys) => " on the keys of users",
            Some(Place::UserChannels) => " on the channels of users",
            Some(Place::ServerKeys) => " on the servers' own keys",
            Some(Place::ServerChannels) => " on the servers' own channels",
        };
        write!(f, "{}{on}", self.command)
    }
}

/// All rights that are needed: for each an example command, as it would be run.
#[derive(Debug, Clone, Default)]
pub struct Needed {
    examples: Vec<(Right, Vec<String>)>,
}

impl Needed {
    /// What this set of scripts and the server itself need. The reset in development is left out: its rights are
    /// granted where it is wanted.
    pub fn of(set: &ScriptSet, keys: &Keys, durability: Durability) -> Self {
        let names = Names::new(keys);
        let mut needed = Self::default();
        needed.add_own(&names, durability);
        needed.add_called(&names, called(set));
        needed
    }

    /// What this set of scripts needs and another one does not.
    pub fn beyond(set: &ScriptSet, other: &ScriptSet, keys: &Keys) -> Self {
        let (needed_too, mut further) = (called(other), called(set));
        further.retain(|call| !needed_too.contains(call));
        let mut needed = Self::default();
        needed.add_called(&Names::new(keys), further);
        needed
    }

    fn add_called(&mut self, names: &Names, called: BTreeSet<CalledOn>) {
        for CalledOn { command, local } in called {
            let example = local.and_then(|local| names.of_local(&local));
            self.add(&command, example);
        }
    }

    fn add_own(&mut self, names: &Names, durability: Durability) {
        for command in ["SCRIPT LOAD", "MULTI", "EXEC", "INFO"] {
            self.add(command, None);
        }
        for channel in [
            &names.room_channel,
            &names.user_channel,
            &names.control,
            &names.own_channel,
        ] {
            self.add("SSUBSCRIBE", Some(channel.clone()));
        }
        self.add("SUNSUBSCRIBE", None);
        self.add("HGET", Some(names.scripts.clone()));
        // A key from the list of members, taken by its index: no local of a script names its user.
        self.add("ZADD", Some(names.user_key.clone()));
        self.add("SPUBLISH", Some(names.user_channel.clone()));
        self.add("SPUBLISH", Some(names.own_channel.clone()));
        let confirms = match durability {
            Durability::Memory => return,
            Durability::Fsync => "CONFIG GET",
            Durability::Replicas(_) => "WAIT",
        };
        self.add(confirms, None);
        if durability != Durability::Fsync {
            self.add("SET", Some(names.confirm.clone()));
        }
    }

    fn add(&mut self, command: &str, on: Option<(Place, String)>) {
        let (place, name) = on.unzip();
        let mut example: Vec<String> = command.split(' ').map(str::to_owned).collect();
        // Twice, for commands that take two keys.
        example.extend(name.iter().cloned());
        example.extend(name);
        let right = Right {
            command: command.to_owned(),
            on: place,
        };
        self.examples.push((right, example));
    }

    /// The rights that Redis does not grant, each once. That it allows EVALSHA is shown by the answer itself; when
    /// asked about EVALSHA without its number of keys, Redis 7.0 crashes.
    pub async fn missing(&self, connection: &mut MultiplexedConnection) -> RedisResult<Vec<Right>> {
        let script = Script::new(include_str!("rights.lua"));
        let mut call = script.prepare_invoke();
        for (_, example) in &self.examples {
            call.arg(serde_json::json!(example).to_string());
        }
        let places: Vec<usize> = call.invoke_async(connection).await?;
        let missing = places.into_iter().filter_map(|place| {
            let (right, _) = self.examples.get(place.checked_sub(1)?)?;
            Some(right.clone())
        });
        let missing: BTreeSet<Right> = missing.collect();
        Ok(missing.into_iter().collect())
    }
}

/// What the scripts of a set call, except for the reset in development.
fn called(set: &ScriptSet) -> BTreeSet<CalledOn> {
    let scripts = set.iter();
    scripts
        .filter(|(script, _)| *script != ChatScript::ResetRedisForDevelopment)
        .flat_map(|(script, text)| commands_of(script, text))
        .collect()
}

/// One example name of each kind, for a room and a user that do not exist.
struct Names {
    keys: Keys,
    room: RoomId,
    room_channel: (Place, String),
    user_key: (Place, String),
    user_channel: (Place, String),
    control: (Place, String),
    own_channel: (Place, String),
    scripts: (Place, String),
    confirm: (Place, String),
}

impl Names {
    fn new(keys: &Keys) -> Self {
        let room = RoomId::random();
        let room_channel = keys.channel(&Topic::Room(room));
        let nobody = UserId::parse("nobody");
        let (user_key, user_channel) = match nobody {
            Some(user) => (keys.user(&user, "rooms"), keys.user(&user, "events")),
            None => Default::default(),
        };
        Self {
            keys: keys.clone(),
            room,
            room_channel: (Place::RoomChannels, room_channel),
            user_key: (Place::UserKeys, user_key),
            user_channel: (Place::UserChannels, user_channel),
            control: (Place::ServerChannels, keys.channel(&Topic::Control)),
            own_channel: (
                Place::ServerChannels,
                keys.channel(&Topic::Server(Uuid::nil())),
            ),
            scripts: (Place::ServerKeys, keys.scripts()),
            confirm: (Place::ServerKeys, keys.confirm()),
        }
    }

    /// The key that a local of a script holds, if its name is one of the KEYS.
    fn of_local(&self, local: &str) -> Option<(Place, String)> {
        match local {
            "rooms" => Some(self.user_key.clone()),
            "events" => Some(self.room_channel.clone()),
            part if ROOM_KEYS.contains(&part) => {
                Some((Place::RoomKeys, self.keys.room(self.room, part)))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_the_scripts_call_is_found_with_the_keys_that_they_call_it_on() {
        let set = ScriptSet::embedded().unwrap();
        let needed = Needed::of(&set, &Keys::new("chat"), Durability::Memory);
        let has = |command: &str, on| {
            let command = command.to_owned();
            let right = Right { command, on };
            needed.examples.iter().any(|(needed, _)| *needed == right)
        };
        assert!(has("XADD", Some(Place::RoomKeys)));
        assert!(has("SPUBLISH", Some(Place::RoomChannels)));
        assert!(has("ZRANGE", Some(Place::UserKeys)));
        assert!(has("TIME", None));
        assert!(!has("SCAN", None), "of the reset alone");
        assert!(!has("WAIT", None), "of DURABILITY=replicas:N alone");
    }
}
