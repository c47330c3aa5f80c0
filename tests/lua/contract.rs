//! The files of `lua/` as a whole, and what they must meet beyond what every set must pass.

use chat_server::scripts::check::check_set;
use chat_server::scripts::check::header::Items;
use chat_server::scripts::{Script, ScriptSet};
use chat_server::store::keys::ROOM_KEYS;

use crate::files::{header, read, root, script_files};
use crate::support::Redis;

/// So that each can be read in one go.
pub(crate) const MAX_LINES: usize = 180;

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
fn no_lease_is_longer_than_the_scripts_believe() {
    // Given the longest lease that may be set, according to the list of settings
    let settings = std::fs::read_to_string(root().join(".env.example")).unwrap();
    let before = settings.split("VIEWER_LEASE_MS").next().unwrap();
    let (_, range) = before.rsplit_once(" to ").unwrap();
    let longest = range.split(';').next().unwrap();

    // Then the scripts that use it to recognize leases from a clock that was ahead have the same value
    for script in [Script::SendMessage, Script::EnterChat, Script::LeaveChat] {
        let constant = format!("local LEASE_MAX_MS = {longest}\n");
        let text = read(&format!("{}.lua", script.name()));
        assert!(text.contains(&constant), "{}: {constant}", script.name());
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
    let expected = described(&header(Script::SyncRoom).keys);
    for script in Script::ALL {
        if !apart.contains(&script) {
            let keys = header(script).keys;
            let (names, described) = (keys.names(), described(&keys));
            assert_eq!(names[..ROOM_KEYS.len()], ROOM_KEYS, "{}", script.name());
            assert_eq!(described[..ROOM_KEYS.len()], expected, "{}", script.name());
        }
    }
}

#[tokio::test]
async fn each_script_loads_under_the_sha1_that_the_server_calls() {
    // Given a Redis that has no scripts loaded
    let redis = Redis::start().await;
    let scripts = ScriptSet::embedded().unwrap();
    for script in Script::ALL {
        // When a file is loaded as it is, then Redis gives it the same name as the server
        let text = read(&format!("{}.lua", script.name()));
        assert_eq!(scripts.get(script).text, text, "{}", script.name());
        let sha1: String = redis.run(&["SCRIPT", "LOAD", &text]).await;
        assert_eq!(scripts.get(script).sha1, sha1, "{}", script.name());
    }
}

#[test]
fn rules_have_a_marked_place_in_each_script_that_may_refuse() {
    for script in Script::ALL {
        let text = read(&format!("{}.lua", script.name()));
        let marked = text.matches("\n-- Rules of your own: here. ").count();
        assert_eq!(
            marked,
            usize::from(script.may_reject()),
            "{}",
            script.name()
        );
    }
}
