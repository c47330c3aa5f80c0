//! `chat-server import`: its source and target, interrupted and repeated runs, and its messages when it cannot run.

use std::collections::BTreeMap;

use tempfile::TempDir;

use crate::support::replaced::{
    ALICE_AND_BOB, DIRECT, GROUP, Replaced, assert_counts, import, import_all, importing, key,
    said, text,
};
use crate::support::{Client, Redis, Server, Value, eventually, json};

#[tokio::test]
async fn an_import_that_was_cut_off_goes_on_to_the_same_end() {
    // Given many rooms, one of them with a history that takes several calls
    let redis = Redis::start().await;
    let old = Replaced { redis: &redis };
    let text_of = |n: u64| {
        text(
            &format!("m-{n}"),
            "alice",
            &"long ".repeat(200),
            n,
            &["bob"],
        )
    };
    let list: Vec<Value> = (0..1000).map(text_of).collect();
    old.room(GROUP, &["alice", "bob", "carol"], &list).await;
    for n in 0..20 {
        let user = format!("friend-{n}");
        let room = format!("00000000-0000-4000-8000-{n:012}");
        old.room(&room, &["alice", &user], &list[..100]).await;
    }
    let whole = Redis::start().await;
    import_all(&redis, &whole).await;

    // When memory runs out on the way, again and again
    let cut = Redis::start().await;
    let mut runs = 0;
    let mut ended = None;
    while ended != Some(0) {
        let info: String = cut.run("INFO memory").await;
        let used = info
            .lines()
            .find_map(|line| line.strip_prefix("used_memory:"));
        let used: u64 = used.unwrap().trim().parse().unwrap();
        let limit = used + 400_000;
        cut.run::<()>(&format!("CONFIG SET maxmemory {limit}"))
            .await;
        let exit = import(&redis, &cut, &[]).await;
        (ended, runs) = (exit.code, runs + 1);
        let said = exit.stderr.contains("OOM") && exit.stderr.contains("Run this again");
        assert!(
            ended == Some(0) || ended == Some(2) && said,
            "{}",
            exit.stderr
        );
        assert!(runs < 100, "it comes to no end");
    }
    assert!(runs > 3, "it was not cut off: {runs}");

    // Then the result is the same as after a single run
    let contents = async |redis: &Redis| {
        let mut contents = Vec::new();
        let mut keys: Vec<String> = redis.run("KEYS *").await;
        keys.sort();
        for key in keys {
            let value: Value = match key.rsplit(':').next() {
                Some("meta") => {
                    let mut meta: BTreeMap<String, String> =
                        redis.run(&format!("HGETALL {key}")).await;
                    // Random, and the number of steps.
                    meta.retain(|field, _| !["epoch", "rev"].contains(&field.as_str()));
                    json!(meta)
                }
                Some("messages") => {
                    let stream: Vec<(String, Vec<String>)> =
                        redis.run(&format!("XRANGE {key} - +")).await;
                    json!(stream)
                }
                _ => json!(redis.run::<Vec<u8>>(&format!("DUMP {key}")).await),
            };
            contents.push((key, value));
        }
        contents
    };
    let (whole, cut) = (contents(&whole).await, contents(&cut).await);
    assert_eq!(whole.len(), cut.len());
    for (whole, cut) in whole.iter().zip(&cut) {
        assert!(whole == cut, "{} differs from {}", whole.0, cut.0);
    }
}

#[tokio::test]
async fn a_redis_that_both_share_is_refused_under_the_old_prefix() {
    // Given one Redis for both, and a replica of it
    let shared = Redis::start_tcp().await;
    let old = Replaced { redis: &shared };
    old.room(
        DIRECT,
        &["alice", "bob"],
        &[text("m-1", "alice", "Hello", 1, &[])],
    )
    .await;
    let before = shared.dump().await;
    let replica = Redis::start().await;
    replica
        .run::<()>(&format!("REPLICAOF 127.0.0.1 {}", shared.port))
        .await;
    eventually("the replica has the data", async || {
        replica.run::<u64>("DBSIZE").await == before.keys().len() as u64
    })
    .await;

    // When the new server's keys would be among the old ones, then nothing is done, and the message says what to do
    for from in [shared.url(), shared.tcp_url(), replica.url()] {
        for prefix in ["chat", "user"] {
            let exit = importing(&from, &shared, &[])
                .env("KEY_PREFIX", prefix)
                .run()
                .await;
            assert_eq!(exit.code, Some(2), "{}", exit.stdout);
            let says = ["set another KEY_PREFIX", "a Redis of its own", prefix];
            assert!(
                says.iter().all(|it| exit.stderr.contains(it)),
                "{}",
                exit.stderr
            );
        }
    }
    before.assert_same(&shared.dump().await, "a refused import");

    // When it has a prefix of its own, then the data is imported, and nothing of the old server is touched
    let exit = importing(&shared.url(), &shared, &[])
        .env("KEY_PREFIX", "talk")
        .run()
        .await;
    assert_eq!(exit.code, Some(0), "{}{}", exit.stdout, exit.stderr);
    let now = shared.dump().await;
    before.assert_same(&now.without("talk:"), "an import under another prefix");
    let server = Server::on(&shared).env("KEY_PREFIX", "talk").start().await;
    let mut bob = Client::connect(&server, "bob").await;
    assert_eq!(
        said(&bob.history(ALICE_AND_BOB).await),
        [("alice", "Hello")]
    );
}

