//! The store's connections to a Redis that is busy, hangs, goes away and comes back.

use std::sync::Arc;
use std::time::Duration;

use chat_server::metrics::ConnectionMetrics;
use chat_server::scripts::set::{Source, fixed};
use chat_server::scripts::{Script, ScriptSet, ScriptText};
use chat_server::store::clock::RedisClock;
use chat_server::store::connection::{
    Connection, Connector, Current, Keeping, Progress, Pulse, Question, keep_open,
};
use chat_server::store::former::Former;
use chat_server::store::policy_watch::watch_policy;
use chat_server::store::server_check::check_server;
use chat_server::store::term::Master;
use chat_server::store::{Bounds, Store};
use futures_util::future::join_all;
use redis::aio::MultiplexedConnection;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::support::{PATIENCE, World, users};

const BOUNDS: Bounds = Bounds {
    timeout: PATIENCE,
    calls_at_once: 8192,
    repeats: true,
};

/// As short as a test wants it.
const PULSE: Pulse = Pulse {
    every: Duration::from_millis(50),
    late: Duration::from_secs(2),
    dead: PATIENCE,
};

fn connector(world: &World) -> Connector {
    Connector::new(&format!("unix://{}", world.redis.socket().display())).unwrap()
}

async fn open(world: &World) -> MultiplexedConnection {
    let connector = connector(world);
    let opened = connector.open(|_| (), Arc::new(Notify::new()));
    opened.await.unwrap()
}

/// A connection for commands as the server keeps one.
fn kept(world: &World, cancel: &CancellationToken, clock: RedisClock) -> Current {
    let (set, current) = watch::channel(None);
    let master = Master::default();
    let of_prepare = master.clone();
    let keeping = Keeping {
        name: "commands",
        pulse: PULSE,
        question: Question::Master(clock),
        prepare: async move |connection: &mut MultiplexedConnection| {
            let info = check_server(connection, false).await?;
            Ok(of_prepare.met(&info.run_id))
        },
        on_push: |_, _| (),
        master,
        progress: Progress::default(),
        metrics: ConnectionMetrics::default(),
    };
    tokio::spawn(keep_open(connector(world), keeping, set, cancel.clone()));
    current
}

/// Keeps Redis busy for a millisecond. Redis sends the answers to everything it has read at once, after all of it is
/// done: so no single call takes long.
const SLOW: &str = "#!lua flags=no-writes
local start = redis.call('TIME')
repeat
  local now = redis.call('TIME')
until (now[1] - start[1]) * 1000000 + now[2] - start[2] > 1000
return {{}, {}, {}}
";

#[tokio::test]
async fn a_redis_that_works_off_our_own_calls_is_not_taken_for_one_that_is_gone() {
    // Given a queue of calls in Redis that takes much longer than Redis may be silent
    let world = World::start().await;
    let cancel = CancellationToken::new();
    let mut current = kept(&world, &cancel, RedisClock::default());
    current.wait_for(Option::is_some).await.unwrap();
    let set = ScriptSet::embedded().unwrap();
    let slow = ScriptText::new(SLOW.to_owned(), Source::Embedded);
    let set = fixed(set.with(Script::GetChatList, slow));
    let rules = *world.store.rules();
    let store = Store::new(world.keys.clone(), set, current.clone(), BOUNDS, rules);
    let [alice] = users(["alice"]);
    let calls = (0..5000).map(|_| store.get_chat_list(&alice, &[], true));

    // Then the connection is not withdrawn meanwhile
    let mut withdrawn = current.clone();
    tokio::select! {
        biased;
        _ = withdrawn.wait_for(Option::is_none) => panic!("the connection was withdrawn"),
        done = join_all(calls) => assert!(done.iter().all(Result::is_ok)),
    }

    // But when no more answers come, it is, until Redis goes on
    world.redis.signal("STOP");
    let mut seen = current.clone();
    let hung = timeout(PATIENCE, seen.wait_for(Option::is_none));
    let noticed = hung.await.is_ok();
    world.redis.signal("CONT");
    assert!(noticed, "it was not noticed that Redis hangs");
    let back = timeout(PATIENCE, current.wait_for(Option::is_some));
    let number = back.await.unwrap().unwrap().as_ref().unwrap().number;
    assert_eq!(number, 0, "it was made anew");
    cancel.cancel();
}

