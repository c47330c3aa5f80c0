//! Checks that a repeated message is answered before any rule: a stored message must not be reported as refused.

use super::commands::{Called, called, writes};
use super::source::{ExprId, FunctionId, Kind, Source, Step};
use super::{Findings, Script};

/// The keys that hold what was sent.
const SENT: [&str; 3] = ["sent_a", "sent_b", "sent_before"];

pub(super) fn check(script: Script, source: &Source, found: &mut Findings) {
    if script != Script::SendMessage {
        return;
    }
    let looks_up = |called: &Called| {
        let key = called.args.first().map(|key| source.kind(*key));
        matches!(key, Some(Kind::Local(local)) if SENT.contains(&source.locals[*local].name.as_str()))
    };
    let ids = |is: &dyn Fn(&Called) -> bool| -> Vec<ExprId> {
        let calls = called(source).filter(|called| is(called));
        calls.map(|called| called.id).collect()
    };
    let lookups = ids(&looks_up);
    if lookups.is_empty() {
        // Then repeats are never found, which the trial reports.
        return;
    }
    let mut walk = Walk {
        source,
        lookups,
        writes: ids(&|called| writes(script, called)),
        running: Vec::new(),
        found,
    };
    walk.steps(&source.steps);
}

struct Walk<'a> {
    source: &'a Source,
    lookups: Vec<ExprId>,
    writes: Vec<ExprId>,
    /// The functions that are being traversed.
    running: Vec<FunctionId>,
    found: &'a mut Findings,
}

impl Walk<'_> {
    /// Traverses up to the lookup of whether a message was sent before. Returns whether that was reached.
    fn steps(&mut self, steps: &[Step]) -> bool {
        steps.iter().any(|step| match step {
            Step::Evaluate(id) => self.evaluate(*id),
            // All arms, even after one that reaches it.
            Step::Branch(arms) => arms.iter().filter(|arm| self.steps(arm)).count() > 0,
            Step::Loop(body) => self.steps(body),
            Step::Return(values) => {
                self.returns(values);
                false
            }
            Step::Break => false,
        })
    }

    fn evaluate(&mut self, id: ExprId) -> bool {
        if self.lookups.contains(&id) {
            return true;
        }
        if self.writes.contains(&id) {
            let reason = "this write comes before the answer to a message that is sent again, which \
                          must change nothing: write below the answer, together with the script's own writes";
            self.found.add(self.source.line(id), reason);
        }
        let Kind::Call { callee, .. } = self.source.kind(id) else {
            return false;
        };
        match self.source.function_of(*callee) {
            Some(function) if !self.running.contains(&function) => {
                self.running.push(function);
                let source = self.source;
                let reached = self.steps(&source.functions[function].steps);
                self.running.pop();
                reached
            }
            _ => false,
        }
    }

    fn returns(&mut self, values: &[ExprId]) {
        if let (true, Some(value)) = (self.running.is_empty(), values.first()) {
            let reason = "this rule comes before the answer to a message that is sent again, whose \
                          sender would get a refusal for a stored message: move it to the place \
                          that is marked `Rules of your own: here`";
            self.found.add(self.source.line(*value), reason);
        }
    }
}
