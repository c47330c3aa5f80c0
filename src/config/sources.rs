//! Where values come from: the real environment, then the file that `APP_ENV` picks.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::reading::environment_of;
use super::{Environment, Problem, settings};

/// The alias of `APP_ENV` that the replaced server used.
pub(super) const NODE_ENV: &str = "NODE_ENV";

/// The environment of the process, or a stand-in for it.
pub(super) type OsLookup<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// Both sources, read once.
#[derive(Debug, Default)]
pub(super) struct Sources {
    real: BTreeMap<String, String>,
    file: BTreeMap<String, String>,
    /// The file that was looked for, whether it is there or not; `None` where `APP_ENV` is bad.
    pub(super) path: Option<PathBuf>,
    pub(super) found: bool,
    pub(super) problems: Vec<Problem>,
}

impl Sources {
    /// Reads the environment and then the file in `folder` that it picks.
    pub(super) fn open(folder: &Path, env: OsLookup<'_>) -> Self {
        let mut sources = Self::default();
        sources.read_real(env);
        // A bad APP_ENV picks no file; the code that parses the settings reports it.
        let lookup = |name: &str| sources.real.get(name).cloned();
        if let Ok(environment) = environment_of(&lookup) {
            sources.read_file(folder, environment);
        }
        sources
    }

    /// A variable, the real environment first. An empty one counts as unset.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        let of = |source: &BTreeMap<String, String>| {
            source.get(name).filter(|v| !v.trim().is_empty()).cloned()
        };
        of(&self.real).or_else(|| of(&self.file))
    }

    /// The names in the file that are no settings, with the setting that is likely meant.
    pub(super) fn unknown_names(&self) -> Vec<Problem> {
        let Some(file) = self.path.as_deref().and_then(Path::to_str) else {
            return Vec::new();
        };
        let is_setting = |name: &str| settings::all().any(|setting| setting.name == name);
        let unknown = self.file.keys().filter(|name| !is_setting(name));
        unknown
            .map(|name| match settings::nearest(name) {
                Some(meant) => {
                    Problem::new(file, format!("{name} is no setting; is {meant} meant?"))
                }
                None => Problem::new(
                    file,
                    format!("{name} is no setting, and does nothing; chat-server config --example prints all there are"),
                ),
            })
            .collect()
    }

    fn read_real(&mut self, env: OsLookup<'_>) {
        let names = settings::all().map(|setting| setting.name);
        for name in names.chain([NODE_ENV]) {
            match env(name).map(OsString::into_string) {
                Some(Ok(value)) => {
                    self.real.insert(name.to_owned(), value);
                }
                Some(Err(_)) => self.report(name, "is not valid UTF-8"),
                None => {}
            }
        }
    }

    fn read_file(&mut self, folder: &Path, environment: Environment) {
        let name = match environment {
            Environment::Development => ".env.dev",
            Environment::Production => ".env.prod",
        };
        match fs::read_to_string(folder.join(name)) {
            Ok(text) => {
                self.found = true;
                self.parse_file(name, &text, environment);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => self.report(name, format!("cannot be read: {error}")),
        }
        self.path = Some(PathBuf::from(name));
    }

    fn parse_file(&mut self, file: &str, text: &str, environment: Environment) {
        let text = text.trim_start_matches('\u{feff}');
        for item in dotenvy::from_read_iter(text.as_bytes()) {
            match item {
                Ok((name, value)) => self.add_from_file(file, name, value),
                Err(error) => {
                    let place = line_of(text, &error);
                    self.report(
                        file,
                        format!("{place} is not of the form NAME=value; put values with spaces, quotes, $ or # in single quotes"),
                    );
                }
            }
        }
        self.settle_environment(file, environment);
    }

    fn add_from_file(&mut self, file: &str, name: String, value: String) {
        if self.file.contains_key(&name) {
            self.report(file, format!("sets {name} more than once"));
        }
        self.file.insert(name, value);
    }

    /// The file was picked by `APP_ENV`, so it can't say otherwise.
    fn settle_environment(&mut self, file: &str, environment: Environment) {
        let said = [settings::APP_ENV.name, NODE_ENV].map(|name| self.file.remove(name));
        let [app_env, node_env] = &said;
        let lookup = |name: &str| match name {
            NODE_ENV => node_env.clone(),
            _ => app_env.clone(),
        };
        let is_set = said.iter().flatten().any(|value| !value.trim().is_empty());
        if is_set && environment_of(&lookup) != Ok(environment) {
            self.report(
                file,
                format!(
                    "says another APP_ENV than the environment, which picked this file \
                     ({environment}); set APP_ENV in the environment only"
                ),
            );
        }
    }

    fn report(&mut self, name: &str, text: impl Into<String>) {
        self.problems.push(Problem::new(name, text));
    }
}

/// "line 7" for the line that could not be parsed, and never its text: it may hold a secret.
fn line_of(text: &str, error: &dotenvy::Error) -> String {
    let dotenvy::Error::LineParse(bad, _) = error else {
        return "a line".to_owned();
    };
    // A value in quotes may go over several lines: it is found by the first of them.
    let first = bad.lines().next().unwrap_or_default();
    match text.lines().position(|line| line == first) {
        Some(index) => format!("line {}", index + 1),
        None => "a line".to_owned(),
    }
}
