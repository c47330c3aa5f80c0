//! Checks that keys come from KEYS only: which names hold a key is determined over the whole script.
//!
//! At first every local that is given anything counts as one. Locals that are given something else are removed, then
//! those that are given one of these, until nothing changes.

use super::commands::{Called, KeyPlaces, called, find};
use super::globals::looks;
use super::source::{ExprId, FunctionId, Given, Kind, LocalId, Role, Source};
use super::{Findings, Script};

pub(super) fn check(script: Script, source: &Source, found: &mut Findings) {
    let keys = Keys::of(source);
    for call in called(source) {
        let Some(command) = call.name.and_then(|name| find(script, name)) else {
            continue;
        };
        let is_reset = script == Script::ResetRedisForDevelopment;
        if is_reset
            && call
                .name
                .is_some_and(|name| name.eq_ignore_ascii_case("UNLINK"))
        {
            // It deletes the keys that it found.
            continue;
        }
        check_call(&keys, &call, command.keys, found);
    }
}

fn check_call(keys: &Keys, call: &Called, places: KeyPlaces, found: &mut Findings) {
    let (line, name) = (keys.source.line(call.id), call.name.unwrap_or_default());
    let count = match places {
        KeyPlaces::None => return,
        KeyPlaces::First => 1,
        KeyPlaces::FirstTwo => 2,
        KeyPlaces::All => call.args.len().max(1),
    };
    for place in 0..count {
        match call.args.get(place) {
            Some(arg) if keys.is_key(*arg) => {}
            // Everything that it unpacks is a key.
            Some(arg) if keys.unpacks_keys(*arg) => {}
            None if call
                .args
                .last()
                .is_some_and(|last| keys.unpacks_keys(*last)) => {}
            Some(arg) => {
                let text = keys.source.text(*arg);
                found.add(
                    line,
                    format!(
                        "{name} is called on `{text}`, which is not a key of KEYS: keep your own data \
                         in fields of `ext`"
                    ),
                );
            }
            None => found.add(line, format!("{name} is called without a key")),
        }
    }
}

struct Keys<'a> {
    source: &'a Source,
    /// For each local, whether it only ever holds a key of KEYS.
    key: Vec<bool>,
    /// For each local, whether it only ever holds a list of such keys.
    list: Vec<bool>,
    /// For each function, the arguments of all its calls; `None` if not all its calls can be determined.
    calls: Vec<Option<Vec<&'a [ExprId]>>>,
    /// For each local, every expression that mentions it.
    mentions: Vec<Vec<ExprId>>,
}

impl<'a> Keys<'a> {
    fn of(source: &'a Source) -> Self {
        let mut mentions = vec![Vec::new(); source.locals.len()];
        for (id, expr) in source.exprs.iter().enumerate() {
            if let Kind::Local(local) = expr.kind {
                mentions[local].push(id);
            }
        }
        let is_given = |local: LocalId| {
            let given = &source.locals[local].given;
            given.iter().any(|given| !matches!(given, Given::Nil))
        };
        let all: Vec<bool> = (0..source.locals.len()).map(is_given).collect();
        let mut keys = Self {
            source,
            key: all.clone(),
            list: all,
            calls: Vec::new(),
            mentions,
        };
        keys.calls = (0..source.functions.len())
            .map(|function| keys.calls_of(function))
            .collect();
        while keys.strike() {}
        keys
    }

