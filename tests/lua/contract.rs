//! The files of `lua/` as a whole, and what is asked of them beyond what every set must pass.

use chat_server::scripts::check::check_set;
use chat_server::scripts::check::header::Items;
use chat_server::scripts::{Script, ScriptSet};
use chat_server::store::keys::ROOM_KEYS;

use crate::files::{header, read, script_files};
use crate::support::Redis;

/// So that each can be read in one go.
const MAX_LINES: usize = 120;

#[test]
fn the_embedded_scripts_pass_the_checks() {
    let problems = check_set(&ScriptSet::embedded().unwrap());
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "\n{}", lines.join("\n"));
}

#[test]
fn each_file_is_short() {
    for script in Script::ALL {
        let lines = read(&format!("{}.lua", script.name())).lines().count();
        assert!(lines < MAX_LINES, "{}: {lines}", script.name());
    }
}

#[test]
fn there_is_one_file_for_each_registered_script_and_no_other() {
    let mut registered: Vec<&str> = Script::ALL.iter().map(|script| script.name()).collect();
    registered.sort_unstable();
    assert_eq!(script_files(), registered);
}

#[test]
fn all_room_scripts_get_the_same_keys_in_the_same_order() {
    let described = |items: &Items| -> Vec<[String; 3]> {
        let item = items.fixed.iter().cloned();
        item.map(|item| [item.name, item.kind, item.text]).collect()
    };
    let apart = [
        Script::GetChatList,
        Script::CompareRooms,
        Script::ResetRedisForDevelopment,
    ];
    let expected = described(&header(Script::SendMessage).keys);
    for script in Script::ALL {
        if !apart.contains(&script) {
            let keys = header(script).keys;
            assert_eq!(keys.names()[..8], ROOM_KEYS, "{}", script.name());
            assert_eq!(described(&keys), expected, "{}", script.name());
        }
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
