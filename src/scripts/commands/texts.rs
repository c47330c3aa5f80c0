//! `scripts export`, `show` and `diff`.

use std::path::{Path, PathBuf};

use similar::TextDiff;

use super::desk::Desk;
use super::{CommandError, say};
use crate::cli::scripts::Which;
use crate::scripts::folder;
use crate::scripts::registry::Script;

/// Writes the embedded scripts into a folder.
pub(super) fn export(dir: &Path, force: bool) -> Result<(), CommandError> {
    for path in folder::export(dir, force)? {
        say(path.display());
    }
    Ok(())
}

/// Prints one script.
pub(super) async fn show(
    desk: &Desk,
    script: Script,
    dir: Option<PathBuf>,
    which: Which,
) -> Result<(), CommandError> {
    let set = desk.chosen(dir, which).await?;
    say(set.get(script).text.trim_end());
    Ok(())
}

/// Prints what differs from the embedded scripts; `patch -p1` takes it.
pub(super) async fn diff(
    desk: &Desk,
    dir: Option<PathBuf>,
    which: Which,
) -> Result<(), CommandError> {
    let set = desk.chosen(dir, which).await?;
    for script in set.differing(&desk.embedded) {
        let (old, new) = (desk.embedded.get(script), set.get(script));
        let name = script.name();
        let diff = TextDiff::from_lines(old.text.as_str(), new.text.as_str());
        let mut unified = diff.unified_diff();
        unified.header(&format!("a/{name}.lua"), &format!("b/{name}.lua"));
        say(unified.to_string().trim_end());
    }
    Ok(())
}
