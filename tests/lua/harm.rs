//! Edits that look right and do harm, found by how the set handles texts of all kinds; and correct versions of them.

use chat_server::scripts::check::check_set;
use chat_server::scripts::{Script, ScriptSet};
use tokio::time::{Duration, Instant};

use crate::behaviour::{edited, passes, problem};

const MARKED: &str =
    "-- Rules of your own: here. They refuse with REJECTED, and nothing is written yet.\n";
const ENTRY: &str = "local entry = {'sender', user, 'content', content}";
const TOLD: &str = "cjson.encode(content)";

/// A rule at its marked place.
fn rule(script: Script, text: &str) -> ScriptSet {
    edited(script, MARKED, &format!("{MARKED}{text}\n"))
}

/// The static check finds nothing wrong with the set; running it shows the fault.
async fn is_found(what: &str, set: ScriptSet, says: &str) {
    assert_eq!(check_set(&set), [], "{what}");
    let problem = problem(&set).await;
    println!("{what}: {problem}");
    assert!(problem.reason.contains(says), "{what}: {problem}");
}

#[tokio::test]
async fn a_text_that_is_cut_inside_a_character() {
    let said = "cut a text between characters, not inside one";
    for cut in [
        "content = content:sub(1, 200)",
        "content = content:sub(-100)",
        "if #content > 1000 then content = content:sub(1, 997) .. '...' end",
        "content = string.format('%.50s', content)",
        "if redis.call('HGET', ext, 'short') == 'yes' then content = content:sub(1, 100) end",
    ] {
        is_found(cut, rule(Script::SendMessage, cut), said).await;
    }
    let cut = "cjson.encode((content:sub(1, 300)))";
    let set = edited(Script::SendMessage, TOLD, cut);
    is_found(cut, set, "from byte 300 on, a text is read as").await;
    let name = "name = name:sub(1, 50)";
    let set = rule(Script::InitializeChat, name);
    is_found(name, set, "invalid utf-8").await;
    let preview = "bit.band(content:byte(cut + 1), 0xC0) == 0x80";
    for script in [Script::GetChatList, Script::InitializeChat] {
        let set = edited(script, preview, "false");
        is_found("preview", set, "its content is not UTF-8").await;
    }
}

#[tokio::test]
async fn a_pattern_that_freezes_redis() {
    for pattern in [
        "if content:lower():match('.*casino.*bonus.*') then return redis.error_reply('REJECTED No.') end",
        "if content:find('casino.*bonus.*free') then return redis.error_reply('REJECTED No.') end",
        "local words = {'casino', 'bonus', 'free'}\nif content:find(table.concat(words, '.*')) then return redis.error_reply('REJECTED No.') end",
        "content = content:match('^%s*(.-)%s*$')",
        "content = content:gsub('[%w%.]+@[%w%.]+', '***')",
        "if redis.call('HGET', ext, 'filter') == 'strict' and content:match('.*casino.*bonus.*') then\n  return redis.error_reply('REJECTED No.')\nend",
    ] {
        let began = Instant::now();
        let set = rule(Script::SendMessage, pattern);
        is_found(pattern, set, "and Redis does nothing else meanwhile").await;
        // A frozen Redis is killed. The trial's own limit is far below this.
        assert!(began.elapsed() < Duration::from_secs(50), "{pattern}");
    }
}

#[tokio::test]
async fn a_pattern_is_named_with_its_line() {
    let set = rule(
        Script::SendMessage,
        "local text = content:lower()\nif text:find('casino.*bonus.*free') then return redis.error_reply('REJECTED No.') end",
    );
    let found = problem(&set).await;
    let lines: Vec<&str> = set.get(Script::SendMessage).text.lines().collect();
    assert!(lines[found.line - 1].contains("casino"), "{found}");
    assert!(
        found
            .reason
            .contains("16380 bytes, made to be hard for `casino.*bonus.*free`"),
        "{found}"
    );
}

