//! Servers of different versions on one Redis: each reports which others run.

use redis::{AsyncConnectionConfig, Client as RedisClient, PushKind, cmd};
use tokio::sync::mpsc;

use crate::support::{Redis, Server, Value, eventually, http, json};

/// Answers requests to all servers as one of version 0.1.0 does, until it is dropped.
async fn former_server(redis: &Redis) -> tokio::task::JoinHandle<()> {
    let (sender, mut pushes) = mpsc::unbounded_channel();
    let url = format!("{}?protocol=resp3", redis.url());
    let config = AsyncConnectionConfig::new().set_push_sender(sender);
    let client = RedisClient::open(url).expect("a Redis URL");
    let connected = client.get_multiplexed_async_connection_with_config(&config);
    let mut listening = connected.await.expect("a connection");
    let mut subscribe = cmd("SSUBSCRIBE");
    let subscribed = subscribe.arg("chat:control").exec_async(&mut listening);
    subscribed.await.expect("a subscription");
    let mut answering = redis.admin();
    tokio::spawn(async move {
        let _listening = listening;
        while let Some(push) = pushes.recv().await {
            let redis::PushInfo { kind, data } = push;
            let Some(redis::Value::BulkString(payload)) = data.into_iter().nth(1) else {
                continue;
            };
            assert_eq!(kind, PushKind::SMessage);
            let question: Value = serde_json::from_slice(&payload).expect("JSON");
            assert_eq!(
                (&question["event"], &question["want"]),
                (&json!("scripts"), &json!("report")),
                "that version understands no other announcement"
            );
            let reply_to = question["replyTo"].as_str().expect("a channel");
            let answer = json!({
                "server": { "host": "former", "address": "127.0.0.1:1", "pid": 1, "version": "0.0.9", "contract": 1 },
                "set": "the embedded set", "applied": null, "refused": null, "note": null, "scripts": [],
            });
            let mut publish = cmd("SPUBLISH");
            publish.arg(reply_to).arg(answer.to_string());
            publish.exec_async(&mut answering).await.expect("published");
        }
    })
}

async fn readyz(server: &Server) -> Value {
    http::get(server.address, "/readyz").await.json()
}

fn others(version: &str, contract: u32) -> Value {
    json!([{ "version": version, "contract": contract, "servers": 1 }])
}

#[tokio::test]
async fn a_server_that_finds_others_of_a_former_version_says_so() {
    // Given a server of an earlier version
    let redis = Redis::start().await;
    let former = former_server(&redis).await;

    // When a new one starts, then it recognizes it, and accepts clients all the same
    let server = Server::start(&redis).await;
    eventually("it says so", async || {
        readyz(&server).await["otherVersions"] == others("0.0.9", 1)
    })
    .await;
    assert!(server.is_ready().await);
    let told = || server.log.text().matches("1 of version 0.0.9").count();
    eventually("it is in the log", async || told() == 1).await;
    former.abort();
}

#[tokio::test]
async fn servers_of_one_version_say_nothing_and_learn_of_a_later_one_when_it_starts() {
    let redis = Redis::start().await;
    let (one, other) = (Server::start(&redis).await, Server::start(&redis).await);
    for server in [&one, &other] {
        assert_eq!(readyz(server).await["otherVersions"], json!(null));
    }

    // When a later version asks which servers run, and announces things that these do not know
    let from =
        r#"{"host":"later","address":"127.0.0.1:1","pid":1,"version":"99.0.0","contract":99}"#;
    let question = format!(
        r#"{{"event":"scripts","want":"report","replyTo":"chat:scripts:answers:later","from":{from}}}"#
    );
    for announcement in [r#"{"event":"later"}"#, &question, &question] {
        let heard: u64 = redis
            .run(&format!("SPUBLISH chat:control {announcement}"))
            .await;
        assert_eq!(heard, 2);
    }

    // Then both report once that it runs, and nothing of what they do not know
    for server in [&one, &other] {
        eventually("it says so", async || {
            readyz(server).await["otherVersions"] == others("99.0.0", 99)
        })
        .await;
        let told = || server.log.text().matches("1 of version 99.0.0").count();
        eventually("it is in the log", async || told() == 1).await;
        assert!(
            !server.log.text().contains("not understood"),
            "{}",
            server.log
        );
    }
}
