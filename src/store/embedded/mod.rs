//! The embedded Redis: a `redis-server` (or `valkey-server`) child of this process, so that the
//! chat server runs with nothing set up beforehand.
//!
//! It listens on a unix socket only, in a folder that nobody else can enter, and keeps an
//! append-only file in the data folder. One supervisor task owns the child: it restarts a child
//! that died and shuts it down when the server stops.
//!
//! - `folders`: the data folder and its lock, the runtime folder that holds the socket
//! - `privacy`: keeps other users of the machine out of the data folder
//! - `orphan`: the child that an earlier, killed server left behind
//! - `child`: one `redis-server` process and its log
//! - `control`: the few commands spoken over the socket

mod child;
mod control;
mod error;
mod folders;
mod orphan;
mod privacy;
#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::config;

use child::RedisChild;
pub use child::find_program;
use control::Control;
pub use error::EmbeddedError;
pub(crate) use folders::MAX_SOCKET_PATH_BYTES;
use folders::{DataLock, RuntimeDir};

/// The wait before the first restart of a child that died; it doubles up to `MAX_BACKOFF`.
const MIN_BACKOFF: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_secs(5);
/// A child that lived this long starts over at `MIN_BACKOFF` when it dies.
const STEADY_AFTER: Duration = Duration::from_secs(30);

/// Where the embedded Redis keeps its files.
#[derive(Debug, Clone)]
pub struct EmbeddedOptions {
    /// The append-only file and the lock; created if missing.
    pub data_dir: PathBuf,
    /// The socket's folder; created if missing, must be ours alone (mode 0700). By default
    /// `$XDG_RUNTIME_DIR/chat-server-<hash of the data folder>` or, without `XDG_RUNTIME_DIR`,
    /// `chat-server-<uid>-<hash>` in the folder for temporary files.
    pub runtime_dir: Option<PathBuf>,
    /// Each write is on disk before Redis answers; otherwise within a second.
    pub sync_each_write: bool,
}

/// A running Redis of our own. Dropped without [`stop`](Self::stop), it kills its child.
#[derive(Debug)]
pub struct EmbeddedRedis {
    url: String,
    stopping: CancellationToken,
    supervisor: AbortOnDropHandle<()>,
}

impl EmbeddedRedis {
    /// Locks the data folder, stops the child that an earlier, killed server left behind, starts a child and waits
    /// until it answers, even if only that it is still loading its data.
    ///
    /// # Errors
    /// Each says what to do; none leaves a child behind.
    pub async fn start(options: EmbeddedOptions) -> Result<Self, EmbeddedError> {
        let path = config::search_path();
        Self::start_from(options, path.as_deref()).await
    }

    async fn start_from(
        options: EmbeddedOptions,
        path: Option<&OsStr>,
    ) -> Result<Self, EmbeddedError> {
        let program = child::find_program(path).ok_or(EmbeddedError::NoProgram)?;
        let data_dir = folders::open_data_dir(&options.data_dir)?;
        privacy::close_to_others(&data_dir);
        let mut lock = DataLock::take(&data_dir)?;
        let runtime = RuntimeDir::open(&data_dir, options.runtime_dir.as_deref())?;

        orphan::replace(&data_dir, &runtime, lock.last_socket()).await?;
        runtime.remove_socket();
        lock.record(runtime.socket())?;

        let control = Control::new(runtime.socket());
        let plan = Plan {
            program,
            sync_each_write: options.sync_each_write,
            data_dir,
            runtime,
            control,
            lock,
        };
        let mut child = plan.spawn()?;
        if let Err(error) = child.until_it_answers(&plan.control).await {
            plan.clean_up();
            return Err(error);
        }
        log::info!(
            "embedded Redis runs (pid {}, data in {})",
            child.pid(),
            plan.data_dir.display()
        );

        let url = plan.control.url("resp3");
        let stopping = CancellationToken::new();
        let supervisor = tokio::spawn(supervise(plan, child, stopping.clone()));
        Ok(Self {
            url,
            stopping,
            supervisor: AbortOnDropHandle::new(supervisor),
        })
    }

    /// The address for the redis crate, `unix:///…/redis.sock?protocol=resp3`. It stays the same
    /// when the child is restarted.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Shuts the child down, its data written to disk, and waits until it is gone; after 10 s it is killed. After that
    /// the data folder is free for another server.
    pub async fn stop(self) {
        self.stopping.cancel();
        if let Err(error) = self.supervisor.await {
            log::error!("the supervisor of the embedded Redis failed: {error}");
        }
    }
}

/// The address of the Redis that a running server keeps on this data folder; `None` if there is none.
#[must_use]
pub fn running_url(data_dir: &Path) -> Option<String> {
    let socket = folders::recorded_socket(data_dir)?;
    Some(Control::new(&socket).url("resp3"))
}

/// What starting the child requires, and the locks that must outlive it.
struct Plan {
    program: PathBuf,
    sync_each_write: bool,
    data_dir: PathBuf,
    runtime: RuntimeDir,
    control: Control,
    lock: DataLock,
}

impl Plan {
    fn spawn(&self) -> Result<RedisChild, EmbeddedError> {
        let command = child::command(
            &self.program,
            &self.data_dir,
            self.runtime.socket(),
            self.sync_each_write,
        );
        RedisChild::spawn(&self.program, command)
    }

    /// Leaves nothing in the runtime folder and frees the data folder.
    fn clean_up(mut self) {
        self.runtime.remove();
        self.lock.clear();
    }
}

/// Keeps a child running until `stopping`, then shuts it down.
async fn supervise(plan: Plan, first: RedisChild, stopping: CancellationToken) {
    let mut current = Some(first);
    let mut backoff = MIN_BACKOFF;
    while let Some(mut child) = current.take() {
        let started = Instant::now();
        let exited = tokio::select! {
            biased;
            () = stopping.cancelled() => {
                child.stop(&plan.control).await;
                break;
            }
            exited = child.exited() => exited,
        };
        log::error!("the embedded Redis died ({exited}) and is started again");
        if started.elapsed() >= STEADY_AFTER {
            backoff = MIN_BACKOFF;
        }
        current = restart(&plan, &mut backoff, &stopping).await;
    }
    plan.clean_up();
}

/// A new child after the backoff; `None` when the server stops meanwhile.
async fn restart(
    plan: &Plan,
    backoff: &mut Duration,
    stopping: &CancellationToken,
) -> Option<RedisChild> {
    loop {
        stopping.run_until_cancelled(sleep(*backoff)).await?;
        *backoff = (*backoff * 2).min(MAX_BACKOFF);
        match plan.spawn() {
            Ok(child) => {
                log::warn!("embedded Redis restarted (pid {})", child.pid());
                return Some(child);
            }
            Err(error) => log::error!("{error}"),
        }
    }
}
