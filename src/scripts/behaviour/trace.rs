//! A script that reports which way it went: the same text, line by line, with reports inserted.

use full_moon::ast::{FunctionBody, GenericFor, LastStmt, NumericFor, Repeat, Return, While};
use full_moon::node::Node;
use full_moon::tokenizer::{Position, TokenReference};
use full_moon::visitors::Visitor;

use crate::scripts::Script;

/// Iterations of one loop in one call: more than any reasonable script needs in a trial.
const MAX_STEPS: u32 = 100_000;

/// The text with reports inserted. Each is on the line that it reports, so that line numbers stay the same.
///
/// A loop that does not end raises an error; a `return` of the script itself is logged. `None` if the text is not Lua.
pub(super) fn traced(script: Script, text: &str) -> Option<String> {
    let ast = full_moon::parse(text).ok()?;
    let mut tracer = Tracer::new(script);
    tracer.visit_ast(&ast);
    let block = ast.nodes();
    if !matches!(block.last_stmt(), Some(LastStmt::Return(_)))
        && let Some(end) = block.end_position()
    {
        let report = tracer.report(end);
        tracer.insert(end, format!(" {report}"));
    }
    tracer.apply(text)
}

/// The line of the last `return` that the script took, according to its log.
pub(super) fn last_return(script: Script, log: &str) -> Option<usize> {
    let mark = mark(script);
    let (_, line) = log.rsplit_once(&mark)?;
    line.lines().next()?.trim().parse().ok()
}

fn mark(script: Script) -> String {
    format!("traced return of {}: ", script.name())
}

struct Tracer {
    script: Script,
    /// What to insert, by byte offset in the text.
    insertions: Vec<(usize, String)>,
    /// How many functions deep: a function's `return` is not the script's.
    depth: usize,
    loops: usize,
}

impl Tracer {
    fn new(script: Script) -> Self {
        Self {
            script,
            insertions: Vec::new(),
            depth: 0,
            loops: 0,
        }
    }

    fn insert(&mut self, at: Position, text: String) {
        self.insertions.push((at.bytes(), text));
    }

    fn report(&self, at: Position) -> String {
        let mark = mark(self.script);
        format!("redis.log(redis.LOG_WARNING, '{mark}{}') ", at.line())
    }

    /// Counts the iterations of the loop that begins at `start` and whose body begins after `opening`.
    fn count_steps(&mut self, start: Option<Position>, opening: &TokenReference) {
        let Some(start) = start else { return };
        self.loops += 1;
        let steps = format!("steps_of_loop_{}", self.loops);
        let count =
            format!(" {steps} = {steps} + 1 if {steps} > {MAX_STEPS} then error('endless') end ");
        self.insert(start, format!("local {steps} = 0 "));
        self.insert(opening.token().end_position(), count);
    }

    /// `None` if a position is outside the text: no trace is better than a wrong one.
    fn apply(mut self, text: &str) -> Option<String> {
        self.insertions.sort_by_key(|(at, _)| *at);
        let mut traced = String::with_capacity(text.len() * 2);
        let mut copied = 0;
        for (at, insertion) in &self.insertions {
            traced.push_str(text.get(copied..*at)?);
            traced.push_str(insertion);
            copied = *at;
        }
        traced.push_str(text.get(copied..)?);
        Some(traced)
    }
}

impl Visitor for Tracer {
    fn visit_function_body(&mut self, _: &FunctionBody) {
        self.depth += 1;
    }

    fn visit_function_body_end(&mut self, _: &FunctionBody) {
        self.depth -= 1;
    }

    fn visit_while(&mut self, node: &While) {
        self.count_steps(node.start_position(), node.do_token());
    }

    fn visit_repeat(&mut self, node: &Repeat) {
        self.count_steps(node.start_position(), node.repeat_token());
    }

    fn visit_numeric_for(&mut self, node: &NumericFor) {
        self.count_steps(node.start_position(), node.do_token());
    }

    fn visit_generic_for(&mut self, node: &GenericFor) {
        self.count_steps(node.start_position(), node.do_token());
    }

    fn visit_return(&mut self, node: &Return) {
        if self.depth == 0
            && let Some(start) = node.start_position()
        {
            let report = self.report(start);
            self.insert(start, report);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::scripts::ScriptSet;

    #[test]
    fn a_traced_script_keeps_its_lines() {
        for (script, text) in ScriptSet::embedded().unwrap().iter() {
            let traced = traced(script, &text.text).unwrap();
            assert!(full_moon::parse(&traced).is_ok(), "{traced}");
            assert_eq!(text.text.lines().count(), traced.lines().count());
        }
    }

    #[test]
    fn reports_stand_where_the_script_goes_on() {
        let text = "#!lua\n-- ünïcode …\nlocal function f() return 1 end\nwhile f() do f() end\nif f() then\n  return 2 end\nf() -- done";
        assert_eq!(
            traced(Script::SendMessage, text).unwrap(),
            "#!lua\n-- ünïcode …\nlocal function f() return 1 end\n\
             local steps_of_loop_1 = 0 while f() do steps_of_loop_1 = steps_of_loop_1 + 1 if steps_of_loop_1 > 100000 then error('endless') end  f() end\n\
             if f() then\n  redis.log(redis.LOG_WARNING, 'traced return of send_message: 6') return 2 end\n\
             f() redis.log(redis.LOG_WARNING, 'traced return of send_message: 7')  -- done"
        );
    }

    #[test]
    fn the_last_return_is_the_one_that_counts() {
        let log = "1:M # traced return of send_message: 40\n1:M # traced return of send_message: 89\n1:M # traced return of sync_room: 3\n";
        assert_eq!(last_return(Script::SendMessage, log), Some(89));
        assert_eq!(last_return(Script::GetHistory, log), None);
    }
}
