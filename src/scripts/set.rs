//! One text for each script: what a server runs.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use include_dir::{Dir, include_dir};
use tokio::sync::watch;

use super::registry::Script;

/// `lua/` as of the build of the binary.
pub(super) static LUA: Dir = include_dir!("$CARGO_MANIFEST_DIR/lua");

/// Where a set comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The binary.
    Embedded,
    /// A folder; scripts that are missing there come from the binary.
    Folder(PathBuf),
    /// The set with this number that was applied to the installation.
    Applied(u64),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded => f.write_str("the embedded set"),
            Self::Folder(path) => write!(f, "the folder {}", path.display()),
            Self::Applied(number) => write!(f, "applied set {number}"),
        }
    }
}

/// Where a script's text comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The binary.
    Embedded,
    /// A file.
    File(PathBuf),
    /// The set with this number that was applied to the installation.
    Applied(u64),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded => f.write_str("embedded"),
            Self::File(_) => f.write_str("folder"),
            Self::Applied(number) => write!(f, "applied set {number}"),
        }
    }
}

/// A script's text and the SHA1 by which Redis knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptText {
    pub text: String,
    pub sha1: String,
    pub source: Source,
}

impl ScriptText {
    pub fn new(text: String, source: Source) -> Self {
        let sha1 = redis::Script::new(&text).get_hash().to_owned();
        Self { text, sha1, source }
    }
}

/// One text for each script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptSet {
    pub origin: Origin,
    texts: Vec<ScriptText>,
}

/// A file of `lua/` is missing from the binary. This never happens in a binary whose tests passed.
#[derive(Debug, thiserror::Error)]
#[error("the script {0}.lua is not embedded in this binary")]
pub struct MissingScript(&'static str);

impl ScriptSet {
    /// The scripts that were embedded when the binary was built.
    pub fn embedded() -> Result<Self, MissingScript> {
        let read = |script: Script| {
            let name = script.name();
            let file = LUA
                .get_file(format!("{name}.lua"))
                .ok_or(MissingScript(name))?;
            let text = file.contents_utf8().ok_or(MissingScript(name))?.to_owned();
            Ok(ScriptText::new(text, Source::Embedded))
        };
        Ok(Self {
            origin: Origin::Embedded,
            texts: Script::ALL
                .into_iter()
                .map(read)
                .collect::<Result<_, _>>()?,
        })
    }

    /// The same texts as a set of another origin, to which its own texts are added.
    pub fn from_origin(self, origin: Origin) -> Self {
        Self { origin, ..self }
    }

    /// The same set with another text for one script.
    pub fn with(mut self, script: Script, text: ScriptText) -> Self {
        self.texts[script as usize] = text;
        self
    }

    pub fn get(&self, script: Script) -> &ScriptText {
        // ALL lists the variants in order; a test checks that.
        &self.texts[script as usize]
    }

    /// The scripts whose texts differ from the other set's.
    pub fn differing(&self, other: &Self) -> Vec<Script> {
        let differs = |script: &Script| self.get(*script).text != other.get(*script).text;
        Script::ALL.into_iter().filter(differs).collect()
    }

    /// Every script with its text, in the order of [`Script::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (Script, &ScriptText)> {
        Script::ALL.into_iter().zip(&self.texts)
    }
}

/// The set in effect. It is swapped as a whole; a call that has read it keeps it.
pub type InEffect = watch::Receiver<Arc<ScriptSet>>;

/// A set that never changes.
pub fn fixed(set: ScriptSet) -> InEffect {
    watch::channel(Arc::new(set)).1
}
