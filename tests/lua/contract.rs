//! Each script against its header, the registry and the server's table of errors.

use std::collections::BTreeSet;

use chat_server::error::ErrorCode;
use chat_server::scripts::{Contract, Script, ScriptSet};
use chat_server::store::keys::ROOM_KEYS;
use regex::Regex;

use crate::header::{Items, Source, read, script_files};
use crate::support::Redis;

/// Commands that change nothing. Add here what a script comes to need; what is on neither list is refused.
const READS: [&str; 19] = [
    "EXISTS",
    "GET",
    "HEXISTS",
    "HGET",
    "HGETALL",
    "HKEYS",
    "HLEN",
    "HMGET",
    "HVALS",
    "SCAN",
    "TIME",
    "XLEN",
    "XRANGE",
    "XREVRANGE",
    "ZCARD",
    "ZCOUNT",
    "ZRANGE",
    "ZRANK",
    "ZSCORE",
];
/// Commands that store, delete or publish. None that blocks, loads code, or reaches past the keys it is given.
const WRITES: [&str; 15] = [
    "DEL", "EXPIRE", "HDEL", "HINCRBY", "HSET", "HSETNX", "INCR", "SET", "SPUBLISH", "UNLINK",
    "XADD", "XDEL", "XTRIM", "ZADD", "ZREM",
];
const MAX_LINES: usize = 140;

/// Everything that is wrong with one script.
fn problems(name: &str, text: &str, contract: &Contract) -> Vec<String> {
    let source = match Source::parse(text) {
        Ok(source) => source,
        Err(problem) => return vec![problem],
    };
    let mut found = Vec::new();
    if text.lines().count() >= MAX_LINES {
        found.push(format!("it has {MAX_LINES} lines or more"));
    }
    if source.name != name {
        found.push(format!("the header calls it {}", source.name));
    }
    if source.keys.names() != contract.keys {
        found.push(format!(
            "KEYS are {:?}, the registry says {:?}",
            source.keys.names(),
            contract.keys
        ));
    }
    if source.argv.names() != contract.argv {
        found.push(format!(
            "ARGV are {:?}, the registry says {:?}",
            source.argv.names(),
            contract.argv
        ));
    }
    let try_start = format!("redis-cli --eval lua/{name}.lua ");
    if !source.try_line.starts_with(&try_start) {
        found.push(format!("Try does not begin with `{try_start}`"));
    }
    found.extend(unpacking("KEYS", &source.keys, &source.body));
    found.extend(unpacking("ARGV", &source.argv, &source.body));
    found.extend(errors(&source, contract));
    found.extend(commands(&source));
    found.extend(publishing(&source));
    found.extend(time(&source));
    let exempt = (name == Script::ResetRedisForDevelopment.name()).then_some("UNLINK");
    found.extend(foreign_keys(&source, exempt));
    found
}

/// `local a, b = KEYS[1], KEYS[2]`, over one or more lines, first of all and in the header's order.
fn unpacking(array: &str, items: &Items, body: &str) -> Vec<String> {
    let mut found = Vec::new();
    let statement = Regex::new(r"(?m)^local ([\w, ]+) = (.*)$").unwrap();
    let place = Regex::new(&format!(r"^(?:tonumber\()?{array}\[(\d+)\]\)?$")).unwrap();
    let mut unpacked: Vec<(String, String)> = Vec::new();
    for local in statement.captures_iter(body) {
        for (name, value) in local[1].split(", ").zip(local[2].split(", ")) {
            if let Some(value) = place.captures(value) {
                unpacked.push((name.to_owned(), value[1].to_owned()));
            }
        }
    }
    let expected: Vec<(String, String)> = items
        .fixed
        .iter()
        .zip(1..)
        .map(|(item, place)| (item.name.clone(), place.to_string()))
        .collect();
    if unpacked != expected {
        found.push(format!(
            "the body unpacks {array} as {unpacked:?}, the header says {expected:?}"
        ));
    }
    if items.repeated.is_empty() {
        if Regex::new(&format!(r"#{array}\b")).unwrap().is_match(body) {
            found.push(format!(
                "the body loops over {array}, the header knows no `{array}[n…]`"
            ));
        }
        return found;
    }
    // The groups are walked through from their first place, a group at a time.
    let (start, step) = (items.fixed.len() + 1, items.repeated.len());
    let step_text = if step == 1 {
        " do".to_owned()
    } else {
        format!(", {step} do")
    };
    let header = Regex::new(&format!(
        r"for \w+ = (\w+), #{array}{}",
        regex::escape(&step_text)
    ))
    .unwrap();
    let starts_right = header.captures_iter(body).any(|loop_| {
        loop_[1] == *start.to_string() || constant(body, &loop_[1]) == Some(start.to_string())
    });
    if !starts_right {
        found.push(format!(
            "no loop over {array} from {start} in steps of {step}, as the header's groups are"
        ));
    }
    // Where a group is unpacked, its names are the header's.
    let group: Vec<String> = (0..step)
        .map(|i| match i {
            0 => format!(r"{array}\[\w+\]"),
            i => format!(r"{array}\[\w+ \+ {i}\]"),
        })
        .collect();
    let unpack = Regex::new(&format!(r"local ([\w, ]+) = {}(?:\n|$)", group.join(", "))).unwrap();
    let names: Vec<&str> = items.repeated.iter().map(|i| i.name.as_str()).collect();
    for local in unpack.captures_iter(body) {
        if items.repeated.len() > 1 && local[1] != names.join(", ") {
            found.push(format!(
                "a group of {array} is unpacked as {}, the header says {names:?}",
                &local[1]
            ));
        }
    }
    found
}

