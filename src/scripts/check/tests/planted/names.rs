//! What is wrong with names: those of KEYS and ARGV, globals, keys.

use crate::scripts::Script::*;
use crate::scripts::check::tests::Where::*;
use crate::scripts::check::tests::{each_is_found, only_this_is_found};

const XLEN: &str = "redis.call('XLEN', messages)";

#[test]
fn unpacking() {
    each_is_found(&[
        (
            SendMessage,
            "user, content, client_id = ARGV[1], ARGV[2], ARGV[3]",
            "content, user, client_id = ARGV[1], ARGV[2], ARGV[3]",
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
            ", content_max_bytes = tonumber(ARGV[4]), ARGV[5], tonumber(ARGV[6])",
            " = tonumber(ARGV[4]), ARGV[5]",
            Body,
            "no `local content_max_bytes = ARGV[6]`",
        ),
        (
            SendMessage,
            "local call = ARGV[7]",
            "local call = ARGV[8]",
            Here(0),
            "ARGV[8] is not in the header, which has 7 ARGV",
        ),
        (
            SendMessage,
            XLEN,
            "redis.call('XLEN', KEYS[9])",
            Here(0),
            "KEYS[9] is not in the header",
        ),
        (
            SendMessage,
            XLEN,
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
            "FIRST_MEMBER = 9, 6",
            "FIRST_MEMBER = 9, 5",
            At("for i = FIRST_MEMBER, #ARGV do"),
            "no loop over ARGV from 6 in steps of 1",
        ),
        (
            InitializeChat,
            "for key = FIRST_KEY, #KEYS, 2 do",
            "for key = FIRST_KEY, 9 do",
            Body,
            "no loop over KEYS from 9",
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
            XLEN,
            "local call = redis.call",
            Here(0),
            "`redis.call` is passed around",
        ),
        (
            SendMessage,
            XLEN,
            "local r = redis",
            Here(0),
            "`redis` is passed around",
        ),
        (
            SendMessage,
            XLEN,
            "pcall(redis.call, 'FLUSHALL')",
            Here(0),
            "`redis.call` is passed around",
        ),
        (
            SendMessage,
            XLEN,
            "redis['ca' .. 'll']('FLUSHALL')",
            Here(0),
            "may not be used: scripts have redis.call",
        ),
        (
            SendMessage,
            XLEN,
            "redis.set_repl(redis.LOG_NOTICE)",
            Here(0),
            "`redis.set_repl` may not be used",
        ),
        (
            SendMessage,
            XLEN,
            "redis.call = error",
            Here(0),
            "`redis.call` may not be given another value",
        ),
        (
            SendMessage,
            XLEN,
            "KEYS = {user}",
            Here(0),
            "`KEYS` may not be given another value",
        ),
        (
            SendMessage,
            XLEN,
            "KEYS[1] = user",
            Here(0),
            "`KEYS[1]` may not be given another value",
        ),
        (
            SendMessage,
            XLEN,
            "table.insert(KEYS, user)",
            Here(0),
            "`KEYS` is passed around",
        ),
        (SendMessage, XLEN, "_G.x()", Here(0), "`_G` may not be used"),
        (
            SendMessage,
            XLEN,
            "loadstring(content)()",
            Here(0),
            "`loadstring` may not be used",
        ),
        (
            SendMessage,
            XLEN,
            "setmetatable({}, {})",
            Here(0),
            "`setmetatable` may not be used",
        ),
        (
            SendMessage,
            XLEN,
            "counter = 1",
            Here(0),
            "write `local counter`",
        ),
        (
            SendMessage,
            XLEN,
            "function helper() end",
            Here(0),
            "write `local helper`",
        ),
        (
            SendMessage,
            XLEN,
            "local dice = math.random(6)",
            Here(0),
            "what is random comes in ARGV",
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
            XLEN,
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
            XLEN,
            "redis.call('XLEN', 'chat:x')",
            Here(0),
            "XLEN is called on `'chat:x'`, no key of KEYS",
        ),
        (
            SendMessage,
            XLEN,
            "redis.call('XLEN', messages .. user)",
            Here(0),
            "XLEN is called on `messages .. user`, no key of KEYS",
        ),
        (
            SendMessage,
            XLEN,
            "redis.call('XLEN')",
            Here(0),
            "XLEN is called without a key",
        ),
        (
            SendMessage,
            XLEN,
            "redis.call('EXISTS', messages,\n  user)",
            Here(0),
            "EXISTS is called on `user`",
        ),
        (
            SendMessage,
            XLEN,
            "redis.call('XLEN', ARGV[1])",
            Here(0),
            "XLEN is called on `ARGV[1]`",
        ),
        (
            SendMessage,
            XLEN,
            "do local messages = user redis.call('XLEN', messages) end",
            Here(0),
            "XLEN is called on `messages`",
        ),
        (
            SendMessage,
            XLEN,
            "viewers = 'chat:x'",
            At("redis.call('HGETALL'"),
            "HGETALL is called on `viewers`",
        ),
        (
            SendMessage,
            XLEN,
            "redis.call('XLEN', client_id ~= '' and messages or user)",
            Here(0),
            "no key of KEYS",
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
