//! Mistakes in a header, and bodies that are not Lua.

use crate::scripts::Script::*;
use crate::scripts::check::tests::Where::*;
use crate::scripts::check::tests::{each_is_found, only_this_is_found};

const ZCARD: &str = "redis.call('ZCARD', reads)";

#[test]
fn syntax() {
    each_is_found(&[
        (
            SendMessage,
            "local time = redis",
            "local time = = redis",
            Here(0),
            "not Lua 5.1",
        ),
        (
            SendMessage,
            "if not head[1] or",
            "if not head[1]] or",
            Here(0),
            "not Lua 5.1",
        ),
        (
            SendMessage,
            "'NOT_MEMBER You",
            "'NOT_MEMBER \n You",
            Here(0),
            "not Lua 5.1",
        ),
        (
            SendMessage,
            "local time = redis",
            "goto done redis",
            Here(0),
            "not Lua 5.1",
        ),
        (
            SendMessage,
            ZCARD,
            "if user then",
            At("return {id, seq, 0}"),
            "expected `end` to conclude `if` at the end of the script",
        ),
    ]);
}

#[test]
fn the_header() {
    each_is_found(&[
        (
            SendMessage,
            "#!lua\n",
            "#!lua \n",
            Here(0),
            "line 1 is not `#!lua`",
        ),
        (
            SendMessage,
            "#!lua\n",
            "#!lua\r\n",
            Here(0),
            "line 1 is not `#!lua`",
        ),
        (
            SendMessage,
            "#!lua\n",
            "-- #!lua\n",
            Here(0),
            "line 1 is not `#!lua`",
        ),
        (
            SendMessage,
            "-- send_message:",
            "-- sendMessage:",
            Here(0),
            "-- name: summary.",
        ),
        (
            SendMessage,
            "-- send_message:",
            "-- say:",
            Here(0),
            "the header calls it `say`",
        ),
        (
            SendMessage,
            "-- KEYS[3] reads",
            "-- KEYS[4] reads",
            Here(0),
            "KEYS[3] is next",
        ),
        (
            SendMessage,
            "-- ARGV[2] content  ",
            "-- ARGV[2] Content  ",
            Here(0),
            "name kind text",
        ),
        (
            GetChatList,
            "for each room asked for, at most 128 rooms:",
            "rooms",
            Here(0),
            "for each …:",
        ),
        (
            SendMessage,
            "-- Time      O",
            "-- Time       O",
            Here(0),
            "Time is not aligned",
        ),
        (
            SendMessage,
            "-- Errors ",
            "-- Failures ",
            Here(0),
            "expected `-- Errors",
        ),
        (
            SendMessage,
            "-- Try  ",
            "-- Run  ",
            Here(0),
            "expected `-- Try",
        ),
        (
            SendMessage,
            " 0 86400000 16384 0 c1 text ''\n\n",
            " 0 86400000 16384 0 c1 text ''\n",
            Here(1),
            "a blank line",
        ),
    ]);
}

#[test]
fn the_header_and_what_the_server_passes() {
    each_is_found(&[
        (
            SendMessage,
            "-- ARGV[1] user ",
            "-- ARGV[1] sender ",
            Here(0),
            "says `sender` where the server passes `user`",
        ),
        (
            MarkAsRead,
            "-- ARGV[2] message_id  string  the message read up to, 'ms-seq'\n",
            "",
            At("-- ARGV[1] "),
            "`message_id` is missing",
        ),
        (
            MarkAsRead,
            "-- KEYS[9] events    channel  chat:{room:R}:events\n",
            "-- KEYS[9] events    channel  chat:{room:R}:events\n-- KEYS[10] more      hash     chat:{room:R}:more\n",
            Here(1),
            "says `more`, which the server does not pass in KEYS",
        ),
        (
            InitializeChat,
            "--   rooms        zset ",
            "--   room_list    zset ",
            Here(0),
            "says `room_list…` where the server passes `rooms…`",
        ),
        (
            SendMessage,
            "--eval lua/send_message.lua",
            "--eval lua/enter_chat.lua",
            Here(0),
            "Try does not begin",
        ),
    ]);
}

#[test]
fn flags() {
    only_this_is_found(&[
        (
            SendMessage,
            "#!lua\n",
            "#!lua flags=allow-oom\n",
            Here(0),
            "should be `#!lua`",
        ),
        (
            GetHistory,
            "#!lua flags=no-writes\n",
            "#!lua\n",
            Here(0),
            "should be `#!lua flags=no-writes`",
        ),
        (
            LeaveChat,
            " flags=allow-oom",
            "",
            Here(0),
            "should be `#!lua flags=allow-oom`",
        ),
        (
            SyncRoom,
            "redis.call('HLEN', members)",
            "redis.call('HDEL', members, epoch)",
            At("#!lua"),
            "should be `#!lua`",
        ),
    ]);
}

#[test]
fn publishes() {
    only_this_is_found(&[
        (
            SendMessage,
            "-- Publishes events",
            "-- Publishes control",
            Here(0),
            "`control`, which is not a channel of KEYS",
        ),
        (
            SendMessage,
            "-- Publishes events",
            "-- Publishes viewing",
            Here(0),
            "`viewing`, which is not a channel of KEYS",
        ),
        (
            SendMessage,
            "Publishes events {\"event\":\"message\"",
            "Publishes events {\"event\":\"said\"",
            Here(0),
            "the body publishes no event `said`",
        ),
        (
            SendMessage,
            "Publishes events {\"event\":\"message\",",
            "Publishes events {",
            Here(0),
            "Publishes names no event",
        ),
        (
            ResetRedisForDevelopment,
            "'{\"event\":\"reset\"}'",
            "'{}'",
            At("-- Publishes "),
            "the body publishes no event `reset`",
        ),
        (
            MarkAsRead,
            "  event = 'read', epoch",
            "  epoch",
            At("-- Publishes "),
            "the body publishes no event `read`",
        ),
    ]);
    each_is_found(&[
        (
            GetHistory,
            "-- Publishes nothing",
            "-- Publishes events {\"event\":\"read\"}",
            Here(0),
            "the body publishes nothing",
        ),
        (
            SendMessage,
            "-- Publishes events {",
            "-- Publishes nothing",
            Here(0),
            "not a channel",
        ),
    ]);
}
