//! Statements.

use full_moon::ast::{
    Assignment, Block, Expression, FunctionDeclaration, GenericFor, If, LastStmt, LocalAssignment,
    NumericFor, Stmt, Var,
};
use full_moon::node::Node;

use super::Lowering;
use crate::scripts::check::source::{CountedLoop, ExprId, Fill, Given, Kind, Role, Step};

impl Lowering<'_> {
    pub(super) fn block(&mut self, block: &Block) {
        for statement in block.stmts() {
            self.statement(statement);
        }
        match block.last_stmt() {
            Some(LastStmt::Return(values)) => {
                let values = values.returns().iter();
                let values: Vec<ExprId> = values.map(|value| self.expr(value)).collect();
                match self.function {
                    Some(function) => self.source.functions[function].returns.extend(&values),
                    None => self.source.returns.extend(&values),
                }
                self.steps.push(Step::Return(values));
            }
            Some(_) => self.steps.push(Step::Break),
            None => {}
        }
    }

    fn statement(&mut self, statement: &Stmt) {
        match statement {
            Stmt::Assignment(assignment) => self.assignment(assignment),
            Stmt::LocalAssignment(local) => self.local(local),
            Stmt::LocalFunction(function) => {
                let name = self.declare(function.name(), Given::Nil);
                let id = self.function_body(function.body());
                let value = self.add(function.as_ref(), Kind::Function(id));
                self.source.locals[name].given = vec![Given::Value(value)];
            }
            Stmt::FunctionDeclaration(function) => self.declaration(function),
            Stmt::FunctionCall(call) => {
                let call = self.call(call);
                self.set_role(call, Role::Statement);
            }
            Stmt::Do(inner) => {
                let mut steps = self.apart(|part| part.block(inner.block()));
                self.steps.append(&mut steps);
            }
            Stmt::If(statement) => self.branches(statement),
            Stmt::NumericFor(statement) => self.counted(statement),
            Stmt::GenericFor(statement) => self.each(statement),
            Stmt::While(statement) => self.loop_(|part| {
                part.expr(statement.condition());
                part.block(statement.block());
            }),
            Stmt::Repeat(statement) => self.loop_(|part| {
                part.block(statement.block());
                part.expr(statement.until());
            }),
            // No other kind is in Lua 5.1.
            _ => {}
        }
    }

    fn local(&mut self, statement: &LocalAssignment) {
        let given = self.values(statement.expressions(), statement.names().len());
        for (name, given) in statement.names().iter().zip(given) {
            self.declare(name, given);
        }
    }

    /// The value that each of `count` names gets.
    fn values<'e>(
        &mut self,
        expressions: impl IntoIterator<Item = &'e Expression>,
        count: usize,
    ) -> Vec<Given> {
        let ids: Vec<ExprId> = expressions
            .into_iter()
            .map(|expr| self.expr(expr))
            .collect();
        // Only a call or `...` can give more than one value.
        let rest = match ids.last().map(|last| self.source.kind(*last)) {
            Some(Kind::Call { .. } | Kind::Other) => Given::Unknown,
            _ => Given::Nil,
        };
        let given = |place: usize| match ids.get(place) {
            Some(id) if matches!(self.source.kind(*id), Kind::Nil) => Given::Nil,
            Some(id) => Given::Value(*id),
            None => rest,
        };
        (0..count).map(given).collect()
    }

    fn assignment(&mut self, statement: &Assignment) {
        let given = self.values(statement.expressions(), statement.variables().len());
        for (target, given) in statement.variables().iter().zip(given) {
            self.assign(target, given);
        }
    }

    fn assign(&mut self, target: &Var, given: Given) {
        let id = self.var(target);
        self.set_role(id, Role::Target);
        match *self.source.kind(id) {
            Kind::Local(local) => self.source.locals[local].given.push(given),
            Kind::Field(base, _) => {
                let value = match given {
                    Given::Value(value) => Some(value),
                    _ => None,
                };
                self.source.fills.push(Fill { base, value });
            }
            _ => {}
        }
    }

    /// `function name() … end`, where `name` was declared before or is a global.
    fn declaration(&mut self, statement: &FunctionDeclaration) {
        let id = self.function_body(statement.body());
        let value = self.add(statement, Kind::Function(id));
        let names = statement.name().names();
        if let Some(first) = names.iter().next() {
            let target = self.name(first);
            self.set_role(target, Role::Target);
            if let Kind::Local(local) = *self.source.kind(target) {
                self.source.locals[local].given.push(Given::Value(value));
            }
        }
    }

    fn branches(&mut self, statement: &If) {
        self.expr(statement.condition());
        let then = self.apart(|part| part.block(statement.block()));
        let mut arms = vec![then];
        // The condition of a later arm is evaluated only if no earlier one held: placing it before all arms is near
        // enough.
        for arm in statement.else_if().into_iter().flatten() {
            self.expr(arm.condition());
            arms.push(self.apart(|part| part.block(arm.block())));
        }
        arms.push(match statement.else_block() {
            Some(block) => self.apart(|part| part.block(block)),
            None => Vec::new(),
        });
        self.steps.push(Step::Branch(arms));
    }

    fn counted(&mut self, statement: &NumericFor) {
        let start = self.expr(statement.start());
        let end = self.expr(statement.end());
        let step = statement.step().map(|step| self.expr(step));
        let line = statement.start_position().map_or(1, |at| at.line());
        self.loop_(|part| {
            let counter = part.declare(statement.index_variable(), Given::Unknown);
            part.source.loops.push(CountedLoop {
                line,
                counter,
                start,
                end,
                step,
            });
            part.block(statement.block());
        });
    }

    fn each(&mut self, statement: &GenericFor) {
        let from: Vec<ExprId> = statement
            .expressions()
            .iter()
            .map(|expr| self.expr(expr))
            .collect();
        let list = match from[..] {
            [walk] => ["ipairs", "pairs"]
                .iter()
                .find_map(|name| self.source.args_of(walk, name)?.first().copied()),
            _ => None,
        };
        self.loop_(|part| {
            for (place, name) in statement.names().iter().enumerate() {
                let given = match (place, list) {
                    (1, Some(list)) => Given::Each(list),
                    _ => Given::Unknown,
                };
                part.declare(name, given);
            }
            part.block(statement.block());
        });
    }

    fn loop_(&mut self, read: impl FnOnce(&mut Self)) {
        let steps = self.apart(read);
        self.steps.push(Step::Loop(steps));
    }
}
