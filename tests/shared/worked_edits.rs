//! The worked edits of `lua/README.md`: read from it and applied to the scripts as delivered.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

/// The headings of their sections.
pub(crate) const WORD_FILTER: &str = "A word filter";
pub(crate) const SLOW_MODE: &str = "Slow mode";
pub(crate) const WELCOME: &str = "A welcome message";
pub(crate) const NO_READ_MARKERS: &str = "No read markers";
pub(crate) const ARCHIVES: &str = "A longer history for archives";

/// The folder of the scripts as delivered.
pub(crate) fn lua_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("lua")
}

/// The texts of the scripts that these edits change, with all edits applied, by file name. They are applied one after
/// the other, in this order.
pub(crate) fn edited(titles: &[&str]) -> BTreeMap<String, String> {
    let readme = fs::read_to_string(lua_folder().join("README.md")).unwrap();
    let mut texts = BTreeMap::new();
    for title in titles {
        for diff in split_by_file(diff_under(&readme, title)) {
            apply(diff, title, &mut texts);
        }
    }
    texts
}

fn diff_under<'a>(readme: &'a str, title: &str) -> &'a str {
    let heading = format!("\n### {title}\n");
    let start = readme.find(&heading).expect(title) + heading.len();
    let section = &readme[start..];
    let section = &section[..section.find("\n### ").unwrap_or(section.len())];
    let (_, rest) = section.split_once("```diff\n").expect(title);
    &rest[..rest.find("```").expect(title)]
}

/// A patch is read for one file at a time.
fn split_by_file(diff: &str) -> Vec<&str> {
    let starts = diff.match_indices("--- a/").map(|(at, _)| at);
    let starts: Vec<usize> = starts.chain([diff.len()]).collect();
    starts
        .windows(2)
        .map(|ends| &diff[ends[0]..ends[1]])
        .collect()
}

fn apply(diff: &str, title: &str, texts: &mut BTreeMap<String, String>) {
    let patch = diffy::Patch::from_str(diff).unwrap_or_else(|error| panic!("{title}: {error}"));
    let file = patch.original().and_then(|name| name.strip_prefix("a/"));
    let file = file.expect(title).to_owned();
    let before = texts.remove(&file);
    let before = before.unwrap_or_else(|| fs::read_to_string(lua_folder().join(&file)).unwrap());
    let text =
        diffy::apply(&before, &patch).unwrap_or_else(|error| panic!("{title} in {file}: {error}"));
    texts.insert(file, text);
}
