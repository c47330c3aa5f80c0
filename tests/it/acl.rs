//! `deploy/redis.acl`: the server can do all its work with those rights, and nobody can do more with them.

use std::{fs, path::PathBuf, process::Stdio};

use redis::{Client as RedisClient, RedisError, aio::MultiplexedConnection, cmd};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::support::replaced::{GROUP, Replaced, assert_counts, leaving_alone, text};
use crate::support::rules::Rules;
use crate::support::server::{Builder, Exit};
use crate::support::{Client, Redis, Server, eventually, free_port, json};

/// The output of `printf %s geheim | sha256sum`.
const PASSWORD: &str = "geheim";
const PASSWORD_SHA256: &str = "addb0f5e7826c857d7376d1bd9bc33c0c544790a2eac96144a8af22b1298c940";

/// A `redis-server` whose settings include the shipped file, as the file itself recommends; `chief` may do everything.
struct Guarded {
    port: u16,
    _dir: TempDir,
    _process: Child,
}

impl Guarded {
    /// `more` is added to the rights of the shipped user.
    async fn start(more: &str, options: &[&str]) -> Self {
        let shipped = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("deploy/redis.acl");
        let shipped = fs::read_to_string(shipped).unwrap();
        assert_eq!(shipped.matches("#PASSWORD_SHA256").count(), 1);
        let acl = shipped
            .replace("#PASSWORD_SHA256", &format!("#{PASSWORD_SHA256}"))
            .replace("-@all", &format!("-@all {more}"));
        let dir = TempDir::with_prefix("chat-acl-").unwrap();
        let file = |name: &str| dir.path().join(name);
        fs::write(file("chat-server.acl"), acl).unwrap();
        let port = free_port();
        let settings = format!(
            "include {}\nuser chief on >chief ~* &* +@all\nport {port}\nbind 127.0.0.1\nsave \"\"\ndir {}\n",
            file("chat-server.acl").display(),
            dir.path().display(),
        );
        fs::write(file("redis.conf"), settings).unwrap();
        let process = Command::new("redis-server")
            .arg(file("redis.conf"))
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let redis = Self {
            port,
            _dir: dir,
            _process: process,
        };
        eventually("Redis answers", async || {
            redis.try_connect("chief", "chief").await.is_ok()
        })
        .await;
        redis
    }

    fn url(&self, user: &str, password: &str) -> String {
        format!("redis://{user}:{password}@127.0.0.1:{}", self.port)
    }

    async fn try_connect(
        &self,
        user: &str,
        password: &str,
    ) -> Result<MultiplexedConnection, RedisError> {
        let url = format!("{}?protocol=resp3", self.url(user, password));
        RedisClient::open(url)?
            .get_multiplexed_async_connection()
            .await
    }

    async fn connect(&self, user: &str, password: &str) -> MultiplexedConnection {
        self.try_connect(user, password).await.unwrap()
    }

    fn server(&self) -> Builder {
        Server::builder().env("REDIS_URL", &self.url("chat-server", PASSWORD))
    }

    /// `chat-server scripts …` with the server's own rights.
    async fn scripts(&self, arguments: &[&str]) -> Exit {
        let mut all = vec!["scripts"];
        all.extend(arguments);
        let server = self.server().without("JWT_SECRET");
        server.args(&all).run().await
    }
}

/// Runs a command whose words are separated by spaces.
async fn run(
    connection: &mut MultiplexedConnection,
    command: &str,
) -> Result<redis::Value, RedisError> {
    let mut words = command.split(' ');
    let mut call = cmd(words.next().unwrap());
    words.for_each(|word| {
        call.arg(word);
    });
    call.query_async(connection).await
}

