//! A connection takes over from its predecessor: what that one wrote and Redis has not read yet must not run later.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;

use super::connection::ConnectError;
use super::server_check::ServerInfo;

/// How long Redis may take for this.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// The previous connection, as Redis identifies it: its run id and its client id there.
#[derive(Default)]
pub struct Former(Mutex<Option<(String, u64)>>);

impl Former {
    /// Makes Redis drop the former connection, so that a call of unknown outcome cannot run after later ones.
    ///
    /// If the Redis user lacks the right to do so, this step is skipped.
    pub async fn succeed(
        &self,
        connection: &mut MultiplexedConnection,
        info: &ServerInfo,
    ) -> Result<(), ConnectError> {
        let exchange = async {
            let former = self.lock().clone();
            // Another run assigns the ids again, to other clients.
            if let Some((_, id)) = former.filter(|(run_id, _)| *run_id == info.run_id) {
                let mut kill = redis::cmd("CLIENT");
                kill.arg("KILL").arg("ID").arg(id);
                let killed: Result<u64, _> = kill.query_async(connection).await;
                log::debug!("the former connection was dropped: {killed:?}");
                match killed {
                    // The outcome is unknown: the next connection has to drop it.
                    Err(error) if error.code().is_none() => return Err(ConnectError::Redis(error)),
                    _ => {}
                }
            }
            let mut id = redis::cmd("CLIENT");
            let id: Option<u64> = id.arg("ID").query_async(connection).await.ok();
            *self.lock() = id.map(|id| (info.run_id.clone(), id));
            Ok(())
        };
        tokio::time::timeout(ANSWER_WITHIN, exchange)
            .await
            .map_err(|_| ConnectError::NotYet("it does not answer in time"))?
    }

    fn lock(&self) -> MutexGuard<'_, Option<(String, u64)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
