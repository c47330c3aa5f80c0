//! Which scripts run, and how they are exchanged on live servers.

use std::fs;

use crate::support::rules::{Rules, list, scripts, scripts_do};
use crate::support::server::Log;
use crate::support::{Client, Redis, Server, Value, eventually, json};

/// The content of a message that is sent now, as it is stored.
async fn stored(device: &mut Client, room: &str) -> String {
    device.say(room, "hello").await;
    let history = device.history(room).await;
    let last = history.last().expect("a message");
    last["content"].as_str().expect("a text").to_owned()
}

async fn logged(log: &Log, what: &str) {
    eventually(&format!("the log says `{what}`\n{log}"), async || {
        log.text().contains(what)
    })
    .await;
}

#[tokio::test]
async fn an_applied_set_reaches_every_server_and_those_that_start_later() {
    // Given two servers with their own scripts
    let redis = Redis::start().await;
    let servers = [Server::start(&redis).await, Server::start(&redis).await];
    let mut alice = Client::connect_delta(&servers[0], "alice").await;
    let mut bob = Client::connect_delta(&servers[1], "bob").await;
    let room = alice.open_room(&["bob"]).await;
    assert_eq!(stored(&mut alice, &room).await, "hello");

    // When another set is applied
    let rules = Rules::export().await;
    rules.tag("1:");
    let applied = rules
        .apply(&redis, &["--note", "tags", "--by", "dora"])
        .await;
    assert_eq!(applied.code, Some(0), "{}", applied.stderr);
    assert!(
        applied.stdout.contains("2 of 2 servers run it"),
        "{}",
        applied.stdout
    );

    // Then it is in effect on both, with every connection kept
    assert_eq!(stored(&mut alice, &room).await, "1:hello");
    assert_eq!(stored(&mut bob, &room).await, "1:hello");

    // And on a server that starts later, and on one that restarts
    let later = Server::start(&redis).await;
    logged(&later.log, "11 scripts loaded: applied set 1").await;
    let mut carol = Client::connect_delta(&later, "bob").await;
    assert_eq!(stored(&mut carol, &room).await, "1:hello");

    // And the history says who did it
    let history = scripts_do(&redis, &["history"]).await;
    assert!(history.starts_with("*   1  20"), "{history}");
    assert!(
        history.contains("dora  changed: send_message  tags\n"),
        "{history}"
    );
}

#[tokio::test]
async fn rollback_goes_back_step_by_step() {
    let redis = Redis::start().await;
    let server = Server::start(&redis).await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let room = alice.open_room(&["bob"]).await;

    // Given that nothing was ever applied, a rollback has no target
    let refused = scripts(&redis, &["rollback"]).await;
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.stderr.contains("there is no applied set"),
        "{}",
        refused.stderr
    );

    // And given three sets
    for tag in ["1:", "2:", "3:"] {
        let rules = Rules::export().await;
        rules.tag(tag);
        // Each in a folder that does not know the others
        let applied = rules.apply(&redis, &["--no-behaviour", "--force"]).await;
        assert_eq!(applied.code, Some(0), "{}", applied.stderr);
    }
    assert_eq!(stored(&mut alice, &room).await, "3:hello");

    // When one is rolled back, then the set that was in effect before returns, and the output says which one that is
    let back = scripts_do(&redis, &["rollback"]).await;
    assert!(back.starts_with("current: set 2 (by "), "{back}");
    assert!(back.contains("in place of set 3 (by "), "{back}");
    assert_eq!(stored(&mut alice, &room).await, "2:hello");
    scripts_do(&redis, &["rollback"]).await;
    assert_eq!(stored(&mut alice, &room).await, "1:hello");
    // Before the first one, the binary's own scripts were in effect
    scripts_do(&redis, &["rollback"]).await;
    assert_eq!(stored(&mut alice, &room).await, "hello");
    // And going to a set is a step that can be rolled back, whatever its number
    scripts_do(&redis, &["rollback", "1"]).await;
    scripts_do(&redis, &["rollback", "3"]).await;
    assert_eq!(stored(&mut alice, &room).await, "3:hello");
    let history = scripts_do(&redis, &["history"]).await;
    assert!(
        history.ends_with("`scripts rollback` goes to set 1\n"),
        "{history}"
    );
    scripts_do(&redis, &["rollback"]).await;
    assert_eq!(stored(&mut alice, &room).await, "1:hello");
    scripts_do(&redis, &["rollback", "embedded"]).await;
    assert_eq!(stored(&mut alice, &room).await, "hello");
    let history = scripts_do(&redis, &["history"]).await;
    assert!(
        history.contains("* the servers' own scripts are current\n"),
        "{history}"
    );
    let refused = scripts(&redis, &["rollback", "9"]).await;
    assert!(
        refused.stderr.contains("set 9 is not kept"),
        "{}",
        refused.stderr
    );
}