#[tokio::test]
async fn the_old_data_may_be_in_another_database() {
    let redis = Redis::start().await;
    let old = Replaced { redis: &redis };
    old.room(
        DIRECT,
        &["alice", "bob"],
        &[text("m-1", "alice", "Hello", 1, &[])],
    )
    .await;
    for key in redis.run::<Vec<String>>("KEYS *").await {
        redis.run::<()>(&format!("MOVE {key} 3")).await;
    }
    let from = format!("{}?db=3", redis.url());
    let exit = importing(&from, &redis, &[]).run().await;
    assert_eq!(exit.code, Some(0), "{}{}", exit.stdout, exit.stderr);
    let server = Server::start(&redis).await;
    let mut bob = Client::connect(&server, "bob").await;
    assert_eq!(
        said(&bob.history(ALICE_AND_BOB).await),
        [("alice", "Hello")]
    );
}

#[tokio::test]
async fn two_imports_at_once_take_everything_once() {
    let (redis, into) = (Redis::start().await, Redis::start().await);
    let old = Replaced { redis: &redis };
    let list: Vec<Value> = (0..500)
        .map(|n| text(&format!("m-{n}"), "alice", "again", n, &["bob"]))
        .collect();
    old.room(GROUP, &["alice", "bob", "carol"], &list).await;
    for n in 0..10 {
        let room = format!("00000000-0000-4000-8000-{n:012}");
        old.room(&room, &["alice", &format!("friend-{n}")], &list[..3])
            .await;
    }
    let run = || importing(&redis.url(), &into, &[]).run();
    let exits = tokio::join!(run(), run());
    for exit in [&exits.0, &exits.1] {
        assert_eq!(exit.code, Some(0), "{}{}", exit.stdout, exit.stderr);
    }
    assert_eq!(
        into.run::<u64>(&format!("XLEN {}", key(GROUP, "messages")))
            .await,
        500
    );
    let before = into.dump().await;
    let printed = import_all(&redis, &into).await;
    before.assert_same(&into.dump().await, "a further import");
    assert_counts(&printed, &[(11, "chats have nothing new")]);
}

#[tokio::test]
async fn chats_come_into_the_redis_that_a_server_runs_itself() {
    let (redis, folder) = (Redis::start().await, TempDir::new().unwrap());
    let old = Replaced { redis: &redis };
    old.room(
        DIRECT,
        &["alice", "bob"],
        &[text("m-1", "alice", "Hello", 1, &[])],
    )
    .await;
    let data_dir = folder.path().display().to_string();
    let command = Server::builder().env("REDIS_DATA_DIR", &data_dir).args(&[
        "import",
        "--from",
        &redis.url(),
    ]);

    // While no server runs there is none
    let exit = command.clone().run().await;
    assert_eq!(exit.code, Some(2), "{}", exit.stdout);
    assert!(
        exit.stderr.contains("no server runs a Redis of its own"),
        "{}",
        exit.stderr
    );

    let server = Server::embedded(folder.path()).start().await;
    let exit = command.run().await;
    assert_eq!(exit.code, Some(0), "{}{}", exit.stdout, exit.stderr);
    let mut bob = Client::connect(&server, "bob").await;
    assert_eq!(
        said(&bob.history(ALICE_AND_BOB).await),
        [("alice", "Hello")]
    );
}

#[tokio::test]
async fn an_import_that_cannot_be_done_says_why() {
    let redis = Redis::start().await;
    let absent = Redis::absent(0);
    for (from, into, says) in [
        (absent.url(), &redis, "cannot use Redis at"),
        (redis.url(), &absent, "cannot use Redis at"),
        (
            "http://old".to_owned(),
            &redis,
            "--from is not the address of a Redis",
        ),
    ] {
        let exit = importing(&from, into, &[]).run().await;
        assert_eq!(exit.code, Some(2), "{}", exit.stdout);
        assert!(exit.stderr.contains(says), "{}", exit.stderr);
        assert!(exit.stdout.is_empty(), "{}", exit.stdout);
    }
    let frozen = Redis::start().await;
    frozen.freeze();
    let exit = importing(&frozen.url(), &redis, &[]).run().await;
    frozen.thaw();
    assert_eq!(exit.code, Some(2), "{}{}", exit.stdout, exit.stderr);
    let exit = importing(&redis.url(), &redis, &[])
        .env("MAX_PARTICIPANTS", "many")
        .run()
        .await;
    assert_eq!(exit.code, Some(64), "{}", exit.stderr);
}