#[tokio::test]
async fn the_server_does_all_its_work_with_the_shipped_rights() {
    // Given a Redis with the shipped user, and two servers that know its password
    let redis = Guarded::start("", &[]).await;
    let one = redis.server().start().await;
    let other = redis.server().start().await;
    let mut alice = Client::connect_delta(&one, "alice").await;
    let mut bob = Client::connect(&other, "bob").await;

    // Then everything works: rooms, messages, reading, viewing, lists, pages
    let room = alice.open_room(&["bob"]).await;
    let group = alice.open_room(&["bob", "carol"]).await;
    let hello = json!({"roomId": room, "content": "hello", "clientMessageId": "m-1"});
    let first = alice.done("sendMessage", hello.clone()).await;
    assert_eq!(first["seq"], 1);
    let again = alice.done("sendMessage", hello).await;
    assert_eq!(again["duplicate"], true);
    assert_eq!(bob.expect_any("newMessage").await["content"], "hello");
    bob.enter(&room).await;
    alice.say(&room, "seen at once").await;
    bob.leave().await;
    alice.say(&group, "to all").await;
    bob.mark(&room, &first["id"]).await;
    assert_eq!(bob.history(&room).await.len(), 2);
    assert_eq!(alice.list().await.as_array().map(Vec::len), Some(2));

    // And so do an operator's commands: the scripts are flushed, applied and rolled back
    let mut chief = redis.connect("chief", "chief").await;
    run(&mut chief, "SCRIPT FLUSH").await.unwrap();
    alice.say(&room, "after the flush").await;
    let rules = Rules::export().await;
    rules.tag("1:");
    let path = rules.path().display().to_string();
    let listed = redis.scripts(&["list"]).await;
    assert_eq!(listed.code, Some(0), "{}", listed.stderr);
    let applied = redis.scripts(&["apply", &path]).await;
    assert_eq!(applied.code, Some(0), "{}", applied.stderr);
    assert!(
        applied.stdout.contains("2 of 2 servers run it"),
        "{}",
        applied.stdout
    );
    alice.say(&room, "tagged").await;
    let last = alice.history(&room).await.pop().unwrap();
    assert_eq!(last["content"], "1:tagged");
    for command in ["history", "rollback"] {
        let done = redis.scripts(&[command]).await;
        assert_eq!(done.code, Some(0), "{command}: {}", done.stderr);
    }

    // And the connections are restored when they are cut, and nothing is missed
    run(&mut chief, "CLIENT KILL TYPE normal SKIPME yes")
        .await
        .unwrap();
    run(&mut chief, "CLIENT KILL TYPE pubsub").await.unwrap();
    // With an id of its own, so that it can be sent again if the cut interrupted it
    let safe = json!({"roomId": room, "content": "after the cut", "clientMessageId": "m-2"});
    alice.done("sendMessage", safe).await;
    bob.until("newMessage", |message| {
        message["content"] == "after the cut"
    })
    .await;

    // And nothing was refused along the way
    let log: Vec<redis::Value> = cmd("ACL").arg("LOG").query_async(&mut chief).await.unwrap();
    assert!(log.is_empty(), "{log:?}");
}

