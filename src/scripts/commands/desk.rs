//! What the commands share: Redis, the keys, and the choice of scripts.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use redis::PushInfo;
use redis::aio::MultiplexedConnection;
use tokio::sync::Notify;

use super::CommandError;
use crate::cli::scripts::Which;
use crate::config::OperatorConfig;
use crate::scripts::applied::{self, AppliedError};
use crate::scripts::behaviour::{OwnCase, own};
use crate::scripts::folder::{self, FolderError};
use crate::scripts::set::ScriptSet;
use crate::scripts::verify::Refusal;
use crate::store::connection::{ConnectError, Connector};
use crate::store::embedded;
use crate::store::keys::Keys;

/// What all commands need.
pub(super) struct Desk {
    pub(super) config: OperatorConfig,
    pub(super) keys: Keys,
    pub(super) embedded: ScriptSet,
}

impl Desk {
    pub(super) fn new(config: OperatorConfig) -> Result<Self, CommandError> {
        let keys = Keys::new(&config.redis.key_prefix);
        let embedded = ScriptSet::embedded()?;
        Ok(Self {
            config,
            keys,
            embedded,
        })
    }

    /// A connection of its own.
    pub(super) async fn connect(&self) -> Result<MultiplexedConnection, CommandError> {
        self.listen(|_| ()).await
    }

    /// A connection that passes on what Redis sends unasked.
    pub(super) async fn listen(
        &self,
        on_push: impl Fn(PushInfo) + Send + Sync + 'static,
    ) -> Result<MultiplexedConnection, CommandError> {
        let connector = self.connector()?;
        let opened = connector.open(on_push, Arc::new(Notify::new())).await;
        opened.map_err(|source| CommandError::Connect {
            address: connector.address().to_owned(),
            source: ConnectError::Redis(source),
        })
    }

    pub(super) fn connector(&self) -> Result<Connector, CommandError> {
        let redis = &self.config.redis;
        let url = match &redis.url {
            Some(url) => url.clone(),
            None => embedded::running_url(&redis.data_dir)
                .ok_or_else(|| CommandError::NoRedis(redis.data_dir.clone()))?,
        };
        Connector::new(&url).map_err(CommandError::Redis)
    }

    /// The scripts that are selected; by default those that a server with these settings runs.
    pub(super) async fn chosen(
        &self,
        dir: Option<PathBuf>,
        which: Which,
    ) -> Result<ScriptSet, CommandError> {
        if which.embedded {
            return Ok(self.embedded.clone());
        }
        if let Some(number) = which.set {
            let mut connection = self.connect().await?;
            return self.applied(&mut connection, number).await;
        }
        match dir.or_else(|| self.config.lua_dir.clone()) {
            Some(dir) => self.folder(dir),
            None => self.in_effect(&mut self.connect().await?).await,
        }
    }

    /// What a server with these settings runs. If an applied set does not fit, a warning goes to standard error.
    pub(super) async fn in_effect(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> Result<ScriptSet, CommandError> {
        if let Some(dir) = self.config.lua_dir.clone() {
            return self.folder(dir);
        }
        let Some(number) = applied::current(connection, &self.keys).await? else {
            return Ok(self.embedded.clone());
        };
        match self.applied(connection, number).await {
            Err(CommandError::Applied(AppliedError::Unfit(unfit))) => {
                eprintln!("{unfit}; using the embedded set");
                Ok(self.embedded.clone())
            }
            outcome => outcome,
        }
    }

    pub(super) fn folder(&self, dir: PathBuf) -> Result<ScriptSet, CommandError> {
        let read = folder::read(&dir, &self.embedded).map_err(Refusal::from)?;
        Ok(read.set)
    }

    /// The operator's own cases, from the file beside the scripts.
    pub(super) fn own_cases(&self, dir: &Path) -> Result<Vec<OwnCase>, CommandError> {
        let read = own::read(dir).map_err(|source| {
            let path = dir.join(own::FILE);
            Refusal::Folder(FolderError::Unreadable { path, source })
        })?;
        Ok(read.map_err(Refusal::Problems)?)
    }

    async fn applied(
        &self,
        connection: &mut MultiplexedConnection,
        number: u64,
    ) -> Result<ScriptSet, CommandError> {
        let stored = applied::read(connection, &self.keys, number).await?;
        let set = stored.to_set(&self.embedded);
        set.map_err(|unfit| CommandError::Applied(unfit.into()))
    }
}
