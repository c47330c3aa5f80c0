//! Mistakes in names: those of KEYS and ARGV, globals, keys.

use crate::scripts::Script::*;
use crate::scripts::check::tests::Where::*;
use crate::scripts::check::tests::{each_is_found, only_this_is_found};

const ZCARD: &str = "redis.call('ZCARD', reads)";

#[test]
fn unpacking() {
    each_is_found(&[
        (
            SendMessage,
            "user, content, client_id, digest = ARGV[1], ARGV[2]",
            "content, user, client_id, digest = ARGV[1], ARGV[2]",
            Here(0),
            "`content` is ARGV[1], which the header calls `user`",
        ),
        (
            SendMessage,
            "= KEYS[1], KEYS[2], KEYS[3], KEYS[4]",
            "= KEYS[1], KEYS[3], KEYS[2], KEYS[4]",
            Here(0),
            "`members` is KEYS[3], which the header calls `reads`",
        ),
        (
            SendMessage,
            ", content_max_bytes = tonumber(ARGV[5]), ARGV[6], tonumber(ARGV[7])",
            " = tonumber(ARGV[5]), ARGV[6]",
            Body,
            "no `local content_max_bytes = ARGV[7]`",
        ),
        (
            SendMessage,
            "call = tonumber(ARGV[8]), ARGV[9]",
            "call = tonumber(ARGV[8]), ARGV[12]",
            Here(0),
            "ARGV[12] is not in the header, which has 11 ARGV",
        ),
        (
            SendMessage,
            ZCARD,
            "redis.call('XLEN', KEYS[11])",
            Here(0),
            "KEYS[11] is not in the header",
        ),
        (
            SendMessage,
            ZCARD,
            "local count = #ARGV",
            Here(0),
            "#ARGV is used",
        ),
        (
            SendMessage,
            "local meta, members, reads, messages =",
            "local meta, members, reads, messages\nmeta, members, reads, messages =",
            Body,
            "no `local meta = KEYS[1]`",
        ),
    ]);
}

#[test]
fn groups() {
    only_this_is_found(&[
        (
            RenewViewers,
            "for i = 2, #ARGV, 2",
            "for i = 3, #ARGV, 2",
            Here(0),
            "no loop over ARGV from 2 in steps of 2",
        ),
        (
            RenewViewers,
            "for i = 2, #ARGV, 2",
            "for i = 2, #ARGV",
            Here(0),
            "no loop over ARGV",
        ),
        (
            InitializeChat,
            "FIRST_MEMBER = 10, 7",
            "FIRST_MEMBER = 10, 6",
            At("for i = FIRST_MEMBER, #ARGV do"),
            "no loop over ARGV from 7 in steps of 1",
        ),
        (
            InitializeChat,
            "for key = FIRST_KEY, #KEYS, 2 do",
            "for key = FIRST_KEY, 10 do",
            Body,
            "no loop over KEYS from 10",
        ),
        (
            RenewViewers,
            "= ARGV[i], ARGV[i + 1]",
            "= ARGV[i], ARGV[i + 2]",
            Here(0),
            "ARGV[i + 2] is beyond",
        ),
    ]);
    each_is_found(&[
        (
            RenewViewers,
            "local device, user = ARGV[i], ARGV[i + 1]",
            "local user, device = ARGV[i], ARGV[i + 1]",
            Here(0),
            "`user` is ARGV[i], which the header calls `device`",
        ),
        (
            RenewViewers,
            "local device, user = ARGV[i], ARGV[i + 1]",
            "local device = ARGV[i]\n  local name = ARGV[i + 1]\n  local user = name",
            Here(1),
            "which the header calls `user`",
        ),
    ]);
}

