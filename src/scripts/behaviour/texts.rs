//! Texts that the rules are tried with: of all kinds, with characters across every cut, and hard ones made from what
//! the scripts search for.

use std::fmt;

use super::pattern::hard_pieces;
use crate::scripts::check::Hints;
use crate::scripts::{Script, ScriptSet};

/// Bytes of the longest content that clients may send by default.
pub(super) const LONGEST: usize = 16 * 1024;
/// How many numbers from the scripts texts are cut around, and how many literals hard texts are made from.
const NUMBERS_MAX: usize = 16;
const LITERALS_MAX: usize = 64;
const HARD_MAX: usize = 400;

/// What surrounds a repeated piece: a pattern that reaches an end that does not match starts over.
const ENDS: [(&str, &str); 3] = [("", ""), ("", "\u{1}"), ("x", "\u{1}")];

/// Texts of every kind that rules search for.
const KINDS: [&str; 40] = [
    "Good morning",
    "a",
    "0",
    "42",
    "007",
    "1e5",
    "-0.1",
    "null",
    "true",
    "ALL CAPITALS",
    "Some Capitals And small letters",
    "call 0171 2345678 or +49 (171) 234-5678",
    "card 4111 1111 1111 1111, 4111-1111-1111-1111, 4111111111111111",
    "pin 1, 22, 333, 4444, 55555",
    "alice@example.com, Bob.Smith+news@mail.example.org",
    "see https://example.com/a/b?c=d&e=f#g and http://example.org",
    "www.example.com and example.com",
    "@alice #topic /command !important",
    "<b>bold</b> &amp; <script>alert(1)</script>",
    "*bold* _italic_ ~struck~ `code`",
    "\"quoted\" 'quoted' \\ back\\slash / slash",
    "{\"json\": [1, 2, {\"a\": null}]}",
    "50 % off: %s %d %1 $HOME ${x}",
    "!!! ??? ... ,,, ;;; --- ___ +++ === ()[]{}",
    " leading",
    "trailing ",
    "  both   and   inside  ",
    " ",
    "two\nlines\r\nand a\ttab",
    "\n",
    "control \u{1} \u{7f} \u{1b}[31m and NUL \u{0} inside",
    "separators \u{2028} \u{2029} \u{feff}",
    "café, naïve, Straße, ÀÉÎÕÜ",
    "Привет, мир",
    "你好，世界",
    "مرحبا بالعالم",
    "नमस्ते दुनिया",
    "e\u{301}o\u{308} combined",
    "👋🏽 👩‍👩‍👧‍👦 🇺🇳 𝒳",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
];

/// A text to send, and its kind.
#[derive(Debug, Clone)]
pub(super) struct Probe {
    pub(super) text: String,
    pub(super) what: What,
}

#[derive(Debug, Clone)]
pub(super) enum What {
    /// A text of a few words, which is quoted in reports.
    Short,
    /// A long text: its length in bytes, and what it is made of.
    Long { bytes: usize, of: String },
    /// A text made from a literal of a script.
    Hard {
        literal: String,
        script: Script,
        line: usize,
    },
}

impl Probe {
    pub(super) fn short(text: impl Into<String>) -> Self {
        let (text, what) = (text.into(), What::Short);
        Self { text, what }
    }

    pub(super) fn long(text: String, of: impl Into<String>) -> Self {
        let (bytes, of) = (text.len(), of.into());
        let what = What::Long { bytes, of };
        Self { text, what }
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::Short => write!(f, "the text {:?}", self.text),
            What::Long { bytes, of } => write!(f, "a text of {bytes} bytes, {of}"),
            What::Hard { literal, .. } => {
                let bytes = self.text.len();
                write!(
                    f,
                    "a text of {bytes} bytes, made to be hard for `{literal}`"
                )
            }
        }
    }
}

/// Texts of every kind, and the texts that the scripts search for in the middle of others.
pub(super) fn of_every_kind(hints: &[(Script, Hints)]) -> Vec<Probe> {
    let mut probes: Vec<Probe> = KINDS.into_iter().map(Probe::short).collect();
    for (_, _, literal) in literals(hints) {
        if let Ok(text) = std::str::from_utf8(literal) {
            probes.push(Probe::short(text));
            let capital = text.to_uppercase();
            probes.push(Probe::short(format!("say {text}, {capital} and x{text}x!")));
        }
    }
    probes
}