#[tokio::test]
async fn nobody_can_do_more_with_the_shipped_rights() {
    let redis = Guarded::start("", &[]).await;
    let mut chief = redis.connect("chief", "chief").await;
    for command in ["SET other foreign", "HSET chats:{room:1}:meta seq 1"] {
        run(&mut chief, command).await.unwrap();
    }

    // Given a connection that is authenticated as the server's user
    let mut user = redis.connect("chat-server", PASSWORD).await;
    run(&mut user, "SET chat:own 1").await.unwrap();

    // Then commands, keys and channels that do not belong to the server are refused
    for command in [
        "EVAL return 0",
        "EVAL_RO return 0",
        "FUNCTION LIST",
        "CONFIG SET maxmemory 0",
        "CONFIG GET *",
        "FLUSHALL",
        "FLUSHDB",
        "KEYS *",
        "SCAN 0",
        "ACL LIST",
        "CLIENT LIST",
        "SCRIPT FLUSH",
        "SHUTDOWN",
        "REPLICAOF NO ONE",
        "MONITOR",
        "DEL chat:own",
        "RENAME chat:own chat:other",
        "GET other",
        "SET other 1",
        "HGET chats:{room:1}:meta seq",
        "SPUBLISH other 1",
        "SPUBLISH chats:control 1",
        "PUBLISH chat:control 1",
        "SUBSCRIBE chat:control",
        "PSUBSCRIBE *",
        "SSUBSCRIBE other",
    ] {
        let refused = run(&mut user, command).await.expect_err(command);
        assert_eq!(refused.code(), Some("NOPERM"), "{command}: {refused}");
    }

    // And a script can do no more than its caller
    for body in [
        "redis.call('GET', 'other')",
        "redis.call('SET', 'other', '1')",
        "redis.call('FLUSHALL')",
        "redis.call('KEYS', '*')",
        "redis.call('PUBLISH', 'chat:control', '1')",
        "redis.call('SPUBLISH', 'other', '1')",
    ] {
        let script = format!("return {body}");
        let sha: String = cmd("SCRIPT")
            .arg("LOAD")
            .arg(&script)
            .query_async(&mut user)
            .await
            .unwrap();
        let refused = run(&mut user, &format!("EVALSHA {sha} 0"))
            .await
            .expect_err(body);
        let said = refused.to_string();
        // The wording of Redis 7.0 and of newer versions.
        let words = [
            "The user executing the script can't",
            "ACL failure in script",
        ];
        assert!(
            words.iter().any(|words| said.contains(words)),
            "{body}: {said}"
        );
    }
    let kept: String = cmd("GET")
        .arg("other")
        .query_async(&mut chief)
        .await
        .unwrap();
    assert_eq!(kept, "foreign");

    // And nobody can connect without a name or with another password
    for (user, password) in [("", ""), ("default", ""), ("chat-server", "wrong")] {
        let no_entry = redis.try_connect(user, password).await;
        let refused = match no_entry {
            Ok(mut connection) => run(&mut connection, "PING").await.expect_err(user),
            Err(refused) => refused,
        };
        let code = refused.code().unwrap_or_default().to_owned();
        assert!(
            ["NOAUTH", "WRONGPASS"].contains(&code.as_str())
                || refused.kind() == redis::ErrorKind::AuthenticationFailed,
            "{user}: {refused}"
        );
    }
}

#[tokio::test]
async fn the_rights_that_are_left_out_are_those_of_the_reset_and_of_fsync() {
    // Given a Redis that writes each command to disk, and the rights that the file gives for it
    let more = "+config|get +scan";
    let options = ["--appendonly", "yes", "--appendfsync", "always"];
    let redis = Guarded::start(more, &options).await;
    let server = redis.server().env("DURABILITY", "fsync").start().await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let room = alice.open_room(&["bob"]).await;
    assert_eq!(alice.say(&room, "on disk").await["seq"], 1);
    let reset = alice.done("resetRedisForDevelopment", json!(null)).await;
    assert_eq!(reset["success"], true);

    // And without them the reset is refused and deletes nothing
    let redis = Guarded::start("", &[]).await;
    let server = redis.server().start().await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let room = alice.open_room(&["bob"]).await;
    alice.say(&room, "kept").await;
    let status = alice.request("resetRedisForDevelopment", json!(null)).await;
    assert!(
        status.is_err() || status.is_ok_and(|result| result["success"] == false),
        "the reset said that it was done"
    );
    assert_eq!(alice.history(&room).await.len(), 1);
}

#[tokio::test]
async fn redis_does_not_start_before_the_placeholder_is_replaced() {
    let shipped = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("deploy/redis.acl");
    let dir = TempDir::with_prefix("chat-acl-").unwrap();
    let conf = dir.path().join("redis.conf");
    fs::write(&conf, format!("include {}\nport 0\n", shipped.display())).unwrap();
    let refused = Command::new("redis-server")
        .arg(&conf)
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stdout).into_owned()
        + &String::from_utf8_lossy(&refused.stderr);
    assert!(
        said.contains("The password hash must be exactly 64 characters"),
        "{said}"
    );
}

