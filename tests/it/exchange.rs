//! Scripts are exchanged, and lost by Redis, while many devices send: no request fails, and nothing is lost.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::support::rules::Rules;
use crate::support::{Client, Redis, Server, Value, json};

/// How long the load lasts, in seconds: short here; `make drill` sets 30.
fn load_secs() -> u64 {
    let secs = std::env::var("CHAT_DRILL_SECS").ok();
    secs.and_then(|secs| secs.parse().ok()).unwrap_or(4)
}

/// How many sets are applied meanwhile: as many as `make drill` has time for, a few here.
fn apply_count() -> u32 {
    if load_secs() < 30 { 6 } else { 20 }
}

const PAIRS: usize = 10;
/// For the sender of each pair: 2,000 sends a second in total.
const SEND_EVERY: Duration = Duration::from_millis(5);

/// A sender that does not wait for answers, and a reader on the other server.
struct Pair {
    sender: Client,
    reader: Client,
    room: String,
}

/// What a pair has seen: the acks by content, and the contents that the reader got, in order.
struct Seen {
    pair: Pair,
    acks: Vec<(String, Value)>,
    got: Vec<Value>,
}

async fn pairs(servers: &[Server; 2]) -> Vec<Pair> {
    let mut pairs = Vec::new();
    for number in 0..PAIRS {
        let (alice, bob) = (format!("alice-{number}"), format!("bob-{number}"));
        let mut sender = Client::connect_delta(&servers[number % 2], &alice).await;
        let mut reader = Client::connect_delta(&servers[(number + 1) % 2], &bob).await;
        let room = sender.open_room(&[&bob]).await;
        reader.settle().await;
        pairs.push(Pair {
            sender,
            reader,
            room,
        });
    }
    pairs
}

/// Sends until it is asked to stop, then collects every answer. None may be an error.
async fn send(mut pair: Pair, number: usize, stop: Arc<AtomicBool>) -> Seen {
    let mut ticks = interval(SEND_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut asked = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        let content = format!("{number}-{}", asked.len());
        let data = json!({
            "roomId": pair.room, "content": content, "clientMessageId": content,
        });
        asked.push((content, pair.sender.ask("sendMessage", data).await));
        // The server holds back a peer that does not read its answers.
        if asked.len() % 64 == 0 {
            pair.sender.fence().await;
            pair.reader.fence().await;
        }
    }
    let mut acks = Vec::new();
    for (content, id) in asked {
        let answer = pair.sender.answer(id).await;
        let ack = answer.unwrap_or_else(|error| panic!("{content} was refused: {error}"));
        acks.push((content, ack));
    }
    let mut got = Vec::new();
    while got.len() < acks.len() {
        got.push(pair.reader.until("newMessage", |_| true).await);
    }
    pair.reader.expect_nothing_of("newMessage").await;
    Seen { pair, acks, got }
}

/// Runs the load while `disturb` runs, and returns what was seen.
async fn under_load(servers: &[Server; 2], disturb: impl Future<Output = ()>) -> Vec<Seen> {
    let stop = Arc::new(AtomicBool::new(false));
    let sending: Vec<_> = pairs(servers)
        .await
        .into_iter()
        .enumerate()
        .map(|(number, pair)| tokio::spawn(send(pair, number, stop.clone())))
        .collect();
    disturb.await;
    stop.store(true, Ordering::Relaxed);
    let mut seen = Vec::new();
    for task in sending {
        seen.push(task.await.expect("a pair got through"));
    }
    seen
}

/// Every ack is in the history once, in the order sent, and the reader got exactly that history.
async fn verify(seen: &mut Seen) -> Vec<String> {
    let history = seen.pair.sender.history(&seen.pair.room).await;
    assert_eq!(history.len(), seen.acks.len());
    for ((message, (content, ack)), got) in history.iter().zip(&seen.acks).zip(&seen.got) {
        let stored = message["content"].as_str().expect("a text");
        assert!(
            stored.ends_with(content.as_str()),
            "{stored}, not {content}"
        );
        assert_eq!(message["id"], ack["id"]);
        assert_eq!(ack["duplicate"], false);
        assert_eq!(
            (&got["id"], &got["content"]),
            (&message["id"], &message["content"])
        );
    }
    let contents = history.iter().map(|message| message["content"].as_str());
    contents
        .map(|content| content.expect("a text").to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn applies_under_load_lose_and_refuse_nothing() {
    let redis = Redis::start().await;
    let servers = [Server::start(&redis).await, Server::start(&redis).await];
    let (first, second) = (Rules::export().await, Rules::export().await);
    first.tag("A:");
    second.tag("B:");
    assert_eq!(first.apply(&redis, &[]).await.code, Some(0));

    // When two sets take turns while devices on two servers send
    let applies = async {
        let end = Instant::now() + Duration::from_secs(load_secs());
        for left in (0..apply_count()).rev() {
            let next = end - end.duration_since(Instant::now()) * left / (left + 1);
            let rules = [&first, &second][left as usize % 2];
            let applied = rules.apply(&redis, &["--no-behaviour", "--force"]).await;
            assert_eq!(
                applied.code,
                Some(0),
                "{}{}",
                applied.stdout,
                applied.stderr
            );
            tokio::time::sleep_until(next).await;
        }
    };
    let mut all = under_load(&servers, applies).await;

    // Then each message has the tag of exactly one of them, and both tags occur
    let mut tags: HashMap<char, usize> = HashMap::new();
    for seen in &mut all {
        for content in verify(seen).await {
            let (tag, rest) = content.split_once(':').expect("a tag");
            assert!(!rest.contains(':'), "{content}");
            *tags
                .entry(tag.chars().next().expect("a letter"))
                .or_default() += 1;
        }
    }
    println!("{} applies, messages by tag: {tags:?}", apply_count());
    assert!(
        tags.len() == 2 && tags.contains_key(&'A') && tags.contains_key(&'B'),
        "{tags:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn script_flush_under_load_shows_no_client_an_error() {
    let redis = Redis::start().await;
    let servers = [Server::start(&redis).await, Server::start(&redis).await];
    let mut flushes = 0;
    let flush = async {
        let end = Instant::now() + Duration::from_secs(load_secs().min(10));
        let mut ticks = interval(Duration::from_millis(20));
        while Instant::now() < end {
            ticks.tick().await;
            let _: String = redis.run("SCRIPT FLUSH").await;
            flushes += 1;
        }
    };
    let mut all = under_load(&servers, flush).await;
    let mut messages = 0;
    for seen in &mut all {
        messages += verify(seen).await.len();
    }
    println!("{flushes} flushes, {messages} messages");
    assert!(messages > 0);
}
