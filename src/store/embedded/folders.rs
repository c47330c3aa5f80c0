//! The data folder with its lock, and the runtime folder that holds the socket.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use tokio::net::UnixStream;
use uuid::Uuid;

use super::EmbeddedError;
use crate::config;

/// A socket's path is silently cut off at the 108 bytes (macOS: 104) of `sun_path`, including a NUL.
pub(crate) const MAX_SOCKET_PATH_BYTES: usize = if cfg!(target_os = "linux") { 107 } else { 103 };
const SOCKET: &str = "redis.sock";
const LOCK: &str = "chat-server.lock";

fn create_private(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Creates the data folder if it is missing; returns its canonical path.
pub(super) fn open_data_dir(path: &Path) -> Result<PathBuf, EmbeddedError> {
    create_private(path)
        .and_then(|()| fs::canonicalize(path))
        .map_err(|source| EmbeddedError::DataDir {
            path: path.to_owned(),
            source,
        })
}

/// The right to use a data folder, held until dropped. The file contains our pid, for a server that finds it locked,
/// and after a newline the path of our Redis's socket, for a later server that has to find the Redis we left behind.
/// The file stays when the lock is released, so that no two servers ever lock two files of that name.
#[derive(Debug)]
pub(super) struct DataLock {
    file: File,
    path: PathBuf,
    last_socket: Option<PathBuf>,
}

/// The socket that the lock file of a data folder names, if something exists there.
pub(super) fn recorded_socket(data_dir: &Path) -> Option<PathBuf> {
    let text = fs::read(data_dir.join(LOCK)).ok()?;
    let socket = text.splitn(2, |byte| *byte == b'\n').nth(1)?;
    let socket = PathBuf::from(OsStr::from_bytes(socket));
    socket.exists().then_some(socket)
}

impl DataLock {
    pub(super) fn take(data_dir: &Path) -> Result<Self, EmbeddedError> {
        let path = data_dir.join(LOCK);
        let unusable = |source| EmbeddedError::DataDir {
            path: path.clone(),
            source,
        };
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(unusable)?;
        let locked = file.try_lock();
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(unusable)?;
        let mut parts = text.splitn(2, |byte| *byte == b'\n');
        let pid = parts.next().and_then(|pid| str::from_utf8(pid).ok());
        let socket = parts.next().filter(|socket| !socket.is_empty());
        match locked {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(EmbeddedError::DataDirInUse {
                    path: data_dir.to_owned(),
                    pid: pid.and_then(|pid| pid.parse().ok()),
                });
            }
            Err(TryLockError::Error(source)) => return Err(unusable(source)),
        }
        let last_socket = socket.map(|socket| PathBuf::from(OsStr::from_bytes(socket)));
        let mut lock = Self {
            file,
            path,
            last_socket,
        };
        // Our pid is written at once; the old socket stays until whatever may listen there has been dealt with.
        let keep = lock.last_socket.clone().unwrap_or_default();
        lock.record(&keep)?;
        Ok(lock)
    }

    /// The socket of the last server on this folder, unless that server stopped cleanly.
    pub(super) fn last_socket(&self) -> Option<&Path> {
        self.last_socket.as_deref()
    }

    pub(super) fn record(&mut self, socket: &Path) -> Result<(), EmbeddedError> {
        let mut text = format!("{}\n", std::process::id()).into_bytes();
        text.extend_from_slice(socket.as_os_str().as_bytes());
        self.write(&text).map_err(|source| EmbeddedError::DataDir {
            path: self.path.clone(),
            source,
        })
    }

    /// After a clean stop: there is nothing left to find.
    pub(super) fn clear(&mut self) {
        if let Err(error) = self.write(b"") {
            log::warn!("cannot empty {}: {error}", self.path.display());
        }
    }

    fn write(&mut self, text: &[u8]) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(text)
    }
}

/// The socket's folder, locked against a second server that was given the same one.
#[derive(Debug)]
pub(super) struct RuntimeDir {
    path: PathBuf,
    socket: PathBuf,
    /// A folder that we chose is removed with us; one that the operator named stays.
    ours: bool,
    _lock: File,
}

