//! Redis comes back with another history: devices must be notified, and must not rely on what they had.

use std::time::Duration;

use super::Scale;
use crate::load::{Load, Outcome, Shape};
use crate::support::Redis;
use crate::world::World;

/// More messages than any room has before the fault.
const PAST_OLD_NUMBERS: u64 = 100;

/// Rooms of two people: those are the same rooms again when they are recreated.
fn shape(scale: Scale) -> Shape {
    let pace = Duration::from_millis(100);
    scale.of(Shape::new(8, 2, pace), Shape::new(60, 2, pace))
}

/// Load until there is a history, and then quiet, so that it is clear what came before the fault.
async fn begin(scale: Scale, world: &World) -> Load {
    let mut load = Load::start(&world.addresses, &shape(scale)).await;
    load.more(scale.of(100, 1500)).await;
    load.settle().await;
    load
}

/// Load on the new history, once every device has been notified of it.
async fn go_on(scale: Scale, world: &World, mut load: Load) -> Outcome {
    load.resume();
    load.more(scale.of(100, 1500)).await;
    load.finish(world).await
}

/// Each device is in two rooms, and must be notified of both.
async fn all_told(load: &mut Load) {
    let rooms = 2 * load.devices();
    load.wait("each device got HISTORY_RESET for each room", |counts| {
        counts.resets >= rooms
    })
    .await;
}

/// All data is lost, and rooms are made again.
pub(super) async fn emptied(scale: Scale) -> Outcome {
    let mut world = World::ordinary().await;
    let mut load = begin(scale, &world).await;
    world.restart_redis().await;
    world.ready().await;
    all_told(&mut load).await;
    load.grow_rooms(world.addresses[0], 1).await;
    go_on(scale, &world, load).await
}

/// All data is lost, and by the time a server checks again its rooms have more messages than before, different ones.
pub(super) async fn emptied_and_grown(scale: Scale) -> Outcome {
    let mut world = World::ordinary().await;
    let mut load = begin(scale, &world).await;
    world.server(1).signal("STOP");
    world.restart_redis().await;
    world.server(0).ready().await;
    load.grow_rooms(world.addresses[0], PAST_OLD_NUMBERS).await;
    world.server(1).signal("CONT");
    all_told(&mut load).await;
    go_on(scale, &world, load).await
}

/// The last messages are lost.
pub(super) async fn rolled_back(scale: Scale) -> Outcome {
    let mut world = World::start(Redis::start().await, &[]).await;
    let mut load = begin(scale, &world).await;
    let () = world.redis.run("SAVE").await;
    load.resume();
    load.more(scale.of(100, 1500)).await;
    load.settle().await;
    world.restart_redis().await;
    world.ready().await;
    all_told(&mut load).await;
    go_on(scale, &world, load).await
}