/// The kept sets' numbers, and the current one.
async fn kept(redis: &Redis) -> (Vec<u64>, Value) {
    let history = scripts_do(redis, &["history", "--json"]).await;
    let history: Value = serde_json::from_str(&history).expect("JSON");
    let sets = history["sets"].as_array().expect("sets").iter();
    let numbers = sets.map(|set| set["number"].as_u64().expect("a number"));
    (numbers.collect(), history["current"].clone())
}

#[tokio::test]
async fn ten_sets_are_kept_and_what_was_in_effect_for_a_day() {
    let redis = Redis::start().await;
    let rules = Rules::export().await;
    let apply = async |number: u64| {
        let from = "local entry = {";
        let tagged = format!("-- Version {number}.\n{from}");
        rules.edit("send_message", from, &tagged);
        let applied = rules.apply(&redis, &["--no-behaviour"]).await;
        assert_eq!(applied.code, Some(0), "{}", applied.stderr);
        let none = "no server is running";
        assert!(applied.stdout.contains(none), "{}", applied.stdout);
    };
    for number in 1..=12 {
        apply(number).await;
    }
    assert_eq!(kept(&redis).await, ((3..=12).collect(), json!(12)));

    // Given set 4 was in effect for a day, according to the record
    let effect: String = redis.run("HGET chat:scripts effect").await;
    let mut effect: Value = serde_json::from_str(&effect).expect("JSON");
    effect["totalMs"]["4"] = json!(24 * 60 * 60 * 1000);
    let mut hset = redis::cmd("HSET");
    hset.arg("chat:scripts")
        .arg("effect")
        .arg(effect.to_string());
    hset.exec_async(&mut redis.admin()).await.expect("HSET");
    // Then it remains, and the ten that are kept do not include it
    for number in 13..=25 {
        apply(number).await;
    }
    let (numbers, current) = kept(&redis).await;
    assert_eq!(numbers.first(), Some(&4));
    assert_eq!((numbers.len(), current), (10, json!(25)));
}

#[tokio::test]
async fn what_a_former_version_has_stored_can_be_gone_back_to() {
    // Given three sets, stored by a version that did not record what was in effect when
    let redis = Redis::start().await;
    for tag in ["1:", "2:", "3:"] {
        let rules = Rules::export().await;
        rules.tag(tag);
        rules.apply(&redis, &["--no-behaviour", "--force"]).await;
    }
    let _: u64 = redis.run("HDEL chat:scripts effect").await;
    let _: u64 = redis.run("HSET chat:scripts current 2").await;
    // Then a rollback returns to the previous one, and from there to the binary's own
    let back = scripts_do(&redis, &["rollback"]).await;
    assert!(back.starts_with("current: set 1 "), "{back}");
    // And what that version applies meanwhile is a step too
    let _: u64 = redis.run("HSET chat:scripts current 3").await;
    let back = scripts_do(&redis, &["rollback"]).await;
    assert!(back.starts_with("current: set 1 "), "{back}");
    let back = scripts_do(&redis, &["rollback"]).await;
    assert!(
        back.starts_with("current: the servers' own scripts"),
        "{back}"
    );
}

