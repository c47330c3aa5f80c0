//! Which Redis servers are accepted: new enough, and configured to keep what they are given.

use std::collections::HashMap;
use std::time::Duration;

use redis::RedisResult;
use redis::aio::MultiplexedConnection;

use super::clock::RedisClock;
use super::connection::ConnectError;
use crate::config::Durability;

/// The oldest Redis with sharded pub/sub and script flags.
const OLDEST: (u64, u64) = (7, 0);

/// The `maxmemory-policy` that evicts nothing.
pub(super) const KEEPS_ALL: &str = "noeviction";

/// The oldest version with WAITAOF.
const WAITAOF_SINCE: (u64, u64) = (7, 2);

/// What a Redis server reports about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerInfo {
    /// `7.0.15`, or `8.1.0 (Valkey)`.
    pub version: String,
    /// Different at each start.
    pub run_id: String,
    major_minor: (u64, u64),
    eviction_policy: String,
    /// Unix time in milliseconds by its clock, when it was asked. `None` if it does not report one.
    now_ms: Option<u64>,
    loading: bool,
    replica: bool,
    replicas: u64,
    replication_id: String,
}

impl ServerInfo {
    /// Whether both are the same Redis, or a master and its replica. If nothing can be compared, they may be.
    pub fn may_share_data(&self, other: &Self) -> bool {
        let ids = [
            (&self.run_id, &other.run_id),
            (&self.replication_id, &other.replication_id),
        ];
        let is_known = |(one, other): &(&String, &String)| !one.is_empty() && !other.is_empty();
        let mut known = ids.into_iter().filter(is_known).peekable();
        known.peek().is_none() || known.any(|(one, other)| one == other)
    }

    /// Reads the text of `INFO`.
    fn parse(info: &str) -> Self {
        let field = |name: &str| {
            info.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .unwrap_or_default()
                .trim()
                .to_owned()
        };
        let redis_version = field("redis_version");
        let mut numbers = redis_version
            .split('.')
            .map(|part| part.parse().unwrap_or(0));
        let major_minor = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        let version = match field("valkey_version") {
            valkey if valkey.is_empty() => redis_version,
            valkey => format!("{valkey} (Valkey)"),
        };
        Self {
            version,
            run_id: field("run_id"),
            major_minor,
            eviction_policy: field("maxmemory_policy"),
            now_ms: field("server_time_usec")
                .parse()
                .ok()
                .map(|us: u64| us / 1000),
            loading: field("loading") == "1",
            replica: field("role") == "slave",
            replicas: field("connected_slaves").parse().unwrap_or_default(),
            replication_id: field("master_replid"),
        }
    }

    /// For `fsync`: false if each reply comes after the sync, true if WAITAOF has to confirm it.
    fn needs_waitaof(&self, settings: &HashMap<String, String>) -> Result<bool, ConnectError> {
        let is = |name: &str, value: &str| settings.get(name).is_some_and(|found| found == value);
        let appends = is("appendonly", "yes");
        if appends && is("appendfsync", "always") {
            return Ok(false);
        }
        if appends && self.major_minor >= WAITAOF_SINCE {
            return Ok(true);
        }
        Err(ConnectError::Refused(
            "DURABILITY is fsync: set appendonly yes and appendfsync always in that Redis \
             (from 7.2 on appendonly yes is enough)"
                .to_owned(),
        ))
    }

    /// Sets the clock from the time that the server has just reported.
    pub fn set(&self, clock: &RedisClock) {
        if let Some(ms) = self.now_ms {
            clock.told(ms);
        }
    }

    /// Whether it accepts writes.
    fn check_master(&self) -> Result<(), ConnectError> {
        if self.loading {
            return Err(ConnectError::NotYet("it is still loading its data"));
        }
        if self.replica {
            return Err(ConnectError::NotYet(
                "it is a replica, which takes no writes",
            ));
        }
        Ok(())
    }

    fn check(&self, production: bool) -> Result<(), ConnectError> {
        self.check_master()?;
        if self.major_minor < OLDEST {
            return Err(ConnectError::Refused(format!(
                "Redis {} is too old: 7.0 or newer is needed (sharded pub/sub, script flags)",
                self.version
            )));
        }
        if self.eviction_policy != KEEPS_ALL {
            let text = format!(
                "Redis has maxmemory-policy {}, which can drop chats: set it to {KEEPS_ALL}",
                self.eviction_policy
            );
            if production {
                return Err(ConnectError::Refused(text));
            }
            log::warn!("{text} (production refuses it)");
        }
        Ok(())
    }
}

/// How long Redis may take to describe itself.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Asks the server what it is, and refuses one that would lose chats.
pub async fn check_server(
    connection: &mut MultiplexedConnection,
    production: bool,
) -> Result<ServerInfo, ConnectError> {
    let info = in_time(ask(connection, &[])).await?;
    info.check(production)?;
    Ok(info)
}

/// What a server reports about itself, whatever it is.
pub async fn describe_server(
    connection: &mut MultiplexedConnection,
) -> Result<ServerInfo, ConnectError> {
    in_time(ask(connection, &[])).await
}

/// Asks the server whether it is a master. Of its other properties only the `run_id` is known afterwards.
pub async fn check_master(
    connection: &mut MultiplexedConnection,
) -> Result<ServerInfo, ConnectError> {
    let info = in_time(ask(connection, &ROLE_SECTIONS)).await?;
    info.check_master()?;
    Ok(info)
}

