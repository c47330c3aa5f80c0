//! A script's text, taken apart: the header, and the body without its comments.

use std::fs;
use std::path::PathBuf;

use regex::Regex;

/// One of KEYS or ARGV as a header describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) name: String,
    /// hash, zset, stream, string, channel for a key; string, integer for an argument.
    pub(crate) kind: String,
    /// A key's name with `R` and `U` in the place of ids; what an argument means.
    pub(crate) text: String,
}

/// KEYS or ARGV: some in fixed places, then any number of groups.
#[derive(Debug, Default)]
pub(crate) struct Items {
    pub(crate) fixed: Vec<Item>,
    pub(crate) repeated: Vec<Item>,
}

impl Items {
    /// The names as `Script::contract` writes them.
    pub(crate) fn names(&self) -> Vec<String> {
        let repeated = self.repeated.iter().enumerate().map(|(i, item)| match i {
            0 => format!("{}…", item.name),
            _ => item.name.clone(),
        });
        let fixed = self.fixed.iter().map(|item| item.name.clone());
        fixed.chain(repeated).collect()
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Item> {
        self.fixed.iter().chain(&self.repeated)
    }
}

/// A file of `lua/`.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) flags: Vec<String>,
    pub(crate) name: String,
    pub(crate) keys: Items,
    pub(crate) argv: Items,
    pub(crate) publishes: String,
    pub(crate) errors: Vec<String>,
    pub(crate) try_line: String,
    /// Everything after the header, comments and blank lines left out.
    pub(crate) body: String,
}

/// The repository's root; commands of headers and recipes are run there.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The text of a file of `lua/`.
pub(crate) fn read(file: &str) -> String {
    let path = root().join("lua").join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
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

impl Source {
    /// Errors with what is wrong with the form of the header, and where.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut lines = Lines::new(text);
        let first = lines.take("#!lua, flags=… after it where it has any", |_| true)?;
        let flags = match first
            .strip_prefix("#!lua")
            .map(|rest| rest.strip_prefix(" flags="))
        {
            Some(Some(flags)) => flags.split(',').map(str::to_owned).collect(),
            Some(None) if first == "#!lua" => Vec::new(),
            _ => return Err(format!("line 1 is not #!lua: {first}")),
        };
        let title = Regex::new(r"^-- ([a-z_]+): \S.*\.$").unwrap();
        let name = title
            .captures(lines.take("-- name: summary.", |line| title.is_match(line))?)
            .map(|found| found[1].to_owned())
            .unwrap_or_default();
        lines.take("--", |line| line == "--")?;
        let keys = lines.items("KEYS")?;
        let argv = lines.items("ARGV")?;
        let _returns = lines.labelled("Returns")?;
        let publishes = lines.labelled("Publishes")?;
        let errors = errors(&lines.labelled("Errors")?)?;
        let _time = lines.labelled("Time")?;
        let try_line = lines.labelled("Try")?;
        lines.take("a blank line after the header", str::is_empty)?;
        Ok(Self {
            flags,
            name,
            keys,
            argv,
            publishes,
            errors,
            try_line,
            body: lines.body(),
        })
    }
}

/// `none`, `none (why)` or `A | B`.
fn errors(text: &str) -> Result<Vec<String>, String> {
    if text == "none" || (text.starts_with("none (") && text.ends_with(')')) {
        return Ok(Vec::new());
    }
    let is_code = Regex::new("^[A-Z][A-Z_]*$").unwrap();
    let codes: Vec<String> = text.split(" | ").map(str::to_owned).collect();
    match codes.iter().find(|code| !is_code.is_match(code)) {
        Some(wrong) => Err(format!("Errors: {wrong} is no code")),
        None => Ok(codes),
    }
}

struct Lines<'a> {
    lines: Vec<&'a str>,
    at: usize,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            lines: text.lines().collect(),
            at: 0,
        }
    }

    fn peek(&self) -> &'a str {
        self.lines.get(self.at).copied().unwrap_or_default()
    }

    /// The next line, if it is what is expected.
    fn take(&mut self, expected: &str, is: impl Fn(&str) -> bool) -> Result<&'a str, String> {
        let line = self.peek();
        if !is(line) {
            return Err(format!(
                "line {}: expected `{expected}`, found `{line}`",
                self.at + 1
            ));
        }
        self.at += 1;
        Ok(line)
    }

    /// `-- KEYS[1] name  kind  text`, …, then perhaps `-- KEYS[n…] for each …:` with a line for each of the group.
    fn items(&mut self, array: &str) -> Result<Items, String> {
        let fixed = Regex::new(&format!(
            r"^-- {array}\[(\d+)\] ([a-z_]+) +([a-z]+) +(\S.*)$"
        ))
        .unwrap();
        let group = Regex::new(&format!(r"^-- {array}\[(\d+)…\] for each .*:$")).unwrap();
        let member = Regex::new(r"^--   ([a-z_]+) +([a-z]+) +(\S.*)$").unwrap();
        let item = |found: &regex::Captures, first: usize| Item {
            name: found[first].to_owned(),
            kind: found[first + 1].to_owned(),
            text: found[first + 2].to_owned(),
        };
        let mut items = Items::default();
        while let Some(found) = fixed.captures(self.peek()) {
            self.numbered(array, &found[1], items.fixed.len() + 1)?;
            items.fixed.push(item(&found, 2));
            self.at += 1;
        }
        if let Some(found) = group.captures(self.peek()) {
            self.numbered(array, &found[1], items.fixed.len() + 1)?;
            self.at += 1;
            while let Some(found) = member.captures(self.peek()) {
                items.repeated.push(item(&found, 1));
                self.at += 1;
            }
        }
        if items.all().next().is_none() {
            return Err(format!("line {}: no {array} here", self.at + 1));
        }
        Ok(items)
    }

    fn numbered(&self, array: &str, found: &str, expected: usize) -> Result<(), String> {
        match found == expected.to_string() {
            true => Ok(()),
            false => Err(format!(
                "line {}: {array}[{found}] where {array}[{expected}] is next",
                self.at + 1
            )),
        }
    }

    /// `-- Label     text`, with any number of lines after it that begin where the text does.
    fn labelled(&mut self, label: &str) -> Result<String, String> {
        let prefix = format!("-- {label:<9} ");
        let indent = format!("--{}", " ".repeat(prefix.len() - 2));
        let first = self.take(&format!("{prefix}…"), |line| line.starts_with(&prefix))?;
        let mut text = first[prefix.len()..].to_owned();
        while let Some(more) = self.peek().strip_prefix(&indent) {
            text = format!("{text}\n{more}");
            self.at += 1;
        }
        match text.trim() == text && !text.is_empty() {
            true => Ok(text),
            false => Err(format!("{label} is not aligned: `{first}`")),
        }
    }

    fn body(&self) -> String {
        let code = |line: &&str| {
            let code = line.split("--").next().unwrap_or_default().trim_end();
            (!code.is_empty()).then(|| code.to_owned())
        };
        let lines: Vec<String> = self.lines[self.at..].iter().filter_map(code).collect();
        lines.join("\n")
    }
}
