//! Large rooms.

use std::time::Duration;

use super::{Scale, redis::cut_every_second};
use crate::load::{Load, Outcome, Shape};
use crate::support::Redis;
use crate::world::World;

/// A room with many members, a few of whom are connected, while connections to Redis are cut.
pub(super) async fn large(scale: Scale) -> Outcome {
    let settings = [("MAX_PARTICIPANTS", "5000")];
    let world = World::start(Redis::start().await, &settings).await;
    let members = scale.of(300, 5000);
    let mut shape = Shape::new(1, members, Duration::from_millis(100));
    shape.connected = scale.of(12, 50);
    let mut load = Load::start(&world.addresses, &shape).await;
    load.more(scale.sends()).await;
    cut_every_second(&world, &mut load, scale.of(1, 10), scale.of(10, 200)).await;
    load.fault_is_over();
    load.more(scale.sends()).await;
    load.finish(&world).await
}