/// The value of a number that the body names.
fn constant(body: &str, name: &str) -> Option<String> {
    let statement = Regex::new(r"(?m)^local ([A-Z_, ]+) = ([\d, ]+)$").unwrap();
    statement.captures_iter(body).find_map(|local| {
        let mut pairs = local[1].split(", ").zip(local[2].split(", "));
        pairs
            .find(|(found, _)| *found == name)
            .map(|(_, value)| value.to_owned())
    })
}

fn errors(source: &Source, contract: &Contract) -> Vec<String> {
    let mut found = Vec::new();
    let reply = Regex::new(r"error_reply\(([^)]*)\)").unwrap();
    let literal = Regex::new(r"^'([A-Z_]+) [A-Z][^']*\.'$").unwrap();
    let mut raised = BTreeSet::new();
    for call in reply.captures_iter(&source.body) {
        match literal.captures(&call[1]) {
            Some(code) => drop(raised.insert(code[1].to_owned())),
            None => found.push(format!(
                "error_reply({}) is not 'CODE A sentence.'",
                &call[1]
            )),
        }
    }
    let header: BTreeSet<String> = source.errors.iter().cloned().collect();
    let registry: BTreeSet<String> = contract.errors.iter().map(|&code| code.into()).collect();
    if raised != header {
        found.push(format!(
            "the body raises {raised:?}, the header says {header:?}"
        ));
    }
    if header != registry {
        found.push(format!(
            "the header's errors are {header:?}, the registry's {registry:?}"
        ));
    }
    for code in raised {
        if ErrorCode::from_redis(&code).is_none() {
            found.push(format!("the server does not know the code {code}"));
        }
    }
    found
}

/// Every `redis.call`: the command, its first argument, and the function that it stands in.
fn calls(body: &str) -> Vec<(String, String, Option<String>)> {
    let call =
        Regex::new(r"redis\.p?call\(([^,)]+)(?:, ([A-Z]+\[[^\]]+\]|[^,)]+))?|^end|^local function (\w+)|redis\.p?call")
            .unwrap();
    let mut function = None;
    let mut found = Vec::new();
    for line in body.lines() {
        for part in call.captures_iter(line) {
            match (part.get(1), part.get(3)) {
                (Some(command), _) => found.push((
                    command.as_str().to_owned(),
                    part.get(2).map_or("", |first| first.as_str()).to_owned(),
                    function.clone(),
                )),
                (None, Some(name)) => function = Some(name.as_str().to_owned()),
                (None, None) if line.starts_with("end") => function = None,
                (None, None) => found.push((part[0].to_owned(), String::new(), None)),
            }
        }
    }
    found
}

fn commands(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    let mut writes = false;
    for (command, _, _) in calls(&source.body) {
        let name = command.trim_matches('\'');
        if WRITES.contains(&name) && command.len() == name.len() + 2 {
            writes = true;
        } else if !READS.contains(&name) || command.len() != name.len() + 2 {
            found.push(format!(
                "{command} is no command that a script may call, in capitals and single quotes"
            ));
        }
    }
    let flags: Vec<&str> = source.flags.iter().map(String::as_str).collect();
    // These free memory: they must work when there is none left.
    let freeing = [Script::LeaveChat, Script::ResetRedisForDevelopment];
    let may_exceed_memory = freeing.iter().any(|script| script.name() == source.name);
    let expected: &[&str] = match (writes, may_exceed_memory) {
        (false, _) => &["no-writes"],
        (true, true) => &["allow-oom"],
        (true, false) => &[],
    };
    if flags != expected {
        found.push(format!("flags are {flags:?}, should be {expected:?}"));
    }
    found
}

