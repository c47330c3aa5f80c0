//! Reads single settings and keeps what is wrong with them, so that all of it is reported at once.

use std::time::Duration;

use super::settings::{Kind, Setting};
use super::{Lookup, Problem};

/// Looks settings up and collects the problems.
pub(super) struct Reader<'a> {
    lookup: Lookup<'a>,
    pub(super) problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(lookup: Lookup<'a>) -> Self {
        Self {
            lookup,
            problems: Vec::new(),
        }
    }

    /// The value as it was set, without the space around it; `None` where that leaves nothing.
    pub(super) fn raw(&self, name: &str) -> Option<String> {
        let value = (self.lookup)(name)?;
        let value = value.trim();
        (!value.is_empty()).then(|| value.to_owned())
    }

    /// The value or the setting's default; `None` where neither is there.
    pub(super) fn text(&self, setting: &Setting) -> Option<String> {
        self.raw(setting.name)
            .or_else(|| Some(setting.default_text()).filter(|text| !text.is_empty()))
    }

    /// The text that `parse` made something of. `None` where the setting is unset without a
    /// default, or refused, which is then among the problems.
    pub(super) fn parsed<T>(
        &mut self,
        setting: &Setting,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.text(setting)?;
        let value = parse(&text);
        if value.is_none() {
            self.refuse(setting, &text);
        }
        value
    }

    /// A whole number in the setting's range. A refused one is 0, which nobody gets to see.
    pub(super) fn number(&mut self, setting: &Setting) -> u64 {
        let Kind::Number { min, max, .. } = setting.kind else {
            self.report(setting, "is not a number in the table of settings");
            return 0;
        };
        let in_range = |text: &str| text.parse().ok().filter(|n| (min..=max).contains(n));
        self.parsed(setting, in_range).unwrap_or_default()
    }

    /// A number of things that are counted in memory.
    pub(super) fn count(&mut self, setting: &Setting) -> usize {
        // The ranges of the table fit every usize there is in practice.
        usize::try_from(self.number(setting)).unwrap_or(usize::MAX)
    }

    pub(super) fn millis(&mut self, setting: &Setting) -> Duration {
        Duration::from_millis(self.number(setting))
    }

    pub(super) fn secs(&mut self, setting: &Setting) -> Duration {
        Duration::from_secs(self.number(setting))
    }

    pub(super) fn flag(&mut self, setting: &Setting) -> bool {
        self.parsed(setting, flag).unwrap_or_default()
    }

    /// Adds the problem that `value` is not accepted. Not for secrets: it shows the value.
    pub(super) fn refuse(&mut self, setting: &Setting, value: &str) {
        let accepted = setting.accepted();
        self.report(
            setting,
            format!("{value:?} is not accepted; give {accepted}"),
        );
    }

    pub(super) fn report(&mut self, setting: &Setting, text: impl Into<String>) {
        self.problems.push(Problem::new(setting.name, text));
    }
}

/// What a flag says.
pub(super) fn flag(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Some(true),
        "0" | "false" | "no" | "off" => Some(false),
        _ => None,
    }
}