#[tokio::test]
async fn the_same_texts_make_no_new_set() {
    let redis = Redis::start().await;
    let rules = Rules::export().await;
    rules.tag("1:");
    rules.apply(&redis, &["--no-behaviour"]).await;
    let again = rules.apply(&redis, &["--no-behaviour"]).await;
    let said = "set 1 is current, and has the same scripts";
    assert!(again.stdout.contains(said), "{}", again.stdout);
    rules.edit("send_message", "'1:'", "'2:'");
    rules.apply(&redis, &["--no-behaviour"]).await;
    rules.edit("send_message", "'2:'", "'1:'");
    let again = rules.apply(&redis, &["--no-behaviour"]).await;
    let said = "set 1 has the same scripts: it is current again";
    assert!(again.stdout.contains(said), "{}", again.stdout);
    assert_eq!(kept(&redis).await, (vec![1, 2], json!(1)));
    // And a rollback returns to where it came from
    let back = scripts_do(&redis, &["rollback"]).await;
    assert!(back.starts_with("current: set 2 "), "{back}");
}

#[tokio::test]
async fn a_folder_does_not_undo_what_somebody_else_changed_since() {
    // Given Dora and Emil, who both export what is in effect
    let redis = Redis::start().await;
    let (dora, emil) = (
        Rules::export_of(&redis, &[]).await,
        Rules::export_of(&redis, &[]).await,
    );
    dora.edit(
        "send_message",
        "local entry = {",
        "-- Dora's.\nlocal entry = {",
    );
    let applied = dora
        .apply(&redis, &["--no-behaviour", "--by", "dora"])
        .await;
    assert_eq!(applied.code, Some(0), "{}", applied.stderr);

    // When Emil applies his change, then it is refused, as it would undo Dora's, and the output shows that
    emil.edit("leave_chat", "local lease = ", "-- Emil's.\nlocal lease = ");
    let refused = emil.apply(&redis, &["--no-behaviour"]).await;
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.stdout.contains("\n--- Dora's.\n"),
        "{}",
        refused.stdout
    );
    assert!(
        refused.stdout.contains("\n+-- Emil's.\n"),
        "{}",
        refused.stdout
    );
    let said = "set 1 (by dora, ";
    assert!(refused.stderr.contains(said), "{}", refused.stderr);
    assert_eq!(kept(&redis).await, (vec![1], json!(1)));

    // When he starts from what is in effect now, then it is accepted
    let emil = Rules::export_of(&redis, &[]).await;
    emil.edit("leave_chat", "local lease = ", "-- Emil's.\nlocal lease = ");
    let applied = emil.apply(&redis, &["--no-behaviour"]).await;
    assert_eq!(applied.code, Some(0), "{}", applied.stderr);
    let text = scripts_do(&redis, &["show", "send_message"]).await;
    assert!(text.contains("-- Dora's."));

    // And Dora's folder remembers what it was applied as: somebody else's rollback is a change too
    scripts_do(&redis, &["rollback"]).await;
    dora.edit("send_message", "-- Dora's.", "-- Dora's second.");
    let applied = dora.apply(&redis, &["--no-behaviour"]).await;
    assert_eq!(applied.code, Some(0), "{}", applied.stderr);
    scripts_do(&redis, &["rollback"]).await;
    dora.edit("send_message", "-- Dora's second.", "-- Dora's third.");
    let refused = dora.apply(&redis, &["--no-behaviour"]).await;
    assert_eq!(refused.code, Some(1), "{}", refused.stdout);
    // Unless she forces it
    let forced = dora.apply(&redis, &["--no-behaviour", "--force"]).await;
    assert_eq!(forced.code, Some(0), "{}", forced.stderr);
}

