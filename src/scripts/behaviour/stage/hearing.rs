//! What is stored and published on a stage.

use std::collections::BTreeMap;

use redis::{FromRedisValue, PushInfo, PushKind, RedisError};
use tokio::time::timeout;

use super::{FENCE, HEARD_WITHIN, Room, SNAPSHOT, Snapshot, Stage};
use crate::hub::published::{Change, RoomEvent, RoomGained};
use crate::protocol::ids::UserId;
use crate::room::{Position, Topic};
use crate::scripts::Script;
use crate::scripts::behaviour::compare::{must, same};
use crate::scripts::behaviour::fault::{Ended, Fault};
use crate::scripts::behaviour::scratch::ScratchError;
use crate::store::subscriber::Pushed;

impl Stage {
    pub(in crate::scripts::behaviour) async fn follow(
        &mut self,
        topic: Topic,
    ) -> Result<(), Ended> {
        let channel = self.keys.channel(&topic);
        Ok(self.subscribe(&channel).await?)
    }

    pub(super) async fn subscribe(&mut self, channel: &str) -> Result<(), RedisError> {
        let mut subscribe = redis::cmd("SSUBSCRIBE");
        subscribe
            .arg(channel)
            .exec_async(&mut self.subscriber)
            .await
    }

    /// What is stored now; everything published until now has been received by then.
    pub(in crate::scripts::behaviour) async fn snapshot(&mut self) -> Result<Snapshot, Ended> {
        let mut snapshot = redis::cmd("EVAL");
        snapshot.arg(SNAPSHOT).arg(0).arg(FENCE);
        let stored = snapshot.query_async(&mut self.admin).await?;
        self.hear_all().await?;
        Ok(Snapshot {
            stored,
            heard: self.heard.len(),
        })
    }

    /// Receives everything that was published until now.
    async fn fenced(&mut self) -> Result<(), Ended> {
        let mut fence = redis::cmd("SPUBLISH");
        let fence = fence.arg(FENCE).arg("");
        fence.exec_async(&mut self.admin).await?;
        self.hear_all().await
    }

    async fn hear_all(&mut self) -> Result<(), Ended> {
        let heard = timeout(HEARD_WITHIN, self.hear()).await;
        Ok(heard.unwrap_or(Err(ScratchError::Deaf))?)
    }

    /// Receives up to the next fence.
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

    /// Checks that nothing was written or published since.
    pub(in crate::scripts::behaviour) async fn unchanged(
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

    /// What was published on a topic's channel since the last look.
    pub(in crate::scripts::behaviour) async fn payloads(
        &mut self,
        topic: &Topic,
    ) -> Result<Vec<Vec<u8>>, Ended> {
        self.fenced().await?;
        let (wanted, others) = std::mem::take(&mut self.heard)
            .into_iter()
            .partition(|(heard, _)| heard == topic);
        self.heard = others;
        let wanted: Vec<(Topic, Vec<u8>)> = wanted;
        Ok(wanted.into_iter().map(|(_, payload)| payload).collect())
    }

    /// The rooms that were announced to a user since the last look.
    pub(in crate::scripts::behaviour) async fn gained(
        &mut self,
        user: &UserId,
    ) -> Result<Vec<RoomGained>, Ended> {
        let payloads = self.payloads(&Topic::User(user.clone())).await?;
        let parse = |payload: Vec<u8>| {
            RoomGained::parse(&payload)
                .ok_or_else(|| unreadable(Script::InitializeChat, &payload).into())
        };
        payloads.into_iter().map(parse).collect()
    }

    /// The events in the room since the last look: each must continue from the one before.
    pub(in crate::scripts::behaviour) async fn events(
        &mut self,
        room: &mut Room,
        script: Script,
    ) -> Result<Vec<RoomEvent>, Ended> {
        let payloads = self.payloads(&Topic::Room(room.id)).await?;
        let mut events = Vec::with_capacity(payloads.len());
        for payload in payloads {
            let event =
                RoomEvent::parse(room.id, &payload).ok_or_else(|| unreadable(script, &payload))?;
            goes_on(script, &room.at, &event)?;
            room.at = event.position.clone();
            events.push(event);
        }
        Ok(events)
    }
}

/// A published payload that cannot be read.
fn unreadable(script: Script, payload: &[u8]) -> Fault {
    const SHOWN: usize = 300;
    let text = String::from_utf8_lossy(payload);
    let shown: String = text.chars().take(SHOWN).collect();
    let reason = match std::str::from_utf8(payload) {
        Err(error) => {
            let from = error.valid_up_to().saturating_sub(SHOWN / 10);
            let around = String::from_utf8_lossy(&payload[from..]);
            let around: String = around.chars().take(SHOWN / 5).collect();
            format!(
                "it published text that is not UTF-8, `{around}`: cut a text between characters, not inside one: \
                 never before a byte 10xxxxxx"
            )
        }
        Ok(_) => format!("it published something that the server cannot read: {shown}"),
    };
    Fault::wrong(script, reason)
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

/// Checks that an event is the next one in its room.
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
