//! A server that is killed leaves its Redis running; that Redis must be gone before a new one may open the same files.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

use super::EmbeddedError;
use super::child::PID_FILE;
use super::control::Control;
use super::folders::RuntimeDir;

/// How long an orphan may take to write its data to disk and exit.
const GONE_WITHIN: Duration = Duration::from_secs(15);
const ASK_EVERY: Duration = Duration::from_millis(100);

enum Found {
    /// Nobody listens there, or nobody does any more.
    Nothing,
    /// A Redis with other data.
    Stranger,
}

/// Stops the Redis on `data_dir` that an earlier server left behind, if there is one. It is looked for at our own
/// socket, at that of the last server (whose runtime folder may have been different) and, in case its socket was
/// deleted, by its pid file.
pub(super) async fn replace(
    data_dir: &Path,
    runtime: &RuntimeDir,
    last_socket: Option<&Path>,
) -> Result<(), EmbeddedError> {
    if let Some(socket) = last_socket.filter(|socket| *socket != runtime.socket()) {
        // A Redis with other data is fine there: this data folder is a copy of another server's.
        stop(socket, data_dir).await?;
    }
    if let Found::Stranger = stop(runtime.socket(), data_dir).await? {
        return Err(EmbeddedError::RuntimeDirInUse {
            path: runtime.path().to_owned(),
        });
    }
    match unreachable_pid(data_dir) {
        None => Ok(()),
        pid => Err(EmbeddedError::OrphanStays {
            data_dir: data_dir.to_owned(),
            pid,
        }),
    }
}

async fn stop(socket: &Path, data_dir: &Path) -> Result<Found, EmbeddedError> {
    let Some(listener) = listener(socket).await else {
        return Ok(Found::Nothing);
    };
    log::info!(
        "a Redis{} listens at {}: if an earlier server left it behind, it is stopped first",
        listener
            .map(|pid| format!(" (pid {pid})"))
            .unwrap_or_default(),
        socket.display()
    );
    let control = Control::new(socket);
    let stopped = timeout(GONE_WITHIN, async {
        loop {
            match control.data_dir().await {
                Ok(dir) if dir != data_dir => return Found::Stranger,
                Ok(_) => {
                    if let Err(error) = control.shut_down().await {
                        log::debug!("it does not stop yet: {error}");
                    }
                }
                Err(error) => log::debug!("it does not answer: {error}"),
            }
            if self::listener(socket).await.is_none() {
                return Found::Nothing;
            }
            sleep(ASK_EVERY).await;
        }
    });
    stopped.await.map_err(|_| EmbeddedError::OrphanStays {
        data_dir: data_dir.to_owned(),
        pid: listener,
    })
}

/// `None`: nobody listens. `Some`: a process does, with its pid where the system reports it; this needs no answer, so
/// it finds a frozen process too.
async fn listener(socket: &Path) -> Option<Option<u32>> {
    match UnixStream::connect(socket).await {
        Ok(stream) => {
            let pid = stream.peer_cred().ok().and_then(|cred| cred.pid());
            Some(pid.and_then(|pid| u32::try_from(pid).ok()))
        }
        // The queue of connections waiting to be accepted is full.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Some(None),
        Err(_) => None,
    }
}

/// The Redis of the pid file, if `/proc` shows that it still runs on this folder.
fn unreachable_pid(data_dir: &Path) -> Option<u32> {
    let pid = fs::read_to_string(data_dir.join(PID_FILE)).ok()?;
    let pid: u32 = pid.trim().parse().ok()?;
    let process = Path::new("/proc").join(pid.to_string());
    let name = fs::read_to_string(process.join("comm")).ok()?;
    let folder = fs::read_link(process.join("cwd")).ok()?;
    let is_redis = name.starts_with("redis") || name.starts_with("valkey");
    (is_redis && folder == data_dir).then_some(pid)
}
