//! What a folder of scripts was made from, recorded in it, so that it does not undo what others have changed since.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::{Deserialize, Serialize};

use crate::scripts::ScriptSet;

/// Editors and `LUA_DIR` ignore hidden files.
const FILE: &str = ".base.json";

/// Names of scripts and their SHA1s.
pub type Sha1s = BTreeMap<String, String>;

/// The set that a folder was made from, or that was last applied from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// A description of the set.
    pub set: String,
    pub sha1: Sha1s,
}

impl Base {
    pub fn of(set: &ScriptSet) -> Self {
        Self {
            set: set.origin.to_string(),
            sha1: sha1s(set),
        }
    }

    pub fn file(dir: &Path) -> PathBuf {
        dir.join(FILE)
    }

    /// What the folder records; `None` if it was not made by this program, or the file cannot be read.
    pub fn read(dir: &Path) -> Option<Self> {
        let json = fs::read(Self::file(dir)).ok()?;
        serde_json::from_slice(&json).ok()
    }

    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        let json = serde_json::to_string_pretty(self)?;
        fs::write(Self::file(dir), json + "\n")
    }
}

pub fn sha1s(set: &ScriptSet) -> Sha1s {
    let each = set.iter();
    each.map(|(script, text)| (script.name().to_owned(), text.sha1.clone()))
        .collect()
}
