//! Checks that a script returns its refusals: elsewhere they have no effect.

use std::collections::BTreeSet;

use super::Findings;
use super::errors::refusals;
use super::source::{ExprId, FunctionId, Given, Kind, LocalId, Role, Source};

pub(super) fn check(source: &Source, found: &mut Findings) {
    let refusals: Vec<ExprId> = refusals(source).map(|refusal| refusal.id).collect();
    let returned = reach(source, &source.returns);
    for refusal in refusals.iter().filter(|id| !returned.contains(id)) {
        let reason =
            "this refusal does nothing, because the script continues: write `return` before it";
        found.add(source.line(*refusal), reason);
    }
    for (call, callee, _) in source.calls() {
        let function = source.function_of(callee);
        let refuses = function.is_some_and(|function| may_refuse(source, function));
        if refuses && is_dropped(source, call) {
            let text = source.text(call);
            let reason =
                format!("the refusal of `{text}` is dropped, and the script continues: return it");
            found.add(source.line(call), reason);
        }
    }
    faults(source, found);
}

/// Reports `error` where nothing catches it.
fn faults(source: &Source, found: &mut Findings) {
    let names = |name: &'static str| {
        let all = 0..source.exprs.len();
        all.filter(move |id| source.is_global(*id, name))
    };
    if names("pcall").next().is_some() {
        return;
    }
    let called = |id: &ExprId| source.exprs[*id].role == Role::Callee;
    for id in names("error").filter(called) {
        let reason = "`error` is a fault of the script, and the client gets INTERNAL: refuse with \
                      `return redis.error_reply('REJECTED A sentence.')`";
        found.add(source.line(id), reason);
    }
}

fn may_refuse(source: &Source, function: FunctionId) -> bool {
    let returned = reach(source, &source.functions[function].returns);
    refusals(source).any(|refusal| returned.contains(&refusal.id))
}

/// Whether a local may hold a refusal.
pub(super) fn holds_refusal(source: &Source, local: LocalId) -> bool {
    let mut held = Reach::new(source);
    held.local(local);
    let held = held.finish();
    refusals(source).any(|refusal| held.contains(&refusal.id))
}

/// Whether the result of a call is ignored.
fn is_dropped(source: &Source, call: ExprId) -> bool {
    let unread = |local: LocalId| {
        let is_read = |id: &ExprId| {
            let is_it = matches!(source.kind(*id), Kind::Local(found) if *found == local);
            is_it && source.exprs[*id].role != Role::Target
        };
        !(0..source.exprs.len()).any(|id| is_read(&id))
    };
    let holds = |given: &Given| matches!(given, Given::Value(value) if *value == call);
    let mut holders = (0..source.locals.len())
        .filter(|local| source.locals[*local].given.iter().any(holds))
        .peekable();
    match source.exprs[call].role {
        Role::Statement => true,
        _ => holders.peek().is_some() && holders.all(unread),
    }
}

/// All expressions whose values these may have. Anything that cannot be determined counts as one of them.
fn reach(source: &Source, from: &[ExprId]) -> BTreeSet<ExprId> {
    let mut reach = Reach::new(source);
    reach.due.extend(from);
    reach.finish()
}

struct Reach<'a> {
    source: &'a Source,
    seen: BTreeSet<ExprId>,
    due: Vec<ExprId>,
}

impl<'a> Reach<'a> {
    fn new(source: &'a Source) -> Self {
        let (seen, due) = (BTreeSet::new(), Vec::new());
        Self { source, seen, due }
    }

    fn finish(mut self) -> BTreeSet<ExprId> {
        while let Some(id) = self.due.pop() {
            if self.seen.insert(id) {
                self.expand(id);
            }
        }
        self.seen
    }

    fn expand(&mut self, id: ExprId) {
        match self.source.kind(id) {
            Kind::And(then) => self.due.push(*then),
            Kind::Or(one, other) => self.due.extend([*one, *other]),
            Kind::Local(local) => self.local(*local),
            Kind::Field(base, _) => self.due.push(*base),
            Kind::Table(fields) => self.due.extend(fields.iter().map(|(_, value)| *value)),
            Kind::Function(function) => self.function(*function),
            Kind::Call { callee, args } => match self.source.function_of(*callee) {
                Some(function) => self.function(function),
                // `pcall(f)` returns what `f` returns.
                None => self.due.extend(args),
            },
            _ => {}
        }
    }

    fn function(&mut self, function: FunctionId) {
        self.due.extend(&self.source.functions[function].returns);
    }

    fn local(&mut self, local: LocalId) {
        for given in &self.source.locals[local].given {
            match *given {
                Given::Value(value) | Given::Each(value) => self.due.push(value),
                Given::Parameter { function, place } => self.fed(function, place),
                // One of several results of a call.
                Given::Unknown => self.due.extend(self.results()),
                Given::Nil => {}
            }
        }
        let fills = self.source.fills.iter();
        let of_local =
            |base: ExprId| matches!(self.source.kind(base), Kind::Local(found) if *found == local);
        let filled = fills.filter(|fill| of_local(fill.base));
        self.due.extend(filled.filter_map(|fill| fill.value));
    }

    /// Adds the values that a function is called with at this place.
    fn fed(&mut self, function: FunctionId, place: usize) {
        let source = self.source;
        let calls = source.calls();
        let of_function =
            calls.filter(|(_, callee, _)| source.function_of(*callee) == Some(function));
        self.due
            .extend(of_function.filter_map(|(_, _, args)| args.get(place)));
    }

    /// Everything that any function returns.
    fn results(&self) -> Vec<ExprId> {
        let functions = self.source.functions.iter();
        functions
            .flat_map(|function| function.returns.clone())
            .collect()
    }
}
