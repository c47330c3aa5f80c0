//! A connection takes over from the one before: what that one wrote and Redis has not read yet must not run later.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;

use super::connection::ConnectError;
use super::server_check::ServerInfo;

/// How long Redis may take for it.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// The connection before, as Redis knows it: its run and the client's number there.
#[derive(Default)]
pub struct Former(Mutex<Option<(String, u64)>>);

impl Former {
    /// Has Redis drop the former connection, so that a call of unknown outcome cannot run after later ones.
    ///
    /// A Redis whose rights do not allow that goes without.
    pub async fn succeed(
        &self,
        connection: &mut MultiplexedConnection,
        info: &ServerInfo,
    ) -> Result<(), ConnectError> {
        let exchange = async {
            let mut id = redis::cmd("CLIENT");
            let id: Option<u64> = id.arg("ID").query_async(connection).await.ok();
            let now = id.map(|id| (info.run_id.clone(), id));
            let former = {
                let mut former = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                std::mem::replace(&mut *former, now)
            };
            // Another run gives the numbers out again, to others.
            if let Some((run_id, id)) = former
                && run_id == info.run_id
            {
                let mut kill = redis::cmd("CLIENT");
                kill.arg("KILL").arg("ID").arg(id);
                let killed: Result<u64, _> = kill.query_async(connection).await;
                log::debug!("the former connection was dropped: {killed:?}");
            }
        };
        tokio::time::timeout(ANSWER_WITHIN, exchange)
            .await
            .map_err(|_| ConnectError::NotYet("it does not answer in time"))
    }
}