#[tokio::test]
async fn export_writes_what_is_in_effect_or_what_is_named() {
    let redis = Redis::start().await;
    for tag in ["1:", "2:"] {
        let rules = Rules::export().await;
        rules.tag(tag);
        rules.apply(&redis, &["--no-behaviour", "--force"]).await;
    }
    for (which, tag) in [
        (&[][..], Some("'2:'")),
        (&["--set", "1"][..], Some("'1:'")),
        (&["--embedded"][..], None),
    ] {
        let rules = Rules::export_of(&redis, which).await;
        let text = fs::read_to_string(rules.file("send_message")).expect("a script");
        let tags = ["'1:'", "'2:'"].into_iter().find(|tag| text.contains(tag));
        assert_eq!(tags, tag, "{which:?}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_named() {
    let redis = Redis::start().await;
    let servers = [Server::start(&redis).await, Server::start(&redis).await];
    let rules = Rules::export().await;
    rules.tag("1:");
    rules.apply(&redis, &["--no-behaviour"]).await;
    servers[1].signal("STOP");
    let told = scripts_do(&redis, &["list"]).await;
    servers[1].signal("CONT");
    let silent = format!(" {} (pid ", servers[1].address);
    let line = told
        .lines()
        .find(|line| line.starts_with("did not answer in time: "));
    assert!(line.is_some_and(|line| line.contains(&silent)), "{told}");
}

#[tokio::test]
async fn the_loss_of_the_applied_set_is_a_warning() {
    // Given a server that runs an applied set
    let redis = Redis::start().await;
    let server = Server::start(&redis).await;
    let rules = Rules::export().await;
    rules.tag("1:");
    rules.apply(&redis, &["--no-behaviour"]).await;
    logged(&server.log, "applied set 1 is in effect").await;
    // When Redis loses it, and the server checks again
    let _: u64 = redis.run("DEL chat:scripts").await;
    let _: redis::Value = redis.run("CLIENT KILL TYPE normal SKIPME yes").await;
    // Then it runs its own, and warns
    logged(&server.log, "WARN  chat_server::scripts::keeper").await;
    logged(&server.log, "Redis has lost applied set 1").await;
}

#[tokio::test]
async fn the_dev_reset_leaves_applied_sets_alone() {
    let redis = Redis::start().await;
    let server = Server::start(&redis).await;
    let rules = Rules::export().await;
    rules.tag("1:");
    rules.apply(&redis, &["--no-behaviour"]).await;
    let mut alice = Client::connect_delta(&server, "alice").await;

    alice.done("resetRedisForDevelopment", Value::Null).await;

    let room = alice.open_room(&["bob"]).await;
    assert_eq!(stored(&mut alice, &room).await, "1:hello");
    let later = Server::start(&redis).await;
    logged(&later.log, "applied set 1").await;
}

#[tokio::test]
async fn a_set_of_another_contract_is_not_run_and_said_so() {
    // Given an installation whose current set belongs to a newer server
    let redis = Redis::start().await;
    let rules = Rules::export().await;
    rules.tag("1:");
    rules.apply(&redis, &["--no-behaviour"]).await;
    let set: String = redis.run("HGET chat:scripts set:1").await;
    let mut set: Value = serde_json::from_str(&set).expect("JSON");
    let ours = set["contract"].take();
    set["contract"] = json!(999);
    let store = async |set: &Value| {
        let mut hset = redis::cmd("HSET");
        hset.arg("chat:scripts").arg("set:1").arg(set.to_string());
        hset.exec_async(&mut redis.admin()).await.expect("HSET");
    };
    store(&set).await;

    // When a server of this version starts, then it runs its own scripts, and says why
    let server = Server::start(&redis).await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let room = alice.open_room(&["bob"]).await;
    assert_eq!(stored(&mut alice, &room).await, "hello");
    logged(&server.log, "set 1 is for contract 999").await;
    let told = list_of_servers(&redis).await;
    assert_eq!(told[0]["set"], "the embedded set");
    let refused = told[0]["refused"].as_str().expect("a reason");
    assert!(refused.contains("contract 999"), "{refused}");

    // And a set that somebody changed in Redis is not run either
    set["contract"] = ours;
    set["scripts"]["send_message"]["text"] = json!("#!lua\nreturn 1");
    store(&set).await;
    let other = Server::start(&redis).await;
    logged(&other.log, "send_message.lua does not match its SHA1").await;
    let mut bob = Client::connect_delta(&other, "bob").await;
    assert_eq!(stored(&mut bob, &room).await, "hello");
}

async fn list_of_servers(redis: &Redis) -> Vec<Value> {
    let list = list(redis).await;
    list["servers"].as_array().expect("servers").clone()
}

#[tokio::test]
async fn lua_dir_is_run_and_the_embedded_stand_in_for_what_is_missing() {
    let redis = Redis::start().await;
    let rules = Rules::export().await;
    rules.tag("dir:");
    fs::remove_file(rules.file("leave_chat")).expect("remove");
    fs::remove_file(rules.file("sync_room")).expect("remove");
    let server = Server::on(&redis)
        .env("LUA_DIR", &rules.path().display().to_string())
        .start()
        .await;
    let log = server.log.text();
    assert!(
        log.contains("using the embedded leave_chat, sync_room"),
        "{log}"
    );
    let place = format!("11 scripts loaded: the folder {}", rules.path().display());
    assert!(log.contains(&place), "{log}");
    let mut alice = Client::connect_delta(&server, "alice").await;
    let room = alice.open_room(&["bob"]).await;
    assert_eq!(stored(&mut alice, &room).await, "dir:hello");

    // An applied set is for servers without a folder of their own
    let other = Rules::export().await;
    other.tag("applied:");
    let applied = other.apply(&redis, &["--no-behaviour"]).await;
    assert_eq!(applied.code, Some(1));
    assert!(
        applied.stdout.contains("LUA_DIR is set"),
        "{}",
        applied.stdout
    );
    assert_eq!(stored(&mut alice, &room).await, "dir:hello");
}

#[tokio::test]
async fn a_server_does_not_start_with_a_bad_lua_dir() {
    let redis = Redis::start().await;
    let rules = Rules::export().await;
    let line = rules.edit(
        "enter_chat",
        "local found, bytes, has_more",
        "local found, , has_more",
    );
    let path = rules.path().display().to_string();
    let exit = Server::on(&redis).env("LUA_DIR", &path).run().await;
    assert_eq!(exit.code, Some(1), "{}", exit.stderr);
    let place = format!("{path}/enter_chat.lua:{line}: ");
    assert!(exit.stderr.contains(&place), "{}", exit.stderr);

    let absent = Server::on(&redis)
        .env("LUA_DIR", "/nowhere/rules")
        .run()
        .await;
    assert_eq!(absent.code, Some(1));
    assert!(
        absent.stderr.contains("/nowhere/rules: No such file"),
        "{}",
        absent.stderr
    );
}

#[tokio::test]
async fn sighup_reads_lua_dir_again_all_or_nothing() {
    // Given a production server, which does not watch its folder
    let redis = Redis::start().await;
    let rules = Rules::export().await;
    let server = Server::on(&redis)
        .env("APP_ENV", "production")
        .env("LUA_DIR", &rules.path().display().to_string())
        .start()
        .await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let room = alice.open_room(&["bob"]).await;

    // When a file is edited and the server is signalled, then the edit takes effect
    rules.tag("2:");
    server.hang_up();
    logged(&server.log, "is in effect, changed: send_message").await;
    assert_eq!(stored(&mut alice, &room).await, "2:hello");

    // When another edit is bad, then the old one stays in effect, and the log has the location
    rules.edit("send_message", "'2:'", "'3:'");
    let line = rules.edit("mark_as_read", "rev = rev + 1", "rev = rev + + 1");
    server.hang_up();
    let place = format!("{}:{line}: ", rules.file("mark_as_read").display());
    logged(&server.log, &place).await;
    logged(&server.log, "the old ones stay in effect").await;
    assert_eq!(stored(&mut alice, &room).await, "2:hello");
    let told = list_of_servers(&redis).await;
    let note = told[0]["note"].as_str().expect("a note");
    assert!(
        note.contains("the folder as it is now was refused"),
        "{note}"
    );
}

#[tokio::test]
async fn in_development_a_changed_file_is_noticed() {
    let redis = Redis::start().await;
    let rules = Rules::export().await;
    let server = Server::on(&redis)
        .env("LUA_DIR", &rules.path().display().to_string())
        .start()
        .await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let room = alice.open_room(&["bob"]).await;

    rules.tag("saved:");
    logged(&server.log, "is in effect, changed: send_message").await;
    assert_eq!(stored(&mut alice, &room).await, "saved:hello");
}

#[tokio::test]
async fn list_tells_what_every_server_does_and_where_they_differ() {
    let redis = Redis::start().await;
    let rules = Rules::export().await;
    rules.tag("x:");
    let own = Server::start(&redis).await;
    let other = Server::on(&redis)
        .env("LUA_DIR", &rules.path().display().to_string())
        .start()
        .await;
    let mut alice = Client::connect_delta(&own, "alice").await;
    let room = alice.open_room(&["bob"]).await;
    for _ in 0..3 {
        alice.say(&room, "hello").await;
    }

    let told = list(&redis).await;
    assert_eq!(told["set"], "the embedded set");
    let loaded = told["scripts"].as_array().expect("scripts");
    assert_eq!(loaded.len(), 11);
    assert!(
        loaded.iter().all(|script| script["loaded"] == true),
        "{told}"
    );
    let diverging = told["diverging"].as_array().expect("a list");
    assert_eq!(diverging.len(), 1, "{told}");
    assert_eq!(diverging[0]["script"], "send_message");
    let of = |server: &Server| {
        let address = server.address.to_string();
        let servers = told["servers"].as_array().expect("servers");
        let found = servers
            .iter()
            .find(|told| told["server"]["address"] == *address);
        let scripts = found.expect("the server")["scripts"].as_array();
        let mut scripts = scripts.expect("scripts").iter();
        scripts
            .find(|script| script["name"] == "send_message")
            .cloned()
            .expect("it")
    };
    // The fence of `open_room` is a message too.
    assert_eq!(of(&own)["calls"], 4);
    let (average, worst) = (of(&own)["averageUs"].as_u64(), of(&own)["worstUs"].as_u64());
    assert!(average > Some(0) && average <= worst, "{told}");
    assert_eq!(of(&other)["calls"], 0);

    let text = scripts_do(&redis, &["list"]).await;
    assert_eq!(text.matches('≠').count(), 2, "{text}");
    assert!(text.contains("1 of 2 servers run other scripts"), "{text}");
}

#[tokio::test]
async fn show_and_diff_print_what_runs() {
    let redis = Redis::start().await;
    let rules = Rules::export().await;
    rules.tag("9:");
    rules.apply(&redis, &["--no-behaviour"]).await;
    let text = fs::read_to_string(rules.file("send_message")).expect("a script");
    assert_eq!(scripts_do(&redis, &["show", "send_message"]).await, text);
    assert_eq!(
        scripts_do(&redis, &["show", "send_message.lua", "--set", "1"]).await,
        text
    );
    let own = scripts_do(&redis, &["show", "send_message", "--embedded"]).await;
    assert_ne!(own, text);
    let diff = scripts_do(&redis, &["diff"]).await;
    assert!(
        diff.starts_with("--- a/send_message.lua\n+++ b/send_message.lua\n@@"),
        "{diff}"
    );
    assert!(diff.contains("or '9:' .. content\n"), "{diff}");
    assert_eq!(scripts_do(&redis, &["diff", "--embedded"]).await, "");
}

#[tokio::test]
async fn run_calls_a_script_with_real_keys() {
    let redis = Redis::start().await;
    let server = Server::start(&redis).await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let run = async |arguments: &[&str]| -> Value {
        let mut all = vec!["run"];
        all.extend(arguments);
        let printed = scripts_do(&redis, &all).await;
        serde_json::from_str(&printed).expect("JSON")
    };

    // A message that is written by hand reaches connected devices
    let made = run(&[
        "initialize_chat",
        "--user",
        "bob",
        "--with",
        "alice",
        "--yes",
    ])
    .await;
    assert_eq!(made["created"], true);
    let room = made["room"].as_str().expect("a room").to_owned();
    alice
        .until("chatEntry", |entry| entry["roomId"] == *room)
        .await;
    let room_arguments = ["--room", &room, "--user", "bob"];
    let with_room = |first: &'static str, more: &[&'static str]| -> Vec<String> {
        let all = std::iter::once(&first).chain(&room_arguments).chain(more);
        all.map(|word| (*word).to_owned()).collect()
    };
    let run_in_room = async |first: &'static str, more: &[&'static str]| {
        let words = with_room(first, more);
        run(&words.iter().map(String::as_str).collect::<Vec<_>>()).await
    };
    let sent = run_in_room("send_message", &["--content", "by hand", "--yes"]).await;
    assert_eq!(sent["seq"], 1);
    let got = alice.until("newMessage", |_| true).await;
    assert_eq!(
        (&got["content"], &got["id"]),
        (&json!("by hand"), &sent["id"])
    );

    // Reads need no confirmation
    let page = run_in_room("get_history", &["--limit", "5"]).await;
    assert_eq!(page["messages"][0]["content"], "by hand");
    let chats = run(&["get_chat_list", "--user", "alice"]).await;
    assert_eq!(chats["entries"][0]["entry"]["unreadCnt"], 1);
    let epoch = page["position"]["epoch"].as_str().expect("an epoch");
    let missed = run(&["sync_room", "--room", &room, "--epoch", epoch, "--rev", "1"]).await;
    assert_eq!(missed["messages"][0]["content"], "by hand");
    let last = page["position"]["lastId"].as_str().expect("an id");
    for (rev, last, changed) in [("1", last, true), ("2", "0-0", true), ("2", last, false)] {
        let asked = [
            "compare_rooms",
            "--room",
            &room,
            "--epoch",
            epoch,
            "--rev",
            rev,
            "--last",
            last,
        ];
        assert_eq!(run(&asked).await, json!({ "changed": changed }));
    }

    // Writes do, and the missing flag is named
    let refused = scripts(&redis, &["run", "send_message", "--room", &room]).await;
    assert!(refused.stderr.contains("use --yes"), "{}", refused.stderr);
    let refused = scripts(&redis, &["run", "send_message", "--room", &room, "--yes"]).await;
    assert!(
        refused.stderr.contains("send_message needs --content"),
        "{}",
        refused.stderr
    );
    let stranger = ["run", "get_history", "--room", &room, "--user", "mallory"];
    let refused = scripts(&redis, &stranger).await;
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.stderr.contains("NOT_MEMBER: "),
        "{}",
        refused.stderr
    );
}