#[tokio::test]
async fn whether_redis_is_there_also_tells_its_time() {
    // Given a clock that is half a century slow
    let world = World::start().await;
    let (cancel, clock) = (CancellationToken::new(), RedisClock::default());
    clock.told(0);
    let _connection = kept(&world, &cancel, clock.clone());

    // Then it is set by that of Redis
    let set = async {
        loop {
            let (secs, _): (u64, u64) = world.redis.run(&["TIME"]).await;
            if clock.now_ms().abs_diff(secs * 1000) < 60_000 {
                break;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(timeout(PATIENCE, set).await.is_ok(), "it was never set");
    cancel.cancel();
}

#[tokio::test]
async fn each_time_that_redis_is_gone_calls_wait_for_it_a_moment() {
    let world = World::start().await;
    let (set, current) = watch::channel(None);
    let scripts = fixed(ScriptSet::embedded().unwrap());
    let rules = *world.store.rules();
    let store = Store::new(world.keys.clone(), scripts, current, BOUNDS, rules);
    let [alice] = users(["alice"]);
    let call = || store.get_chat_list(&alice, &[], true);
    let comes_back = async |after: Duration| {
        sleep(after).await;
        set.send_replace(Some(Connection::unkept(world.redis.admin())));
    };

    // Given a call that found no connection and then got it
    let (first, ()) = tokio::join!(call(), comes_back(Duration::ZERO));
    assert!(first.is_ok());

    // When it is gone again for longer than calls wait for it, then the next call waits too
    set.send_replace(None);
    sleep(Duration::from_millis(600)).await;
    let (second, ()) = tokio::join!(call(), comes_back(Duration::from_millis(50)));
    assert!(second.is_ok(), "refused without waiting");
}

#[tokio::test]
async fn the_former_connection_is_dropped_also_if_its_successor_breaks_at_that() {
    // Given a connection that was in use
    let world = World::start().await;
    let former = Former::default();
    let mut first = open(&world).await;
    let info = check_server(&mut first, false).await.unwrap();
    former.succeed(&mut first, &info).await.unwrap();

    // When the next one breaks before Redis has dropped the former
    let mut second = open(&world).await;
    let id: u64 = redis::cmd("CLIENT")
        .arg("ID")
        .query_async(&mut second)
        .await
        .unwrap();
    let _: u64 = world
        .redis
        .run(&["CLIENT", "KILL", "ID", &id.to_string()])
        .await;
    assert!(former.succeed(&mut second, &info).await.is_err());

    // Then the one after it has the former dropped
    let mut third = open(&world).await;
    former.succeed(&mut third, &info).await.unwrap();
    let ping = redis::cmd("PING").exec_async(&mut first).await;
    assert!(ping.is_err(), "what it had written can still run");
}

#[tokio::test]
async fn a_policy_that_drops_chats_is_noticed_while_the_server_runs() {
    // Given a server whose Redis keeps everything
    let world = World::start().await;
    let cancel = CancellationToken::new();
    let (told, mut changes) = mpsc::unbounded_channel();
    let tell = move |policy: &str| told.send(policy.to_owned()).unwrap();
    let connection = kept(&world, &cancel, RedisClock::default());
    let watching = watch_policy(connection, Duration::from_millis(10), tell);

    // When its policy is changed, and back, then each change is reported once
    let changing = async {
        for policy in ["allkeys-lru", "noeviction", "volatile-ttl"] {
            let _: String = world
                .redis
                .run(&["CONFIG", "SET", "maxmemory-policy", policy])
                .await;
            let change = timeout(PATIENCE, changes.recv()).await.unwrap();
            assert_eq!(change.as_deref(), Some(policy));
        }
    };
    tokio::select! {
        () = watching => {}
        () = changing => {}
    }
    cancel.cancel();
    assert!(changes.try_recv().is_err());
}
