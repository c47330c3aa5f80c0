//! What an ack promises beyond Redis's memory: that the write is on disk or on replicas.
//!
//! WAIT and WAITAOF only cover the writes of their own connection. So all calls that need a confirmation share one
//! connection: after their replies it writes a marker, which follows all of their writes in the order in which Redis
//! writes its file and feeds its replicas, and waits for that marker. Calls that arrive meanwhile share the next one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::RedisError;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::connection::{Connection, Current};
use super::term::Term;
use crate::config::Durability;

/// Confirmations that may be pending at once.
const WAITING_MAX: usize = 65_536;

/// Asks for confirmations.
#[derive(Debug, Clone)]
pub struct Confirmations {
    requests: mpsc::Sender<Request>,
    needed: Arc<AtomicBool>,
}

/// Asks whether what was written in a term is safe.
#[derive(Debug)]
pub struct Request {
    /// Another master cannot answer that.
    term: Term,
    answer: oneshot::Sender<bool>,
}

/// What a confirmation waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// WAITAOF: the append-only file of this Redis.
    OnDisk,
    /// WAIT: this many replicas.
    OnReplicas(u32),
}

impl Wanted {
    /// `None` where Redis's reply is sufficient.
    pub fn of(durability: Durability) -> Option<Self> {
        match durability {
            Durability::Memory => None,
            Durability::Fsync => Some(Self::OnDisk),
            Durability::Replicas(number) => Some(Self::OnReplicas(number)),
        }
    }
}

impl Confirmations {
    /// Confirmations, and the requests for [`confirm`] to answer.
    pub fn new() -> (Self, mpsc::Receiver<Request>) {
        let (requests, inbox) = mpsc::channel(WAITING_MAX);
        let needed = Arc::new(AtomicBool::new(true));
        (Self { requests, needed }, inbox)
    }

    /// Whether a reply of the Redis in use has to be confirmed: not if Redis syncs each write before it replies.
    pub fn set_needed(&self, needed: bool) {
        self.needed.store(needed, Ordering::Relaxed);
    }

    /// Resolves to whether everything that was written before, in this term, is as safe as wanted. Also false where
    /// nobody can tell.
    pub async fn confirmed(&self, term: Term) -> bool {
        if !self.needed.load(Ordering::Relaxed) {
            return true;
        }
        let (answer, confirmed) = oneshot::channel();
        let request = Request { term, answer };
        self.requests.try_send(request).is_ok() && confirmed.await.unwrap_or(false)
    }
}

/// Answers requests for confirmation, all pending ones at once, until `cancel`.
///
/// `marker` is the key that is written. `patience` bounds each wait.
pub async fn confirm(
    mut requests: mpsc::Receiver<Request>,
    wanted: Wanted,
    marker: String,
    mut current: Current,
    patience: Duration,
    cancel: CancellationToken,
) {
    let mut waiting = Vec::new();
    loop {
        let room = WAITING_MAX - waiting.len();
        tokio::select! {
            () = cancel.cancelled() => return,
            more = requests.recv_many(&mut waiting, room), if room > 0 => if more == 0 { return },
            changed = current.changed() => if changed.is_err() { return },
        }
        // Some callers have given up.
        waiting.retain(|request: &Request| !request.answer.is_closed());
        let Some(connection) = current.borrow_and_update().clone() else {
            continue;
        };
        let asking = take_askable(&mut waiting, connection.term);
        if asking.is_empty() {
            continue;
        }
        let mut lost = current.clone();
        // Redis bounds the wait itself; this limit is for a Redis that does not answer at all.
        let asked = ask(connection, wanted, &marker, patience);
        let safe = tokio::select! {
            () = cancel.cancelled() => return,
            safe = tokio::time::timeout(patience * 2, asked) => matches!(safe, Ok(Ok(true))),
            _ = lost.wait_for(Option::is_none) => false,
        };
        answer(asking, safe);
    }
}

/// Takes the requests that a connection of this term can answer. Those of earlier terms can no longer be answered;
/// those of later terms wait for the next connection.
fn take_askable(waiting: &mut Vec<Request>, term: Term) -> Vec<Request> {
    let late = waiting.extract_if(.., |request| request.term < term);
    answer(late.collect(), false);
    waiting
        .extract_if(.., |request| request.term == term)
        .collect()
}

fn answer(requests: Vec<Request>, safe: bool) {
    for request in requests {
        // A caller that has given up meanwhile does not listen.
        let _ = request.answer.send(safe);
    }
}

async fn ask(
    connection: Connection,
    wanted: Wanted,
    marker: &str,
    patience: Duration,
) -> Result<bool, RedisError> {
    let mut redis = connection.redis;
    let patience_ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
    let mut set = redis::cmd("SET");
    set.arg(marker).arg(1);
    let mut pipeline = redis::pipe();
    pipeline.add_command(set).ignore();
    match wanted {
        Wanted::OnDisk => {
            pipeline.cmd("WAITAOF").arg(1).arg(0).arg(patience_ms);
            let ((local, _),): ((u32, u32),) = pipeline.query_async(&mut redis).await?;
            Ok(local >= 1)
        }
        Wanted::OnReplicas(number) => {
            pipeline.cmd("WAIT").arg(number).arg(patience_ms);
            let (confirmed,): (u32,) = pipeline.query_async(&mut redis).await?;
            Ok(confirmed >= number)
        }
    }
}
