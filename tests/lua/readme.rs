//! The tables and examples of `lua/README.md`, compared with the scripts and the server.

use std::collections::{BTreeMap, BTreeSet};

use chat_server::error::ErrorCode;
use chat_server::protocol::ids::{RoomId, UserId};
use chat_server::room::Topic;
use chat_server::scripts::check::header::Header;
use chat_server::scripts::wire::{Announcement, Question, Want};
use chat_server::scripts::{Script, ScriptSet};
use chat_server::store::keys::{Keys, ROOM_KEYS};
use regex::Regex;
use serde_json::Value as Json;

use crate::by_hand::masked;
use crate::files::{header, read};
use crate::support::{World, users};

/// The cells of the table under a heading, without the header row and without code marks.
fn table(readme: &str, heading: &str) -> Vec<Vec<String>> {
    let is_row = |line: &&str| line.starts_with('|');
    let lines = section(readme, heading).lines();
    let rows = lines
        .skip_while(|line| !is_row(line))
        .take_while(is_row)
        .skip(2);
    rows.map(|row| {
        let cells = row.trim_matches('|').split(" | ");
        cells.map(|cell| cell.trim().replace('`', "")).collect()
    })
    .collect()
}

fn section<'a>(readme: &'a str, heading: &str) -> &'a str {
    let start = readme
        .find(&format!("\n## {heading}\n"))
        .unwrap_or_else(|| panic!("no heading {heading}"));
    let rest = &readme[start + 4..];
    &rest[..rest.find("\n## ").unwrap_or(rest.len())]
}

fn headers() -> Vec<(Script, Header)> {
    let with_header = |script: Script| (script, header(script));
    Script::ALL.into_iter().map(with_header).collect()
}

#[test]
fn the_table_of_scripts_names_each_once() {
    let readme = read("README.md");
    let mut listed: Vec<String> = table(&readme, "The scripts")
        .into_iter()
        .map(|row| row[0].clone())
        .collect();
    listed.sort();
    let mut scripts: Vec<String> = headers()
        .iter()
        .map(|(script, _)| format!("[{0}.lua]({0}.lua)", script.name()))
        .collect();
    scripts.sort();
    assert_eq!(listed, scripts);
}

#[test]
fn the_table_of_keys_is_that_of_the_headers() {
    // Given every key and channel that a header names, with its type
    let mut in_headers = BTreeMap::new();
    for (_, header) in headers() {
        for key in header.keys.all() {
            in_headers.insert(key.text.clone(), key.kind.clone());
        }
    }

    // Then the README lists them, and no others
    let readme = read("README.md");
    let in_readme: BTreeMap<String, String> = table(&readme, "The keys")
        .into_iter()
        .map(|row| (row[0].clone(), row[1].split(',').next().unwrap().to_owned()))
        .collect();
    assert_eq!(in_readme, in_headers);

    // And the server builds them the same way
    let keys = Keys::new("chat");
    let [user, sender] = users(["U", "<user>"]);
    let room = RoomId::random();
    let mut built: BTreeSet<String> = ROOM_KEYS
        .iter()
        .chain(["viewers"].iter())
        .map(|&name| keys.room(room, name))
        .chain([keys.sent_before(room, &sender, "<clientMessageId>")])
        .map(|key| key.replace(&room.to_string(), "R"))
        .map(|key| key.replace("%3C", "<").replace("%3E", ">"))
        .collect();
    built.insert(keys.user(&user, "rooms"));
    built.insert(keys.channel(&Topic::User(user)));
    built.insert(keys.channel(&Topic::Control));
    assert_eq!(built, in_readme.into_keys().collect());
}

#[test]
fn the_examples_of_encoded_ids_are_right() {
    let readme = read("README.md");
    let example = Regex::new(r"\| `([^`]+)` +\| `chat:\{user:([^`]+)\}:rooms` +\|").unwrap();
    let keys = Keys::new("chat");
    let mut count = 0;
    for found in example.captures_iter(section(&readme, "The keys")) {
        let user = UserId::parse(&found[1].replace("\\|", "|")).unwrap();
        assert_eq!(
            keys.user(&user, "rooms"),
            format!("chat:{{user:{}}}:rooms", &found[2])
        );
        count += 1;
    }
    assert!(count >= 3, "{count}");
}