/// The `run_id` of a server that is a master; `None` for one that is not. Sets the clock from its time.
pub async fn master_run_id(
    connection: &mut MultiplexedConnection,
    clock: &RedisClock,
) -> RedisResult<Option<String>> {
    let info = ask(connection, &ROLE_SECTIONS).await?;
    info.set(clock);
    Ok(info.check_master().is_ok().then_some(info.run_id))
}

/// The server's policy for eviction when its memory is full.
pub(super) async fn eviction_policy(connection: &mut MultiplexedConnection) -> RedisResult<String> {
    Ok(ask(connection, &["memory"]).await?.eviction_policy)
}

/// The sections of `INFO` that contain run, time, role, and whether it is loading.
const ROLE_SECTIONS: [&str; 3] = ["server", "replication", "persistence"];

async fn ask(connection: &mut MultiplexedConnection, sections: &[&str]) -> RedisResult<ServerInfo> {
    let mut info = redis::cmd("INFO");
    let text: String = info.arg(sections).query_async(connection).await?;
    Ok(ServerInfo::parse(&text))
}

/// Whether this server can keep what the setting promises, and whether its replies have to be confirmed.
pub async fn check_durability(
    connection: &mut MultiplexedConnection,
    info: &ServerInfo,
    durability: Durability,
) -> Result<bool, ConnectError> {
    match durability {
        Durability::Memory => Ok(false),
        Durability::Replicas(wanted) => {
            if info.replicas < u64::from(wanted) {
                log::warn!(
                    "DURABILITY is {durability}, but Redis has {} replicas: acks wait until there are more",
                    info.replicas
                );
            }
            Ok(true)
        }
        Durability::Fsync => {
            let mut config = redis::cmd("CONFIG");
            config.arg("GET").arg("append*");
            let settings = in_time(config.query_async(connection)).await?;
            info.needs_waitaof(&settings)
        }
    }
}

async fn in_time<T>(answer: impl Future<Output = RedisResult<T>>) -> Result<T, ConnectError> {
    let answer = tokio::time::timeout(ANSWER_WITHIN, answer).await;
    Ok(answer.map_err(|_| ConnectError::NotYet("it does not answer in time"))??)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(version: &str, policy: &str) -> ServerInfo {
        ServerInfo::parse(&format!(
            "# Server\r\nredis_version:{version}\r\nmaxmemory_policy:{policy}\r\n"
        ))
    }

    #[test]
    fn old_servers_are_refused() {
        assert!(server("6.2.14", "noeviction").check(false).is_err());
        assert!(server("", "noeviction").check(false).is_err());
        assert!(server("7.0.0", "noeviction").check(true).is_ok());
        assert!(server("10.1.2", "noeviction").check(true).is_ok());
    }

    #[test]
    fn a_policy_that_drops_chats_is_refused_in_production() {
        assert!(server("7.0.15", "allkeys-lru").check(true).is_err());
        assert!(server("7.0.15", "allkeys-lru").check(false).is_ok());
    }

    #[test]
    fn fsync_takes_a_server_that_syncs_each_write_or_tells_of_it() {
        let settings = |appendonly: &str, appendfsync: &str| {
            let pairs = [("appendonly", appendonly), ("appendfsync", appendfsync)];
            let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
            HashMap::from(pairs)
        };
        let needs = |version: &str, settings| {
            let server = server(version, "noeviction");
            server.needs_waitaof(&settings).ok()
        };
        assert_eq!(needs("7.0.15", settings("yes", "always")), Some(false));
        assert_eq!(needs("7.0.15", settings("yes", "everysec")), None);
        assert_eq!(needs("7.2.0", settings("yes", "everysec")), Some(true));
        assert_eq!(needs("7.2.0", settings("no", "always")), None);
    }

    #[test]
    fn a_server_that_is_not_ready_yet_is_tried_again() {
        for line in ["loading:1", "role:slave"] {
            let text = format!("redis_version:7.0.15\r\nmaxmemory_policy:noeviction\r\n{line}\r\n");
            let outcome = ServerInfo::parse(&text).check(true);
            assert!(matches!(outcome, Err(ConnectError::NotYet(_))), "{line}");
        }
    }

    #[test]
    fn a_replica_has_the_data_of_its_master() {
        let server = |run: &str, replication: &str| {
            ServerInfo::parse(&format!("run_id:{run}\r\nmaster_replid:{replication}\r\n"))
        };
        let one = server("a", "x");
        assert!(one.may_share_data(&server("a", "x")));
        assert!(one.may_share_data(&server("b", "x")));
        assert!(one.may_share_data(&server("", "")));
        for other in [server("b", "y"), server("", "y"), server("b", "")] {
            assert!(!one.may_share_data(&other));
        }
    }

    #[test]
    fn a_server_tells_its_time_in_microseconds() {
        let told = |line: &str| ServerInfo::parse(line).now_ms;
        assert_eq!(
            told("server_time_usec:1795377558378123\r\n"),
            Some(1_795_377_558_378)
        );
        assert_eq!(told("server_time_usec:soon\r\n"), None);
        assert_eq!(told(""), None);
    }

    #[test]
    fn valkey_tells_its_own_version() {
        let info = ServerInfo::parse(
            "redis_version:7.2.4\r\nvalkey_version:9.1.0\r\nmaxmemory_policy:noeviction\r\n",
        );
        assert_eq!(info.version, "9.1.0 (Valkey)");
    }
}
