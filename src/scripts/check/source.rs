//! A script's body as the checks see it: all its expressions, what each local is ever given, and what runs in which
//! order. Names are resolved, so that two locals of the same name do not confuse a check.

/// An index into [`Source::exprs`].
pub(super) type ExprId = usize;
/// An index into [`Source::locals`].
pub(super) type LocalId = usize;
/// An index into [`Source::functions`].
pub(super) type FunctionId = usize;

#[derive(Debug, Default)]
pub(super) struct Source {
    pub(super) exprs: Vec<Expr>,
    pub(super) locals: Vec<Local>,
    pub(super) functions: Vec<Function>,
    pub(super) loops: Vec<CountedLoop>,
    pub(super) fills: Vec<Fill>,
    /// The string literals, in Lua's syntax.
    pub(super) literals: Vec<Literal>,
    /// What the script does outside its functions.
    pub(super) steps: Vec<Step>,
    /// Everything that it may return there.
    pub(super) returns: Vec<ExprId>,
}

#[derive(Debug)]
pub(super) struct Expr {
    /// From 1.
    pub(super) line: usize,
    /// As written in the script, on one line.
    pub(super) text: String,
    pub(super) kind: Kind,
    pub(super) role: Role,
}

#[derive(Debug)]
pub(super) enum Kind {
    /// The text between the quotes, with its escapes as written.
    String(String),
    Number(f64),
    Nil,
    Local(LocalId),
    Global(String),
    /// `base[key]`; `base.key` has a string as its key.
    Field(ExprId, ExprId),
    Call {
        callee: ExprId,
        args: Vec<ExprId>,
    },
    Function(FunctionId),
    /// Keys are `None` for values without a key.
    Table(Vec<(Option<ExprId>, ExprId)>),
    Length(ExprId),
    /// `… and this`.
    And(ExprId),
    Or(ExprId, ExprId),
    /// `this .. …`.
    Concat(ExprId),
    Add(ExprId, ExprId),
    /// `this == that`, or `~=`.
    Compare(ExprId, ExprId),
    /// `object:name(…)`, `...`, and everything that no check examines.
    Other,
}

/// How an expression is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Value,
    /// `x` in `x[…]`.
    Base,
    /// `x` in `x(…)`.
    Callee,
    /// `x` in `#x`.
    Counted,
    Argument {
        call: ExprId,
        /// From 0.
        place: usize,
    },
    /// The target of an assignment.
    Target,
    /// A call as a statement: its result is discarded.
    Statement,
}

#[derive(Debug)]
pub(super) struct Local {
    pub(super) name: String,
    pub(super) line: usize,
    /// The function that it is declared in; `None` for the script itself.
    pub(super) function: Option<FunctionId>,
    /// Every value that it is ever given; the first is from its declaration.
    pub(super) given: Vec<Given>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Given {
    Nil,
    Value(ExprId),
    /// The elements of a list in turn: `for _, x in ipairs(list)`.
    Each(ExprId),
    Parameter {
        function: FunctionId,
        /// From 0.
        place: usize,
    },
    /// A loop's counter, one of several results, or a value that cannot be determined.
    Unknown,
}

#[derive(Debug, Default)]
pub(super) struct Function {
    pub(super) steps: Vec<Step>,
    /// Everything that it may return.
    pub(super) returns: Vec<ExprId>,
}

/// A string literal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Literal {
    pub(super) id: ExprId,
    /// Its bytes, with escapes resolved.
    pub(super) bytes: Vec<u8>,
}

/// `for counter = start, end, step do`.
#[derive(Debug)]
pub(super) struct CountedLoop {
    pub(super) line: usize,
    pub(super) counter: LocalId,
    pub(super) start: ExprId,
    pub(super) end: ExprId,
    pub(super) step: Option<ExprId>,
}

/// `base[…] = value`. The value is `None` if it cannot be determined.
#[derive(Debug)]
pub(super) struct Fill {
    pub(super) base: ExprId,
    pub(super) value: Option<ExprId>,
}

/// What happens when the script runs, in order.
#[derive(Debug)]
pub(super) enum Step {
    Evaluate(ExprId),
    /// One of these arms runs.
    Branch(Vec<Vec<Step>>),
    Loop(Vec<Step>),
    Return(Vec<ExprId>),
    Break,
}

impl Source {
    pub(super) fn kind(&self, id: ExprId) -> &Kind {
        &self.exprs[id].kind
    }

    pub(super) fn line(&self, id: ExprId) -> usize {
        self.exprs[id].line
    }

    pub(super) fn text(&self, id: ExprId) -> &str {
        &self.exprs[id].text
    }

    pub(super) fn is_global(&self, id: ExprId, name: &str) -> bool {
        matches!(self.kind(id), Kind::Global(found) if found == name)
    }

    pub(super) fn string(&self, id: ExprId) -> Option<&str> {
        match self.kind(id) {
            Kind::String(text) => Some(text),
            _ => None,
        }
    }

    /// The name after the dot in `library.name`.
    pub(super) fn member(&self, id: ExprId, library: &str) -> Option<&str> {
        match *self.kind(id) {
            Kind::Field(base, key) if self.is_global(base, library) => self.string(key),
            _ => None,
        }
    }

    /// Every call: its id, its callee and its arguments.
    pub(super) fn calls(&self) -> impl Iterator<Item = (ExprId, ExprId, &[ExprId])> {
        let calls = self.exprs.iter().enumerate();
        calls.filter_map(|(id, expr)| match &expr.kind {
            Kind::Call { callee, args } => Some((id, *callee, args.as_slice())),
            _ => None,
        })
    }

    /// The arguments of `name(x, …)`, if the expression is a call of this global function.
    pub(super) fn args_of(&self, id: ExprId, name: &str) -> Option<&[ExprId]> {
        match self.kind(id) {
            Kind::Call { callee, args } if self.is_global(*callee, name) => Some(args),
            _ => None,
        }
    }

    /// The value of a whole number, also through a local that is never given another value.
    pub(super) fn constant(&self, id: ExprId) -> Option<usize> {
        match self.kind(id) {
            // Only whole numbers can be places.
            Kind::Number(number) if number.fract() == 0.0 && *number >= 0.0 => {
                Some(*number as usize)
            }
            Kind::Local(local) => match self.locals[*local].given[..] {
                [Given::Value(value)] => self.constant(value),
                _ => None,
            },
            _ => None,
        }
    }

    /// The function that a local names: the local is never given anything else.
    pub(super) fn function_of(&self, id: ExprId) -> Option<FunctionId> {
        let Kind::Local(local) = *self.kind(id) else {
            return None;
        };
        let mut functions = self.locals[local]
            .given
            .iter()
            .filter_map(|given| match given {
                Given::Nil => None,
                Given::Value(value) => Some(match self.kind(*value) {
                    Kind::Function(function) => Some(*function),
                    _ => None,
                }),
                _ => Some(None),
            });
        let function = functions.next().flatten();
        function.filter(|_| functions.next().is_none())
    }
}
