//! The connection that listens: subscribes to what the hub wants to hear and hands on what comes.
//!
//! Channels are subscribed one by one, concurrently: the redis crate expects one reply for a subscription to many,
//! and its automatic resubscription mixes up replies for the same reason. So neither is used.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use redis::aio::MultiplexedConnection;
use redis::{PushInfo, PushKind, RedisError, Value};
use tokio_util::sync::CancellationToken;

use super::connection::Current;
use super::keys::Keys;
use crate::hub::interest::{Interest, Step};
use crate::room::Topic;

/// Subscriptions under way at once.
const STEPS_AT_ONCE: usize = 256;

/// Pause after a refused subscription.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Reads a push of Redis: the topic and the payload, if it is a message on a channel of ours.
pub fn published(keys: &Keys, push: PushInfo) -> Option<(Topic, Vec<u8>)> {
    if push.kind != PushKind::SMessage {
        return None;
    }
    let [Value::BulkString(channel), Value::BulkString(payload)] =
        <[Value; 2]>::try_from(push.data).ok()?
    else {
        return None;
    };
    let topic = keys.topic(std::str::from_utf8(&channel).ok()?)?;
    Some((topic, payload))
}

/// Makes what is heard agree with what is wanted, on every connection that comes, until `cancel`.
///
/// `on_heard` is told each topic from the moment on which every event of it arrives.
pub async fn keep_subscribed(
    keys: Keys,
    interest: Arc<Interest>,
    mut current: Current,
    on_heard: impl Fn(&Topic),
    cancel: CancellationToken,
) {
    loop {
        let connection = current.borrow_and_update().clone();
        let serve = async {
            match connection {
                Some(connection) => {
                    interest.connection_replaced();
                    reconcile(&keys, &interest, connection, &on_heard).await;
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = cancel.cancelled() => return,
            changed = current.changed() => if changed.is_err() { return },
            () = serve => tokio::time::sleep(RETRY_PAUSE).await,
        }
    }
}

/// Works off the differences. Returns when the connection fails.
async fn reconcile(
    keys: &Keys,
    interest: &Interest,
    connection: MultiplexedConnection,
    on_heard: &impl Fn(&Topic),
) {
    let mut under_way = FuturesUnordered::new();
    loop {
        while under_way.len() < STEPS_AT_ONCE
            && let Some(step) = interest.next_step()
        {
            under_way.push(perform(keys, connection.clone(), step));
        }
        tokio::select! {
            () = interest.changed(), if under_way.len() < STEPS_AT_ONCE => {}
            Some((step, outcome)) = under_way.next() => {
                if let Err(error) = outcome {
                    log::warn!("cannot subscribe: {error}");
                    return;
                }
                let topic = match &step { Step::Subscribe(topic) | Step::Unsubscribe(topic) => topic.clone() };
                if interest.done(step) {
                    on_heard(&topic);
                }
            }
        }
    }
}

async fn perform(
    keys: &Keys,
    mut connection: MultiplexedConnection,
    step: Step,
) -> (Step, Result<(), RedisError>) {
    let (command, topic) = match &step {
        Step::Subscribe(topic) => ("SSUBSCRIBE", topic),
        Step::Unsubscribe(topic) => ("SUNSUBSCRIBE", topic),
    };
    let outcome = redis::cmd(command)
        .arg(keys.channel(topic))
        .exec_async(&mut connection)
        .await;
    (step, outcome)
}