    /// The arguments of all calls of a function, if it is called by one name and never passed around.
    fn calls_of(&self, function: FunctionId) -> Option<Vec<&'a [ExprId]>> {
        let is_name = |id: &ExprId| self.source.function_of(*id) == Some(function);
        let names: Vec<ExprId> = (0..self.source.exprs.len()).filter(is_name).collect();
        let only_called = names
            .iter()
            .all(|name| matches!(self.source.exprs[*name].role, Role::Callee | Role::Target));
        let calls = self.source.calls();
        let calls = calls.filter(|(_, callee, _)| names.contains(callee));
        let args: Vec<_> = calls.map(|(_, _, args)| args).collect();
        (only_called && !args.is_empty()).then_some(args)
    }

    /// Removes locals that are known by now to hold no key, or no list of keys. Returns whether any were removed.
    fn strike(&mut self) -> bool {
        let count = self.source.locals.len();
        let key: Vec<bool> = (0..count)
            .map(|local| self.key[local] && self.holds_key(local))
            .collect();
        let list: Vec<bool> = (0..count)
            .map(|local| self.list[local] && self.holds_list(local))
            .collect();
        let changed = key != self.key || list != self.list;
        (self.key, self.list) = (key, list);
        changed
    }

    fn holds_key(&self, local: LocalId) -> bool {
        self.source.locals[local]
            .given
            .iter()
            .all(|given| match *given {
                Given::Nil => true,
                Given::Value(value) => self.is_key(value),
                Given::Each(list) => self.is_list(list),
                Given::Parameter { function, place } => {
                    self.is_fed(function, place, |arg| self.is_key(arg))
                }
                Given::Unknown => false,
            })
    }

    fn holds_list(&self, local: LocalId) -> bool {
        let is_list = self.source.locals[local]
            .given
            .iter()
            .all(|given| match *given {
                Given::Nil => true,
                Given::Value(value) => {
                    matches!(self.source.kind(value), Kind::Table(_)) && self.is_list(value)
                }
                Given::Parameter { function, place } => {
                    self.is_fed(function, place, |arg| self.is_list(arg))
                }
                Given::Each(_) | Given::Unknown => false,
            });
        let filled_with_keys = self.source.fills.iter().all(|fill| {
            let other =
                !matches!(self.source.kind(fill.base), Kind::Local(filled) if *filled == local);
            other || fill.value.is_some_and(|value| self.is_key(value))
        });
        let kept = self.mentions[local]
            .iter()
            .all(|mention| self.keeps(*mention));
        is_list && filled_with_keys && kept
    }

    /// Whether `is` holds for this parameter's argument in every call of a function.
    fn is_fed(&self, function: FunctionId, place: usize, is: impl Fn(ExprId) -> bool) -> bool {
        let calls = self.calls[function].as_ref();
        calls.is_some_and(|calls| {
            calls
                .iter()
                .all(|args| args.get(place).is_some_and(|arg| is(*arg)))
        })
    }

    /// Whether a list still holds only keys after this use of it.
    fn keeps(&self, mention: ExprId) -> bool {
        match self.source.exprs[mention].role {
            Role::Base | Role::Counted | Role::Target => true,
            Role::Argument { call, place: 0 } if looks(self.source, call) => true,
            Role::Argument { call, place } => self.keeps_in_call(call, place),
            Role::Value | Role::Callee | Role::Statement => false,
        }
    }

    fn keeps_in_call(&self, call: ExprId, place: usize) -> bool {
        let Kind::Call { callee, args } = self.source.kind(call) else {
            return false;
        };
        match self.source.member(*callee, "table") {
            Some("insert") if place == 0 => args.last().is_some_and(|last| self.is_key(*last)),
            Some("concat") => true,
            Some(_) => false,
            // A function of the script itself that puts only keys into the list.
            None => self
                .parameter(*callee, place)
                .is_some_and(|local| self.list[local]),
        }
    }

    fn parameter(&self, callee: ExprId, at: usize) -> Option<LocalId> {
        let called = self.source.function_of(callee)?;
        self.source.locals.iter().position(|local| {
            local.given.iter().any(|given| {
                matches!(*given, Given::Parameter { function, place } if function == called && place == at)
            })
        })
    }

    fn is_key(&self, id: ExprId) -> bool {
        match *self.source.kind(id) {
            Kind::Local(local) => self.key[local],
            Kind::Field(base, _) => self.is_list(base),
            Kind::And(then) => self.is_key(then),
            Kind::Or(one, other) => self.is_key(one) && self.is_key(other),
            _ => false,
        }
    }

    fn is_list(&self, id: ExprId) -> bool {
        match self.source.kind(id) {
            Kind::Local(local) => self.list[*local],
            Kind::Table(fields) => fields
                .iter()
                .all(|(_, value)| self.is_key(*value) || self.unpacks_keys(*value)),
            _ => self.source.is_global(id, "KEYS"),
        }
    }

    /// `unpack(list)`.
    fn unpacks_keys(&self, id: ExprId) -> bool {
        let args = self.source.args_of(id, "unpack");
        args.and_then(|args| args.first())
            .is_some_and(|list| self.is_list(*list))
    }
}
