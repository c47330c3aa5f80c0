//! Mistakes in commands and refusals.

use crate::scripts::Script::*;
use crate::scripts::check::tests::Where::{self, *};
use crate::scripts::check::tests::{Changed, each_is_found, only_this_is_found};

const ZCARD: &str = "redis.call('ZCARD', reads)";
const HSET: &str = "redis.call('HSET', meta, 'seq', seq_text, 'rev', rev_text, 'last_id', id)";
const ERRORS: &str = "-- Errors    ";
const NOT_MEMBER: &str = "error_reply('NOT_MEMBER ";
const CHECKED: &str = "-- Reading every key";

#[test]
fn errors() {
    only_this_is_found(&[
        (
            EnterChat,
            "Errors    NOT_MEMBER",
            "Errors    none",
            At(NOT_MEMBER),
            "NOT_MEMBER is not in the header's Errors",
        ),
        (
            SendMessage,
            ERRORS,
            "-- Errors    HISTORY_RESET | ",
            Here(0),
            "Errors names HISTORY_RESET, which the body never raises",
        ),
    ]);
    each_is_found(&[
        (
            SendMessage,
            NOT_MEMBER,
            "error_reply('NO_MEMBER ",
            Here(0),
            "does not know the code NO_MEMBER",
        ),
        (
            SendMessage,
            NOT_MEMBER,
            "error_reply('NO_MEMBER ",
            At("-- Errors "),
            "which the body never raises",
        ),
        (
            SendMessage,
            NOT_MEMBER,
            "error_reply(user .. 'NOT_MEMBER ",
            Here(0),
            "does not begin with a code",
        ),
        (
            SendMessage,
            NOT_MEMBER,
            "error_reply('not a member ",
            Here(0),
            "does not begin with a code",
        ),
        (
            SendMessage,
            NOT_MEMBER,
            "error_reply('NOT_MEMBER')--",
            Here(0),
            "does not begin with a code",
        ),
        (
            SendMessage,
            NOT_MEMBER,
            "error_reply('OOM ",
            Here(0),
            "OOM is Redis's own word",
        ),
        (
            SendMessage,
            NOT_MEMBER,
            "error_reply('HISTORY_RESET ",
            Here(0),
            "send_message may not refuse with HISTORY_RESET, only with `MESSAGE_TOO_LARGE`, `NOT_MEMBER`, `REJECTED`",
        ),
        (
            SendMessage,
            "redis.error_reply('NOT_MEMBER You do not have permission to join this chat.')",
            "{err = 'MESSAGE_NOT_FOUND No.'}",
            Here(0),
            "MESSAGE_NOT_FOUND is not in the header's Errors",
        ),
        (
            SendMessage,
            ERRORS,
            "-- Errors    not_member | ",
            Here(0),
            "`not_member` is not a code",
        ),
    ]);
}

#[test]
fn commands() {
    only_this_is_found(&[
        (
            SendMessage,
            ZCARD,
            "redis.call('KEYS', '*')",
            Here(0),
            "KEYS may not be called: it reaches beyond KEYS",
        ),
        (
            SendMessage,
            ZCARD,
            "redis.call('SCAN', '0')",
            Here(0),
            "it reaches beyond KEYS",
        ),
        (
            SendMessage,
            ZCARD,
            "redis.call('FLUSHALL')",
            Here(0),
            "it reaches beyond KEYS",
        ),
        (
            SendMessage,
            ZCARD,
            "redis.pcall('bLPop', messages, 0)",
            Here(0),
            "bLPop may not be called: it blocks",
        ),
        (
            SendMessage,
            ZCARD,
            "redis.call('CONFIG', 'GET', '*')",
            Here(0),
            "it is administration",
        ),
        (
            SendMessage,
            ZCARD,
            "redis.call('NO_SUCH', messages)",
            Here(0),
            "it is not on the list",
        ),
        (
            SendMessage,
            "redis.call('SPUBLISH', events, event)",
            "redis.call('SPUBLISH', events, event)\nredis.call('PUBLISH', events, '')",
            Here(1),
            "publish with SPUBLISH",
        ),
        (
            SendMessage,
            ZCARD,
            "redis.call(user, messages)",
            Here(0),
            "does not name its command in quotes",
        ),
        (
            SendMessage,
            ZCARD,
            "redis.call('X' .. 'LEN', messages)",
            Here(0),
            "does not name its command in quotes",
        ),
        (
            SendMessage,
            ZCARD,
            "redis.call(\n  -- all of it\n  'FLUSHDB'\n)",
            Here(0),
            "FLUSHDB may not be called",
        ),
        (
            SendMessage,
            ZCARD,
            "--[[ two\nlines ]] redis.call(\"FLUSHDB\")",
            Here(1),
            "FLUSHDB may not be called",
        ),
        (
            SendMessage,
            ZCARD,
            "redis.call [[FLUSHDB]]",
            Here(0),
            "FLUSHDB may not be called",
        ),
    ]);
}

/// Each entry: what is replaced, its replacement, and the lines of the refusal and of the write before it. Nothing else
/// is found.
fn come_too_late(planted: &[(&str, &str, Where, Where)]) {
    for (from, to, refusal, write) in planted {
        let changed = Changed::new(SendMessage, from, to);
        let write = changed.line(*write);
        let reason =
            format!("this refusal comes after the write at line {write}: Redis does not roll back");
        let found = changed.found();
        let said: Vec<_> = found.iter().map(|it| (it.line, &it.reason)).collect();
        assert_eq!(said, [(changed.line(*refusal), &reason)], "{to}");
    }
}

#[test]
fn a_refusal_after_a_write() {
    let write = At("redis.call('XADD'");
    come_too_late(&[
        (
            HSET,
            "if seq > 5 then return redis.error_reply('NOT_MEMBER No.') end",
            Here(0),
            write,
        ),
        (
            HSET,
            "local function full()\n  return redis.error_reply('NOT_MEMBER No.')\nend\nif full() then return full() end",
            Here(1),
            write,
        ),
        (
            HSET,
            "for i = 1, 2 do\n  if seq > i then\n    return redis.error_reply('NOT_MEMBER No.')\n  end\nend",
            Here(2),
            write,
        ),
        (
            HSET,
            "if seq > 5 then return {err = 'NOT_MEMBER No.'} end",
            Here(0),
            write,
        ),
    ]);
}

#[test]
fn a_write_before_a_check() {
    come_too_late(&[
        (
            CHECKED,
            "redis.call('HSET', ext, 'tried', 1)\nif not user then return redis.error_reply('NOT_MEMBER No.') end\n-- Reading every key",
            Here(1),
            Here(0),
        ),
        (
            "if not head[1] or",
            "local function note()\n  redis.call('HSET', ext, 'tried', 1)\nend\nnote()\nif not head[1] or",
            At(NOT_MEMBER),
            Here(1),
        ),
        // A function that is passed on may be called.
        (
            "if not head[1] or",
            "local function note()\n  redis.call('HSET', ext, 'tried', 1)\nend\npcall(note)\nif not head[1] or",
            At(NOT_MEMBER),
            Here(1),
        ),
        // What is published cannot be taken back.
        (
            "if not head[1] or",
            "redis.call('SPUBLISH', events, '')\nif not head[1] or",
            At(NOT_MEMBER),
            Here(0),
        ),
        // In the second iteration.
        (
            CHECKED,
            "for i = 1, 2 do\n  if user then return redis.error_reply('NOT_MEMBER No.') end\n  redis.call('HSET', ext, 'tried', i)\nend\n-- Reading every key",
            Here(1),
            Here(2),
        ),
    ]);
}
