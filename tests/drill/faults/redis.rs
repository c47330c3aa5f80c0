//! Faults of Redis, and of the connections to it.

use std::time::Duration;

use tokio::time::{interval, sleep};

use super::Scale;
use crate::load::{Load, Outcome};
use crate::support::Redis;
use crate::world::World;

/// Redis is killed, and comes back with what it had on disk.
pub(super) async fn killed(scale: Scale) -> Outcome {
    let mut redis = Redis::with_options(&["--appendonly", "yes", "--appendfsync", "always"]);
    redis.appear().await;
    let mut world = World::start(redis, &[("DURABILITY", "fsync")]).await;
    let mut load = Load::start(&world.addresses, &scale.load()).await;
    for _ in 0..scale.of(2, 5) {
        load.more(scale.sends()).await;
        world.restart_redis().await;
        load.fault_is_over();
    }
    load.more(scale.sends()).await;
    load.finish(&world).await
}

/// Redis answers nothing for longer than a call may take, and then answers everything.
pub(super) async fn stopped(scale: Scale) -> Outcome {
    let world = World::ordinary().await;
    let mut load = Load::start(&world.addresses, &scale.load()).await;
    load.more(scale.sends()).await;
    world.signal_redis("STOP");
    sleep(scale.of(Duration::from_secs(3), Duration::from_secs(10))).await;
    world.signal_redis("CONT");
    load.fault_is_over();
    load.more(scale.sends()).await;
    load.finish(&world).await
}

/// All connections to Redis are cut, every second.
pub(super) async fn connections_cut(scale: Scale) -> Outcome {
    let world = World::ordinary().await;
    let mut load = Load::start(&world.addresses, &scale.load()).await;
    cut_every_second(&world, &mut load, scale.of(3, 30), scale.of(10, 500)).await;
    load.fault_is_over();
    load.more(scale.sends()).await;
    load.finish(&world).await
}

/// Cuts subscriptions and other connections once a second; between the cuts this many sends must succeed.
pub(super) async fn cut_every_second(world: &World, load: &mut Load, times: u32, sends: u64) {
    let mut seconds = interval(Duration::from_secs(1));
    for _ in 0..times {
        seconds.tick().await;
        for kind in ["pubsub", "normal"] {
            let _: u64 = world.redis.run(&format!("CLIENT KILL TYPE {kind}")).await;
        }
        load.more(sends).await;
    }
}

/// Redis forgets all scripts, again and again.
pub(super) async fn scripts_flushed(scale: Scale) -> Outcome {
    let world = World::ordinary().await;
    let mut load = Load::start(&world.addresses, &scale.load()).await;
    let mut ticks = interval(Duration::from_millis(20));
    for _ in 0..scale.of(100, 1500) {
        ticks.tick().await;
        let () = world.redis.run("SCRIPT FLUSH").await;
    }
    load.fault_is_over();
    load.more(scale.sends()).await;
    load.finish(&world).await
}
