//! Only the user that the server runs as may read the data folder.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// In the data folder; Redis keeps its append-only files there.
const APPEND_ONLY_DIR: &str = "appendonlydir";

/// Removes all other users' permissions from an existing data folder and from Redis's files in it. Logs that, and
/// continues where it cannot be done.
pub(super) fn close_to_others(data_dir: &Path) {
    let path = data_dir.display();
    match close_all(data_dir) {
        Ok(Closed {
            folder: None,
            files: 0,
        }) => {}
        Ok(Closed { folder, files }) => {
            let was = folder.map_or_else(String::new, |mode| format!(" (its mode was {mode:04o})"));
            log::warn!(
                "other users of this machine could read chats in the data folder {path}{was}: \
                 it is closed to them now, and so are {files} files in it"
            );
        }
        Err(error) => log::warn!(
            "other users of this machine may be able to read chats in the data folder {path}, \
             and that cannot be changed: {error}; chmod -R go= {path}"
        ),
    }
}

/// What was open to others before.
#[derive(Debug, Default)]
struct Closed {
    /// The mode of the data folder.
    folder: Option<u32>,
    files: usize,
}

fn close_all(data_dir: &Path) -> io::Result<Closed> {
    let mut closed = Closed {
        folder: close(data_dir)?,
        files: close_files(data_dir)?,
    };
    let append_only = data_dir.join(APPEND_ONLY_DIR);
    if append_only.is_dir() {
        close(&append_only)?;
        closed.files += close_files(&append_only)?;
    }
    Ok(closed)
}

/// Restricts the files directly in a folder; returns how many were open to others.
fn close_files(folder: &Path) -> io::Result<usize> {
    let mut closed = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // The target of a link is left alone.
        if entry.file_type()?.is_file() && close(&entry.path())?.is_some() {
            closed += 1;
        }
    }
    Ok(closed)
}

/// Leaves only the owner's permissions; returns the previous mode if others had any.
fn close(path: &Path) -> io::Result<Option<u32>> {
    let mode = fs::metadata(path)?.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(None);
    }
    fs::set_permissions(path, Permissions::from_mode(mode & 0o700))?;
    Ok(Some(mode))
}
