//! `chat-server import`: the chats of the NestJS server that this one replaces.
//!
//! - `index`: which rooms there are, and what each becomes
//! - `old`, `list`, `message`, `members`, `order`: the data of the replaced server, which is untrusted input
//! - `plan`: what a room does not have yet
//! - `target`: what a room has, and the script that writes to it
//! - `transfer`: the import of one room
//! - `report`, `progress`: what the operator sees
//!
//! Only one room is in memory at a time. A script writes each room, its messages in chunks and the oldest first, so
//! that an import that stops at any point can be run again.

mod index;
mod list;
mod members;
mod message;
mod old;
mod order;
mod plan;
mod progress;
mod report;
mod target;
mod transfer;

use std::path::PathBuf;
use std::time::Duration;

use redis::RedisError;

use crate::cli::import::ImportArgs;
use crate::config::OperatorConfig;
use crate::store::connection::{ConnectError, Connector};
use crate::store::embedded;
use crate::store::keys::{Keys, replaced};
use crate::store::server_check::{check_server, describe_server};
use index::find_rooms;
use old::OldServer;
use report::Report;
use target::Target;
use transfer::Transfer;

/// How long either Redis may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Why an import cannot start, or cannot continue.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("REDIS_URL is not set, and no server runs a Redis of its own on {}", .0.display())]
    NoRedis(PathBuf),
    #[error("--from is not the address of a Redis: {0}")]
    From(RedisError),
    #[error("cannot use Redis at {address}: {source}")]
    Connect {
        address: String,
        source: ConnectError,
    },
    #[error(
        "both servers would share one database of one Redis, and KEY_PREFIX is {prefix}: the keys of this server would be \
         mixed with those of the old one. Give this server a Redis of its own, or set another KEY_PREFIX, such as talk, for it \
         and for all of its servers, and run this again"
    )]
    Shared { prefix: String },
    #[error("Redis at {address}: {source}. Run this again: it continues where it stopped")]
    Broken { address: String, source: RedisError },
}

/// Imports all chats, prints what was not imported, and prints a summary. Returns false if something was not imported.
///
/// # Errors
/// A Redis cannot be used, or must not be.
pub async fn run(args: &ImportArgs, config: OperatorConfig) -> Result<bool, ImportError> {
    let (mut old, mut target) = open(args, config).await?;
    let mut report = Report::new(args.dry_run);
    let outcome = import_all(&mut old, &mut target, &mut report).await;
    report.sum_up();
    outcome.map(|()| report.is_clean())
}

/// Connects to both, and checks that they may be used together.
async fn open(
    args: &ImportArgs,
    config: OperatorConfig,
) -> Result<(OldServer, Target), ImportError> {
    let from = Connector::for_any_version(&args.from).map_err(ImportError::From)?;
    let url = match config.redis.url {
        Some(url) => url,
        None => embedded::running_url(&config.redis.data_dir)
            .ok_or(ImportError::NoRedis(config.redis.data_dir))?,
    };
    let to = Connector::for_any_version(&url).map_err(|source| ImportError::Connect {
        address: "REDIS_URL".to_owned(),
        source: source.into(),
    })?;
    let failed = |connector: &Connector| {
        let address = connector.address().to_owned();
        move |source| ImportError::Connect { address, source }
    };
    let mut old = from
        .open_bounded(ANSWER_WITHIN)
        .await
        .map_err(failed(&from))?;
    let mut new = to.open_bounded(ANSWER_WITHIN).await.map_err(failed(&to))?;
    let old_info = describe_server(&mut old).await.map_err(failed(&from))?;
    let new_info = check_server(&mut new, false).await.map_err(failed(&to))?;
    let prefix = config.redis.key_prefix;
    let one_database = from.database() == to.database() && old_info.may_share_data(&new_info);
    if one_database && replaced::shares_prefix(&prefix) {
        return Err(ImportError::Shared { prefix });
    }
    let old = OldServer {
        connection: old,
        address: from.address().to_owned(),
    };
    let (keys, to) = (Keys::new(prefix), to.address().to_owned());
    Ok((old, Target::new(new, to, keys, config.limits, args.dry_run)))
}

async fn import_all(
    old: &mut OldServer,
    target: &mut Target,
    report: &mut Report,
) -> Result<(), ImportError> {
    let rooms = find_rooms(old, report, target.limits.max_participants).await?;
    let of = rooms.len() as u64;
    for ((id, room), done) in rooms.iter().zip(0..) {
        report.progress.done(done, of, report.messages);
        let transfer = Transfer {
            old,
            target,
            report,
            room,
        };
        transfer.run(*id).await?;
    }
    Ok(())
}
