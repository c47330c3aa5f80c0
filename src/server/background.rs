//! The tasks that serve no single connection, and how they are joined at shutdown.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use redis::aio::MultiplexedConnection;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::ServeError;
use super::checks::Checks;
use super::listener::Listener;
use crate::config::Config;
use crate::gateway::outlet::write_due;
use crate::hub::Hub;
use crate::metrics::Metrics;
use crate::scripts::keeper::{Keeper, Order, Orders};
use crate::scripts::set::InEffect;
use crate::scripts::watch::FolderWatch;
use crate::store::clock::RedisClock;
use crate::store::confirm::{Confirmations, Wanted, confirm};
use crate::store::connection::{
    ConnectError, Connector, Current, Echo, Keeping, Progress, Pulse, Question, keep_open,
};
use crate::store::former::Former;
use crate::store::keys::Keys;
use crate::store::policy_watch::{POLICY_CHECK, log_policy, watch_policy};
use crate::store::rights::Right;
use crate::store::server_check::{ServerInfo, check_durability, check_master, check_server};
use crate::store::subscriber::keep_subscribed;
use crate::store::term::{Master, Term};

/// Requests must not wait long for a Redis that hangs.
const COMMANDS_PULSE: Pulse = Pulse {
    every: Duration::from_millis(500),
    late: Duration::from_secs(1),
    dead: Duration::from_secs(15),
};
/// Whatever Redis published during a stall still arrives once it resumes: a new connection would cost comparisons. The
/// question is asked often, because the echo shows how far behind the events are.
const SUBSCRIPTIONS_PULSE: Pulse = Pulse {
    every: Duration::from_secs(1),
    late: Duration::from_secs(15),
    dead: Duration::from_secs(15),
};

/// On this connection a question waits behind WAIT, for as long as a call may take.
const CONFIRMATIONS_PULSE: Pulse = Pulse {
    every: Duration::from_secs(5),
    late: Duration::from_secs(150),
    dead: Duration::from_secs(150),
};

/// The tasks that serve no single connection.
pub(super) struct Background {
    tasks: JoinSet<Result<(), ConnectError>>,
    pub(super) cancel: CancellationToken,
    /// The master that the connections lead to.
    pub(super) master: Master,
    pub(super) clock: RedisClock,
    metrics: Metrics,
}

/// The connection for commands.
pub(super) struct Commands {
    pub(super) current: Current,
    /// How far the connection has come while it is not up yet.
    pub(super) progress: Progress,
    /// The properties of the Redis that it leads to.
    pub(super) info: watch::Receiver<Option<ServerInfo>>,
}