#[tokio::test]
async fn an_import_needs_no_more_rights_and_only_reads_the_old_data() {
    // Given the shipped user on the new Redis, and a user on the old Redis that may only read
    let into = Guarded::start("", &[]).await;
    let from = Redis::start_tcp().await;
    let old = Replaced { redis: &from };
    old.room(
        GROUP,
        &["alice", "bob", "carol"],
        &[text("m-1", "alice", "Hello", 1, &["bob"])],
    )
    .await;
    old.name(GROUP, "Book club").await;
    let moving = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/moving.md");
    let moving = fs::read_to_string(moving).unwrap();
    let reads = moving.split('`').find(|code| code.starts_with("+info"));
    let reads = reads.expect("the rights that are needed");
    let rights = format!("ACL SETUSER reader on >reader ~chat:* ~user:* -@all {reads}");
    from.run::<()>(&rights).await;
    let url = format!("redis://reader:reader@127.0.0.1:{}", from.port);

    // Then an import does all its work, twice
    for taken in [(1, "new chats"), (1, "chats have nothing new")] {
        let command = Server::builder()
            .env("REDIS_URL", &into.url("chat-server", PASSWORD))
            .args(&["import", "--from", &url]);
        let exit = leaving_alone(&from, command).await;
        assert_eq!(exit.code, Some(0), "{}{}", exit.stdout, exit.stderr);
        assert_counts(&exit.stdout, &[taken]);
    }
    let refused: Vec<redis::Value> = from.run("ACL LOG").await;
    assert_eq!(refused, []);
}

/// Counts the messages of a room with a command that the shipped user may not run.
fn count_by_hincrby(rules: &Rules) {
    let count = "redis.call('HINCRBY', ext, 'count', 1)";
    let publish = "redis.call('SPUBLISH', events, event)";
    rules.edit("send_message", publish, &format!("{count}\n{publish}"));
}

#[tokio::test]
async fn an_edit_that_needs_further_rights_is_refused_before_anything_is_stored() {
    // Given a server with the shipped rights, and a rule that needs one more
    let redis = Guarded::start("", &[]).await;
    let server = redis.server().start().await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let mut bob = Client::connect_delta(&server, "bob").await;
    let room = alice.open_room(&["bob"]).await;
    let rules = Rules::export().await;
    count_by_hincrby(&rules);
    let path = rules.path().display().to_string();

    // When it is checked or applied, then it is refused, and the missing right is named
    for command in ["check", "apply"] {
        let refused = redis.scripts(&[command, &path]).await;
        assert_eq!(refused.code, Some(1));
        let said = format!("{}{}", refused.stdout, refused.stderr);
        assert!(said.contains("HINCRBY is not among the rights"), "{said}");
        assert!(said.contains("+hincrby"), "{said}");
    }

    // And where the operator says that the user has the right, the server asks Redis, keeps running its own set, and
    // says why
    let applied = redis.scripts(&["apply", &path, "--allow", "hincrby"]).await;
    assert_eq!(applied.code, Some(1));
    assert!(
        applied.stdout.contains(
            "does not allow its user what these scripts need: HINCRBY on the keys of rooms"
        ),
        "{}",
        applied.stdout
    );
    alice.say(&room, "whole").await;
    assert_eq!(bob.expect_any("newMessage").await["content"], "whole");

    // And a server that is given that folder runs the embedded set
    let other = redis.server().env("LUA_DIR", &path).start().await;
    let log = other.log.text();
    assert!(
        log.contains("the scripts of LUA_DIR are not run; the embedded set runs instead"),
        "{log}"
    );
    let mut carol = Client::connect_delta(&other, "alice").await;
    carol.say(&room, "whole again").await;
    assert_eq!(bob.expect_any("newMessage").await["content"], "whole again");
}

