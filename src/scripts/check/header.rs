//! Parses a script's header: what the script promises, in comments of a fixed form.

/// One of KEYS or ARGV as a header describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// From 1, like every line here.
    pub line: usize,
    pub name: String,
    /// hash, zset, stream, string, channel for a key; string, integer for an argument.
    pub kind: String,
    /// For a key, its name with `R` and `U` in place of ids; for an argument, what it means.
    pub text: String,
}

/// The items of KEYS or ARGV: some in fixed places, then any number of groups.
#[derive(Debug, Default)]
pub struct Items {
    pub fixed: Vec<Item>,
    /// The items of each group. Empty if there are no groups.
    pub repeated: Vec<Item>,
}

impl Items {
    /// The names as [`Contract`](crate::scripts::Contract) writes them.
    pub fn names(&self) -> Vec<String> {
        let repeated = self.repeated.iter().enumerate().map(|(i, item)| match i {
            0 => format!("{}…", item.name),
            _ => item.name.clone(),
        });
        let fixed = self.fixed.iter().map(|item| item.name.clone());
        fixed.chain(repeated).collect()
    }

    /// All of them, in the header's order.
    pub fn all(&self) -> impl Iterator<Item = &Item> {
        self.fixed.iter().chain(&self.repeated)
    }
}

/// The text beside a label; continuation lines are joined by `\n`.
#[derive(Debug)]
pub struct Labelled {
    pub line: usize,
    pub text: String,
}

/// The codes that a script refuses with.
#[derive(Debug)]
pub struct Errors {
    pub line: usize,
    pub codes: Vec<String>,
}

/// A header.
#[derive(Debug)]
pub struct Header {
    /// The flags after `flags=` on line 1.
    pub flags: Vec<String>,
    /// The script's name, on line 2.
    pub name: String,
    pub keys: Items,
    pub argv: Items,
    pub returns: Labelled,
    pub publishes: Labelled,
    pub errors: Errors,
    pub time: Labelled,
    /// A command line that calls the script.
    pub try_line: Labelled,
    /// The first line after the header and its blank line.
    pub body_line: usize,
}

/// The line with the script's name.
pub const NAME_LINE: usize = 2;

/// A line, and what is wrong with it.
type Wrong = (usize, String);

/// Parses a script's header. The error is the first line (from 1) that has the wrong form, and the form expected.
pub fn parse(text: &str) -> Result<Header, (usize, String)> {
    // Not `lines()`: it would hide a carriage return, which Redis does not accept.
    let mut lines = Lines {
        lines: text.split('\n').collect(),
        at: 0,
    };
    let flags = flags(lines.next())?;
    let name = lines.take("-- name: summary.", title)?;
    lines.take("--", |line| (line == "--").then_some(()))?;
    let header = Header {
        flags,
        name,
        keys: lines.items("KEYS")?,
        argv: lines.items("ARGV")?,
        returns: lines.labelled("Returns")?,
        publishes: lines.labelled("Publishes")?,
        errors: errors(lines.labelled("Errors")?)?,
        time: lines.labelled("Time")?,
        try_line: lines.labelled("Try")?,
        body_line: lines.number() + 1,
    };
    lines.take("a blank line after the header", |line| {
        line.is_empty().then_some(())
    })?;
    Ok(header)
}

/// `#!lua`, or `#!lua flags=a,b`.
fn flags(line: &str) -> Result<Vec<String>, Wrong> {
    if line == "#!lua" {
        return Ok(Vec::new());
    }
    match line.strip_prefix("#!lua flags=") {
        Some(flags) => Ok(flags.split(',').map(str::to_owned).collect()),
        None => Err((1, format!("line 1 is not `#!lua` but {line:?}"))),
    }
}

/// `-- name: summary.`
fn title(line: &str) -> Option<String> {
    let (name, summary) = line.strip_prefix("-- ")?.split_once(": ")?;
    let summary_is_sentence = summary.ends_with('.') && !summary.starts_with(' ');
    (is_name(name) && summary_is_sentence).then(|| name.to_owned())
}

/// `none`, `none (why)` or `A | B`.
fn errors(label: Labelled) -> Result<Errors, Wrong> {
    let Labelled { line, text } = label;
    if text == "none" || (text.starts_with("none (") && text.ends_with(')')) {
        let codes = Vec::new();
        return Ok(Errors { line, codes });
    }
    let codes: Vec<String> = text.split(" | ").map(str::to_owned).collect();
    match codes.iter().find(|code| !is_code(code)) {
        Some(wrong) => Err((line, format!("Errors: `{wrong}` is not a code"))),
        None => Ok(Errors { line, codes }),
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c == '_')
}

