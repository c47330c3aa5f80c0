//! Sets of scripts as folders of files: reading one, and writing one out.

mod base;

use std::fs;
use std::path::{Path, PathBuf};

pub use self::base::{Base, Sha1s, sha1s};
use super::problem::Problem;
use super::registry::Script;
use super::set::{LUA, Origin, ScriptSet, ScriptText, Source};

/// The largest script that is read, in bytes. The delivered ones are a tenth of it.
const MAX_SCRIPT_BYTES: u64 = 64 * 1024;

/// A set that was read from a folder.
#[derive(Debug)]
pub struct FolderSet {
    pub set: ScriptSet,
    /// The scripts that are missing: the embedded ones are used instead.
    pub missing: Vec<Script>,
}

/// Why a folder is not a set of scripts.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    #[error("{}: {source}", path.display())]
    Unreadable {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{} has no file named after a script, such as send_message.lua", .0.display())]
    NoScripts(PathBuf),
    #[error("{}", super::problem::lines(.0))]
    Problems(Vec<Problem>),
}

/// Reads a folder's scripts; those that are missing are taken from `embedded`.
///
/// # Errors
/// A folder or file that cannot be read, or all files that are not text or not named after a script.
pub fn read(dir: &Path, embedded: &ScriptSet) -> Result<FolderSet, FolderError> {
    let mut set = embedded.clone().from_origin(Origin::Folder(dir.to_owned()));
    let mut found = Vec::new();
    let mut problems = Vec::new();
    for path in lua_files(dir)? {
        let name = path.file_stem().and_then(|stem| stem.to_str());
        let script = name.and_then(Script::of_name);
        match (script, read_text(&path)?) {
            (Some(script), Ok(text)) => {
                found.push(script);
                set = set.with(script, ScriptText::new(text, Source::File(path)));
            }
            (None, _) => problems.push(at(
                &path,
                1,
                "the server has no script of this name: it would never be called",
            )),
            (_, Err((line, reason))) => problems.push(at(&path, line, reason)),
        }
    }
    if !problems.is_empty() {
        return Err(FolderError::Problems(problems));
    }
    if found.is_empty() {
        return Err(FolderError::NoScripts(dir.to_owned()));
    }
    let missing = Script::ALL.into_iter().filter(|s| !found.contains(s));
    Ok(FolderSet {
        set,
        missing: missing.collect(),
    })
}

fn lua_files(dir: &Path) -> Result<Vec<PathBuf>, FolderError> {
    let unreadable = |source| FolderError::Unreadable {
        path: dir.to_owned(),
        source,
    };
    let entries: Result<Vec<_>, _> = fs::read_dir(dir).map_err(unreadable)?.collect();
    let mut files: Vec<PathBuf> = entries
        .map_err(unreadable)?
        .into_iter()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "lua"))
        // Editors keep backups as dot files.
        .filter(|path| !is_hidden(path))
        .collect();
    files.sort();
    Ok(files)
}

fn is_hidden(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.starts_with('.'))
}

/// The file's text, or the line at which it is not text, and why.
fn read_text(path: &Path) -> Result<Result<String, (usize, &'static str)>, FolderError> {
    let unreadable = |source| FolderError::Unreadable {
        path: path.to_owned(),
        source,
    };
    if fs::metadata(path).map_err(unreadable)?.len() > MAX_SCRIPT_BYTES {
        return Ok(Err((1, "the file has more than 64 KiB")));
    }
    let bytes = fs::read(path).map_err(unreadable)?;
    Ok(String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        (line, "this line is not UTF-8")
    }))
}

fn at(path: &Path, line: usize, reason: &str) -> Problem {
    Problem {
        file: path.display().to_string(),
        line,
        reason: reason.to_owned(),
    }
}

/// Why a set was not written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("{}: {source}", path.display())]
    Write {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{} exists with another text; --force overwrites it", .0.display())]
    Exists(PathBuf),
}

