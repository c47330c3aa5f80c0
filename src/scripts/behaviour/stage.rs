//! Where a case plays: the server's own store on a scratch Redis, with an ear on what is published.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, FromRedisValue, PushInfo, PushKind, RedisError};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::compare::{must, same, same_position, same_text};
use super::fault::{Ended, Fault};
use super::scratch::{Scratch, ScratchError};
use crate::error::{ChatError, ErrorCode};
use crate::hub::published::{Change, RoomEvent, RoomGained};
use crate::protocol::ids::{MessageId, RoomId, UserId};
use crate::room::Topic;
use crate::room::{Position, PositionedEntry};
use crate::scripts::set::fixed;
use crate::scripts::{Script, ScriptSet};
use crate::store::calls::NewRoom;
use crate::store::connection::Connection;
use crate::store::keys::Keys;
use crate::store::subscriber::Pushed;
use crate::store::{Bounds, Rules, Store};

/// A script that runs this long is taken for endless and stopped.
const CALL_MAX: Duration = Duration::from_millis(1500);
/// How long such a call may then take to end.
const STOPPED_WITHIN: Duration = Duration::from_millis(500);
const HEARD_WITHIN: Duration = Duration::from_secs(4);

/// A lease that outlives the trial, and one that is over at once.
const LONG_LEASE: Duration = Duration::from_secs(600);
const SHORT_LEASE: Duration = Duration::from_millis(1);

/// Ends what was published so far: a subscriber hears it after all of that.
const FENCE: &str = "fence";

/// Every key with its value, and a fence, in one step.
const SNAPSHOT: &str = "\
local all = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  all[#all + 1], all[#all + 2] = key, redis.call('DUMP', key)
end
redis.call('SPUBLISH', ARGV[1], '')
return all";

/// The fault behind the store's last failed call, which the caller is not told; `None` if it was no script's.
type LastFault = Arc<Mutex<Option<Fault>>>;

/// What is stored and how much was heard at one moment.
pub(super) struct Snapshot {
    stored: BTreeMap<Vec<u8>, Vec<u8>>,
    heard: usize,
}

/// A room under trial.
pub(super) struct Room {
    pub(super) id: RoomId,
    pub(super) members: Vec<UserId>,
    /// Where it is, by all that was published in it.
    pub(super) at: Position,
}

/// A message as its sender and its event tell of it.
pub(super) struct Said {
    pub(super) id: MessageId,
    /// What was published of it: a rule of the operator's may have changed it.
    pub(super) text: String,
    /// Whom the event names as having read it.
    pub(super) read_by: Vec<String>,
}

pub(super) struct Stage {
    keys: Keys,
    set: ScriptSet,
    /// The store as the server has it.
    pub(super) store: Arc<Store>,
    /// The same, but a lease that it gives is over at once.
    pub(super) forgetful: Arc<Store>,
    last_fault: LastFault,
    admin: MultiplexedConnection,
    subscriber: MultiplexedConnection,
    pushes: mpsc::UnboundedReceiver<PushInfo>,
    heard: Vec<(Topic, Vec<u8>)>,
}