/// Texts of characters of two, three and four bytes. Wherever a rule cuts by bytes, from either end, it cuts some of
/// these inside a character.
pub(super) fn around_cuts(hints: &[(Script, Hints)]) -> Vec<Probe> {
    let mut probes = Vec::new();
    let mut bytes = vec![512, LONGEST];
    let numbers = hints.iter().flat_map(|(_, hints)| &hints.numbers);
    let near = numbers
        .copied()
        .filter(|number| (1..LONGEST).contains(number));
    bytes.extend(near.take(NUMBERS_MAX));
    bytes.sort_unstable();
    bytes.dedup();
    for character in ['é', '€', '😀'] {
        let width = character.len_utf8();
        for shift in 0..width {
            let padding = "a".repeat(shift);
            let count = (LONGEST - 2 * shift) / width;
            let text = format!("{padding}{}{padding}", character.to_string().repeat(count));
            probes.push(Probe::long(text, format!("mostly {character}")));
        }
    }
    for target in bytes.into_iter().flat_map(|n| n.saturating_sub(4)..=n + 4) {
        let padding = "a".repeat(target % 4);
        let text = format!("{padding}{}", "😀".repeat(target / 4));
        if (1..=LONGEST).contains(&text.len()) {
            probes.push(Probe::long(text, "mostly 😀"));
        }
    }
    probes
}

/// Group names: of the greatest length that clients may give, and of every kind.
pub(super) fn names() -> Vec<Probe> {
    const CHARACTERS: usize = 128;
    let mut probes: Vec<Probe> = KINDS.into_iter().map(Probe::short).collect();
    for character in ['é', '€', '😀'] {
        for shift in 0..character.len_utf8() {
            let padding = "a".repeat(shift);
            let many = character.to_string().repeat(CHARACTERS - 2 * shift);
            let text = format!("{padding}{many}{padding}");
            probes.push(Probe::long(text, format!("mostly {character}")));
        }
    }
    probes
}

/// The longest texts that cost patterns the most work: the scripts' own patterns and common ones.
pub(super) fn hard(hints: &[(Script, Hints)]) -> Vec<Probe> {
    let mut probes: Vec<Probe> = Vec::new();
    let general = [
        "a", " ", "1", "!", "A", "\n", "é", "a ", "word ", "1 a", "\"", "(",
    ];
    for piece in general {
        for ends in ENDS {
            let of = format!("{piece:?} again and again");
            probes.push(Probe::long(filled(piece, ends), of));
        }
    }
    let all: Vec<(Script, usize, &[u8])> = literals(hints).collect();
    for (script, line, literal) in &all {
        for piece in hard_pieces(literal) {
            hard_for(*script, *line, literal, &piece, &mut probes);
        }
    }
    // A pattern that is assembled from several literals.
    for together in 2..=all.len().min(8) {
        let pieces = &all[..together];
        let joined: Vec<u8> = pieces
            .iter()
            .flat_map(|(_, _, piece)| piece.to_vec())
            .collect();
        let (script, line, literal) = pieces[together - 1];
        hard_for(script, line, literal, &joined, &mut probes);
    }
    probes.truncate(HARD_MAX);
    probes
}

fn hard_for(script: Script, line: usize, literal: &[u8], piece: &[u8], probes: &mut Vec<Probe>) {
    let Ok(piece) = std::str::from_utf8(piece) else {
        return;
    };
    if piece.is_empty() || piece.len() > LONGEST / 4 {
        return;
    }
    let literal = String::from_utf8_lossy(literal);
    for ends in ENDS {
        let text = filled(piece, ends);
        if probes.iter().all(|probe| probe.text != text) {
            let literal = literal.chars().take(60).collect();
            let what = What::Hard {
                literal,
                script,
                line,
            };
            probes.push(Probe { text, what });
        }
    }
}

/// The piece, repeated as often as it fits into the longest text, between these ends.
fn filled(piece: &str, (start, end): (&str, &str)) -> String {
    let count = (LONGEST - start.len() - end.len()) / piece.len();
    format!("{start}{}{end}", piece.repeat(count))
}

/// The string literals of scripts, with their lines; patterns first.
fn literals(hints: &[(Script, Hints)]) -> impl Iterator<Item = (Script, usize, &[u8])> {
    let all = hints.iter().flat_map(|(script, hints)| {
        let texts = hints.texts.iter();
        texts.map(|(line, text)| (*script, *line, text.as_slice()))
    });
    let mut all: Vec<_> = all.filter(|(_, _, text)| !text.is_empty()).collect();
    let is_pattern = |text: &[u8]| text.iter().any(|byte| b"*+-".contains(byte));
    all.sort_by_key(|(_, _, text)| !is_pattern(text));
    all.truncate(LITERALS_MAX);
    all.into_iter()
}

/// The hints in the edited scripts of a set.
pub(super) fn hints(set: &ScriptSet) -> Vec<(Script, Hints)> {
    let Ok(delivered) = ScriptSet::embedded() else {
        return Vec::new();
    };
    set.differing(&delivered)
        .into_iter()
        .map(|script| {
            let hints = Hints::of(set.get(script)).beyond(&Hints::of(delivered.get(script)));
            (script, hints)
        })
        .collect()
}

/// The line of a script's first pattern.
pub(super) fn first_pattern(hints: &[(Script, Hints)], script: Script) -> Option<usize> {
    let first = literals(hints).find(|(of, _, _)| *of == script);
    first.map(|(_, line, _)| line)
}