#[test]
fn the_table_of_errors_is_that_of_the_headers() {
    let readme = read("README.md");
    let mut raised: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (script, header) in headers() {
        for code in header.errors.codes {
            raised
                .entry(code)
                .or_default()
                .insert(script.name().to_owned());
        }
    }
    let mut listed: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in table(&readme, "Errors") {
        let scripts = row[1].split(", ").map(str::to_owned).collect();
        listed.insert(row[0].clone(), scripts);
    }
    let own = listed.remove("REJECTED").unwrap();
    assert_eq!(own, BTreeSet::from(["none as delivered".to_owned()]));
    assert_eq!(listed, raised);
    assert_eq!(ErrorCode::from_redis("REJECTED"), Some(ErrorCode::Rejected));
}

#[test]
fn redis_s_own_codes_are_those_the_server_knows() {
    let readme = read("README.md");
    let paragraph = section(&readme, "Errors")
        .split("\n\n")
        .find(|paragraph| paragraph.contains("become `UNAVAILABLE`"))
        .unwrap();
    let before = paragraph.split("become `UNAVAILABLE`").next().unwrap();
    let code = Regex::new("`([A-Z]+)`").unwrap();
    let codes: Vec<String> = code
        .captures_iter(before)
        .map(|found| found[1].to_owned())
        .collect();
    assert!(codes.len() >= 10, "{codes:?}");
    for code in codes {
        assert_eq!(
            ErrorCode::from_redis(&code),
            Some(ErrorCode::Unavailable),
            "{code}"
        );
    }
    assert_eq!(ErrorCode::from_redis("WRONGTYPE"), None);
}

#[tokio::test]
async fn each_example_of_an_event_is_as_published() {
    // Given Alice and Bob's room, followed from before it is made
    let mut world = World::start().await;
    let [alice, bob] = users(["alice", "bob"]);
    let room = RoomId::direct(&alice, &bob);
    world.follow_user(&bob).await;
    world.follow_room(room).await;
    world.follow("chat:control").await;

    // When each event that is published happens
    world.direct(&alice, &bob).await;
    let sent = world
        .store
        .send_message(room, &alice, "Hello Bob", Some("m-1"));
    let id = sent.await.unwrap().id;
    world.store.mark_as_read(room, &bob, id).await.unwrap();
    world.store.reset().await.unwrap();

    // Then each is as the README shows it
    let readme = read("README.md");
    let block = Regex::new(r"(?ms)^```json\n(.*?)^```\n").unwrap();
    let shown: Vec<Json> = block
        .captures_iter(&readme)
        .map(|block| serde_json::from_str(&masked(&block[1])).unwrap())
        .collect();
    let mut published = world.events().await;
    let question = Question {
        want: Want::Settle,
        reply_to: world.keys.answers("0123456789abcdef0123456789abcdef"),
        from: None,
    };
    published.push(serde_json::to_value(Announcement::Scripts(question)).unwrap());
    let published: Vec<Json> = published
        .iter()
        .map(|event| serde_json::from_str(&masked(&event.to_string())).unwrap())
        .collect();
    assert_eq!(shown, published);
}

#[tokio::test]
async fn the_example_of_a_rule_works() {
    // Given the README's rule, inserted where it says
    let readme = read("README.md");
    let block = Regex::new(r"(?ms)^```lua\n(.*?)^```\n").unwrap();
    let rule = block.captures(&readme).unwrap()[1].to_owned();
    let text = ScriptSet::embedded()
        .unwrap()
        .get(Script::SendMessage)
        .text
        .clone();
    let place = "-- Rules of your own: here.";
    let marked = text.lines().find(|line| line.starts_with(place)).unwrap();
    let changed = text.replacen(marked, &format!("{marked}\n{rule}"), 1);

    // When an operator closes the room, then sending is refused with the operator's words
    let world = World::start().await;
    let [alice, bob] = users(["alice", "bob"]);
    let room = world.direct(&alice, &bob).await;
    let keys = world.room_keys(Script::SendMessage, room, &alice, "");
    let send = async || {
        let mut call = redis::cmd("EVAL");
        call.arg(&changed).arg(keys.len()).arg(&keys);
        call.arg(
            [
                "alice", "Hello", "", "", "0", "86400000", "16384", "0", "c1", "text", "",
            ]
            .as_slice(),
        );
        call.query_async::<redis::Value>(&mut world.redis.admin())
            .await
    };
    send().await.unwrap();
    let ext = world.key(room, "ext");
    let _: u64 = world.redis.run(&["HSET", &ext, "closed", "1"]).await;
    let error = send().await.unwrap_err();
    assert_eq!(error.code(), Some("REJECTED"));
    assert!(readme.contains(error.detail().unwrap()), "{error}");
}