/// Publishes names the channel and the event that the body publishes.
fn publishing(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    let publishes = source.body.contains("'SPUBLISH'");
    let says = source.publishes != "nothing";
    if publishes != says {
        found.push(format!(
            "Publishes says `{}`, the body's SPUBLISH says otherwise",
            source.publishes
        ));
    }
    if says {
        let channel = source.publishes.split(' ').next().unwrap_or_default();
        if !source
            .keys
            .all()
            .any(|key| key.name == channel && key.kind == "channel")
        {
            found.push(format!("Publishes names {channel}, no channel of KEYS"));
        }
        let event = Regex::new(r#""event":"(\w+)""#).unwrap();
        match event.captures(&source.publishes) {
            None => found.push("Publishes names no event".to_owned()),
            Some(event) => {
                let (lua, json) = (
                    format!("event = '{}'", &event[1]),
                    format!(r#""event":"{}""#, &event[1]),
                );
                if !source.body.contains(&lua) && !source.body.contains(&json) {
                    found.push(format!("the body publishes no event {}", &event[1]));
                }
            }
        }
    }
    found
}

/// The time is Redis's.
fn time(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    let clock = Regex::new(r"^(now|time|clock|timestamp)(_|$)").unwrap();
    for item in source.argv.all().filter(|item| clock.is_match(&item.name)) {
        found.push(format!("the time comes as ARGV {}", item.name));
    }
    let other = Regex::new(r"\bos\.|math\.random").unwrap();
    if let Some(other) = other.find(&source.body) {
        found.push(format!("the body uses {}", other.as_str()));
    }
    let now = Regex::new(r"\bnow_ms\s*=\s*(.*)").unwrap();
    for local in now.captures_iter(&source.body) {
        if !local[1].contains("time[1] * 1000 + math.floor(time[2] / 1000)") {
            found.push(format!("now_ms is not Redis's TIME but {}", &local[1]));
        }
    }
    let reads_time = Regex::new(r"\btime\s*=\s*(.*)").unwrap();
    for local in reads_time.captures_iter(&source.body) {
        if &local[1] != "redis.call('TIME')" {
            found.push(format!("time is {}", &local[1]));
        }
    }
    found
}

/// Calls whose key did not come in KEYS.
fn foreign_keys(source: &Source, exempt: Option<&str>) -> Vec<String> {
    let body = &source.body;
    let fixed: BTreeSet<&str> = source.keys.fixed.iter().map(|k| k.name.as_str()).collect();
    let is_given = |expression: &str| {
        fixed.contains(expression) || (expression.starts_with("KEYS[") && expression.ends_with(']'))
    };
    // for _, x in ipairs(list): where all that is put into the list comes from KEYS.
    let each = Regex::new(r"for _, (\w+) in ipairs\((\w+)\)").unwrap();
    let listed: BTreeSet<String> = each
        .captures_iter(body)
        .filter(|found| {
            let put = Regex::new(&format!(r"(?m)\b{}\[[^\]]*\] = (.*)$", &found[2])).unwrap();
            let mut values = put.captures_iter(body).peekable();
            values.peek().is_some() && values.all(|value| is_given(&value[1]))
        })
        .map(|found| found[1].to_owned())
        .collect();
    // A parameter that every caller feeds with a key; callers may be functions of the script themselves.
    let definition = Regex::new(r"(?m)^local function (\w+)\(([\w, ]*)\)").unwrap();
    let functions: Vec<(String, Vec<String>)> = definition
        .captures_iter(body)
        .map(|f| (f[1].into(), f[2].split(", ").map(str::to_owned).collect()))
        .collect();
    let mut fed: BTreeSet<(String, String)> = BTreeSet::new();
    loop {
        let before = fed.len();
        for (name, parameters) in &functions {
            let call = Regex::new(&format!(r"\b{name}\(([^()]*)\)")).unwrap();
            let mut inside: Option<String> = None;
            let mut uses: Vec<(Option<String>, Vec<String>)> = Vec::new();
            for line in body.lines() {
                if let Some(function) = definition.captures(line) {
                    inside = Some(function[1].to_owned());
                    continue;
                }
                if line == "end" {
                    inside = None;
                }
                for call in call.captures_iter(line) {
                    let arguments = call[1].split(", ").map(str::to_owned).collect();
                    uses.push((inside.clone(), arguments));
                }
            }
            for (place, parameter) in parameters.iter().enumerate() {
                let always_key = uses.iter().all(|(inside, arguments)| {
                    arguments.get(place).is_some_and(|argument| {
                        is_given(argument)
                            || inside
                                .as_ref()
                                .is_some_and(|f| fed.contains(&(f.clone(), argument.clone())))
                    })
                });
                if !uses.is_empty() && always_key {
                    fed.insert((name.clone(), parameter.clone()));
                }
            }
        }
        if fed.len() == before {
            break;
        }
    }
    let mut found = Vec::new();
    for (command, first, function) in calls(body) {
        let name = command.trim_matches('\'');
        if ["TIME", "SCAN"].contains(&name) || exempt == Some(name) {
            continue;
        }
        let is_key = match &function {
            Some(function) => {
                let parameter = functions
                    .iter()
                    .any(|(f, parameters)| f == function && parameters.contains(&first));
                if parameter {
                    fed.contains(&(function.clone(), first.clone()))
                } else {
                    is_given(&first)
                }
            }
            None => is_given(&first) || listed.contains(&first),
        };
        if !is_key {
            found.push(format!("{command} is called on {first}, no key of KEYS"));
        }
        let assigned = Regex::new(&format!(r"(?m)^\s*{} = ", regex::escape(&first))).unwrap();
        if assigned.is_match(body) {
            found.push(format!("{first} is given another value"));
        }
    }
    if calls(body)
        .iter()
        .any(|(command, _, _)| command == "'SCAN'")
        && exempt.is_none()
    {
        found.push("SCAN reaches keys that were not given".to_owned());
    }
    found
}

#[test]
fn each_script_is_what_its_header_and_the_registry_say() {
    let mut found = Vec::new();
    for script in Script::ALL {
        let text = read(&format!("{}.lua", script.name()));
        for problem in problems(script.name(), &text, &script.contract()) {
            found.push(format!("lua/{}.lua: {problem}", script.name()));
        }
    }
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn there_is_one_file_for_each_registered_script_and_no_other() {
    let mut registered: Vec<&str> = Script::ALL.iter().map(|script| script.name()).collect();
    registered.sort_unstable();
    assert_eq!(script_files(), registered);
}

#[test]
fn all_room_scripts_get_the_same_keys_in_the_same_order() {
    let apart = [Script::GetChatList, Script::ResetRedisForDevelopment];
    for script in Script::ALL {
        if apart.contains(&script) {
            continue;
        }
        let source = Source::parse(&read(&format!("{}.lua", script.name()))).unwrap();
        assert_eq!(source.keys.names()[..8], ROOM_KEYS, "{}", script.name());
        let send = Source::parse(&read("send_message.lua")).unwrap();
        assert_eq!(source.keys.fixed, send.keys.fixed, "{}", script.name());
    }
}

#[tokio::test]
async fn each_script_loads_under_the_sha1_that_the_server_calls() {
    // Given a Redis that knows no script
    let redis = Redis::start().await;
    let scripts = ScriptSet::embedded().unwrap();
    for script in Script::ALL {
        // When a file is loaded as it is, then Redis names it as the server does
        let text = read(&format!("{}.lua", script.name()));
        assert_eq!(scripts.get(script).text, text, "{}", script.name());
        let sha1: String = redis.run(&["SCRIPT", "LOAD", &text]).await;
        assert_eq!(scripts.get(script).sha1, sha1, "{}", script.name());
    }
}

/// The contract itself is held to something: each of these breaks a script in one way, and is found.
#[test]
fn a_broken_script_is_found() {
    for (script, from, to, expected) in [
        (Script::SendMessage, "#!lua\n", "#!lua \n", "line 1"),
        (Script::SendMessage, "#!lua\n", "-- #!lua\n", "line 1"),
        (
            Script::SendMessage,
            "#!lua\n",
            "#!lua flags=allow-oom\n",
            "flags",
        ),
        (
            Script::GetHistory,
            "#!lua flags=no-writes\n",
            "#!lua\n",
            "flags",
        ),
        (Script::LeaveChat, " flags=allow-oom", "", "flags"),
        (
            Script::SendMessage,
            "-- send_message:",
            "-- sendMessage:",
            "name: summary",
        ),
        (
            Script::SendMessage,
            "-- send_message:",
            "-- say:",
            "the header calls it say",
        ),
        (
            Script::SendMessage,
            "-- KEYS[3] reads",
            "-- KEYS[4] reads",
            "KEYS[3] is next",
        ),
        (
            Script::SendMessage,
            "-- ARGV[1] user ",
            "-- ARGV[1] sender ",
            "the registry says",
        ),
        (
            Script::SendMessage,
            "user, content, client_id = ARGV[1], ARGV[2], ARGV[3]",
            "content, user, client_id = ARGV[1], ARGV[2], ARGV[3]",
            "the body unpacks ARGV",
        ),
        (
            Script::SendMessage,
            "= KEYS[1], KEYS[2], KEYS[3], KEYS[4]",
            "= KEYS[1], KEYS[3], KEYS[2], KEYS[4]",
            "the body unpacks KEYS",
        ),
        (
            Script::RenewViewers,
            "for i = 2, #ARGV, 2",
            "for i = 3, #ARGV, 2",
            "no loop over ARGV",
        ),
        (
            Script::RenewViewers,
            "local device, user = ARGV[i], ARGV[i + 1]",
            "local user, device = ARGV[i], ARGV[i + 1]",
            "a group of ARGV",
        ),
        (
            Script::InitializeChat,
            "FIRST_MEMBER = 9, 5",
            "FIRST_MEMBER = 9, 4",
            "no loop over ARGV",
        ),
        (
            Script::SendMessage,
            "Errors    NOT_MEMBER",
            "Errors    none",
            "the body raises",
        ),
        (
            Script::SendMessage,
            "error_reply('NOT_MEMBER ",
            "error_reply('NO_MEMBER ",
            "does not know the code NO_MEMBER",
        ),
        (
            Script::SendMessage,
            "error_reply('NOT_MEMBER ",
            "error_reply(user .. 'NOT_MEMBER ",
            "is not 'CODE A sentence.'",
        ),
        (
            Script::SendMessage,
            "redis.call('XLEN', messages)",
            "redis.call('KEYS', '*')",
            "'KEYS' is no command",
        ),
        (
            Script::SendMessage,
            "redis.call('XLEN', messages)",
            "redis.call('FLUSHALL')",
            "'FLUSHALL' is no command",
        ),
        (
            Script::SendMessage,
            "redis.call('XLEN', messages)",
            "redis.call('xlen', messages)",
            "'xlen' is no command",
        ),
        (
            Script::SendMessage,
            "redis.call('XLEN', messages)",
            "redis.call(user, messages)",
            "user is no command",
        ),
        (
            Script::SendMessage,
            "redis.call('XLEN', messages)",
            "redis.call('XLEN', 'chat:x')",
            "no key of KEYS",
        ),
        (
            Script::SendMessage,
            "redis.call('XLEN', messages)",
            "redis.call('XLEN', messages .. user)",
            "no key of KEYS",
        ),
        (
            Script::SendMessage,
            "redis.call('XLEN', messages)",
            "redis.call('SCAN', '0')",
            "SCAN",
        ),
        (
            Script::GetChatList,
            "entry(KEYS[i], KEYS[i + 1]",
            "entry(user, KEYS[i + 1]",
            "no key of KEYS",
        ),
        (
            Script::GetChatList,
            "last_message(messages, reads, small)",
            "last_message(user, reads, small)",
            "no key of KEYS",
        ),
        (
            Script::InitializeChat,
            "gained[#gained + 1] = KEYS[key + 1]",
            "gained[#gained + 1] = room",
            "no key of KEYS",
        ),
        (
            Script::SendMessage,
            "redis.call('TIME')",
            "ARGV",
            "time is ARGV",
        ),
        (
            Script::SendMessage,
            "redis.call('TIME')",
            "os.time()",
            "uses os.",
        ),
        (
            Script::SendMessage,
            "-- Publishes events",
            "-- Publishes control",
            "no channel of KEYS",
        ),
        (
            Script::GetHistory,
            "-- Publishes nothing",
            "-- Publishes events {}",
            "Publishes",
        ),
        (
            Script::SendMessage,
            "-- Time      O",
            "-- Time       O",
            "Time is not aligned",
        ),
        (
            Script::SendMessage,
            "-- Errors ",
            "-- Failures ",
            "expected `-- Errors",
        ),
        (
            Script::SendMessage,
            "-- Try  ",
            "-- Run  ",
            "expected `-- Try",
        ),
        (
            Script::SendMessage,
            "--eval lua/send_message.lua",
            "--eval lua/enter_chat.lua",
            "Try does not begin",
        ),
    ] {
        let name = script.name();
        let text = read(&format!("{name}.lua"));
        assert!(
            text.contains(from),
            "{name}: `{from}` is not there to break"
        );
        let broken = text.replace(from, to);
        let found = problems(name, &broken, &script.contract()).join("\n");
        assert!(
            found.contains(expected),
            "{name} with `{to}`: expected `{expected}`, found:\n{found}"
        );
    }
    let long = format!("{}{}", read("send_message.lua"), "\n".repeat(MAX_LINES));
    let found = problems("send_message", &long, &Script::SendMessage.contract());
    assert_eq!(found, [format!("it has {MAX_LINES} lines or more")]);
}