impl Stage {
    pub(super) async fn open(scratch: &Scratch, set: &ScriptSet) -> Result<Self, ScratchError> {
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
            let scripts = fixed(set.clone());
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
            set: set.clone(),
            last_fault,
            admin: scratch.connect(config()).await?,
            subscriber,
            pushes,
            heard: Vec::new(),
        };
        stage.subscribe(FENCE).await?;
        Ok(stage)
    }

    /// Leaves nothing of the case before.
    pub(super) async fn clear(&mut self) -> Result<(), Ended> {
        redis::cmd("FLUSHALL").exec_async(&mut self.admin).await?;
        self.snapshot().await?;
        self.heard.clear();
        Ok(())
    }

    /// Has Redis load each script, as the server does first.
    pub(super) async fn load(&mut self) -> Result<(), Ended> {
        for (script, text) in self.set.iter() {
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

    /// One command behind the scripts' back.
    pub(super) async fn command<T: FromRedisValue>(&mut self, words: &[&str]) -> Result<T, Ended> {
        let mut command = redis::cmd(words.first().copied().unwrap_or("PING"));
        command.arg(words.get(1..).unwrap_or_default());
        Ok(command.query_async(&mut self.admin).await?)
    }

    pub(super) async fn follow(&mut self, topic: Topic) -> Result<(), Ended> {
        let channel = self.keys.channel(&topic);
        Ok(self.subscribe(&channel).await?)
    }

    async fn subscribe(&mut self, channel: &str) -> Result<(), RedisError> {
        let mut subscribe = redis::cmd("SSUBSCRIBE");
        subscribe
            .arg(channel)
            .exec_async(&mut self.subscriber)
            .await
    }

    /// What is stored now; all that was published until now has been heard then.
    pub(super) async fn snapshot(&mut self) -> Result<Snapshot, Ended> {
        let mut snapshot = redis::cmd("EVAL");
        snapshot.arg(SNAPSHOT).arg(0).arg(FENCE);
        let stored = snapshot.query_async(&mut self.admin).await?;
        timeout(HEARD_WITHIN, self.hear())
            .await
            .unwrap_or(Err(ScratchError::Deaf))?;
        Ok(Snapshot {
            stored,
            heard: self.heard.len(),
        })
    }

    /// Listens up to the next fence.
    async fn hear(&mut self) -> Result<(), ScratchError> {
        loop {
            let push = self.pushes.recv().await.ok_or(ScratchError::Deaf)?;
            if is_fence(&push) {
                return Ok(());
            }
            if let Some(Pushed::Published(topic, payload)) = Pushed::read(&self.keys, push) {
                self.heard.push((topic, payload));
            }
        }
    }

    /// Holds that nothing was written or published since.
    pub(super) async fn unchanged(
        &mut self,
        since: &Snapshot,
        script: Script,
        what: &str,
    ) -> Result<(), Ended> {
        let now = self.snapshot().await?;
        if let Some(key) = difference(&since.stored, &now.stored) {
            let key = String::from_utf8_lossy(key);
            return Err(Fault::wrong(script, format!("{what} wrote {key}")).into());
        }
        must(
            since.heard == now.heard,
            script,
            format!("{what} published something"),
        )
    }

    /// What a topic's channel brought since the last look.
    pub(super) async fn payloads(&mut self, topic: &Topic) -> Result<Vec<Vec<u8>>, Ended> {
        self.snapshot().await?;
        let (wanted, others) = std::mem::take(&mut self.heard)
            .into_iter()
            .partition(|(heard, _)| heard == topic);
        self.heard = others;
        let wanted: Vec<(Topic, Vec<u8>)> = wanted;
        Ok(wanted.into_iter().map(|(_, payload)| payload).collect())
    }

    /// The rooms that a user was told of since the last look.
    pub(super) async fn gained(&mut self, user: &UserId) -> Result<Vec<RoomGained>, Ended> {
        let payloads = self.payloads(&Topic::User(user.clone())).await?;
        let parse = |payload: Vec<u8>| {
            RoomGained::parse(&payload).ok_or_else(|| {
                let text = String::from_utf8_lossy(&payload);
                let reason = format!("it published what the server cannot read: {text}");
                Fault::wrong(Script::InitializeChat, reason).into()
            })
        };
        payloads.into_iter().map(parse).collect()
    }

    /// What happened in the room since the last look: each event must go on where the one before ended.
    pub(super) async fn events(
        &mut self,
        room: &mut Room,
        script: Script,
    ) -> Result<Vec<RoomEvent>, Ended> {
        let payloads = self.payloads(&Topic::Room(room.id)).await?;
        let mut events = Vec::with_capacity(payloads.len());
        for payload in payloads {
            let event = RoomEvent::parse(room.id, &payload).ok_or_else(|| {
                let text = String::from_utf8_lossy(&payload);
                Fault::wrong(
                    script,
                    format!("it published what the server cannot read: {text}"),
                )
            })?;
            goes_on(script, &room.at, &event)?;
            room.at = event.position.clone();
            events.push(event);
        }
        Ok(events)
    }

    /// The room as the user's list has it, which must be where the last event led.
    pub(super) async fn entry(
        &mut self,
        room: &Room,
        user: &UserId,
        script: Script,
    ) -> Result<PositionedEntry, Ended> {
        let entry = self.listed(room.id, user, script).await?;
        same_position(script, "after the last event", &entry.position, &room.at)?;
        Ok(entry)
    }

    /// The room as the user's list has it.
    pub(super) async fn listed(
        &mut self,
        room: RoomId,
        user: &UserId,
        script: Script,
    ) -> Result<PositionedEntry, Ended> {
        let store = self.store.clone();
        let asked = [room];
        let call = store.get_chat_list(user, &asked, false);
        let chunk = self.call(Script::GetChatList, call).await?;
        let entry = chunk.entries.into_iter().next().flatten();
        entry.ok_or_else(|| {
            Fault::wrong(script, "a member does not have the room in the list").into()
        })
    }

    /// A new group of fresh users, followed.
    pub(super) async fn group(&mut self, size: usize) -> Result<Room, Ended> {
        let members: Vec<UserId> = (0..size).map(|_| UserId::random()).collect();
        let id = RoomId::random();
        self.follow(Topic::Room(id)).await?;
        let store = self.store.clone();
        let new = NewRoom {
            room: id,
            is_group: true,
            name: "Book club",
            members: &members,
        };
        let script = Script::InitializeChat;
        self.call(script, store.initialize_chat(new)).await?;
        // What a rule of the operator's says in a new room comes before the trial.
        self.payloads(&Topic::Room(id)).await?;
        let creator = members.first().cloned().unwrap_or_else(UserId::random);
        let at = self.listed(id, &creator, script).await?.position;
        Ok(Room { id, members, at })
    }

    /// A new message by a member, which must be the next, and be published once.
    pub(super) async fn say(
        &mut self,
        room: &mut Room,
        sender: usize,
        client_id: Option<&str>,
    ) -> Result<Said, Ended> {
        let script = Script::SendMessage;
        let user = room.members[sender].clone();
        let next = room.at.seq + 1;
        let store = self.store.clone();
        let call = store.send_message(room.id, &user, "Good morning", client_id);
        let sent = self.call(script, call).await?;
        must(
            !sent.duplicate,
            script,
            "a new message is called a duplicate",
        )?;
        same(
            script,
            "the number in the new message's id",
            &sent.id.seq,
            &next,
        )?;

        let events = self.events(room, script).await?;
        let mut tellings = events.into_iter().filter_map(|event| match event.change {
            Change::Message(message) if message.id == sent.id => Some(message),
            _ => None,
        });
        let Some(message) = tellings.next() else {
            return Err(Fault::wrong(script, "a new message was not published").into());
        };
        same_text(
            script,
            "the sender published",
            &message.sender_id,
            user.as_str(),
        )?;
        let published_id = message.client_message_id.as_deref().unwrap_or_default();
        let client_id = client_id.unwrap_or_default();
        same_text(
            script,
            "the clientMessageId published",
            published_id,
            client_id,
        )?;
        self.entry(room, &user, script).await?;
        Ok(Said {
            id: sent.id,
            text: message.content,
            read_by: message.read_by,
        })
    }

    /// A call that has to succeed, unless a rule of the operator's refuses it.
    pub(super) async fn call<T>(
        &mut self,
        script: Script,
        call: impl Future<Output = Result<T, ChatError>>,
    ) -> Result<T, Ended> {
        self.attempt(script, call).await?.map_err(|refused| {
            let reason = format!("it refused what it has to do, with {}", words(&refused));
            Fault::wrong(script, reason).into()
        })
    }

    /// A call that has to be refused with this code, and must change nothing.
    pub(super) async fn refused<T>(
        &mut self,
        script: Script,
        code: ErrorCode,
        who: &str,
        call: impl Future<Output = Result<T, ChatError>>,
    ) -> Result<(), Ended> {
        let before = self.snapshot().await?;
        let answer = match self.attempt(script, call).await? {
            Err(refused) if refused.code == code => {
                let what = format!("it refused {who}, but");
                return self.unchanged(&before, script, &what).await;
            }
            Err(refused) => words(&refused),
            Ok(_) => "a result".to_owned(),
        };
        let reason = format!("{who} gets {answer}, not {}", code);
        Err(Fault::wrong(script, reason).into())
    }

    /// A call, or what the script refused it with. Any other failure ends the case, and so does a rule's refusal.
    async fn attempt<T>(
        &mut self,
        script: Script,
        call: impl Future<Output = Result<T, ChatError>>,
    ) -> Result<Result<T, ChatError>, Ended> {
        let before = self.snapshot().await?;
        let (outcome, stopped) = self.watched(call).await;
        match outcome {
            Err(refused) if refused.code == ErrorCode::Rejected && script.may_reject() => {
                self.unchanged(&before, script, "it answered REJECTED, but")
                    .await?;
                Err(Ended::Rejected(refused.message))
            }
            Err(failed) if !is_refusal(failed.code) => Err(self.failure(script, stopped)),
            outcome => Ok(outcome),
        }
    }

    /// Stops the script if it does not end by itself. Says whether it had to.
    async fn watched<T>(&mut self, call: impl Future<Output = T>) -> (T, bool) {
        let mut call = std::pin::pin!(call);
        // Noted before: the call may end before the answer to what ended it is read.
        let stopped = AtomicBool::new(false);
        let stop = async {
            sleep(CALL_MAX).await;
            stopped.store(true, Ordering::Relaxed);
            let mut kill = redis::cmd("SCRIPT");
            // Refused where the script has written: then the call runs into its own time limit.
            kill.arg("KILL").exec_async(&mut self.admin).await
        };
        let outcome = tokio::select! {
            biased;
            outcome = &mut call => outcome,
            _ = stop => call.await,
        };
        (outcome, stopped.load(Ordering::Relaxed))
    }

    /// Why a call failed, in more words than the client gets.
    fn failure(&self, script: Script, stopped: bool) -> Ended {
        let noted = self
            .last_fault
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        match noted {
            Some(fault) if stopped => Fault::endless(script, fault.line()).into(),
            Some(fault) => fault.into(),
            None => Ended::Scratch(ScratchError::Lost),
        }
    }
}

fn config() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
}