impl RuntimeDir {
    pub(super) fn open(data_dir: &Path, chosen: Option<&Path>) -> Result<Self, EmbeddedError> {
        let unusable = |path: &Path, reason: String| EmbeddedError::RuntimeDir {
            path: path.to_owned(),
            reason,
        };
        let wanted = chosen.unwrap_or(Path::new("(default)"));
        let uid = our_uid().map_err(|error| unusable(wanted, error.to_string()))?;
        let path = match chosen {
            Some(path) => std::path::absolute(path)
                .map_err(|error| unusable(path, error.to_string()))?
                // Rebuilt this way, it has no trailing slash that would follow a link.
                .components()
                .collect(),
            None => {
                let (xdg, temp) = (config::user_runtime_dir(), config::temp_dir());
                default_runtime_dir(data_dir, uid, xdg, &temp)
            }
        };
        let socket = path.join(SOCKET);
        if socket.as_os_str().len() > MAX_SOCKET_PATH_BYTES {
            return Err(EmbeddedError::SocketPathTooLong {
                path: socket,
                limit: MAX_SOCKET_PATH_BYTES,
            });
        }
        create_private(&path).map_err(|error| unusable(&path, error.to_string()))?;
        check_private(&path, uid).map_err(|reason| unusable(&path, reason))?;
        let lock = File::open(&path).map_err(|error| unusable(&path, error.to_string()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(EmbeddedError::RuntimeDirInUse { path }),
            Err(TryLockError::Error(error)) => return Err(unusable(&path, error.to_string())),
        }
        Ok(Self {
            path,
            socket,
            ours: chosen.is_none(),
            _lock: lock,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Removes what a killed Redis leaves behind; one that shuts down cleanly removes its socket itself.
    pub(super) fn remove_socket(&self) {
        match fs::remove_file(&self.socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                log::warn!("cannot remove {}: {error}", self.socket.display());
            }
            _ => {}
        }
    }

    pub(super) fn remove(&self) {
        self.remove_socket();
        if self.ours
            && let Err(error) = fs::remove_dir(&self.path)
        {
            log::debug!("{} stays: {error}", self.path.display());
        }
    }
}

/// The same at each start on one data folder, and different for each data folder.
pub(super) fn default_runtime_dir(
    data_dir: &Path,
    uid: u32,
    xdg: Option<PathBuf>,
    temp: &Path,
) -> PathBuf {
    let hash = Uuid::new_v5(&Uuid::NAMESPACE_OID, data_dir.as_os_str().as_bytes());
    let mut hash = hash.simple().to_string();
    hash.truncate(16);
    // After `su` the variable may still name the other user's folder.
    let is_usable = |dir: &PathBuf| {
        dir.is_absolute() && fs::metadata(dir).is_ok_and(|meta| meta.is_dir() && meta.uid() == uid)
    };
    match xdg.filter(is_usable) {
        Some(xdg) => xdg.join(format!("chat-server-{hash}")),
        None => temp.join(format!("chat-server-{uid}-{hash}")),
    }
}

/// A process that can enter the folder can command Redis, so it must be a folder that only we can access.
fn check_private(path: &Path, uid: u32) -> Result<(), String> {
    let meta = fs::symlink_metadata(path).map_err(|error| error.to_string())?;
    let mode = meta.mode() & 0o777;
    if !meta.is_dir() {
        Err("it is a link or a file, not a folder".to_owned())
    } else if meta.uid() != uid {
        Err(format!(
            "it belongs to user {}, not to user {uid}",
            meta.uid()
        ))
    } else if mode != 0o700 {
        Err(format!("its mode is {mode:04o}, not 0700"))
    } else {
        Ok(())
    }
}

/// The user that we run as: the system reports it to each end of a socket pair.
fn our_uid() -> io::Result<u32> {
    let (ours, _other) = UnixStream::pair()?;
    Ok(ours.peer_cred()?.uid())
}
