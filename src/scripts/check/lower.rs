//! Translates Lua's syntax tree into a [`Source`].

mod depth;
mod expressions;
mod literals;
mod statements;

use std::thread;

use full_moon::LuaVersion;
use full_moon::node::Node;
use full_moon::tokenizer::{Token, TokenReference, TokenType};

use self::depth::{STACK_BYTES, too_deep};
use super::source::{Expr, ExprId, FunctionId, Given, Kind, Local, LocalId, Role, Source, Step};

/// The longest piece of an expression that a problem quotes.
const MAX_QUOTED_CHARS: usize = 60;

/// A line, and what is wrong with it.
type Wrong = (usize, String);

/// Parses a whole script. The error is the first line that is not Lua 5.1, and why.
pub(super) fn parse(text: &str) -> Result<Source, (usize, String)> {
    // Redis removes line 1 before Lua gets the script. Here it becomes a comment, so that line numbers stay the same.
    let text = match text.strip_prefix("#!") {
        Some(rest) => format!("--{rest}"),
        None => text.to_owned(),
    };
    if let Some(line) = too_deep(&text) {
        return Err((line, "this is nested too deeply".to_owned()));
    }
    let unread = |reason: &str| (1, format!("the script cannot be read: {reason}"));
    thread::scope(|scope| {
        let reader = thread::Builder::new().stack_size(STACK_BYTES);
        let reader = reader
            .spawn_scoped(scope, || read(&text))
            .map_err(|error| unread(&error.to_string()))?;
        reader.join().map_err(|_| unread("the parser gave up"))?
    })
}

fn read(text: &str) -> Result<Source, Wrong> {
    let parsed = full_moon::parse_fallible(text, LuaVersion::lua51());
    if let Some(error) = parsed.errors().first() {
        let (line, reason) = no_lua(error);
        // A text that ends with a newline ends one line further on.
        return Err((line.min(text.lines().count()), reason));
    }
    let mut lowering = Lowering {
        text,
        source: Source::default(),
        scope: Vec::new(),
        function: None,
        steps: Vec::new(),
    };
    lowering.block(parsed.ast().nodes());
    lowering.source.steps = lowering.steps;
    Ok(lowering.source)
}

fn no_lua(error: &full_moon::Error) -> Wrong {
    let message = match error {
        full_moon::Error::AstError(error) => {
            let at = match error.token().to_string().trim() {
                "" => "the end of the script".to_owned(),
                token => format!("`{token}`"),
            };
            format!("{} at {at}", error.error_message())
        }
        full_moon::Error::TokenizerError(error) => error.error().to_string(),
    };
    let line = error.range().0.line();
    (line, format!("this is not Lua 5.1: {message}"))
}

struct Lowering<'a> {
    text: &'a str,
    source: Source,
    /// The locals in scope, the innermost last.
    scope: Vec<(String, LocalId)>,
    function: Option<FunctionId>,
    /// The steps of the part that is being read.
    steps: Vec<Step>,
}

impl Lowering<'_> {
    fn add(&mut self, node: &impl Node, kind: Kind) -> ExprId {
        self.add_between(node, node, kind)
    }

    /// An expression that begins where `first` does and ends where `last` does.
    fn add_between(&mut self, first: &impl Node, last: &impl Node, kind: Kind) -> ExprId {
        let place = first.start_position().zip(last.end_position());
        let (line, text) = match place {
            Some((start, end)) => (start.line(), self.quote(start.bytes(), end.bytes())),
            None => (1, String::new()),
        };
        self.source.exprs.push(Expr {
            line,
            text,
            kind,
            role: Role::Value,
        });
        self.source.exprs.len() - 1
    }

    /// A piece of the script on one line, shortened if it is long.
    fn quote(&self, start: usize, end: usize) -> String {
        let text = self.text.get(start..end).unwrap_or_default();
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        match text.char_indices().nth(MAX_QUOTED_CHARS) {
            Some((cut, _)) => format!("{}…", &text[..cut]),
            None => text,
        }
    }

    fn set_role(&mut self, id: ExprId, role: Role) {
        self.source.exprs[id].role = role;
    }

    fn declare(&mut self, name: &TokenReference, given: Given) -> LocalId {
        let local = Local {
            name: identifier(name),
            line: name.start_position().map_or(1, |at| at.line()),
            function: self.function,
            given: vec![given],
        };
        let id = self.source.locals.len();
        self.scope.push((local.name.clone(), id));
        self.source.locals.push(local);
        id
    }

    fn resolve(&self, name: &TokenReference) -> Kind {
        let name = identifier(name);
        let mut visible = self.scope.iter().rev();
        match visible.find(|(found, _)| *found == name) {
            Some((_, local)) => Kind::Local(*local),
            None => Kind::Global(name),
        }
    }

    /// Reads the steps of a part separately from those around it. What it declares is in scope only there.
    fn apart(&mut self, read: impl FnOnce(&mut Self)) -> Vec<Step> {
        let visible = self.scope.len();
        let around = std::mem::take(&mut self.steps);
        read(self);
        self.scope.truncate(visible);
        std::mem::replace(&mut self.steps, around)
    }
}

fn identifier(token: &Token) -> String {
    match token.token_type() {
        TokenType::Identifier { identifier } => identifier.to_string(),
        _ => String::new(),
    }
}
