//! Faults of servers.

use std::time::Duration;

use super::Scale;
use crate::load::{Load, Outcome, Shape};
use crate::support::Redis;
use crate::world::World;

/// A server is killed, its devices go to the other one; then it comes back.
pub(super) async fn killed(scale: Scale) -> Outcome {
    let mut world = World::ordinary().await;
    let mut load = Load::start(&world.addresses, &scale.load()).await;
    for server in [0, 1] {
        load.more(scale.sends()).await;
        world.kill_server(server).await;
        load.fault_is_over();
        load.more(scale.sends()).await;
        world.start_server(server).await;
    }
    load.more(scale.sends()).await;
    load.finish(&world).await
}

/// A server freezes for so long that Redis, which can't get rid of what it publishes, cuts its subscription.
pub(super) async fn cut_off(scale: Scale) -> Outcome {
    let limit = "pubsub 65536 65536 1";
    let mut redis = Redis::with_options(&["--client-output-buffer-limit", limit]);
    redis.appear().await;
    let world = World::start(redis, &[]).await;
    let mut shape = scale.load();
    shape.padding = 4096;
    let mut load = Load::start(&world.addresses, &shape).await;
    load.more(scale.sends()).await;
    world.server(1).signal("STOP");
    let both = subscribers(&world).await;
    // Its devices wait; those of the other server go on.
    while subscribers(&world).await == both && load.more(20).await {}
    world.server(1).signal("CONT");
    load.fault_is_over();
    load.more(scale.sends()).await;
    load.finish(&world).await
}

async fn subscribers(world: &World) -> usize {
    let list: String = world.redis.run("CLIENT LIST TYPE pubsub").await;
    list.lines().filter(|line| !line.is_empty()).count()
}

/// Both servers are replaced, one after the other, as an operator does.
pub(super) async fn rolling_restart(scale: Scale) -> Outcome {
    let mut world = World::ordinary().await;
    let clients = scale.of(100, 2000);
    // Rooms of ten, each user in two of them.
    let pace = scale.of(Duration::from_millis(1000), Duration::from_secs(10));
    let mut load = Load::start(&world.addresses, &Shape::new(clients / 5, 10, pace)).await;
    for server in [0, 1] {
        load.more(scale.of(50, 1000)).await;
        let connected = load.board.counts().connected;
        world.stop_server(server).await;
        load.fault_is_over();
        world.start_server(server).await;
        // About half of them were on this server.
        let some = load.devices() / 3;
        let all = connected + some;
        load.wait("the devices of the server are back", |counts| {
            counts.connected >= all
        })
        .await;
    }
    load.more(scale.of(50, 1000)).await;
    load.finish(&world).await
}
