//! Mistakes in operators' own rules: refusals that have no effect, or the wrong one.

use crate::scripts::Script::*;
use crate::scripts::check::tests::Where::*;
use crate::scripts::check::tests::{Changed, only_this_is_found};

const CHECKED: &str = "-- Reading every key";
const NOTHING: &str = "this refusal does nothing";
const DROPPED: &str = "is dropped, and the script continues";

#[test]
fn a_refusal_without_an_effect() {
    let rule = |to, place, reason| (SendMessage, CHECKED, to, place, reason);
    only_this_is_found(&[
        rule(
            "if user == 'x' then\n  redis.error_reply('REJECTED No.')\nend\n-- Reading",
            Here(1),
            NOTHING,
        ),
        rule(
            "if user == 'x' then\n  local no = redis.error_reply('REJECTED No.')\nend\n-- Reading",
            Here(1),
            NOTHING,
        ),
        rule(
            "local function refuse(why)\n  redis.error_reply('REJECTED ' .. why)\nend\nif user == 'x' then return refuse('No.') end\n-- Reading",
            Here(1),
            NOTHING,
        ),
        rule(
            "local function refuse(why)\n  return redis.error_reply('REJECTED ' .. why)\nend\nif user == 'x' then return refuse('No.') end\nif user == 'y' then refuse('No.') end\n-- Reading",
            Here(4),
            DROPPED,
        ),
        rule(
            "local function check()\n  if user == 'x' then return redis.error_reply('REJECTED No.') end\nend\nlocal no = check()\nif user == 'y' then return check() end\n-- Reading",
            Here(3),
            DROPPED,
        ),
        rule(
            "if user == 'x' then\n  error('REJECTED No.')\nend\n-- Reading",
            Here(1),
            "`error` is a fault of the script",
        ),
        rule(
            "local no\nif user == 'x' then no = {err = 'REJECTED No.'} end\nredis.call('HSET', ext, 'tried', user)\nif no then return no end\n-- Reading",
            Here(3),
            "`no` may be a refusal, and comes after the write",
        ),
    ]);
}

#[test]
fn a_refusal_that_is_returned_in_some_other_way() {
    for rule in [
        "local no = user == 'x' and redis.error_reply('REJECTED No.')\nif no then return no end",
        "local no = {closed = redis.error_reply('REJECTED No.')}\nif no[user] then return no[user] end",
        "local function check()\n  if user == 'x' then return false, redis.error_reply('REJECTED No.') end\n  return true\nend\nlocal fine, no = check()\nif not fine then return no end",
        "local fine, no = pcall(function() return redis.error_reply('REJECTED No.') end)\nif not fine then return no end",
        "local function say(what) return what end\nif user == 'x' then return say(redis.error_reply('REJECTED No.')) end",
        "local rules = {}\nrules.x = redis.error_reply('REJECTED No.')\nif rules[user] then return rules[user] end",
    ] {
        let changed = Changed::new(SendMessage, CHECKED, &format!("{rule}\n{CHECKED}"));
        assert_eq!(changed.found(), [], "{rule}");
    }
}

#[test]
fn a_refusal_where_servers_call() {
    let no = "if redis.call('HGET', ext, 'closed') == '1' then\n  return redis.error_reply('REJECTED No.')\nend\n";
    for (script, place) in [
        (SyncRoom, "local small = "),
        (RenewViewers, "redis.call('ZCARD', viewing)"),
        (LeaveChat, "local head = "),
    ] {
        let changed = Changed::new(script, place, &format!("{no}{place}"));
        let found = changed.found();
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].line, changed.line(Here(1)));
        let says = "may not refuse: servers call it of their own accord";
        assert!(found[0].reason.contains(says), "{}", found[0]);
        assert!(found[0].reason.contains("`send_message`"), "{}", found[0]);
    }
    only_this_is_found(&[
        (
            GetChatList,
            "local index = ",
            "if user == 'x' then return redis.error_reply('REJECTED No.') end\nlocal index = ",
            Here(0),
            "may not refuse",
        ),
        (
            CompareRooms,
            "local changed = {}",
            "if #KEYS > 100 then return {err = 'REJECTED No.'} end\nlocal changed = {}",
            Here(0),
            "may not refuse",
        ),
    ]);
}

#[test]
fn a_rule_before_the_answer_to_a_repeat() {
    const LOOKUP: &str = "if head[1] and client_id ~= '' then";
    only_this_is_found(&[
        (
            SendMessage,
            LOOKUP,
            "if content:find('casino', 1, true) then\n  return redis.error_reply('REJECTED No.')\nend\nif head[1] and client_id ~= '' then",
            Here(1),
            "this rule comes before the answer to a message that is sent again",
        ),
        (
            SendMessage,
            "local head = redis.call('HMGET'",
            "local function rule()\n  if content == '' then return redis.error_reply('REJECTED No.') end\nend\nlocal no = rule()\nif no then return no end\nlocal head = redis.call('HMGET'",
            Here(4),
            "this rule comes before the answer",
        ),
    ]);
    let asked = "redis.call('HSET', ext, 'asked', user)";
    let changed = Changed::new(SendMessage, LOOKUP, &format!("{asked}\n{LOOKUP}"));
    let found = changed.found();
    let says = "this write comes before the answer to a message that is sent again";
    let is_said = |line| {
        found
            .iter()
            .any(|it| it.line == line && it.reason.contains(says))
    };
    assert!(is_said(changed.line(Here(0))), "{found:?}");
}

#[test]
fn json_for_all_scripts() {
    let reason = "stays set after a rollback";
    only_this_is_found(&[
        (
            SendMessage,
            CHECKED,
            "cjson.encode_sparse_array(true)\n-- Reading",
            Here(0),
            reason,
        ),
        (
            GetHistory,
            "local small = ",
            "cjson['encode_number_precision'](3)\nlocal small = ",
            Here(0),
            reason,
        ),
        (
            SendMessage,
            CHECKED,
            "cjson[content](true)\n-- Reading",
            Here(0),
            reason,
        ),
        (
            SendMessage,
            CHECKED,
            "local json = cjson\n-- Reading",
            Here(0),
            "`cjson` is passed around",
        ),
    ]);
    let own = "local json = cjson.new()\njson.encode_sparse_array(true)\njson.encode({cjson.null})";
    let changed = Changed::new(SendMessage, CHECKED, &format!("{own}\n{CHECKED}"));
    assert_eq!(changed.found(), []);
}
