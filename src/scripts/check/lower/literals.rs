//! String literals, as Lua reads them.

use full_moon::tokenizer::{StringLiteralQuoteType, TokenReference, TokenType};

/// The bytes that a literal stands for; `None` if the token is not a string.
pub(super) fn bytes(token: &TokenReference) -> Option<Vec<u8>> {
    let TokenType::StringLiteral {
        literal,
        quote_type,
        ..
    } = token.token_type()
    else {
        return None;
    };
    Some(match quote_type {
        StringLiteralQuoteType::Brackets => {
            // Lua drops a line break right after the opening brackets.
            let text = literal.strip_prefix('\n').unwrap_or(literal);
            text.as_bytes().to_vec()
        }
        _ => unescaped(literal.as_bytes()),
    })
}

fn unescaped(mut rest: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(rest.len());
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'\\' {
            bytes.push(*first);
            continue;
        }
        let digits = rest.iter().take(3).take_while(|byte| byte.is_ascii_digit());
        let digits = digits.count();
        if digits > 0 {
            let number = rest[..digits]
                .iter()
                .fold(0_u32, |sum, digit| sum * 10 + u32::from(digit - b'0'));
            bytes.push(u8::try_from(number).unwrap_or(u8::MAX));
            rest = &rest[digits..];
        } else if let [escaped, after @ ..] = rest {
            bytes.push(control(*escaped));
            rest = after;
        }
    }
    bytes
}

fn control(escaped: u8) -> u8 {
    match escaped {
        b'a' => 0x07,
        b'b' => 0x08,
        b'f' => 0x0C,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 0x0B,
        itself => itself,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_what_lua_makes_of_them() {
        assert_eq!(unescaped(br"a\n\065\0b\\\'\200"), b"a\nA\0b\\'\xc8");
        assert_eq!(unescaped(br"\1289\999\"), b"\x809\xff");
    }
}
