//! Which commands a script may call, and the flags that follow from them.

use super::header::Header;
use super::source::{ExprId, Kind, Source};
use super::{Findings, Script};

/// What the checks know of an allowed command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Command {
    /// Whether it stores, deletes or publishes.
    pub(super) writes: bool,
    pub(super) keys: KeyPlaces,
}

/// Which of a command's arguments are keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyPlaces {
    None,
    First,
    FirstTwo,
    All,
}

/// Names separated by spaces, grouped by the type that they work on.
const ALLOWED: [(bool, KeyPlaces, &str); 8] = [
    (false, KeyPlaces::None, "TIME"),
    (
        false,
        KeyPlaces::First,
        "EXPIRETIME PEXPIRETIME PTTL TTL TYPE \
         BITCOUNT BITPOS GET GETBIT GETRANGE STRLEN \
         HEXISTS HGET HGETALL HKEYS HLEN HMGET HRANDFIELD HSCAN HSTRLEN HVALS \
         LINDEX LLEN LPOS LRANGE \
         SCARD SISMEMBER SMEMBERS SMISMEMBER SRANDMEMBER SSCAN \
         ZCARD ZCOUNT ZLEXCOUNT ZMSCORE ZRANDMEMBER ZRANGE ZRANGEBYLEX ZRANGEBYSCORE ZRANK \
         ZREVRANGE ZREVRANGEBYLEX ZREVRANGEBYSCORE ZREVRANK ZSCAN ZSCORE \
         XLEN XRANGE XREVRANGE",
    ),
    (
        false,
        KeyPlaces::All,
        "EXISTS MGET SDIFF SINTER SUNION TOUCH",
    ),
    (
        true,
        KeyPlaces::First,
        "EXPIRE EXPIREAT PERSIST PEXPIRE PEXPIREAT \
         APPEND DECR DECRBY GETDEL GETEX GETSET INCR INCRBY INCRBYFLOAT PSETEX SET SETBIT SETEX \
         SETNX SETRANGE \
         HDEL HINCRBY HINCRBYFLOAT HMSET HSET HSETNX \
         LINSERT LPOP LPUSH LPUSHX LREM LSET LTRIM RPOP RPUSH RPUSHX \
         SADD SPOP SREM \
         ZADD ZINCRBY ZPOPMAX ZPOPMIN ZREM ZREMRANGEBYLEX ZREMRANGEBYRANK ZREMRANGEBYSCORE \
         XADD XDEL XTRIM",
    ),
    // A publish cannot be undone either.
    (true, KeyPlaces::First, "SPUBLISH"),
    (
        true,
        KeyPlaces::FirstTwo,
        "LMOVE RENAME RENAMENX RPOPLPUSH SMOVE ZRANGESTORE",
    ),
    (true, KeyPlaces::All, "DEL UNLINK"),
    (true, KeyPlaces::All, "SDIFFSTORE SINTERSTORE SUNIONSTORE"),
];

/// Why a command is refused, for those that one might try.
const REFUSED: [(&str, &str); 4] = [
    (
        "it reaches beyond KEYS",
        "COPY DBSIZE FLUSHALL FLUSHDB KEYS MIGRATE MOVE RANDOMKEY SCAN SELECT SORT SORT_RO SWAPDB",
    ),
    (
        "it blocks",
        "BLMOVE BLMPOP BLPOP BRPOP BRPOPLPUSH BZMPOP BZPOPMAX BZPOPMIN WAIT WAITAOF XREAD \
         XREADGROUP",
    ),
    (
        "it is administration",
        "ACL BGREWRITEAOF BGSAVE CLIENT CLUSTER COMMAND CONFIG DEBUG DISCARD EVAL EVALSHA \
         EVALSHA_RO EVAL_RO EXEC FAILOVER FCALL FCALL_RO FUNCTION INFO LATENCY MODULE MONITOR \
         MULTI PSYNC REPLICAOF RESET SAVE SCRIPT SHUTDOWN SLAVEOF SLOWLOG SYNC",
    ),
    (
        "publish with SPUBLISH, which stays in the room's slot",
        "PUBLISH",
    ),
];