impl Background {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self {
            tasks: JoinSet::new(),
            cancel: CancellationToken::new(),
            master: Master::default(),
            clock: RedisClock::default(),
            metrics,
        }
    }

    pub(super) fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(async {
            task.await;
            Ok(())
        });
    }

    /// Keeps the connection for commands, to a Redis that was checked and has the scripts.
    pub(super) fn keep_commands(
        &mut self,
        connector: &Connector,
        orders: Orders,
        config: &Config,
        confirmations: Option<Confirmations>,
    ) -> Commands {
        let (set, current) = watch::channel(None);
        let (set_info, info) = watch::channel(None);
        let former = Former::default();
        let progress = Progress::default();
        let on_the_way = progress.clone();
        let production = !config.environment.is_development();
        let durability = config.redis.durability;
        let (master, clock) = (self.master.clone(), self.clock.clone());
        let prepare = async move |connection: &mut MultiplexedConnection| {
            let info = check_server(connection, production).await?;
            info.set(&clock);
            let needed = check_durability(connection, &info, durability).await?;
            if let Some(confirmations) = &confirmations {
                confirmations.set_needed(needed);
            }
            former.succeed(connection, &info).await?;
            let term = master.met(&info.run_id);
            set_info.send_replace(Some(info));
            on_the_way.checked();
            orders.prepare(connection).await?;
            Ok(term)
        };
        let keeping = Keeping {
            name: "commands",
            pulse: COMMANDS_PULSE,
            question: Question::Master(self.clock.clone()),
            prepare,
            on_push: |_, _| (),
            master: self.master.clone(),
            progress: progress.clone(),
            metrics: self.metrics.commands.clone(),
        };
        let cancel = self.cancel.clone();
        self.tasks
            .spawn(keep_open(connector.clone(), keeping, set, cancel));
        Commands {
            current,
            progress,
            info,
        }
    }

    /// Keeps the connection and the task that confirm writes, where the setting promises more than Redis's reply.
    pub(super) fn keep_confirmations(
        &mut self,
        connector: &Connector,
        keys: &Keys,
        config: &Config,
    ) -> Option<(Confirmations, Current)> {
        let wanted = Wanted::of(config.redis.durability)?;
        let (confirmations, requests) = Confirmations::new();
        let (set, current) = watch::channel(None);
        let master = self.master.clone();
        let keeping = Keeping {
            name: "confirmations",
            pulse: CONFIRMATIONS_PULSE,
            question: Question::Alive,
            prepare: async move |connection: &mut MultiplexedConnection| {
                meet(&master, connection).await
            },
            on_push: |_, _| (),
            master: self.master.clone(),
            progress: Progress::default(),
            metrics: self.metrics.confirmations.clone(),
        };
        let (connector, cancel) = (connector.clone(), self.cancel.clone());
        self.tasks
            .spawn(keep_open(connector, keeping, set, cancel.clone()));
        let (marker, patience) = (keys.confirm(), config.redis.call_timeout);
        let asked_on = current.clone();
        self.spawn(confirm(
            requests, wanted, marker, asked_on, patience, cancel,
        ));
        Some((confirmations, current))
    }

    /// Keeps the connection that listens, on which the hub hears the channels that it wants.
    pub(super) fn keep_subscriber(
        &mut self,
        connector: &Connector,
        commands: &Current,
        listener: Listener,
    ) -> Current {
        let (set, current) = watch::channel(None);
        let (keys, hub) = (listener.keys.clone(), listener.hub.clone());
        let master = self.master.clone();
        let echo = echo(&hub, commands);
        let keeping = Keeping {
            name: "subscriptions",
            pulse: SUBSCRIPTIONS_PULSE,
            question: Question::Echo(echo),
            prepare: async move |connection: &mut MultiplexedConnection| {
                meet(&master, connection).await
            },
            on_push: move |number, push| listener.take(number, push),
            master: self.master.clone(),
            progress: Progress::default(),
            metrics: self.metrics.subscriptions.clone(),
        };
        let cancel = self.cancel.clone();
        self.tasks
            .spawn(keep_open(connector.clone(), keeping, set, cancel));
        let interest = hub.interest.clone();
        let subscribed = keep_subscribed(keys, interest, current.clone(), self.cancel.clone());
        self.spawn(subscribed);
        current
    }

    /// Runs the task that asks Redis about what seldom changes. Returns what it finds: the missing rights.
    pub(super) fn keep_checking(
        &mut self,
        commands: &Current,
        scripts: &InEffect,
        keys: &Keys,
        config: &Config,
    ) -> watch::Receiver<Option<Arc<[Right]>>> {
        let (set, missing) = watch::channel(None);
        let checks = Checks {
            commands: commands.clone(),
            scripts: scripts.clone(),
            keys: keys.clone(),
            durability: config.redis.durability,
            missing: set,
        };
        let cancel = self.cancel.clone();
        self.spawn(checks.run(cancel));
        missing
    }

    /// Runs the task that notices when Redis is configured to evict chats.
    pub(super) fn keep_watching_policy(&mut self, current: Current) {
        let cancel = self.cancel.clone();
        self.spawn(async move {
            let watch = watch_policy(current, POLICY_CHECK, log_policy);
            cancel.run_until_cancelled(watch).await;
        });
    }

    /// Runs the writers to devices, one for each thread that can run one.
    pub(super) fn keep_writing(&mut self, hub: &Hub) {
        for _ in 0..Handle::current().metrics().num_workers() {
            let (cancel, write) = (self.cancel.clone(), write_due(hub.due.clone()));
            self.spawn(async move {
                cancel.run_until_cancelled(write).await;
            });
        }
    }

    /// Runs the task that exchanges the scripts, and the triggers for reading them again: SIGHUP and, in development, a
    /// changed file.
    pub(super) fn keep_scripts(
        &mut self,
        keeper: Keeper,
        inbox: mpsc::Receiver<Order>,
        orders: &Orders,
        config: &Config,
    ) -> Result<(), ServeError> {
        let mut hang_up = signal(SignalKind::hangup()).map_err(ServeError::Signals)?;
        let (orders, cancel) = (orders.clone(), self.cancel.clone());
        self.spawn(async move {
            while let Some(Some(())) = cancel.run_until_cancelled(hang_up.recv()).await {
                orders.give(Order::Reload);
            }
        });
        let watched = config.lua_dir.as_deref();
        let watched = watched.filter(|_| config.environment.is_development());
        let folder_watch = watched.and_then(|dir| {
            FolderWatch::new(dir)
                .inspect_err(|error| {
                    log::warn!(
                        "changes in {} will not be noticed, so reload with SIGHUP: {error}",
                        dir.display()
                    );
                })
                .ok()
        });
        self.spawn(keeper.run(inbox, folder_watch, self.cancel.clone()));
        Ok(())
    }

    /// Resolves when a task reports that this Redis cannot be used at all.
    pub(super) async fn refused(&mut self) -> ConnectError {
        while let Some(ended) = self.tasks.join_next().await {
            match ended {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return error,
                Err(panic) => {
                    return ConnectError::Refused(format!("a task of the server failed: {panic}"));
                }
            }
        }
        std::future::pending().await
    }

    pub(super) async fn end(mut self) {
        self.cancel.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

/// What the server publishes to itself over the connection for commands.
fn echo(hub: &Arc<Hub>, commands: &Current) -> Echo {
    let hub = hub.clone();
    let heard = move || {
        let hub = hub.clone();
        let heard = async move { hub.beats.passed(hub.beats.ask()).await };
        Box::pin(heard) as BoxFuture<'static, ()>
    };
    Echo {
        heard: Box::new(heard),
        by: commands.clone(),
    }
}

/// Reports which Redis a connection leads to; only a master is accepted.
async fn meet(
    master: &Master,
    connection: &mut MultiplexedConnection,
) -> Result<Term, ConnectError> {
    let info = check_master(connection).await?;
    Ok(master.met(&info.run_id))
}