/// A refusal as the scripts write it.
fn words(refused: &ChatError) -> String {
    format!("{} {}", refused.code, refused.message)
}

/// Whether the headers have such an answer among their errors.
fn is_refusal(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::NotMember | ErrorCode::MessageNotFound | ErrorCode::HistoryReset
    )
}

fn is_fence(push: &PushInfo) -> bool {
    let channel = push.data.first().map(String::from_redis_value_ref);
    push.kind == PushKind::SMessage && matches!(channel, Some(Ok(name)) if name == FENCE)
}

fn difference<'a>(
    before: &'a BTreeMap<Vec<u8>, Vec<u8>>,
    after: &'a BTreeMap<Vec<u8>, Vec<u8>>,
) -> Option<&'a [u8]> {
    let gone_or_new = before.keys().chain(after.keys());
    gone_or_new
        .map(Vec::as_slice)
        .find(|key| before.get(*key) != after.get(*key))
}

/// Holds that an event is the next one in its room.
fn goes_on(script: Script, at: &Position, event: &RoomEvent) -> Result<(), Ended> {
    let now = &event.position;
    same(script, "the epoch published", &now.epoch, &at.epoch)?;
    same(script, "the rev published", &now.rev, &(at.rev + 1))?;
    let (seq, last_id) = match &event.change {
        Change::Message(message) => (at.seq + 1, message.id),
        Change::Read { .. } | Change::Unknown => (at.seq, at.last_id),
    };
    same(script, "the seq published", &now.seq, &seq)?;
    same(script, "the last id published", &now.last_id, &last_id)?;
    same(
        script,
        "the number in the id published",
        &now.last_id.seq,
        &seq,
    )
}
