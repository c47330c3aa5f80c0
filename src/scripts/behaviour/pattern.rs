//! Texts that cost a Lua pattern the most work: they match part of it again and again, and then fail to match the rest.

/// A single character of a pattern, and how often it may occur.
struct Item {
    /// A character that it matches.
    sample: u8,
    /// `*`, `+` or `-`: any number of times.
    is_repeated: bool,
    /// `*`, `-` or `?`: it may be absent.
    may_be_missing: bool,
}

/// Pieces that are hard for this pattern when repeated, without duplicates. A plain text counts as a pattern.
pub(super) fn hard_pieces(pattern: &[u8]) -> Vec<Vec<u8>> {
    let items = items(pattern);
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    let mut add = |piece: Vec<u8>| {
        if !piece.is_empty() && !pieces.contains(&piece) {
            pieces.push(piece);
        }
    };
    // A character that one repeated item takes also fits the next one.
    for item in items.iter().filter(|item| item.is_repeated) {
        add(vec![item.sample]);
    }
    // The words between them, and the pattern up to each of them.
    for words in items.split(|item| item.is_repeated) {
        add(samples(words));
    }
    for (place, _) in items
        .iter()
        .enumerate()
        .filter(|(_, item)| item.is_repeated)
    {
        add(samples(&items[..place]));
        let needed: Vec<u8> = items[..place]
            .iter()
            .filter(|item| !item.may_be_missing)
            .map(|item| item.sample)
            .collect();
        add(needed);
    }
    // Everything but the end.
    let all = samples(&items);
    add(all[..all.len().saturating_sub(1)].to_vec());
    add(all);
    pieces
}

fn samples(items: &[Item]) -> Vec<u8> {
    items.iter().map(|item| item.sample).collect()
}

fn items(pattern: &[u8]) -> Vec<Item> {
    let mut rest = pattern.strip_prefix(b"^").unwrap_or(pattern);
    let mut items = Vec::new();
    while let Some((sample, after)) = single(rest) {
        let quantifier = after.first().copied();
        let is_quantified = matches!(quantifier, Some(b'*' | b'+' | b'-' | b'?'));
        rest = if is_quantified { &after[1..] } else { after };
        let Some(sample) = sample else { continue };
        items.push(Item {
            sample,
            is_repeated: is_quantified && quantifier != Some(b'?'),
            may_be_missing: is_quantified && quantifier != Some(b'+'),
        });
    }
    items
}

/// A character that the first item matches, `None` if it takes no character; and the rest.
fn single(pattern: &[u8]) -> Option<(Option<u8>, &[u8])> {
    let (first, rest) = pattern.split_first()?;
    Some(match first {
        b'(' | b')' => (None, rest),
        b'$' if rest.is_empty() => (None, rest),
        b'.' => (Some(b'a'), rest),
        b'%' => escaped(rest),
        b'[' => set(rest),
        itself => (Some(*itself), rest),
    })
}

fn escaped(rest: &[u8]) -> (Option<u8>, &[u8]) {
    match rest {
        // A balanced pair that is opened but not closed is searched to the end, from every place.
        [b'b', open, _, rest @ ..] => (Some(*open), rest),
        // A frontier takes no character.
        [b'f', b'[', rest @ ..] => (None, set(rest).1),
        [digit, rest @ ..] if digit.is_ascii_digit() => (None, rest),
        [class, rest @ ..] => (Some(member(*class)), rest),
        [] => (None, rest),
    }
}

/// A character of a class: `%a` without its percent sign.
fn member(class: u8) -> u8 {
    match class {
        b'a' | b'l' | b'w' | b'x' | b'D' | b'S' | b'P' | b'U' | b'C' => b'a',
        b'u' | b'L' => b'A',
        b'd' | b'A' => b'1',
        b's' | b'W' => b' ',
        b'p' => b'!',
        b'c' => b'\t',
        b'X' => b'g',
        itself => itself,
    }
}

/// A set, after its bracket: a character that it matches, and the rest.
fn set(rest: &[u8]) -> (Option<u8>, &[u8]) {
    let (negated, mut rest) = match rest {
        [b'^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let mut members = Vec::new();
    let mut is_first = true;
    loop {
        match rest {
            [] => break,
            [b']', after @ ..] if !is_first => {
                rest = after;
                break;
            }
            [b'%', class, after @ ..] => {
                members.push(member(*class));
                rest = after;
            }
            [from, b'-', to, after @ ..] if *to != b']' => {
                members.extend([*from, *to]);
                rest = after;
            }
            [itself, after @ ..] => {
                members.push(*itself);
                rest = after;
            }
        }
        is_first = false;
    }
    let sample = match negated {
        false => members.iter().copied().find(|byte| byte.is_ascii()),
        true => b"a1 !A"
            .iter()
            .copied()
            .find(|byte| !members.contains(byte)),
    };
    (sample.or(Some(b'a')), rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(pattern: &str) -> Vec<String> {
        let pieces = hard_pieces(pattern.as_bytes()).into_iter();
        pieces
            .map(|piece| String::from_utf8_lossy(&piece).into_owned())
            .collect()
    }

    #[test]
    fn the_words_of_a_pattern_are_among_them() {
        let found = pieces(".*casino.*bonus.*");
        for piece in ["a", "casino", "bonus", "casinobonus", "acasino"] {
            assert!(found.iter().any(|it| it == piece), "{piece}: {found:?}");
        }
    }

    #[test]
    fn so_is_what_each_repeated_class_eats() {
        assert!(pieces("^%s*(.-)%s*$").contains(&" ".to_owned()));
        assert!(pieces("(%w+)%s*=%s*(%d+)").contains(&"1".to_owned()));
        assert!(
            pieces("[^@%s]+@[%a.]+").contains(&"1".to_owned())
                || pieces("[^@%s]+@[%a.]+").contains(&"a".to_owned())
        );
        assert!(pieces("%b()").contains(&"(".to_owned()));
        assert_eq!(pieces("casino"), ["casino", "casin"]);
    }

    #[test]
    fn what_is_no_pattern_does_no_harm() {
        for text in [
            "", "%", "[", "[^", "[]", "[a-", "%b", "%f", "%f[", "*", "()", "(((", "a%",
        ] {
            hard_pieces(text.as_bytes());
        }
    }
}
