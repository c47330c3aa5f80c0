//! The few commands sent to a Redis over its socket, each on its own connection.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisResult};

/// How long Redis may take to answer; a SHUTDOWN may take as long as its caller waits.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// Characters that a path may contain unescaped in a URL.
const IN_PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

#[derive(Debug)]
pub(super) struct Control {
    base_url: String,
}

impl Control {
    pub(super) fn new(socket: &Path) -> Self {
        let path = percent_encode(socket.as_os_str().as_bytes(), IN_PATH);
        Self {
            base_url: format!("unix://{path}"),
        }
    }

    pub(super) fn url(&self, protocol: &str) -> String {
        format!("{}?protocol={protocol}", self.base_url)
    }

    /// Whether Redis is running: it answers PING, or replies that it is loading its data.
    pub(super) async fn answers(&self) -> bool {
        let pong = async {
            let mut connection = self.connect(Some(ANSWER_WITHIN)).await?;
            redis::cmd("PING").query_async::<()>(&mut connection).await
        };
        match pong.await {
            Ok(()) => true,
            Err(error) => error.code() == Some("LOADING"),
        }
    }

    /// The folder that contains its data.
    pub(super) async fn data_dir(&self) -> RedisResult<PathBuf> {
        let mut connection = self.connect(Some(ANSWER_WITHIN)).await?;
        let (_, dir): (String, Vec<u8>) = redis::cmd("CONFIG")
            .arg(&["GET", "dir"])
            .query_async(&mut connection)
            .await?;
        Ok(PathBuf::from(OsString::from_vec(dir)))
    }

    /// Asks Redis to shut down, without snapshots (`NOSAVE`): the append-only file has everything, and Redis syncs it
    /// to disk first. A closed connection means success.
    pub(super) async fn shut_down(&self) -> RedisResult<()> {
        let mut connection = self.connect(None).await?;
        let shutdown = redis::cmd("SHUTDOWN")
            .arg("NOSAVE")
            .query_async(&mut connection)
            .await;
        match shutdown {
            Err(error) if error.is_connection_dropped() => Ok(()),
            other => other,
        }
    }

    async fn connect(&self, answer_within: Option<Duration>) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(ANSWER_WITHIN))
            .set_response_timeout(answer_within);
        Client::open(self.url("resp2"))?
            .get_multiplexed_async_connection_with_config(&config)
            .await
    }
}