#[tokio::test]
async fn check_prints_a_line_for_each_script_or_json() {
    let redis = Redis::start().await;
    let ok = scripts_do(&redis, &["check"]).await;
    assert_eq!(
        ok.lines().filter(|line| line.starts_with("ok  ")).count(),
        11,
        "{ok}"
    );
    assert!(ok.contains("cases on a scratch Redis"), "{ok}");

    let rules = Rules::export().await;
    let line = rules.edit("send_message", "'ZCARD'", "'FLUSHALL'");
    let path = rules.path().display().to_string();
    let bad = scripts(&redis, &["check", &path]).await;
    assert_eq!(bad.code, Some(1), "{}", bad.stdout);
    let place = format!("{path}/send_message.lua:{line}: ");
    assert!(bad.stdout.contains(&place), "{}", bad.stdout);
    assert_eq!(bad.stdout.matches("ok  ").count(), 10, "{}", bad.stdout);

    let bad = scripts(&redis, &["check", &path, "--json"]).await;
    assert_eq!(bad.code, Some(1));
    let told: Value = serde_json::from_str(&bad.stdout).expect("JSON");
    assert_eq!(told["ok"], false);
    assert_eq!(told["problems"][0]["line"], line);
    let unsound = told["scripts"].as_array().expect("scripts").iter();
    let unsound: Vec<&Value> = unsound.filter(|script| script["ok"] == false).collect();
    assert_eq!(unsound.len(), 1);
    assert_eq!(unsound[0]["name"], "send_message");
}

