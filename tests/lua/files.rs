//! The files of `lua/`, as they are in the repository.

use std::fs;
use std::path::PathBuf;

use chat_server::scripts::Script;
use chat_server::scripts::check::header::{self, Header};

/// The repository's root; commands of headers and recipes are run there.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The text of a file of `lua/`.
pub(crate) fn read(file: &str) -> String {
    let path = root().join("lua").join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What a script's header says.
pub(crate) fn header(script: Script) -> Header {
    header::parse(&read(&format!("{}.lua", script.name()))).unwrap()
}

/// The names of all scripts in `lua/`, without `.lua`.
pub(crate) fn script_files() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(root().join("lua"))
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .filter_map(|file| file.strip_suffix(".lua").map(str::to_owned))
        .collect();
    names.sort();
    names
}
