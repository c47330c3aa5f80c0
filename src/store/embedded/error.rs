use std::io;
use std::path::PathBuf;

/// Why the embedded Redis could not start, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    #[error(
        "neither redis-server nor valkey-server is on PATH: install one \
         (for example `apt install redis-server`), or set REDIS_URL to a Redis that runs elsewhere"
    )]
    NoProgram,

    #[error("cannot use the data folder {}: {source}", .path.display())]
    DataDir { path: PathBuf, source: io::Error },

    #[error(
        "the data folder {} is in use by another chat-server{}: stop that one, \
         or give this one a data folder of its own",
        .path.display(), pid_note(*.pid)
    )]
    DataDirInUse { path: PathBuf, pid: Option<u32> },

    #[error(
        "cannot use the runtime folder {}: {reason}; correct that, or set REDIS_RUNTIME_DIR \
         to a folder that belongs to this user alone (mode 0700) or does not exist yet",
        .path.display()
    )]
    RuntimeDir { path: PathBuf, reason: String },

    #[error(
        "the runtime folder {} holds the socket of another Redis: \
         set REDIS_RUNTIME_DIR to a folder for this server alone",
        .path.display()
    )]
    RuntimeDirInUse { path: PathBuf },

    #[error(
        "the socket path {} has {} bytes, but a unix socket may have at most {limit}: \
         set REDIS_RUNTIME_DIR to a shorter path",
        .path.display(), .path.as_os_str().len()
    )]
    SocketPathTooLong { path: PathBuf, limit: usize },

    #[error(
        "a Redis{} that an earlier chat-server left behind still uses the data folder {} \
         and does not stop when asked: end it (`kill`, then `kill -9`), then start again",
        pid_note(*.pid), .data_dir.display()
    )]
    OrphanStays { data_dir: PathBuf, pid: Option<u32> },

    #[error("cannot start {}: {source}", .program.display())]
    Spawn { program: PathBuf, source: io::Error },

    #[error("{} ended right after its start ({exited}); it said:\n{log}", .program.display())]
    EndedAtStart {
        program: PathBuf,
        exited: String,
        log: String,
    },

    #[error(
        "{} did not answer within {waited_secs} s and was ended; it said:\n{log}",
        .program.display()
    )]
    NoAnswer {
        program: PathBuf,
        waited_secs: u64,
        log: String,
    },
}

fn pid_note(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
}
