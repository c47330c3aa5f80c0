//! `scripts export`, `show` and `diff`.

use std::path::{Path, PathBuf};

use similar::TextDiff;

use super::desk::Desk;
use super::{CommandError, say};
use crate::cli::scripts::Which;
use crate::scripts::folder;
use crate::scripts::registry::Script;
use crate::scripts::set::ScriptSet;

/// Writes the selected scripts into a folder; by default those in effect, or the embedded ones if there is no Redis.
pub(super) async fn export(
    desk: &Desk,
    dir: &Path,
    which: Which,
    force: bool,
) -> Result<(), CommandError> {
    let set = match desk.chosen(None, which).await {
        Err(CommandError::NoRedis(_)) => desk.embedded.clone(),
        chosen => chosen?,
    };
    for path in folder::export(dir, &set, force)? {
        say(path.display());
    }
    say(format_args!("these are the scripts of {}", set.origin));
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

/// Prints the differences from the embedded scripts, in the form that `patch -p1` takes.
pub(super) async fn diff(
    desk: &Desk,
    dir: Option<PathBuf>,
    which: Which,
) -> Result<(), CommandError> {
    let set = desk.chosen(dir, which).await?;
    say_diff(&desk.embedded, &set);
    Ok(())
}

/// Prints the differences, script by script.
pub(super) fn say_diff(old: &ScriptSet, new: &ScriptSet) {
    for script in new.differing(old) {
        let (old, new) = (old.get(script), new.get(script));
        let name = script.name();
        let diff = TextDiff::from_lines(old.text.as_str(), new.text.as_str());
        let mut unified = diff.unified_diff();
        unified.header(&format!("a/{name}.lua"), &format!("b/{name}.lua"));
        say(unified.to_string().trim_end());
    }
}
