//! The Redis of one trial: a child process on a Unix socket in a folder of its own, with no persistence.

use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo, ProtocolVersion, RedisError,
};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::config;
use crate::store::connection::ConnectError;
use crate::store::embedded::MAX_SOCKET_PATH_BYTES;
use crate::store::server_check::check_server;

const ANSWERS_WITHIN: Duration = Duration::from_secs(5);
const ASK_EVERY: Duration = Duration::from_millis(3);
/// How long one command may take, except the calls under trial, which have limits of their own.
const ANSWER_WITHIN: Duration = Duration::from_secs(4);
/// After this long, a Redis that is busy with a script accepts `SCRIPT KILL`.
const BUSY_AFTER_MS: &str = "200";
const LOG_FILE: &str = "redis.log";

/// Why a trial could not be run. It says nothing about the scripts.
#[derive(Debug, thiserror::Error)]
pub enum ScratchError {
    #[error("cannot make a folder for a scratch Redis in {}: {source}", .parent.display())]
    Folder { parent: PathBuf, source: io::Error },

    #[error(
        "the path {} is too long for a socket of a scratch Redis: set TMPDIR to a shorter one",
        .0.display()
    )]
    SocketPathTooLong(PathBuf),

    #[error("cannot start {} as a scratch Redis: {source}", .program.display())]
    Spawn { program: PathBuf, source: io::Error },

    #[error("{} ended right after its start as a scratch Redis ({exited}); it said:\n{log}", .program.display())]
    Ended {
        program: PathBuf,
        exited: String,
        log: String,
    },

    #[error("{} did not answer within 5 s as a scratch Redis; it said:\n{log}", .program.display())]
    NoAnswer { program: PathBuf, log: String },

    #[error("the scratch Redis cannot be used: {0}")]
    Unfit(#[from] ConnectError),

    #[error("the scratch Redis failed: {0}")]
    Redis(#[from] RedisError),

    #[error("the scratch Redis was lost in the middle of a call")]
    Lost,

    #[error("the scratch Redis did not deliver what was published there")]
    Deaf,

    #[error("the trial was aborted after 20 s, in the case `{0}`: is this machine very busy?")]
    TooSlow(&'static str),
}

/// A running scratch Redis. When it is dropped, its child is killed and its folder removed.
pub(super) struct Scratch {
    process: Child,
    // Declared after the process, so that nothing writes there any more when it is removed.
    folder: TempDir,
}

impl Scratch {
    /// Starts a Redis and waits until it answers.
    pub(super) async fn start(program: &Path) -> Result<Self, ScratchError> {
        let folder = private_folder()?;
        let process =
            command(program, folder.path())
                .spawn()
                .map_err(|source| ScratchError::Spawn {
                    program: program.to_owned(),
                    source,
                })?;
        let mut scratch = Self { process, folder };
        match scratch.until_it_answers(program).await {
            Ok(()) => Ok(scratch),
            Err(error) => {
                scratch.stop().await;
                Err(error)
            }
        }
    }

    /// Stops the Redis and waits until it has ended.
    pub(super) async fn stop(mut self) {
        if let Err(error) = self.process.kill().await {
            log::warn!("cannot kill a scratch Redis: {error}");
        }
    }

    pub(super) async fn connect(
        &self,
        config: AsyncConnectionConfig,
    ) -> Result<MultiplexedConnection, RedisError> {
        let info = ConnectionAddr::Unix(socket(self.folder.path())).into_connection_info()?;
        let settings = info
            .redis_settings()
            .clone()
            .set_protocol(ProtocolVersion::RESP3);
        Client::open(info.set_redis_settings(settings))?
            .get_multiplexed_async_connection_with_config(
                &config.set_response_timeout(Some(ANSWER_WITHIN)),
            )
            .await
    }

    /// What it has logged so far; empty if the log cannot be read.
    pub(super) async fn log(&self) -> String {
        let log = tokio::fs::read(self.folder.path().join(LOG_FILE)).await;
        String::from_utf8_lossy(&log.unwrap_or_default()).into_owned()
    }

    async fn until_it_answers(&mut self, program: &Path) -> Result<(), ScratchError> {
        let program = program.to_owned();
        let ended = match timeout(ANSWERS_WITHIN, self.first_answer()).await {
            Ok(Ok(mut connection)) => {
                check_server(&mut connection, false).await?;
                return Ok(());
            }
            Ok(Err(exited)) => Some(exited),
            Err(_) => None,
        };
        let log = self.log().await;
        Err(match ended {
            Some(exited) => ScratchError::Ended {
                program,
                exited,
                log,
            },
            None => ScratchError::NoAnswer { program, log },
        })
    }

    /// Connects as soon as that is possible; fails if the child ends instead.
    async fn first_answer(&mut self) -> Result<MultiplexedConnection, String> {
        loop {
            if let Ok(connection) = self.connect(AsyncConnectionConfig::new()).await {
                return Ok(connection);
            }
            match self.process.try_wait() {
                Ok(None) => sleep(ASK_EVERY).await,
                Ok(Some(status)) => return Err(status.to_string()),
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}

fn private_folder() -> Result<TempDir, ScratchError> {
    let parent = config::temp_dir();
    let folder = tempfile::Builder::new()
        .prefix("chat-scratch-")
        .permissions(std::fs::Permissions::from_mode(0o700))
        .tempdir_in(&parent)
        .map_err(|source| ScratchError::Folder { parent, source })?;
    let socket = socket(folder.path());
    if socket.as_os_str().len() > MAX_SOCKET_PATH_BYTES {
        return Err(ScratchError::SocketPathTooLong(socket));
    }
    Ok(folder)
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("redis.sock")
}

fn command(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    let mut set = |name: &str, value: &dyn AsRef<OsStr>| {
        command.arg(format!("--{name}")).arg(value);
    };
    // Reachable only through the socket.
    set("port", &"0");
    set("unixsocket", &socket(folder));
    set("unixsocketperm", &"700");
    // No persistence.
    set("dir", &folder);
    set("save", &"");
    set("appendonly", &"no");
    set("maxmemory-policy", &"noeviction");
    set("busy-reply-threshold", &BUSY_AFTER_MS);
    // A traced script writes to the log which way it went.
    set("logfile", &folder.join(LOG_FILE));
    set("loglevel", &"warning");
    set("daemonize", &"no");
    set("supervised", &"no");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Ctrl-C in the terminal goes to this process, which then stops the child.
        .process_group(0)
        .kill_on_drop(true);
    command
}
