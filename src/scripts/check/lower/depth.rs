//! How deeply a script is nested. The parser recurses, and would crash the server if it overflowed the stack.

use full_moon::LuaVersion;
use full_moon::tokenizer::{Lexer, LexerResult, Symbol, TokenType};

/// Nested blocks and brackets, at most: Lua's own limit.
const MAX_OPEN: usize = 200;
/// Operators of one expression, including those around it.
const MAX_OPERATORS: usize = 1_000;
/// Enough for both limits together, measured without optimisation.
pub(super) const STACK_BYTES: usize = 64 << 20;

/// The first line at which a script is nested deeper than the parser's stack allows.
pub(super) fn too_deep(text: &str) -> Option<usize> {
    let tokens = match Lexer::new(text, LuaVersion::lua51()).collect() {
        LexerResult::Ok(tokens) | LexerResult::Recovered(tokens, _) => tokens,
        LexerResult::Fatal(_) => return None,
    };
    let mut depth = Depth::default();
    for token in tokens {
        if let TokenType::Symbol { symbol } = token.token_type() {
            depth.take(*symbol);
        }
        if depth.open.len() > MAX_OPEN || depth.operators > MAX_OPERATORS {
            return Some(token.start_position().line());
        }
    }
    None
}

#[derive(Default)]
struct Depth {
    /// The number of operators before each open block or bracket.
    open: Vec<usize>,
    operators: usize,
}

impl Depth {
    fn take(&mut self, symbol: Symbol) {
        use Symbol::*;
        match symbol {
            LeftParen | LeftBrace | LeftBracket | Do | Then | Function | Repeat => {
                self.open.push(self.operators);
            }
            RightParen | RightBrace | RightBracket | End | ElseIf | Until => {
                self.operators = self.open.pop().unwrap_or_default();
            }
            // Another expression begins here.
            Comma | Semicolon | Equal | Local | Return | If | Else | While | For => {
                self.operators = self.open.last().copied().unwrap_or_default();
            }
            And | Or | Not | TwoDots | Plus | Minus | Star | Slash | Percent | Caret | Hash
            | TwoEqual | TildeEqual | LessThan | LessThanEqual | GreaterThan | GreaterThanEqual => {
                self.operators += 1;
            }
            _ => {}
        }
    }
}
