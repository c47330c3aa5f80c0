//! Expressions, in the order in which Lua evaluates them.

use full_moon::ast::{
    BinOp, Call, Expression, Field, FunctionArgs, FunctionBody, FunctionCall, Index, Parameter,
    Prefix, Suffix, TableConstructor, UnOp, Var,
};
use full_moon::node::Node;
use full_moon::tokenizer::{Symbol, TokenReference, TokenType};

use super::{Lowering, literals};
use crate::scripts::check::source::{
    ExprId, Function, FunctionId, Given, Kind, Literal, Role, Step,
};

impl Lowering<'_> {
    pub(super) fn expr(&mut self, expr: &Expression) -> ExprId {
        match expr {
            Expression::Parentheses { expression, .. } => self.expr(expression),
            Expression::BinaryOperator { lhs, binop, rhs } => {
                let (left, right) = (self.expr(lhs), self.expr(rhs));
                let kind = match binop {
                    BinOp::And(_) => Kind::And(right),
                    BinOp::Or(_) => Kind::Or(left, right),
                    BinOp::TwoDots(_) => Kind::Concat(left),
                    BinOp::Plus(_) => Kind::Add(left, right),
                    BinOp::TwoEqual(_) | BinOp::TildeEqual(_) => Kind::Compare(left, right),
                    _ => Kind::Other,
                };
                self.add(expr, kind)
            }
            Expression::UnaryOperator { unop, expression } => {
                let operand = self.expr(expression);
                if !matches!(unop, UnOp::Hash(_)) {
                    return self.add(expr, Kind::Other);
                }
                self.set_role(operand, Role::Counted);
                self.add(expr, Kind::Length(operand))
            }
            Expression::Function(function) => {
                let id = self.function_body(function.body());
                self.add(expr, Kind::Function(id))
            }
            Expression::FunctionCall(call) => self.call(call),
            Expression::TableConstructor(table) => self.table(table),
            Expression::Number(token) | Expression::String(token) | Expression::Symbol(token) => {
                self.literal(token)
            }
            Expression::Var(var) => self.var(var),
            // No other kind is in Lua 5.1.
            _ => self.add(expr, Kind::Other),
        }
    }

    pub(super) fn var(&mut self, var: &Var) -> ExprId {
        match var {
            Var::Name(name) => self.name(name),
            Var::Expression(var) => {
                let suffixes: Vec<&Suffix> = var.suffixes().collect();
                self.suffixed(var.prefix(), &suffixes, var.as_ref())
            }
            _ => self.add(var, Kind::Other),
        }
    }

    pub(super) fn call(&mut self, call: &FunctionCall) -> ExprId {
        let suffixes: Vec<&Suffix> = call.suffixes().collect();
        self.suffixed(call.prefix(), &suffixes, call)
    }

    pub(super) fn name(&mut self, name: &TokenReference) -> ExprId {
        let kind = self.resolve(name);
        let id = self.add(name, kind);
        self.steps.push(Step::Evaluate(id));
        id
    }

    /// A function's body. Its steps are separate: they happen where it is called.
    pub(super) fn function_body(&mut self, body: &FunctionBody) -> FunctionId {
        let function = self.source.functions.len();
        self.source.functions.push(Function::default());
        let outer = self.function.replace(function);
        let steps = self.apart(|inner| {
            for (place, parameter) in body.parameters().iter().enumerate() {
                if let Parameter::Name(name) = parameter {
                    inner.declare(name, Given::Parameter { function, place });
                }
            }
            inner.block(body.block());
        });
        self.function = outer;
        self.source.functions[function].steps = steps;
        function
    }

    /// `prefix.a[b](c):d(e)`, from the left. `whole` is the whole expression.
    fn suffixed(&mut self, prefix: &Prefix, suffixes: &[&Suffix], whole: &impl Node) -> ExprId {
        let mut id = match prefix {
            Prefix::Name(name) => self.name(name),
            Prefix::Expression(expr) => self.expr(expr),
            _ => self.add(prefix, Kind::Other),
        };
        for suffix in suffixes {
            let kind = self.suffix(id, suffix);
            // A node of brackets ends before the closing bracket.
            let added = match suffix {
                Suffix::Index(Index::Brackets { brackets, .. }) => {
                    self.add_between(whole, brackets.tokens().1, kind)
                }
                _ => self.add_between(whole, *suffix, kind),
            };
            self.settle(added);
            id = added;
        }
        id
    }

    fn suffix(&mut self, id: ExprId, suffix: &Suffix) -> Kind {
        match suffix {
            Suffix::Index(index) => {
                self.set_role(id, Role::Base);
                let key = match index {
                    Index::Brackets { expression, .. } => self.expr(expression),
                    Index::Dot { name, .. } => {
                        let text = super::identifier(name);
                        self.add(name, Kind::String(text))
                    }
                    _ => self.add(index, Kind::Other),
                };
                Kind::Field(id, key)
            }
            Suffix::Call(Call::AnonymousCall(args)) => {
                self.set_role(id, Role::Callee);
                let args = self.args(args);
                Kind::Call { callee: id, args }
            }
            Suffix::Call(Call::MethodCall(method)) => {
                self.args(method.args());
                Kind::Other
            }
            _ => Kind::Other,
        }
    }

    /// A call happens once its arguments are evaluated; the arguments are marked as belonging to it.
    fn settle(&mut self, id: ExprId) {
        let Kind::Call { args, .. } = &self.source.exprs[id].kind else {
            return;
        };
        for (place, arg) in args.clone().into_iter().enumerate() {
            self.set_role(arg, Role::Argument { call: id, place });
        }
        self.steps.push(Step::Evaluate(id));
    }

    fn args(&mut self, args: &FunctionArgs) -> Vec<ExprId> {
        match args {
            FunctionArgs::Parentheses { arguments, .. } => {
                arguments.iter().map(|arg| self.expr(arg)).collect()
            }
            FunctionArgs::String(token) => vec![self.literal(token)],
            FunctionArgs::TableConstructor(table) => vec![self.table(table)],
            _ => Vec::new(),
        }
    }

    fn table(&mut self, table: &TableConstructor) -> ExprId {
        let mut fields = Vec::new();
        for field in table.fields() {
            fields.push(match field {
                Field::ExpressionKey { key, value, .. } => (Some(self.expr(key)), self.expr(value)),
                Field::NameKey { key, value, .. } => {
                    let name = super::identifier(key);
                    (Some(self.add(key, Kind::String(name))), self.expr(value))
                }
                Field::NoKey(value) => (None, self.expr(value)),
                _ => continue,
            });
        }
        let (open, close) = table.braces().tokens();
        let id = self.add_between(open, close, Kind::Table(fields));
        self.steps.push(Step::Evaluate(id));
        id
    }

    fn literal(&mut self, token: &TokenReference) -> ExprId {
        let kind = match token.token_type() {
            TokenType::StringLiteral { literal, .. } => Kind::String(literal.to_string()),
            TokenType::Number { text } => text.parse().map_or(Kind::Other, Kind::Number),
            TokenType::Symbol {
                symbol: Symbol::Nil,
            } => Kind::Nil,
            _ => Kind::Other,
        };
        let id = self.add(token, kind);
        if let Some(bytes) = literals::bytes(token) {
            self.source.literals.push(Literal { id, bytes });
        }
        id
    }
}
