//! Clients that behave badly, or have a bad connection.

use std::time::Duration;

use super::Scale;
use crate::load::{Load, Outcome, Shape};
use crate::support::{RawSocket, Redis};
use crate::world::World;

/// Close code of a device that is too slow to read its queue.
const TOO_SLOW: u16 = 4408;

/// Some members' devices never read. They are closed, and the others are not affected.
pub(super) async fn that_never_read(scale: Scale) -> Outcome {
    let settings = [("QUEUE_MAX_BYTES", "524288")];
    let world = World::start(Redis::start().await, &settings).await;
    let mut shape = scale.load();
    shape.padding = 12 * 1024;
    // The devices that do read must be able to keep up.
    shape.send_every = scale.of(Duration::from_millis(100), Duration::from_millis(500));
    let mut load = Load::start(&world.addresses, &shape).await;
    let mut slow = Vec::new();
    for number in 0..scale.of(4, 40) {
        let user = format!("u{number}");
        let server = world.server(number % 2);
        slow.push(RawSocket::connect_with_buffer(server, &user, Some(4096)).await);
    }
    // Enough to fill what the system buffers for a connection as well.
    for _ in 0..scale.of(1, 4) {
        load.more(scale.of(600, 3000)).await;
    }
    load.settle().await;
    if load.board.counts().connected > load.devices() {
        load.finding("a device that reads had to connect again".to_owned());
    }
    for (number, mut slow) in slow.into_iter().enumerate() {
        // For a device that was not closed, there would be no end to read up to.
        let end = tokio::spawn(async move { slow.close_code().await }).await;
        // Where the socket did not even take the close frame, the connection just ends.
        if !matches!(end, Ok(Some(TOO_SLOW) | None)) {
            load.finding(format!(
                "client {number} never read, and was not let go: {end:?}"
            ));
        }
    }
    load.finish(&world).await
}

/// Devices that lose their connection again and again, as in tunnels, and catch up each time.
pub(super) async fn that_drop(scale: Scale) -> Outcome {
    let world = World::ordinary().await;
    let (rooms, stays, lasting) = scale.of(
        (10, Duration::from_secs(2), Duration::from_millis(500)),
        (100, Duration::from_secs(15), Duration::from_secs(2)),
    );
    // Rooms of ten, each user in two of them: five devices for each room.
    let pace = scale.of(Duration::from_millis(500), Duration::from_secs(1));
    let mut shape = Shape::new(rooms, 10, pace);
    shape.away = Some((stays, lasting));
    let mut load = Load::start(&world.addresses, &shape).await;
    let connections = load.devices() * scale.of(4, 8);
    let limit = scale.of(Duration::from_secs(30), Duration::from_secs(300));
    let what = "all devices came back so often";
    load.wait_for(limit, what, |counts| counts.connected >= connections)
        .await;
    load.finish(&world).await
}