/// A call of a command.
pub(super) struct Called<'a> {
    pub(super) id: ExprId,
    /// As the script writes it; `None` if it is not a literal.
    pub(super) name: Option<&'a str>,
    /// All arguments but the command.
    pub(super) args: &'a [ExprId],
}

/// Every `redis.call` and `redis.pcall`.
pub(super) fn called(source: &Source) -> impl Iterator<Item = Called<'_>> {
    source.calls().filter_map(|(id, callee, args)| {
        let member = source.member(callee, "redis");
        member.filter(|name| ["call", "pcall"].contains(name))?;
        let name = args.first().and_then(|first| source.string(*first));
        let args = args.get(1..).unwrap_or_default();
        Some(Called { id, name, args })
    })
}

/// The allowed command of this name, in any case.
pub(super) fn find(script: Script, name: &str) -> Option<Command> {
    // Only the reset searches for keys that it was not given.
    if script == Script::ResetRedisForDevelopment && name.eq_ignore_ascii_case("SCAN") {
        let keys = KeyPlaces::None;
        return Some(Command {
            writes: false,
            keys,
        });
    }
    let mut allowed = ALLOWED.iter();
    let (writes, keys, _) = *allowed.find(|(_, _, names)| lists(names, name))?;
    Some(Command { writes, keys })
}

fn lists(names: &str, name: &str) -> bool {
    names
        .split_whitespace()
        .any(|listed| listed.eq_ignore_ascii_case(name))
}

/// A command that a script calls.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CalledOn {
    /// In upper case.
    pub command: String,
    /// The local that holds its first key or its channel, if one does.
    pub local: Option<String>,
}

/// Every allowed command that a script calls.
pub(super) fn called_on(script: Script, source: &Source) -> impl Iterator<Item = CalledOn> {
    called(source).filter_map(move |called| {
        let command = called.name.filter(|name| find(script, name).is_some())?;
        let command = command.to_ascii_uppercase();
        let local = called.args.first().and_then(|arg| match source.kind(*arg) {
            Kind::Local(local) => Some(source.locals[*local].name.clone()),
            _ => None,
        });
        Some(CalledOn { command, local })
    })
}

/// Whether it stores, deletes or publishes. Commands that are not allowed are reported elsewhere.
pub(super) fn writes(script: Script, called: &Called) -> bool {
    let command = called.name.and_then(|name| find(script, name));
    command.is_some_and(|command| command.writes)
}

pub(super) fn check(script: Script, source: &Source, found: &mut Findings) {
    for called in called(source) {
        let line = source.line(called.id);
        let Some(name) = called.name else {
            let text = source.text(called.id);
            found.add(
                line,
                format!("`{text}` does not name its command in quotes"),
            );
            continue;
        };
        if find(script, name).is_none() {
            let mut refused = REFUSED.iter();
            let why = refused
                .find(|(_, names)| lists(names, name))
                .map_or("it is not on the list of commands", |(why, _)| *why);
            found.add(line, format!("{name} may not be called: {why}"));
        }
    }
}

/// Checks that the flags of line 1 are those that the body needs.
pub(super) fn check_flags(script: Script, header: &Header, source: &Source, found: &mut Findings) {
    let writes = called(source).any(|called| writes(script, &called));
    // These free memory: they must work when none is left.
    let frees = matches!(script, Script::LeaveChat | Script::ResetRedisForDevelopment);
    let (expected, why) = match (writes, frees) {
        (false, _) => ("#!lua flags=no-writes", "it only reads"),
        (true, true) => ("#!lua flags=allow-oom", "it frees memory"),
        (true, false) => ("#!lua", "it writes"),
    };
    let flags = match header.flags.is_empty() {
        true => "#!lua".to_owned(),
        false => format!("#!lua flags={}", header.flags.join(",")),
    };
    if flags != expected {
        found.add(
            1,
            format!("the flags are wrong: `{flags}` should be `{expected}`, for {why}"),
        );
    }
}
