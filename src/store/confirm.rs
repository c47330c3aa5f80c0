//! What an ack promises beyond Redis's memory: that disk or replicas have the write.
//!
//! WAIT and WAITAOF speak for the writes of their own connection only. So those who need a confirmation share one
//! connection: after their replies it writes a marker, which comes after all of their writes in the order in which Redis
//! writes its file and feeds its replicas, and waits for that. Whoever comes meanwhile shares the next.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::RedisError;
use redis::aio::MultiplexedConnection;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::connection::Current;
use crate::config::Durability;

/// Confirmations that may be waited for at once.
const WAITING_MAX: usize = 65_536;

/// Asks for confirmations.
#[derive(Debug, Clone)]
pub struct Confirmations {
    requests: mpsc::Sender<oneshot::Sender<bool>>,
    needed: Arc<AtomicBool>,
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// WAITAOF: the append-only file of this Redis.
    OnDisk,
    /// WAIT: so many replicas.
    OnReplicas(u32),
}

impl Wanted {
    /// `None` where Redis's reply says it all.
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
    pub fn new() -> (Self, mpsc::Receiver<oneshot::Sender<bool>>) {
        let (requests, inbox) = mpsc::channel(WAITING_MAX);
        let needed = Arc::new(AtomicBool::new(true));
        (Self { requests, needed }, inbox)
    }

    /// Whether a reply of the Redis in use leaves something to wait for: one that syncs each write does not.
    pub fn set_needed(&self, needed: bool) {
        self.needed.store(needed, Ordering::Relaxed);
    }

    /// Resolves to whether all that was written before is as safe as wanted. False also where nobody can tell.
    pub async fn confirmed(&self) -> bool {
        if !self.needed.load(Ordering::Relaxed) {
            return true;
        }
        let (answer, confirmed) = oneshot::channel();
        self.requests.try_send(answer).is_ok() && confirmed.await.unwrap_or(false)
    }
}

/// Answers requests for confirmation, all that wait at once, until `cancel`.
///
/// `marker` is the key that is written. `patience` bounds each wait.
pub async fn confirm(
    mut requests: mpsc::Receiver<oneshot::Sender<bool>>,
    wanted: Wanted,
    marker: String,
    mut connection: Current,
    patience: Duration,
    cancel: CancellationToken,
) {
    let mut waiting = Vec::new();
    loop {
        let more = tokio::select! {
            () = cancel.cancelled() => return,
            more = requests.recv_many(&mut waiting, WAITING_MAX) => more,
        };
        if more == 0 {
            return;
        }
        // Redis bounds the wait itself; this is for a Redis that is not there, or does not answer at all.
        let asked = async {
            let connection = connection.wait_for(Option::is_some).await.ok()?.clone()?;
            ask(connection, wanted, &marker, patience).await.ok()
        };
        let asked = tokio::time::timeout(patience * 2, asked).await;
        let safe = matches!(asked, Ok(Some(true)));
        for request in waiting.drain(..) {
            // Whoever has given up waiting meanwhile does not listen.
            let _ = request.send(safe);
        }
    }
}

async fn ask(
    mut connection: MultiplexedConnection,
    wanted: Wanted,
    marker: &str,
    patience: Duration,
) -> Result<bool, RedisError> {
    let patience_ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
    let mut set = redis::cmd("SET");
    set.arg(marker).arg(1);
    let mut pipeline = redis::pipe();
    pipeline.add_command(set).ignore();
    match wanted {
        Wanted::OnDisk => {
            pipeline.cmd("WAITAOF").arg(1).arg(0).arg(patience_ms);
            let ((local, _),): ((u32, u32),) = pipeline.query_async(&mut connection).await?;
            Ok(local >= 1)
        }
        Wanted::OnReplicas(number) => {
            pipeline.cmd("WAIT").arg(number).arg(patience_ms);
            let (confirmed,): (u32,) = pipeline.query_async(&mut connection).await?;
            Ok(confirmed >= number)
        }
    }
}
