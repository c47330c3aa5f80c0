//! What a case runs on: the server's own store on a scratch Redis, with a subscription to what is published.
//!
//! - `calling`: calls, what is expected of them, and how long they may take
//! - `hearing`: what is stored and published
//! - `rooms`: rooms and the messages in them
//! - `probing`: texts that the rules are tried with

mod calling;
mod hearing;
mod probing;
mod rooms;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, FromRedisValue, PushInfo};
use tokio::sync::{mpsc, watch};

use self::calling::Worst;
use super::Trial;
use super::fault::{Ended, Fault};
use super::scratch::{Scratch, ScratchError};
use crate::protocol::ids::{MessageId, RoomId, UserId};
use crate::room::{Position, Topic};
use crate::scripts::Script;
use crate::scripts::check::Hints;
use crate::scripts::set::fixed;
use crate::store::connection::Connection;
use crate::store::keys::Keys;
use crate::store::{Bounds, Rules, Store};

/// A script that runs this long counts as endless and is stopped.
const CALL_MAX: Duration = Duration::from_millis(1500);
/// How long such a call may then take to end.
const STOPPED_WITHIN: Duration = Duration::from_millis(500);
const HEARD_WITHIN: Duration = Duration::from_secs(4);

/// A lease that outlives the trial, and one that expires at once.
const LONG_LEASE: Duration = Duration::from_secs(600);
const SHORT_LEASE: Duration = Duration::from_millis(1);

/// Marks the end of what was published so far: a subscriber receives it after everything before it.
const FENCE: &str = "fence";

/// Reads every key with its value and publishes a fence, in one step.
const SNAPSHOT: &str = "\
local all = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  all[#all + 1], all[#all + 2] = key, redis.call('DUMP', key)
end
redis.call('SPUBLISH', ARGV[1], '')
return all";

/// The fault behind the store's last failed call, which the store hides from its caller; `None` if no script caused it.
type LastFault = Arc<Mutex<Option<Fault>>>;

/// What was stored, and how much had been received, at one moment.
pub(super) struct Snapshot {
    stored: BTreeMap<Vec<u8>, Vec<u8>>,
    heard: usize,
}

/// A room under trial.
pub(super) struct Room {
    pub(super) id: RoomId,
    pub(super) is_group: bool,
    pub(super) members: Vec<UserId>,
    /// Its position after everything that was published in it.
    pub(super) at: Position,
}

/// A message as its sender and its event describe it.
pub(super) struct Said {
    pub(super) id: MessageId,
    /// The published text: an operator's rule may have changed it.
    pub(super) text: String,
    /// The users that the event lists as having read it.
    pub(super) read_by: Vec<String>,
}

pub(super) struct Stage {
    keys: Keys,
    trial: Trial,
    /// The store, set up as in the server.
    pub(super) store: Arc<Store>,
    /// The same store, but its leases expire at once.
    pub(super) forgetful: Arc<Store>,
    last_fault: LastFault,
    admin: MultiplexedConnection,
    subscriber: MultiplexedConnection,
    pushes: mpsc::UnboundedReceiver<PushInfo>,
    heard: Vec<(Topic, Vec<u8>)>,
    pub(super) worst: Worst,
    /// The number of texts that were not tried for lack of time.
    pub(super) left_out: usize,
}

impl Stage {
    pub(super) async fn open(scratch: &Scratch, trial: &Trial) -> Result<Self, ScratchError> {
        let keys = Keys::new("chat");
        let last_fault = LastFault::default();
        let (_, current) =
            watch::channel(Some(Connection::unkept(scratch.connect(config()).await?)));
        let store = |viewer_lease| {
            let rules = Rules {
                history_max_messages: 0,
                dedupe_ttl: Duration::from_secs(24 * 60 * 60),
                viewer_lease,
                content_max_bytes: 16 * 1024,
                participants_max: 1000,
                rooms_max: 10_000,
                room_max_bytes: 0,
            };
            let bounds = Bounds::within(CALL_MAX + STOPPED_WITHIN);
            let scripts = fixed(trial.set.clone());
            let store = Store::new(keys.clone(), scripts, current.clone(), bounds, rules);
            let last_fault = last_fault.clone();
            Arc::new(store.telling(move |script, error| {
                let fault = Fault::of_call(script, error);
                *last_fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
            }))
        };
        let (sender, pushes) = mpsc::unbounded_channel();
        let subscriber = scratch.connect(config().set_push_sender(sender)).await?;
        let mut stage = Self {
            store: store(LONG_LEASE),
            forgetful: store(SHORT_LEASE),
            keys,
            trial: trial.clone(),
            last_fault,
            admin: scratch.connect(config()).await?,
            subscriber,
            pushes,
            heard: Vec::new(),
            worst: Worst::default(),
            left_out: 0,
        };
        stage.subscribe(FENCE).await?;
        Ok(stage)
    }

    /// Removes everything that the previous case left.
    pub(super) async fn clear(&mut self) -> Result<(), Ended> {
        redis::cmd("FLUSHALL").exec_async(&mut self.admin).await?;
        self.snapshot().await?;
        self.heard.clear();
        Ok(())
    }

    /// Loads each script into Redis, as the server does first.
    pub(super) async fn load(&mut self) -> Result<(), Ended> {
        for (script, text) in self.trial.set.iter() {
            let mut load = redis::cmd("SCRIPT");
            load.arg("LOAD").arg(&text.text);
            match load.exec_async(&mut self.admin).await {
                Err(error) if error.code().is_some() => {
                    return Err(Fault::not_loaded(script, &error).into());
                }
                outcome => outcome?,
            }
        }
        Ok(())
    }

    /// The hints in the edited scripts.
    pub(super) fn hints(&self) -> Arc<[(Script, Hints)]> {
        self.trial.hints.clone()
    }

    /// Sets a field of a room's `ext`, as an operator does.
    pub(super) async fn set_in_ext(
        &mut self,
        room: &Room,
        field: &str,
        value: &str,
    ) -> Result<(), Ended> {
        let key = self.keys.room(room.id, "ext");
        self.command(&["HSET", &key, field, value]).await
    }

    /// Runs one Redis command without a script.
    pub(super) async fn command<T: FromRedisValue>(&mut self, words: &[&str]) -> Result<T, Ended> {
        let mut command = redis::cmd(words.first().copied().unwrap_or("PING"));
        command.arg(words.get(1..).unwrap_or_default());
        Ok(command.query_async(&mut self.admin).await?)
    }
}

fn config() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
}
