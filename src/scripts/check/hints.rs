//! What in a script suggests how to try it: texts that it searches for, numbers at which it may cut, switches in `ext`.

use std::collections::BTreeMap;

use super::commands::called;
use super::lower;
use super::source::{ExprId, Given, Kind, Role, Source};
use crate::scripts::ScriptText;

/// What to try a script with.
#[derive(Debug, Clone, Default)]
pub struct Hints {
    /// String literals, each with its line.
    pub texts: Vec<(usize, Vec<u8>)>,
    /// Whole numbers.
    pub numbers: Vec<usize>,
    /// Fields of `ext` that it reads, and the values that it compares them with.
    pub switches: BTreeMap<String, Vec<String>>,
}

impl Hints {
    /// Empty for a script that cannot be parsed.
    pub fn of(text: &ScriptText) -> Self {
        lower::parse(&text.text).map_or_else(|_| Self::default(), |source| Self::read(&source))
    }

    /// Leaves out everything that is also in the other script.
    pub fn beyond(mut self, other: &Self) -> Self {
        let known = |text: &[u8]| other.texts.iter().any(|(_, known)| known == text);
        self.texts.retain(|(_, text)| !known(text));
        self.numbers
            .retain(|number| !other.numbers.contains(number));
        self.switches
            .retain(|field, _| !other.switches.contains_key(field));
        self
    }

    fn read(source: &Source) -> Self {
        let commands: Vec<ExprId> = source
            .calls()
            .filter(|(_, callee, _)| {
                matches!(source.member(*callee, "redis"), Some("call" | "pcall"))
            })
            .filter_map(|(_, _, args)| args.first().copied())
            .collect();
        let literals = source.literals.iter();
        let texts = literals.filter(|literal| !commands.contains(&literal.id));
        let numbers = source.exprs.iter().filter_map(|expr| match expr.kind {
            Kind::Number(number) if number.fract() == 0.0 && number >= 1.0 => Some(number as usize),
            _ => None,
        });
        Self {
            texts: texts
                .map(|literal| (source.line(literal.id), literal.bytes.clone()))
                .collect(),
            numbers: numbers.collect(),
            switches: switches(source),
        }
    }
}

fn switches(source: &Source) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for called in called(source) {
        let Some((key, fields)) = called.args.split_first() else {
            continue;
        };
        let is_ext =
            matches!(source.kind(*key), Kind::Local(local) if source.locals[*local].name == "ext");
        if !is_ext {
            continue;
        }
        for field in fields.iter().filter_map(|field| source.string(*field)) {
            found.entry(field.to_owned()).or_default();
        }
        if let [field] = fields
            && let Some(values) = source.string(*field).and_then(|field| found.get_mut(field))
        {
            values.extend(compared_with(source, called.id));
        }
    }
    found
}

/// The literals that the result of a call is compared with.
fn compared_with(source: &Source, call: ExprId) -> Vec<String> {
    let compared = source.exprs.iter().filter_map(|expr| match expr.kind {
        Kind::Compare(one, other) => Some([(one, other), (other, one)]),
        _ => None,
    });
    compared
        .flatten()
        .filter(|(one, _)| is_result_of(source, *one, call))
        .filter_map(|(_, other)| source.string(other).map(str::to_owned))
        .collect()
}

/// Whether an expression is the result of a call: directly, through a local, or with a default for a missing value.
fn is_result_of(source: &Source, id: ExprId, call: ExprId) -> bool {
    match source.kind(id) {
        _ if id == call => true,
        Kind::Or(one, _) => is_result_of(source, *one, call),
        Kind::Local(local) => source.locals[*local].given.iter().any(|given| match given {
            Given::Value(value) if source.exprs[*value].role != Role::Target => {
                *value == call || matches!(source.kind(*value), Kind::Or(one, _) if *one == call)
            }
            _ => false,
        }),
        _ => false,
    }
}
