//! Everybody has to come back at once.

use std::time::Duration;

use tokio::time::Instant;

use super::Scale;
use crate::checker::crowd::judge;
use crate::load::{
    Load, Outcome, Return, Shape,
    crowd::{Crowd, Size},
};
use crate::support::Redis;
use crate::world::World;

/// The server that is killed, and the one to which its clients go.
const KILLED: usize = 0;
const LEFT: usize = 1;

/// A server is killed, and all its clients go to the other one; then Redis is killed and comes back. No running server
/// closes a client, and those who chat meanwhile get no refusal.
pub(super) async fn comes_back(scale: Scale) -> Outcome {
    let mut redis = Redis::with_options(&["--appendonly", "yes"]);
    redis.appear().await;
    let world = World::start(redis, &[]).await;
    let mut drill = Drill::begin(scale, world).await;
    drill.kill_server().await;
    drill.restart_redis().await;
    drill.finish().await
}

struct Drill {
    world: World,
    crowd: Crowd,
    size: Size,
    /// Devices that chat, all on the server that is left.
    load: Load,
    /// What has not come by then counts as never coming.
    limit: Duration,
    sends: u64,
    returns: Vec<Return>,
}

impl Drill {
    async fn begin(scale: Scale, world: World) -> Self {
        let size = scale.of(
            Size {
                clients: 300,
                rooms_each: 20,
            },
            size_from_environment(),
        );
        let limit = scale.of(Duration::from_secs(60), Duration::from_secs(300));
        let mut crowd = Crowd::gather(&world.addresses, size).await;
        let shape = Shape::new(4, 4, Duration::from_millis(100));
        let mut load = Load::start(&world.addresses[LEFT..], &shape).await;
        load.other_rooms = size.clients;
        crowd.connect();
        let mut drill = Self {
            world,
            crowd,
            size,
            load,
            limit,
            sends: scale.of(50, 500),
            returns: Vec::new(),
        };
        drill.wait_for_lists(size.clients).await;
        drill
    }

    async fn wait_for_lists(&mut self, count: usize) {
        let reached = self.crowd.reached(self.limit, |counts| counts.lists, count);
        if !reached.await {
            let counts = self.crowd.counts();
            let what = format!("waited in vain for {count} chat lists: {counts:?}");
            self.load.finding(what);
        }
    }

    async fn kill_server(&mut self) {
        self.load.more(self.sends).await;
        let before = Before::of(self).await;
        let refused = self.refused();
        self.crowd.server_is_killed(KILLED);
        self.world.kill_server(KILLED).await;
        let all = self.size.clients + self.crowd.at(KILLED);
        self.wait_for_lists(all).await;
        self.came_back("kill -9 of a server", before).await;
        self.load.more(self.sends).await;
        self.nobody_was_refused(refused);
    }

    async fn restart_redis(&mut self) {
        let mut before = Before::of(self).await;
        self.world.restart_redis().await;
        // It counts from zero again.
        before.calls = 0;
        self.world.ready().await;
        // Requests made while Redis was away may be refused.
        self.load.settle().await;
        let refused = self.refused();
        self.load.resume();
        self.crowd.call(self.world.addresses[LEFT]).await;
        let everybody = self.size.clients;
        let heard = self
            .crowd
            .reached(self.limit, |counts| counts.heard, everybody);
        if !heard.await {
            let counts = self.crowd.counts();
            self.load
                .finding(format!("not everybody hears again: {counts:?}"));
        }
        self.came_back("kill -9 of Redis", before).await;
        self.load.more(self.sends).await;
        self.nobody_was_refused(refused);
    }

    /// Sends that were not acked, and connections that the chatting devices had to make.
    fn refused(&self) -> u64 {
        let counts = self.load.board.counts();
        counts.refused + counts.unknown + counts.connected
    }

    fn nobody_was_refused(&mut self, before: u64) {
        let refused = self.refused() - before;
        if refused > 0 {
            let counts = self.load.board.counts();
            self.load.finding(format!(
                "those who chat were refused or closed {refused} times: {counts:?}"
            ));
        }
    }

    async fn came_back(&mut self, fault: &'static str, before: Before) {
        self.returns.push(Return {
            fault,
            size: self.size,
            took: before.since.elapsed(),
            calls: self.world.scripts_run().await - before.calls,
            put_off: self.crowd.counts().put_off - before.put_off,
            peak_bytes: self.world.server(LEFT).peak_bytes(),
        });
    }

    async fn finish(self) -> Outcome {
        let mut outcome = self.load.finish(&self.world).await;
        let lives = self.crowd.leave().await;
        outcome.report.problems.extend(judge(&lives));
        outcome.returns = self.returns;
        outcome
    }
}

/// The state when a fault began.
struct Before {
    since: Instant,
    calls: u64,
    put_off: u64,
}

impl Before {
    async fn of(drill: &Drill) -> Self {
        Self {
            calls: drill.world.scripts_run().await,
            put_off: drill.crowd.counts().put_off,
            since: Instant::now(),
        }
    }
}

/// Clients and rooms at full scale: `DRILL_CLIENTS`, by default 10,000, with 100 rooms each.
fn size_from_environment() -> Size {
    let clients = std::env::var("DRILL_CLIENTS").ok();
    Size {
        clients: clients.map_or(10_000, |clients| clients.parse().expect("a number")),
        rooms_each: 100,
    }
}