/// Writes a set's scripts, the README and a note of what the folder was made from, and returns the files' paths.
///
/// # Errors
/// A file that cannot be written, or, without `force`, a file that has another text; then nothing is written.
pub fn export(dir: &Path, set: &ScriptSet, force: bool) -> Result<Vec<PathBuf>, ExportError> {
    let files: Vec<(PathBuf, &[u8])> = LUA
        .files()
        .map(|file| (dir.join(file.path()), contents(file, set)))
        .collect();
    let differs = |(path, contents): &&(PathBuf, &[u8])| {
        fs::read(path).is_ok_and(|bytes| bytes.as_slice() != *contents)
    };
    if let (Some((path, _)), false) = (files.iter().find(differs), force) {
        return Err(ExportError::Exists(path.clone()));
    }
    let failed = |path: &Path| {
        let path = path.to_owned();
        |source| ExportError::Write { path, source }
    };
    fs::create_dir_all(dir).map_err(failed(dir))?;
    for (path, contents) in &files {
        fs::write(path, contents).map_err(failed(path))?;
    }
    Base::of(set).write(dir).map_err(failed(&Base::file(dir)))?;
    Ok(files.into_iter().map(|(path, _)| path).collect())
}

/// The set's text if the file is a script.
fn contents<'a>(file: &'a include_dir::File, set: &'a ScriptSet) -> &'a [u8] {
    let name = file.path().file_stem().and_then(|stem| stem.to_str());
    let is_lua = file.path().extension().is_some_and(|it| it == "lua");
    let script = name.filter(|_| is_lua).and_then(Script::of_name);
    script.map_or(file.contents(), |script| set.get(script).text.as_bytes())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn exported() -> (tempfile::TempDir, ScriptSet) {
        let dir = tempfile::tempdir().unwrap();
        let embedded = ScriptSet::embedded().unwrap();
        export(dir.path(), &embedded, false).unwrap();
        (dir, embedded)
    }

    #[test]
    fn what_is_exported_is_read_as_the_embedded_set() {
        let (dir, embedded) = exported();
        let read = read(dir.path(), &embedded).unwrap();
        assert_eq!(read.missing, []);
        assert_eq!(read.set.differing(&embedded), []);
        assert_eq!(read.set.origin, Origin::Folder(dir.path().to_owned()));
    }

    #[test]
    fn an_edited_file_is_not_overwritten_unasked() {
        let (dir, embedded) = exported();
        let file = dir.path().join("send_message.lua");
        fs::write(&file, "-- mine").unwrap();
        let refused = export(dir.path(), &embedded, false)
            .unwrap_err()
            .to_string();
        assert!(refused.contains("send_message.lua exists"), "{refused}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "-- mine");
        export(dir.path(), &embedded, true).unwrap();
        assert_ne!(fs::read_to_string(&file).unwrap(), "-- mine");
    }

    #[test]
    fn the_embedded_script_stands_in_for_a_missing_one() {
        let (dir, embedded) = exported();
        fs::remove_file(dir.path().join("leave_chat.lua")).unwrap();
        let read = read(dir.path(), &embedded).unwrap();
        assert_eq!(read.missing, [Script::LeaveChat]);
        assert_eq!(read.set.get(Script::LeaveChat).source, Source::Embedded);
    }

    #[test]
    fn what_is_no_script_is_named_with_its_line() {
        let (dir, embedded) = exported();
        let path = dir.path();
        fs::write(path.join("send_mesage.lua"), "").unwrap();
        fs::write(path.join("enter_chat.lua"), b"#!lua\n--\n-- \xff\n").unwrap();
        fs::write(path.join("leave_chat.lua"), "-".repeat(64 * 1024 + 1)).unwrap();
        fs::write(path.join(".#mark_as_read.lua"), b"\xff").unwrap();
        let error = read(path, &embedded).unwrap_err().to_string();
        let lines: Vec<&str> = error.lines().collect();
        assert_eq!(lines.len(), 3, "{error}");
        assert!(lines[0].ends_with("enter_chat.lua:3: this line is not UTF-8"));
        assert!(lines[1].ends_with("leave_chat.lua:1: the file has more than 64 KiB"));
        assert!(lines[2].contains("send_mesage.lua:1: the server has no script of this name"));
    }

    #[test]
    fn a_folder_without_scripts_is_no_set() {
        let dir = tempfile::tempdir().unwrap();
        let embedded = ScriptSet::embedded().unwrap();
        let read = |dir: &Path| read(dir, &embedded).unwrap_err();
        assert!(matches!(read(dir.path()), FolderError::NoScripts(_)));
        let absent = read(&dir.path().join("absent"));
        assert!(matches!(absent, FolderError::Unreadable { .. }));
    }
}