/// Whether a word has the form of an error code: `NOT_MEMBER`.
pub(super) fn is_code(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_uppercase())
        && word.chars().all(|c| c.is_ascii_uppercase() || c == '_')
}

/// The next word, and the rest after the spaces that follow it.
fn word(text: &str) -> Option<(&str, &str)> {
    let (word, rest) = text.split_once(' ')?;
    let rest = rest.trim_start_matches(' ');
    (!word.is_empty() && !rest.is_empty()).then_some((word, rest))
}

/// `name  kind  text`.
fn item(line: usize, text: &str) -> Option<Item> {
    let (name, rest) = word(text)?;
    let (kind, text) = word(rest)?;
    let kind_is_word = kind.chars().all(|c| c.is_ascii_lowercase());
    (is_name(name) && kind_is_word).then(|| Item {
        line,
        name: name.to_owned(),
        kind: kind.to_owned(),
        text: text.to_owned(),
    })
}

struct Lines<'a> {
    lines: Vec<&'a str>,
    at: usize,
}

impl<'a> Lines<'a> {
    fn number(&self) -> usize {
        self.at + 1
    }

    fn peek(&self) -> &'a str {
        self.lines.get(self.at).copied().unwrap_or_default()
    }

    fn next(&mut self) -> &'a str {
        let line = self.peek();
        self.at += 1;
        line
    }

    /// The content of the next line, if it has the expected form.
    fn take<T>(&mut self, expected: &str, read: impl Fn(&str) -> Option<T>) -> Result<T, Wrong> {
        let number = self.number();
        let line = self.next();
        read(line).ok_or_else(|| (number, format!("expected `{expected}`, found `{line}`")))
    }

    /// `-- KEYS[1] name  kind  text`, …, then optionally `-- KEYS[n…] for each …:` with a line for each item.
    fn items(&mut self, array: &str) -> Result<Items, Wrong> {
        let mut items = Items::default();
        let start = format!("-- {array}[");
        while let Some((place, rest)) = self
            .peek()
            .strip_prefix(&start)
            .and_then(|rest| rest.split_once("] "))
        {
            let line = self.number();
            self.numbered(array, place.trim_end_matches('…'), items.fixed.len() + 1)?;
            if place.ends_with('…') {
                self.group(rest, &mut items)?;
                break;
            }
            let item = item(line, rest)
                .ok_or_else(|| (line, format!("expected `{start}{place}] name kind text`")))?;
            items.fixed.push(item);
            self.at += 1;
        }
        match items.all().count() {
            0 => Err((self.number(), format!("no {array} here"))),
            _ => Ok(items),
        }
    }

    fn group(&mut self, title: &str, items: &mut Items) -> Result<(), Wrong> {
        if !(title.starts_with("for each ") && title.ends_with(':')) {
            return Err((self.number(), "expected `for each …:`".to_owned()));
        }
        self.at += 1;
        let member = |lines: &Self| item(lines.number(), lines.peek().strip_prefix("--   ")?);
        while let Some(item) = member(self) {
            items.repeated.push(item);
            self.at += 1;
        }
        match items.repeated.is_empty() {
            true => Err((self.number(), "expected `--   name kind text`".to_owned())),
            false => Ok(()),
        }
    }

    fn numbered(&self, array: &str, found: &str, expected: usize) -> Result<(), Wrong> {
        match found == expected.to_string() {
            true => Ok(()),
            false => Err((
                self.number(),
                format!("{array}[{found}] where {array}[{expected}] is next"),
            )),
        }
    }

    /// `-- Label     text`, followed by any number of lines that begin in the same column as the text.
    fn labelled(&mut self, label: &str) -> Result<Labelled, Wrong> {
        let prefix = format!("-- {label:<9} ");
        let indent = format!("--{}", " ".repeat(prefix.len() - 2));
        let line = self.number();
        let beside = |line: &str| line.strip_prefix(&prefix).map(str::to_owned);
        let mut text = self.take(&format!("{prefix}…"), beside)?;
        let first = text.clone();
        while let Some(more) = self.peek().strip_prefix(&indent) {
            text = format!("{text}\n{more}");
            self.at += 1;
        }
        match text.trim() == text && !text.is_empty() {
            true => Ok(Labelled { line, text }),
            false => Err((line, format!("{label} is not aligned: `{prefix}{first}`"))),
        }
    }
}
