//! Which globals a script may use, and how: the other checks rely on `redis` and `KEYS` not being changed.

use super::Findings;
use super::source::{ExprId, Kind, Role, Source};

const ALLOWED: [&str; 20] = [
    "ARGV", "KEYS", "assert", "bit", "cjson", "cmsgpack", "error", "ipairs", "math", "next",
    "pairs", "pcall", "redis", "select", "string", "struct", "table", "tonumber", "tostring",
    "type",
];
/// Lua 5.1's: not yet a field of `table`.
const UNPACK: &str = "unpack";
const OF_REDIS: [&str; 6] = [
    "call",
    "error_reply",
    "log",
    "pcall",
    "sha1hex",
    "status_reply",
];
const OF_CJSON: [&str; 4] = ["decode", "encode", "new", "null"];
/// Functions that only read a list.
const LOOKING: [&str; 4] = ["ipairs", "next", "pairs", UNPACK];

pub(super) fn check(source: &Source, found: &mut Findings) {
    for (id, expr) in source.exprs.iter().enumerate() {
        match &expr.kind {
            Kind::Global(name) => global(source, id, name, found),
            Kind::Field(base, _) => {
                if let Kind::Global(library) = source.kind(*base) {
                    field(source, id, library, found);
                }
            }
            _ => {}
        }
    }
}

fn global(source: &Source, id: ExprId, name: &str, found: &mut Findings) {
    let expr = &source.exprs[id];
    let mut say = |reason: String| found.add(expr.line, reason);
    let known = name == UNPACK || ALLOWED.contains(&name);
    match expr.role {
        Role::Target if known => say(format!("`{name}` may not be given another value")),
        Role::Target => say(format!(
            "`{name}` is a global here, which Redis refuses: write `local {name}`, and keep what must be remembered \
             in a field of `ext`"
        )),
        _ if !known => say(format!("`{name}` may not be used: {}", why_not(name))),
        Role::Base => {}
        _ if name == "redis" => {
            say("`redis` is passed around: call redis.call by its full name".into())
        }
        _ if name == "cjson" => {
            say("`cjson` is passed around: call its functions by their full names".into());
        }
        _ if name == "KEYS" && !only_looked_at(source, id) => {
            say("`KEYS` is passed around: use its items, or a local list of some".into());
        }
        _ => {}
    }
}

fn why_not(name: &str) -> &'static str {
    match name {
        "os" => {
            "the time is that of redis.call('TIME'), seconds since 1970 in UTC; add your time zone's offset yourself"
        }
        "server" => "it is called `redis` on every Redis",
        _ => "it is neither a local in scope here nor a global that scripts have",
    }
}

/// Whether a use of a list as a whole leaves it unchanged.
fn only_looked_at(source: &Source, id: ExprId) -> bool {
    match source.exprs[id].role {
        Role::Counted => true,
        Role::Argument { call, place: 0 } => looks(source, call),
        _ => false,
    }
}

/// Whether a call only reads its first argument, a list.
pub(super) fn looks(source: &Source, call: ExprId) -> bool {
    LOOKING
        .iter()
        .any(|name| source.args_of(call, name).is_some())
}

fn field(source: &Source, id: ExprId, library: &str, found: &mut Findings) {
    let expr = &source.exprs[id];
    let mut say = |reason: String| found.add(expr.line, reason);
    let text = &expr.text;
    if expr.role == Role::Target {
        return say(format!(
            "`{text}` may not be given another value: {library} is not the script's"
        ));
    }
    let name = source.member(id, library);
    match (library, name) {
        ("math", Some("random" | "randomseed")) => {
            say(format!(
                "`{text}` may not be used: random values come in ARGV"
            ));
        }
        ("redis", Some(name)) if name.starts_with("LOG_") => {}
        ("redis", Some(name)) if OF_REDIS.contains(&name) && expr.role == Role::Callee => {}
        ("redis", Some(name)) if OF_REDIS.contains(&name) => {
            say(format!(
                "`{text}` is passed around: call it by its full name"
            ));
        }
        ("cjson", Some(name)) if OF_CJSON.contains(&name) => {}
        ("cjson", _) => say(format!(
            "`{text}` may not be used: it sets how all scripts read and write JSON, and stays set after a rollback"
        )),
        ("redis", _) => say(format!(
            "`{text}` may not be used: scripts have {}",
            OF_REDIS.map(|name| format!("redis.{name}")).join(", ")
        )),
        _ => {}
    }
}
