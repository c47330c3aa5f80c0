//! Edits that operators make, in their own style.

use super::{Changed, embedded, found_in, lines};
use crate::scripts::Script;
use crate::scripts::Script::*;

const CHECKED: &str = "-- Reading every key";
const ERRORS: (&str, &str) = ("-- Errors    ", "-- Errors    REJECTED | ");

fn passes(script: Script, text: String) {
    let found = found_in(script, text.clone());
    assert!(found.is_empty(), "{}\nin:\n{text}", lines(&found));
}

/// A rule of send_message, after the check of membership.
fn rule_passes(rule: &str) {
    let text = Changed::new(SendMessage, CHECKED, &format!("{rule}\n{CHECKED}")).text;
    let text = match rule.contains("REJECTED ") {
        true => text.replace(ERRORS.0, ERRORS.1),
        false => text,
    };
    passes(SendMessage, text);
}

#[test]
fn a_word_filter() {
    rule_passes(
        "local text = 'This word is not wanted here.'
if content:lower():find('viagra', 1, true) then return redis.error_reply('REJECTED ' .. text) end",
    );
    rule_passes(
        r#"-- Words that nobody wants.
local WORDS = { "viagra", "casino" }
for _, word in ipairs(WORDS) do
    if string.find(string.lower(content), word, 1, true)
    then
        return redis.error_reply(
            "REJECTED The word " .. word .. " is not wanted here."
        )
    end
end"#,
    );
    rule_passes("if #content > 500 then return {err = 'REJECTED Too long.'} end");
    rule_passes(
        "if #content > 500 then return redis.error_reply(string.format('REJECTED At most %d.', 500)) end",
    );
}

#[test]
fn a_slow_mode() {
    // Given a rule that keeps when each user last sent
    let text = embedded(SendMessage)
        .replace(ERRORS.0, ERRORS.1)
        .replace(
            "local readers, marks",
            "local last = tonumber(redis.call('HGET', ext, 'last:' .. user) or 0)
if now_ms - last < 5000 then
  return redis.error_reply('REJECTED Slow down: one message in five seconds.')
end
local readers, marks",
        )
        .replace(
            "local entry = {",
            "redis.call('HSET', ext, 'last:' .. user, now_ms)\nlocal entry = {",
        );
    // Then it passes
    passes(SendMessage, text);
}

#[test]
fn a_write_on_a_path_that_ends_before_the_refusal() {
    rule_passes(
        "if content == '' then
  redis.call('HSET', ext, 'empty', 1)
  return {'0-0', 0, 1}
end
if content == ' ' then return redis.error_reply('REJECTED Say something.') end",
    );
    rule_passes(
        "local function empty() return redis.error_reply('REJECTED Say something.') end
if content == '' then
  return empty()
elseif content == ' ' then
  redis.call('HSET', ext, 'blank', 1)
else
  if user == '' then return redis.error_reply('REJECTED Who are you?') end
end",
    );
}

#[test]
fn any_formatting() {
    rule_passes(
        "--[[ A comment
of two lines, with redis.call('FLUSHALL') in it ]]
redis
  .call(
    \"hget\", -- in small letters
    ext,
    [[closed]]
  )
redis.call[[TIME]]; redis['call']('HLEN', (ext));",
    );
    rule_passes(
        r#"local n, m, l = 0xFF, 1e3, .5; local s = [==[a]]b]==] .. '\'' .. "a\
b" .. '\065\n' --[==[ ]] ]==] repeat local done = -n ^ 2 % m ~= l until done
local t = {n; [s] = m, k = l,}; (t.k or s):rep(1)"#,
    );
    passes(
        SendMessage,
        Changed::new(
            SendMessage,
            "local meta, members, reads, messages = KEYS[1], KEYS[2], KEYS[3], KEYS[4]",
            "local meta=KEYS[1]\nlocal members =KEYS[ 2 ]\nlocal reads,\n  messages = KEYS[3],\n  KEYS[4]",
        )
        .text,
    );
    passes(
        RenewViewers,
        Changed::new(
            RenewViewers,
            "for i = 2, #ARGV, 2 do",
            "local FIRST, STEP = 2, 2\nfor i=FIRST,#ARGV,STEP do",
        )
        .text,
    );
}

#[test]
fn helpers_that_get_keys() {
    rule_passes(
        "local function field(key, name)
  local value = redis.call('HGET', key, name)
  return value or ''
end
if field(ext, 'closed') == '1' and field(meta, 'type') == 'group' then
  return redis.error_reply('REJECTED This chat is closed.')
end",
    );
    rule_passes(
        "local count
count = function(key, left)
  if left == 0 then return redis.call('HLEN', key) end
  return count(key, left - 1)
end
count(ext, 3)
local kept = user == '' and ext or meta
redis.call('HLEN', kept)",
    );
}

#[test]
fn lists_of_keys() {
    rule_passes(
        "local rooms, all = {ext, meta}, {}
table.insert(rooms, members)
for _, key in ipairs(rooms) do redis.call('HLEN', key) all[#all + 1] = key end
redis.call('EXISTS', unpack(all))
redis.call('EXISTS', reads, unpack(KEYS))
local function each(list) for _, key in pairs(list) do redis.call('TTL', key) end end
each(all)",
    );
}

#[test]
fn what_scripts_may_use() {
    rule_passes(
        "redis.log(redis.LOG_NOTICE, redis.sha1hex(content), tostring(#KEYS[1]), select('#', unpack(ARGV)))
local ok, packed = pcall(cmsgpack.pack, {struct.pack('>I2', 1), bit.bor(1, 2), math.pi, type(next({}))})
assert(ok, packed)",
    );
}
