//! What servers do while nobody sends them a request.

use std::time::Duration;

use tokio::time::{Instant, interval};

use crate::checker::record::Rest;
use crate::world::World;

/// How long calls are counted.
const WINDOW: Duration = Duration::from_secs(3);
/// What the load has left to do must be done by then.
const LIMIT: Duration = Duration::from_secs(60);
/// Rooms that a server compares with Redis in one call.
const ROOMS_A_CALL: usize = 128;

/// Counts the scripts that Redis runs in a period without requests, once servers have come to rest.
///
/// Each server may compare each room once meanwhile. If they never come to rest, the last count is returned.
pub(super) async fn watch(world: &World, rooms: usize) -> Rest {
    let comparisons = world.addresses.len() * rooms.div_ceil(ROOMS_A_CALL);
    let allowed = comparisons as u64;
    let deadline = Instant::now() + LIMIT;
    let mut windows = interval(WINDOW);
    windows.tick().await;
    loop {
        let before = world.scripts_run().await;
        windows.tick().await;
        let calls = world.scripts_run().await - before;
        if calls <= allowed || Instant::now() >= deadline {
            return Rest { calls, allowed };
        }
    }
}