#[tokio::test]
async fn a_text_that_is_stored_otherwise_than_published() {
    let said = "a rule that changes a text must do so before it is stored and published";
    for (from, to) in [
        (
            ENTRY,
            "local entry = {'sender', user, 'content', (content:gsub('%d', '*'))}",
        ),
        (
            ENTRY,
            "local entry = {'sender', user, 'content', (content:gsub('damn', '****'))}",
        ),
        (
            ENTRY,
            "local entry = {'sender', user, 'content', (content:gsub(('%d'):rep(16), '*'))}",
        ),
        (
            ENTRY,
            "local direct = redis.call('HGET', meta, 'type') == 'direct'\nlocal entry = {'sender', user, 'content', direct and (content:gsub('%d', '*')) or content}",
        ),
        (TOLD, "cjson.encode((content:gsub('%d', '*')))"),
        (TOLD, "cjson.encode((content:gsub('\\n', ' ')))"),
    ] {
        is_found(to, edited(Script::SendMessage, from, to), said).await;
    }
    let mask = "fields.content and (fields.content:gsub('%d', '*')) or false, fields.client_id";
    for script in [Script::GetHistory, Script::SyncRoom, Script::EnterChat] {
        let set = edited(script, "fields.content or false, fields.client_id", mask);
        is_found(script.name(), set, said).await;
    }
}

#[tokio::test]
async fn a_further_field_does_no_harm_but_for_another_client_id() {
    // Fields are found by name, so an additional one may be anywhere
    let further =
        "local entry = {'at', tostring(now_ms), 'sender', user, 'content', content, 'x', 'y'}";
    let set = edited(Script::SendMessage, ENTRY, further);
    passes(&set).await;
    let before = "local entry = {'sender', user, 'content', content, 'at', tostring(now_ms)}";
    let set = edited(Script::SendMessage, ENTRY, before);
    passes(&set).await;
    let other = "local entry = {'sender', user, 'content', content, 'client_id', 'x'}";
    let set = edited(Script::SendMessage, ENTRY, other);
    is_found(other, set, "the clientMessageId is \"x\", not \"\"").await;
}

#[tokio::test]
async fn a_repeat_that_a_rule_refuses() {
    // Given a rule before the answer that the static check does not see: `rule` is not a refusal, it only forgets what
    // was sent
    let lookup = "  if first then";
    let forgets = "  if first and content ~= 'casino' then";
    let set = edited(Script::SendMessage, lookup, forgets);
    let text = set.get(Script::SendMessage).text.replacen(
        MARKED,
        &format!(
            "{MARKED}if content == 'casino' then return redis.error_reply('REJECTED No.') end\n"
        ),
        1,
    );
    let source = set.get(Script::SendMessage).source.clone();
    let set = set.with(
        Script::SendMessage,
        chat_server::scripts::ScriptText::new(text, source),
    );
    // Then the refusal of a message that is stored and sent again is noticed
    let said = "is sent again with its clientMessageId and gets REJECTED";
    is_found("repeat", set, said).await;
}

#[tokio::test]
async fn what_is_done_well_passes() {
    for well in [
        "if content:lower():find('casino', 1, true) then return redis.error_reply('REJECTED No.') end",
        "content = content:gsub('%d', '*')",
        "if content:find('https?://') then return redis.error_reply('REJECTED No links.') end",
        "local _, characters = content:gsub('[^\\128-\\191]', '')\nif characters > 300 then return redis.error_reply('REJECTED Too long.') end",
        "local cut = 200\nif #content > cut then\n  while bit.band(content:byte(cut + 1), 0xC0) == 0x80 do cut = cut - 1 end\n  content = content:sub(1, cut)\nend",
    ] {
        let set = rule(Script::SendMessage, well);
        assert_eq!(check_set(&set), [], "{well}");
        let report = passes(&set).await;
        let (_, worst) = report
            .worst
            .iter()
            .find(|(script, _)| *script == Script::SendMessage)
            .unwrap();
        assert!(!worst.is_zero());
    }
}