#[tokio::test]
async fn the_operator_s_own_cases_are_played() {
    let redis = Redis::start().await;
    let rules = Rules::export().await;
    let path = rules.path().display().to_string();
    // Given the cases that come with the scripts, then they pass, once they are copied as one's own
    let file = rules.path().join("cases.jsonl");
    assert!(!file.exists());
    fs::copy(rules.path().join("cases.example.jsonl"), &file).expect("the example");
    let ok = scripts_do(&redis, &["check", &path]).await;
    assert!(ok.contains("and 3 cases of your own"), "{ok}");

    // And given a rule, with cases that say what it does
    rules.edit(
        "send_message",
        "\n-- Reading every key",
        "\nif content:find('casino', 1, true) then return redis.error_reply('REJECTED No advertising.') end\n-- Reading every key",
    );
    let given = r#""given": {"direct": ["alice", "bob"]}"#;
    let case = |case: &str, content: &str, then: &str| {
        format!(
            r#"{{"case": "{case}", {given}, "when": {{"sendMessage": ["alice", "{content}"]}}, "then": {then}}}"#
        )
    };
    let refused = case(
        "no casino",
        "the casino",
        r#"{"refused": "No advertising"}"#,
    );
    fs::write(&file, format!("# Mine.\n\n{refused}\n")).expect("write");
    let ok = scripts_do(&redis, &["check", &path]).await;
    assert!(ok.contains("and 1 cases of your own"), "{ok}");

    // When a case fails, then its line is named, and the actual outcome
    let stored = case("dinner", "the casino", r#"{"stored": "the casino"}"#);
    fs::write(&file, format!("{refused}\n{stored}\n")).expect("write");
    for command in ["check", "apply"] {
        let bad = scripts(&redis, &[command, &path]).await;
        assert_eq!(bad.code, Some(1));
        let said = format!("{}{}", bad.stdout, bad.stderr);
        let told = format!(
            "{}:2: case `dinner`: it is refused: No advertising.",
            file.display()
        );
        assert!(said.contains(&told), "{said}");
    }
    // And an invalid case is reported too
    fs::write(&file, "{\"case\": \"x\"}\n").expect("write");
    let bad = scripts(&redis, &["check", &path]).await;
    assert!(
        bad.stdout.contains("cases.jsonl:1: this is not a case"),
        "{}",
        bad.stdout
    );
}

#[tokio::test]
async fn a_rule_is_tried_by_run_before_any_server_has_it() {
    let redis = Redis::start().await;
    let server = Server::start(&redis).await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let room = alice.open_room(&["bob"]).await;
    let rules = Rules::export().await;
    rules.tag("tried:");
    let tried = Server::on(&redis)
        .without("JWT_SECRET")
        .env("LUA_DIR", &rules.path().display().to_string())
        .args(&[
            "scripts",
            "run",
            "send_message",
            "--room",
            &room,
            "--user",
            "alice",
            "--content",
            "hello",
            "--yes",
        ])
        .run()
        .await;
    assert_eq!(tried.code, Some(0), "{}", tried.stderr);
    let contents: Vec<Value> = alice
        .history(&room)
        .await
        .iter()
        .map(|it| it["content"].clone())
        .collect();
    assert_eq!(contents.last(), Some(&json!("tried:hello")));
    assert_eq!(stored(&mut alice, &room).await, "hello");
}
