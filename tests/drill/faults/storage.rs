//! Redis has no space left.

use std::process::Command;

use super::Scale;
use crate::load::{Load, Outcome, Shape};
use crate::support::Redis;
use crate::world::World;

/// Starts Redis so that it sees a file that may not grow as an error, like a full disk, instead of being killed by it.
const SURVIVING: &[&str] = &["sh", "-c", "trap '' XFSZ; exec redis-server \"$@\"", "sh"];

/// The space that is left: a few more messages, and the limit is reached.
const LEFT_BYTES: u64 = 300_000;

fn shape(scale: Scale) -> Shape {
    let mut shape = scale.load();
    shape.padding = 2048;
    shape
}

/// Waits until every device was refused about once, so that all kinds of calls have met the fault.
async fn until_refused(load: &mut Load) {
    let refused = load.board.counts().refused + load.devices();
    load.wait("sends are refused", |counts| counts.refused >= refused)
        .await;
}

/// Redis reaches its `maxmemory`, which is raised again later.
pub(super) async fn memory_full(scale: Scale) -> Outcome {
    let world = World::ordinary().await;
    let mut load = Load::start(&world.addresses, &shape(scale)).await;
    load.more(scale.sends()).await;
    let info: String = world.redis.run("INFO memory").await;
    let used = info
        .lines()
        .find_map(|line| line.strip_prefix("used_memory:"));
    let used: u64 = used.and_then(|used| used.parse().ok()).expect("a number");
    let limit = used + LEFT_BYTES;
    let () = world
        .redis
        .run(&format!("CONFIG SET maxmemory {limit}"))
        .await;
    until_refused(&mut load).await;
    let () = world.redis.run("CONFIG SET maxmemory 0").await;
    load.fault_is_over();
    load.more(scale.sends()).await;
    load.finish(&world).await
}

/// Redis can't append to its file any more, and later can again.
pub(super) async fn disk_full(scale: Scale) -> Outcome {
    let options = ["--appendonly", "yes", "--appendfsync", "everysec"];
    let mut redis = Redis::with_options(&options).launched_by(SURVIVING);
    redis.appear().await;
    let world = World::start(redis, &[]).await;
    let mut load = Load::start(&world.addresses, &shape(scale)).await;
    load.more(scale.sends()).await;
    limit_files(world.redis.pid(), "1:unlimited");
    until_refused(&mut load).await;
    limit_files(world.redis.pid(), "unlimited:unlimited");
    load.fault_is_over();
    load.more(scale.sends()).await;
    load.finish(&world).await
}

/// Sets how large a file the process may write.
fn limit_files(pid: u32, limits: &str) {
    let mut prlimit = Command::new("prlimit");
    prlimit.args(["--pid", &pid.to_string(), &format!("--fsize={limits}")]);
    let status = prlimit.status().expect("prlimit must be in PATH");
    assert!(status.success(), "prlimit: {status}");
}
