//! The connection that listens: it subscribes to what the hub wants to hear and passes on what arrives.
//!
//! Channels are subscribed one by one, concurrently: the redis crate expects one reply for a subscription to many, and
//! its automatic resubscription mixes up replies for the same reason. So neither is used. Whether a channel is heard is
//! read from what Redis pushes about it, never from the command's reply, which only reveals refusals.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use redis::aio::MultiplexedConnection;
use redis::{PushInfo, PushKind, RedisError, Value};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::connection::{Connection, Current};
use super::keys::Keys;
use crate::hub::interest::{Interest, Step};
use crate::room::Topic;

/// Concurrent subscriptions.
const STEPS_AT_ONCE: usize = 256;

/// What Redis sends unasked about one of our channels.
#[derive(Debug, PartialEq, Eq)]
pub enum Pushed {
    Published(Topic, Vec<u8>),
    /// From here on everything published there arrives.
    Subscribed(Topic),
    /// From here on nothing arrives.
    Unsubscribed(Topic),
}

impl Pushed {
    /// `None` if it does not concern us.
    pub fn read(keys: &Keys, push: PushInfo) -> Option<Self> {
        let PushInfo { kind, data } = push;
        let mut data = data.into_iter();
        let Some(Value::BulkString(channel)) = data.next() else {
            return None;
        };
        let topic = keys.topic(std::str::from_utf8(&channel).ok()?)?;
        match (kind, data.next()) {
            (PushKind::SMessage, Some(Value::BulkString(payload))) => {
                Some(Self::Published(topic, payload))
            }
            (PushKind::SSubscribe, _) => Some(Self::Subscribed(topic)),
            (PushKind::SUnsubscribe, _) => Some(Self::Unsubscribed(topic)),
            _ => None,
        }
    }
}

/// Requests what is wanted and not heard, on every new connection, until `cancel`.
pub async fn keep_subscribed(
    keys: Keys,
    interest: Arc<Interest>,
    mut current: Current,
    cancel: CancellationToken,
) {
    loop {
        let connection = current.borrow_and_update().clone();
        let serve = async {
            match connection {
                Some(connection) => {
                    interest.use_connection(connection.number);
                    reconcile(&keys, &interest, connection).await;
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = cancel.cancelled() => return,
            changed = current.changed() => if changed.is_err() { return },
            () = serve => {}
        }
    }
}

/// Resolves the differences for as long as this connection is the one in use.
async fn reconcile(keys: &Keys, interest: &Interest, connection: Connection) {
    let mut under_way = FuturesUnordered::new();
    loop {
        while under_way.len() < STEPS_AT_ONCE
            && let Some(step) = interest.next_step(Instant::now())
        {
            under_way.push(perform(keys, connection.redis.clone(), step));
        }
        let has_room = under_way.len() < STEPS_AT_ONCE;
        tokio::select! {
            () = interest.changed(), if has_room => {}
            () = due(interest.next_review()), if has_room => {}
            Some(outcome) = under_way.next() => {
                // The task that keeps the connection open notices when it breaks.
                if let Err(error) = outcome
                    && error.code().is_some()
                    && interest.refused(connection.number)
                {
                    log::warn!("Redis refuses subscriptions, and they are tried again: {error}");
                }
            }
        }
    }
}

async fn due(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn perform(
    keys: &Keys,
    mut connection: MultiplexedConnection,
    step: Step,
) -> Result<(), RedisError> {
    let (command, topic) = match &step {
        Step::Subscribe(topic) => ("SSUBSCRIBE", topic),
        Step::Unsubscribe(topic) => ("SUNSUBSCRIBE", topic),
    };
    redis::cmd(command)
        .arg(keys.channel(topic))
        .exec_async(&mut connection)
        .await
}
