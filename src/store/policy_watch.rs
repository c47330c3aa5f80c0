//! Notices when Redis is set to evict chats while servers run: its policy is checked on connecting, and may change
//! later.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use super::connection::Current;
use super::server_check::{KEEPS_ALL, eviction_policy};

/// How often the policy is checked.
pub const POLICY_CHECK: Duration = Duration::from_secs(30);

/// How long Redis may take to answer; a later answer is ignored and the question repeated.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Asks for the policy `every` so often, and calls `changed` with each policy that differs from the previous one; the
/// first is compared with the one that keeps everything. Never returns.
pub async fn watch_policy(current: Current, every: Duration, changed: impl Fn(&str)) {
    let mut last = KEEPS_ALL.to_owned();
    let mut ticks = interval_at(Instant::now() + every, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let connection = current.borrow().as_ref().map(|up| up.redis.clone());
        if let Some(policy) = policy_of(connection).await
            && policy != last
        {
            changed(&policy);
            last = policy;
        }
    }
}

/// `None` while it is unknown.
async fn policy_of(connection: Option<MultiplexedConnection>) -> Option<String> {
    let mut connection = connection?;
    let answer = timeout(ANSWER_WITHIN, eviction_policy(&mut connection)).await;
    answer.ok()?.ok().filter(|policy| !policy.is_empty())
}

/// Logs the policy for the operator.
pub fn log_policy(policy: &str) {
    match policy {
        KEEPS_ALL => log::info!("Redis has maxmemory-policy {KEEPS_ALL} again"),
        _ => log::error!(
            "Redis has maxmemory-policy {policy} now, which can drop chats: set it to {KEEPS_ALL}"
        ),
    }
}
