//! Runs what headers and `lua/README.md` tell people to type: in a shell, at the repository's root, as written.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use chat_server::scripts::Script;
use regex::Regex;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::files::{header, read, root};
use crate::support::{PATIENCE, Redis, World, users};

/// A terminal on a Redis: `redis-cli` connects to that one, fails where Redis does, and prints as it does for people
/// (numbered, quoted) where its output is the terminal's own and not a pipe's.
struct Terminal<'a> {
    redis: &'a Redis,
    screen: PathBuf,
}

const REDIS_CLI: &str = r#"#!/bin/sh
PATH=$OUTER_PATH
if [ /dev/fd/1 -ef "$SCREEN" ]; then
  exec redis-cli -s "$REDIS_SOCKET" -e --no-raw "$@"
fi
exec redis-cli -s "$REDIS_SOCKET" -e "$@"
"#;

impl<'a> Terminal<'a> {
    fn on(redis: &'a Redis) -> Self {
        let bin = redis.dir.path().join("bin");
        if !bin.exists() {
            fs::create_dir(&bin).unwrap();
            let program = bin.join("redis-cli");
            fs::write(&program, REDIS_CLI).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let screen = redis.dir.path().join("screen");
        Self { redis, screen }
    }

    /// Starts the lines; their output is on the screen.
    fn start(&self, lines: &str) -> Child {
        let screen = File::create(&self.screen).unwrap();
        let path = std::env::var("PATH").unwrap();
        let bin = self.redis.dir.path().join("bin");
        Command::new("sh")
            .args(["-e", "-c", lines])
            .current_dir(root())
            .env("PATH", format!("{}:{path}", bin.display()))
            .env("OUTER_PATH", path)
            .env("SCREEN", &self.screen)
            .env("REDIS_SOCKET", self.redis.socket())
            .stdin(Stdio::null())
            .stderr(screen.try_clone().unwrap())
            .stdout(screen)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    fn screen(&self) -> String {
        fs::read_to_string(&self.screen).unwrap()
    }

    async fn run(&self, lines: &str) -> (ExitStatus, String) {
        let mut shell = self.start(lines);
        let status = timeout(PATIENCE, shell.wait())
            .await
            .unwrap_or_else(|_| panic!("`{lines}` does not end"));
        (status.unwrap(), self.screen())
    }

    async fn succeeds(&self, lines: &str) -> String {
        let (status, screen) = self.run(lines).await;
        assert!(status.success(), "`{lines}`: {status}\n{screen}");
        screen
    }
}

fn try_line(script: Script) -> String {
    header(script).try_line.text
}

#[tokio::test]
async fn the_try_line_of_each_script_works() {
    for script in Script::ALL {
        // Given a room, made and filled by the lines of two scripts
        let redis = Redis::start().await;
        let terminal = Terminal::on(&redis);
        for seed in [Script::InitializeChat, Script::SendMessage] {
            terminal.succeeds(&try_line(seed)).await;
        }

        // When the script's own line is typed, then Redis runs it
        let screen = terminal.succeeds(&try_line(script)).await;
        assert!(
            screen.starts_with("1) ") && !screen.contains("(error)"),
            "{}: {screen}",
            script.name()
        );
    }
}

#[tokio::test]
async fn the_terminal_tells_a_failure() {
    let redis = Redis::start().await;
    let terminal = Terminal::on(&redis);
    let (status, screen) = terminal.run(&try_line(Script::SendMessage)).await;
    assert!(!status.success());
    assert!(screen.contains("NOT_MEMBER"), "{screen}");
}

/// A recipe of the README: a fenced block of `sh`, and the output in a block of `text` right after it.
struct Recipe {
    line: usize,
    commands: String,
    shown: Option<String>,
}

fn recipes(readme: &str) -> Vec<Recipe> {
    let fence = Regex::new(r"(?ms)^```(\w+)\n(.*?)^```\n").unwrap();
    let mut recipes: Vec<Recipe> = Vec::new();
    let mut last_end = 0;
    for block in fence.captures_iter(readme) {
        let whole = block.get(0).unwrap();
        let between = &readme[last_end..whole.start()];
        match &block[1] {
            "sh" => recipes.push(Recipe {
                line: readme[..whole.start()].lines().count() + 1,
                commands: block[2].to_owned(),
                shown: None,
            }),
            "text" if between.trim().is_empty() => {
                recipes.last_mut().unwrap().shown = Some(block[2].to_owned());
            }
            _ => {}
        }
        last_end = whole.end();
    }
    recipes
}

/// Replaces what differs from run to run: times, the random part of an epoch, a device's id, bytes.
pub(crate) fn masked(text: &str) -> String {
    let mut text = text.to_owned();
    for (pattern, mask) in [
        (r"\b1[5-9]\d{11}-[0-9a-f]{8}\b", "<epoch>"),
        (r"\b1[5-9]\d{11}\b", "<ms>"),
        (r"\b[0-9a-f]{32}\b", "<device>"),
        (r"\b\d+ bytes\b", "<bytes>"),
    ] {
        text = Regex::new(pattern)
            .unwrap()
            .replace_all(&text, mask)
            .into_owned();
    }
    // The order of an object's fields is Redis's choice.
    let line = |line: &str| match serde_json::from_str::<serde_json::Value>(line) {
        Ok(json) if line.starts_with('{') => json.to_string(),
        _ => line.trim_end().to_owned(),
    };
    let lines: Vec<String> = text.lines().map(line).collect();
    lines.join("\n")
}

/// The data that the recipes find: Alice and Bob have talked, Bob has read one of three messages and views the room on
/// his phone.
async fn seeded() -> World {
    let world = World::start().await;
    let [alice, bob, carol, odd] = users(["alice", "bob", "carol", "auth0|66f1"]);
    let room = world.direct(&alice, &bob).await;
    let hello = world
        .store
        .send_message(room, &alice, "Hello Bob", Some("m-1"))
        .await
        .unwrap();
    world
        .store
        .mark_as_read(room, &bob, hello.id)
        .await
        .unwrap();
    world.say(room, &alice, "Are you there?").await;
    world.say(room, &alice, "I have the tickets.").await;
    world.direct(&alice, &carol).await;
    world.direct(&alice, &odd).await;
    world
}

#[tokio::test]
async fn each_recipe_of_the_readme_works() {
    let readme = read("README.md");
    let recipes = recipes(&readme);
    assert!(recipes.len() >= 15, "only {} recipes", recipes.len());
    let mut wrong = Vec::new();
    for recipe in recipes {
        let what = format!("lua/README.md:{}:\n{}", recipe.line, recipe.commands);
        let shown = recipe
            .shown
            .unwrap_or_else(|| panic!("no output is shown after {what}"));
        // Each starts with the same data, so that they may be read in any order
        let world = seeded().await;
        if recipe.commands.contains("}:viewing") {
            enter_as_bob(&world).await;
        }
        let terminal = Terminal::on(&world.redis);
        if recipe.commands.contains("ssubscribe") {
            follows(&world, &terminal, &recipe.commands, &shown).await;
            continue;
        }
        let (status, screen) = terminal.run(&recipe.commands).await;
        if !status.success() || masked(&screen) != masked(&shown) {
            wrong.push(format!("{what}ends with {status} and shows\n{screen}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Bob's phone views the room, and a device of Alice's did when its server was killed.
async fn enter_as_bob(world: &World) {
    let [alice, bob] = users(["alice", "bob"]);
    let room = chat_server::protocol::ids::RoomId::direct(&alice, &bob);
    world.enter(room, &bob).await;
    let viewing = world.key(room, "viewing");
    let stale = "0123456789abcdef0123456789abcdef:alice";
    let _: u64 = world
        .redis
        .run(&["ZADD", &viewing, "1700000000000", stale])
        .await;
}

/// A recipe that runs until Ctrl-C: it shows what happens in the room meanwhile.
async fn follows(world: &World, terminal: &Terminal<'_>, commands: &str, shown: &str) {
    let mut shell = terminal.start(commands);
    let [alice, bob] = users(["alice", "bob"]);
    let room = chat_server::protocol::ids::RoomId::direct(&alice, &bob);
    let channel = world.key(room, "events");
    let deadline = Instant::now() + PATIENCE;
    let until = async |what: &str, done: &dyn Fn(&str) -> bool, redis_knows: bool| loop {
        let heard: (String, u64) = world.redis.run(&["PUBSUB", "SHARDNUMSUB", &channel]).await;
        let screen = terminal.screen();
        if (!redis_knows || heard.1 == 1) && done(&screen) {
            break;
        }
        assert!(Instant::now() < deadline, "{what}: {screen}");
        sleep(Duration::from_millis(10)).await;
    };
    until("it subscribes", &|_| true, true).await;
    let id = world.say(room, &alice, "See you at eight.").await;
    world.store.mark_as_read(room, &bob, id).await.unwrap();
    let expected = masked(shown);
    until("it shows", &|screen| masked(screen) == expected, false).await;
    shell.kill().await.unwrap();
}