#[tokio::test]
async fn an_edit_runs_with_the_further_rights_that_it_needs() {
    let redis = Guarded::start("+hincrby", &[]).await;
    let server = redis.server().start().await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let room = alice.open_room(&["bob"]).await;
    let rules = Rules::export().await;
    count_by_hincrby(&rules);
    let path = rules.path().display().to_string();
    let applied = redis.scripts(&["apply", &path, "--allow", "hincrby"]).await;
    assert_eq!(
        applied.code,
        Some(0),
        "{}{}",
        applied.stdout,
        applied.stderr
    );
    alice.say(&room, "counted").await;
    let mut chief = redis.connect("chief", "chief").await;
    let ext = format!("HGET chat:{{room:{room}}}:ext count");
    let count = run(&mut chief, &ext).await.unwrap();
    assert_eq!(count, redis::Value::BulkString(b"1".to_vec()));
}

/// The lines of the recipe under a heading of lua/README.md.
fn recipe(readme: &str, heading: &str) -> Vec<String> {
    let section = readme
        .split(&format!("\n### {heading}\n"))
        .nth(1)
        .expect("the heading");
    let block = section
        .split("```sh\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next());
    block
        .expect("a recipe")
        .lines()
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn who_is_removed_by_hand_with_a_dba_s_own_rights_gets_no_more_messages() {
    // Given the user that lua/README.md sets up for an operator, besides the server's user
    let redis = Guarded::start("", &[]).await;
    let mut chief = redis.connect("chief", "chief").await;
    let readme =
        fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("lua/README.md"))
            .unwrap();
    let user = readme
        .split('`')
        .find(|code| code.starts_with("ACL SETUSER dba "))
        .expect("the user");
    run(&mut chief, user).await.unwrap();
    let mut dba = redis.connect("dba", "password").await;
    for refused in ["CONFIG GET *", "FLUSHALL", "SET other 1", "KEYS *"] {
        run(&mut dba, refused).await.expect_err(refused);
    }

    // And a group whose members are connected to two servers, with both kinds of lists
    let servers = [redis.server().start().await, redis.server().start().await];
    let mut alice = Client::connect_delta(&servers[0], "alice").await;
    let mut bob = Client::connect_delta(&servers[1], "bob").await;
    let mut tablet = Client::connect(&servers[0], "bob").await;
    let mut carol = Client::connect_delta(&servers[1], "carol").await;
    let room = alice.open_room(&["bob", "carol"]).await;
    alice.say(&room, "before").await;
    for device in [&mut bob, &mut tablet, &mut carol] {
        device
            .until("newMessage", |message| message["content"] == "before")
            .await;
    }

    // When Bob is removed as the recipe describes
    let mut removed = 0;
    for line in recipe(&readme, "Remove a member") {
        let Some(command) = line.strip_prefix("redis-cli ") else {
            continue;
        };
        let command = command.replace("\\\"", "\u{1}").replace(['\'', '"'], "");
        let command = command.replace('\u{1}', "\"").replace("$room", &room);
        run(&mut dba, &command).await.unwrap();
        removed += 1;
    }
    assert_eq!(removed, 4);

    // Then nothing from the room reaches his devices any more, and the others carry on
    let gone = |list: &serde_json::Value| list.as_array().unwrap().is_empty();
    tablet.until("chatList", gone).await;
    alice.say(&room, "after").await;
    carol
        .until("newMessage", |message| message["content"] == "after")
        .await;
    for device in [&mut bob, &mut tablet] {
        device.expect_nothing_of("newMessage").await;
    }
    let refused = json!({ "roomId": room, "content": "still here" });
    bob.refused("sendMessage", refused, "NOT_MEMBER").await;
    let log: Vec<redis::Value> = cmd("ACL").arg("LOG").query_async(&mut chief).await.unwrap();
    assert!(!log.is_empty(), "the refused commands");
}
