//! Checks the codes that a script refuses with.

use super::header::{Header, is_code};
use super::source::{ExprId, Kind, Source};
use super::{Findings, Script, quoted};
use crate::error::ErrorCode;

/// The code of the operator's own rules.
const REJECTED: &str = "REJECTED";

/// `redis.error_reply(text)`, or `{err = text}`.
pub(super) struct Refusal {
    pub(super) id: ExprId,
    text: Option<ExprId>,
}

pub(super) fn refusals(source: &Source) -> impl Iterator<Item = Refusal> {
    (0..source.exprs.len()).filter_map(|id| match source.kind(id) {
        Kind::Call { callee, args } => {
            let is_reply = source.member(*callee, "redis") == Some("error_reply");
            let text = args.first().copied();
            is_reply.then_some(Refusal { id, text })
        }
        Kind::Table(fields) => {
            let is_err =
                |key: &Option<ExprId>| key.and_then(|key| source.string(key)) == Some("err");
            let text = fields.iter().find(|(key, _)| is_err(key))?.1;
            let text = Some(text);
            Some(Refusal { id, text })
        }
        _ => None,
    })
}

/// Checks that the header lists the codes that the body raises, that each is known, and that the script may use it.
/// `REJECTED` need not be listed: that would be one more edit for everyone who adds a rule.
pub(super) fn check(script: Script, header: &Header, source: &Source, found: &mut Findings) {
    let mut raised = Vec::new();
    for refusal in refusals(source) {
        let line = source.line(refusal.id);
        let Some(code) = refusal.text.and_then(|text| code(source, text)) else {
            let text = source.text(refusal.id);
            let reason = format!(
                "`{text}` does not begin with a code and a space in quotes: a rule of your own refuses with \
                 'REJECTED A sentence.'"
            );
            found.add(line, reason);
            continue;
        };
        if let Some(reason) = wrong_code(script, code) {
            found.add(line, reason);
        }
        let is_listed = header.errors.codes.iter().any(|listed| listed == code);
        if !is_listed && code != REJECTED {
            found.add(line, format!("{code} is not in the header's Errors"));
        }
        raised.push(code);
    }
    for listed in &header.errors.codes {
        if listed != REJECTED && !raised.contains(&listed.as_str()) {
            let reason = format!("Errors names {listed}, which the body never raises");
            found.add(header.errors.line, reason);
        }
    }
}

/// The code that a text begins with, if the script has it as a literal.
fn code(source: &Source, text: ExprId) -> Option<&str> {
    let start = leftmost(source, text);
    let (code, rest) = source.string(start)?.split_once(' ')?;
    let goes_on = start != text || !rest.is_empty();
    (is_code(code) && goes_on).then_some(code)
}

/// The expression that a text begins with.
fn leftmost(source: &Source, text: ExprId) -> ExprId {
    match source.kind(text) {
        Kind::Concat(left) => leftmost(source, *left),
        Kind::Call { callee, args } if source.member(*callee, "string") == Some("format") => args
            .first()
            .map_or(text, |format| leftmost(source, *format)),
        _ => text,
    }
}

fn wrong_code(script: Script, code: &str) -> Option<String> {
    let errors = script.contract().errors;
    match ErrorCode::from_redis(code) {
        _ if code == REJECTED && script.may_reject() => None,
        _ if code == REJECTED => Some(unasked(script)),
        None => Some(format!(
            "the server does not know the code {code}: a rule of your own refuses with 'REJECTED A sentence.'"
        )),
        Some(ErrorCode::Unavailable) => Some(format!(
            "{code} is Redis's own word: a rule of your own refuses with 'REJECTED A sentence.'"
        )),
        Some(_) if errors.contains(&code) => None,
        Some(_) if script.may_reject() => {
            let allowed = quoted(&[errors, &[REJECTED]].concat());
            let name = script.name();
            Some(format!(
                "{name} may not refuse with {code}, only with {allowed}"
            ))
        }
        Some(_) => Some(unasked(script)),
    }
}

/// Why a script may not refuse anything.
fn unasked(script: Script) -> String {
    let asked: Vec<&str> = Script::ALL
        .into_iter()
        .filter(|script| script.may_reject())
        .map(Script::name)
        .collect();
    format!(
        "{} may not refuse: servers call it of their own accord, again and again, and no client gets the answer. \
         Refuse in {}, for which a client is waiting",
        script.name(),
        quoted(&asked)
    )
}