#[test]
fn globals() {
    only_this_is_found(&[
        (
            SendMessage,
            ZCARD,
            "local call = redis.call",
            Here(0),
            "`redis.call` is passed around",
        ),
        (
            SendMessage,
            ZCARD,
            "local r = redis",
            Here(0),
            "`redis` is passed around",
        ),
        (
            SendMessage,
            ZCARD,
            "pcall(redis.call, 'FLUSHALL')",
            Here(0),
            "`redis.call` is passed around",
        ),
        (
            SendMessage,
            ZCARD,
            "redis['ca' .. 'll']('FLUSHALL')",
            Here(0),
            "may not be used: scripts have redis.call",
        ),
        (
            SendMessage,
            ZCARD,
            "redis.set_repl(redis.LOG_NOTICE)",
            Here(0),
            "`redis.set_repl` may not be used",
        ),
        (
            SendMessage,
            ZCARD,
            "redis.call = error",
            Here(0),
            "`redis.call` may not be given another value",
        ),
        (
            SendMessage,
            ZCARD,
            "KEYS = {user}",
            Here(0),
            "`KEYS` may not be given another value",
        ),
        (
            SendMessage,
            ZCARD,
            "KEYS[1] = user",
            Here(0),
            "`KEYS[1]` may not be given another value",
        ),
        (
            SendMessage,
            ZCARD,
            "table.insert(KEYS, user)",
            Here(0),
            "`KEYS` is passed around",
        ),
        (
            SendMessage,
            ZCARD,
            "_G.x()",
            Here(0),
            "`_G` may not be used",
        ),
        (
            SendMessage,
            ZCARD,
            "loadstring(content)()",
            Here(0),
            "`loadstring` may not be used",
        ),
        (
            SendMessage,
            ZCARD,
            "setmetatable({}, {})",
            Here(0),
            "`setmetatable` may not be used",
        ),
        (
            SendMessage,
            ZCARD,
            "counter = 1",
            Here(0),
            "write `local counter`",
        ),
        (
            SendMessage,
            ZCARD,
            "function helper() end",
            Here(0),
            "write `local helper`",
        ),
        (
            SendMessage,
            ZCARD,
            "local dice = math.random(6)",
            Here(0),
            "random values come in ARGV",
        ),
        (
            SendMessage,
            "redis.call('TIME')",
            "os.time()",
            Here(0),
            "the time is that of redis.call('TIME')",
        ),
        (
            SendMessage,
            ZCARD,
            "local n = usr",
            Here(0),
            "`usr` may not be used: it is neither a local",
        ),
    ]);
}

#[test]
fn keys() {
    only_this_is_found(&[
        (
            SendMessage,
            ZCARD,
            "redis.call('XLEN', 'chat:x')",
            Here(0),
            "XLEN is called on `'chat:x'`, which is not a key of KEYS",
        ),
        (
            SendMessage,
            ZCARD,
            "redis.call('XLEN', messages .. user)",
            Here(0),
            "XLEN is called on `messages .. user`, which is not a key of KEYS",
        ),
        (
            SendMessage,
            ZCARD,
            "redis.call('XLEN')",
            Here(0),
            "XLEN is called without a key",
        ),
        (
            SendMessage,
            ZCARD,
            "redis.call('EXISTS', messages,\n  user)",
            Here(0),
            "EXISTS is called on `user`",
        ),
        (
            SendMessage,
            ZCARD,
            "redis.call('XLEN', ARGV[1])",
            Here(0),
            "XLEN is called on `ARGV[1]`",
        ),
        (
            SendMessage,
            ZCARD,
            "do local messages = user redis.call('XLEN', messages) end",
            Here(0),
            "XLEN is called on `messages`",
        ),
        (
            SendMessage,
            ZCARD,
            "viewing = 'chat:x'",
            At("redis.call('ZRANGE'"),
            "ZRANGE is called on `viewing`",
        ),
        (
            SendMessage,
            ZCARD,
            "redis.call('XLEN', client_id ~= '' and messages or user)",
            Here(0),
            "not a key of KEYS",
        ),
        (
            GetChatList,
            "entry(KEYS[i], KEYS[i + 1]",
            "entry(user, KEYS[i + 1]",
            At("'HMGET', meta"),
            "HMGET is called on `meta`",
        ),
        (
            InitializeChat,
            "gained[#gained + 1] = KEYS[key + 1]",
            "gained[#gained + 1] = room",
            At("redis.call('SPUBLISH'"),
            "SPUBLISH is called on `channel`",
        ),
        (
            InitializeChat,
            "gained[#gained + 1] = KEYS[key + 1]",
            "table.insert(gained, room)",
            At("redis.call('SPUBLISH'"),
            "SPUBLISH is called on `channel`",
        ),
        (
            InitializeChat,
            "local gained = {}",
            "local gained = {room}",
            At("redis.call('SPUBLISH'"),
            "SPUBLISH is called on `channel`",
        ),
        (
            InitializeChat,
            "local gained = {}",
            "local gained = {} local same = gained same[1] = room",
            At("redis.call('SPUBLISH'"),
            "SPUBLISH is called on `channel`",
        ),
        (
            InitializeChat,
            "local gained = {}",
            "local gained = {}\nlocal function fill(t) t[1] = room end\nfill(gained)",
            At("redis.call('SPUBLISH'"),
            "SPUBLISH is called on `channel`",
        ),
    ]);
    each_is_found(&[
        (
            GetChatList,
            "last_message(messages, reads, small),",
            "last_message(user, reads, small),",
            At("redis.call('XREVRANGE'"),
            "XREVRANGE is called on `messages`",
        ),
        (
            GetChatList,
            "local entries = {}",
            "local entries = {}\npcall(last_message, user, user, 1)",
            At("redis.call('XREVRANGE'"),
            "XREVRANGE is called on `messages`",
        ),
    ]);
}
