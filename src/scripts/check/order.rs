//! Checks that nothing is refused after a write: Redis does not roll back.

use super::commands::{Called, called, writes};
use super::effects::holds_refusal;
use super::errors::refusals;
use super::source::{ExprId, FunctionId, Kind, LocalId, Role, Source, Step};
use super::{Findings, Script};

/// The line of a write, if there was one.
type Written = Option<usize>;

pub(super) fn check(script: Script, source: &Source, found: &mut Findings) {
    let write = |called: &Called| writes(script, called);
    let mut walk = Walk {
        source,
        writes: called(source)
            .filter(write)
            .map(|called| called.id)
            .collect(),
        refusals: refusals(source).map(|refusal| refusal.id).collect(),
        running: Vec::new(),
        returned: None,
        broken_off: None,
        found,
    };
    walk.steps(&source.steps, None);
}

struct Walk<'a> {
    source: &'a Source,
    writes: Vec<ExprId>,
    refusals: Vec<ExprId>,
    /// The functions that are being traversed.
    running: Vec<FunctionId>,
    /// What was written by the point where the innermost function returned.
    returned: Written,
    /// What was written by the point where the innermost loop was left.
    broken_off: Written,
    found: &'a mut Findings,
}

impl Walk<'_> {
    /// Takes what was written before the steps and returns what is written after them. Where a path ends, nothing
    /// follows its writes.
    fn steps(&mut self, steps: &[Step], before: Written) -> Written {
        let mut written = before;
        for step in steps {
            written = match step {
                Step::Evaluate(id) => self.evaluate(*id, written),
                Step::Branch(arms) => arms
                    .iter()
                    .map(|arm| self.steps(arm, written))
                    .fold(None, Option::or),
                Step::Loop(body) => self.repeat(body, written),
                Step::Return(values) => {
                    self.held_back(values, written);
                    self.returned = self.returned.or(written);
                    None
                }
                Step::Break => {
                    self.broken_off = self.broken_off.or(written);
                    None
                }
            };
        }
        written
    }

    /// In a second iteration, the writes of the first have been made.
    fn repeat(&mut self, body: &[Step], before: Written) -> Written {
        let around = self.broken_off.take();
        let once = self.steps(body, before);
        let twice = self.steps(body, once);
        let broken_off = std::mem::replace(&mut self.broken_off, around);
        before.or(once).or(twice).or(broken_off)
    }

    /// Reports a refusal that was created before a write and is returned after it.
    fn held_back(&mut self, values: &[ExprId], written: Written) {
        let Some(write) = written.filter(|_| self.running.is_empty()) else {
            return;
        };
        for value in values
            .iter()
            .flat_map(|value| locals_in(self.source, *value))
        {
            let (id, local) = value;
            if holds_refusal(self.source, local) {
                let text = self.source.text(id);
                let reason = format!(
                    "`{text}` may be a refusal, and comes after the write at line {write}: Redis does not roll \
                     back. Return it where it is made"
                );
                self.found.add(self.source.line(id), reason);
            }
        }
    }

    fn evaluate(&mut self, id: ExprId, written: Written) -> Written {
        let line = self.source.line(id);
        if self.writes.contains(&id) {
            return written.or(Some(line));
        }
        if let Some(write) = written.filter(|_| self.refusals.contains(&id)) {
            let reason = format!(
                "this refusal comes after the write at line {write}: Redis does not roll back"
            );
            self.found.add(line, reason);
        }
        match self.runs(id) {
            Some(function) => self.function(function, written),
            None => written,
        }
    }

    /// The function that runs here: it is called, or passed to something that may call it.
    fn runs(&self, id: ExprId) -> Option<FunctionId> {
        match self.source.kind(id) {
            Kind::Call { callee, .. } => self.source.function_of(*callee),
            Kind::Local(_) => {
                let role = self.source.exprs[id].role;
                let handed_on = !matches!(role, Role::Callee | Role::Target);
                self.source.function_of(id).filter(|_| handed_on)
            }
            _ => None,
        }
    }

    fn function(&mut self, function: FunctionId, before: Written) -> Written {
        if self.running.contains(&function) {
            return before;
        }
        self.running.push(function);
        let around = self.returned.take();
        let source = self.source;
        let end = self.steps(&source.functions[function].steps, before);
        let returned = std::mem::replace(&mut self.returned, around);
        self.running.pop();
        before.or(end).or(returned)
    }
}

/// The locals that a returned expression is, or may evaluate to.
fn locals_in(source: &Source, id: ExprId) -> Vec<(ExprId, LocalId)> {
    match source.kind(id) {
        Kind::Local(local) => vec![(id, *local)],
        Kind::And(then) => locals_in(source, *then),
        Kind::Or(one, other) => [locals_in(source, *one), locals_in(source, *other)].concat(),
        _ => Vec::new(),
    }
}
