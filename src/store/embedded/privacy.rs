//! Only the user that the server runs as may read the data folder.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// In the data folder; Redis keeps its append-only files there.
const APPEND_ONLY_DIR: &str = "appendonlydir";

/// Takes the rights of all other users away from a data folder that was made before, and from the files of Redis in it.
/// Says so, and goes on where that cannot be done.
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

/// What was open before.
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

/// Closes the files that are directly in a folder; how many were open.
fn close_files(folder: &Path) -> io::Result<usize> {
    let mut closed = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // Not what a link leads to.
        if entry.file_type()?.is_file() && close(&entry.path())?.is_some() {
            closed += 1;
        }
    }
    Ok(closed)
}

/// Leaves only the owner's rights; the mode before, if there were others.
fn close(path: &Path) -> io::Result<Option<u32>> {
    let mode = fs::metadata(path)?.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(None);
    }
    fs::set_permissions(path, Permissions::from_mode(mode & 0o700))?;
    Ok(Some(mode))
}
