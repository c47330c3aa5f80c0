//! The running server's scripts: which set is in effect, and how another one replaces it.
//!
//! One task does all of it, so that swaps happen one after another. A swap is all or nothing: the new set is read,
//! verified and loaded into Redis, then replaces the old one as a whole. If a step fails, the old set stays.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::applied::{self, AppliedError};
use super::folder;
use super::set::{InEffect, Origin, ScriptSet};
use super::verify::{Behaviour, Refusal, Verdict, verify};
use super::watch::FolderWatch;
use super::wire::{Answer, Question, ScriptReport, ServerFacts, Want};
use crate::store::connection::{ConnectError, Current};
use crate::store::keys::Keys;
use crate::store::load_scripts;
use crate::store::rights::{Needed, Right};
use crate::store::tally::Tallies;

/// How many orders may wait.
const INBOX: usize = 64;
/// How long Redis may take to load a set.
const LOAD_TIMEOUT: Duration = Duration::from_secs(5);

/// An order to the keeper.
#[derive(Debug)]
pub enum Order {
    /// This connection is new: choose the set and load it there.
    Prepare(
        MultiplexedConnection,
        oneshot::Sender<Result<(), ConnectError>>,
    ),
    /// An announcement may have been missed.
    LookAgain,
    /// Read `LUA_DIR` again.
    Reload,
    Answer(Question),
}

/// Sends orders to the keeper.
#[derive(Clone)]
pub struct Orders(mpsc::Sender<Order>);

impl Orders {
    /// Sends an order without waiting. If the inbox is full, the order is dropped: its sender asks again.
    pub fn give(&self, order: Order) {
        if self.0.try_send(order).is_err() {
            log::warn!("too many orders about scripts at once: one was dropped");
        }
    }

    /// Resolves when the set is chosen and loaded on this connection.
    pub async fn prepare(&self, connection: &MultiplexedConnection) -> Result<(), ConnectError> {
        let (done, prepared) = oneshot::channel();
        let order = Order::Prepare(connection.clone(), done);
        let stopped = ConnectError::NotYet("this server is stopping");
        match self.0.send(order).await {
            Ok(()) => prepared.await.unwrap_or(Err(stopped)),
            Err(_) => Err(stopped),
        }
    }
}

/// The sender of orders, and the receiver for the keeper.
pub fn inbox() -> (Orders, mpsc::Receiver<Order>) {
    let (orders, inbox) = mpsc::channel(INBOX);
    (Orders(orders), inbox)
}

/// A set that was verified.
#[derive(Clone)]
pub struct Vetted {
    pub set: ScriptSet,
    /// A note for its operator.
    pub note: Option<String>,
}

/// The set that a server starts with: `LUA_DIR`'s if it is set, otherwise the embedded one, until Redis names another.
///
/// # Errors
/// `LUA_DIR` is not a set that passes the checks.
pub async fn first_set(lua_dir: Option<PathBuf>, embedded: &ScriptSet) -> Result<Vetted, Refusal> {
    match lua_dir {
        Some(dir) => read_folder(dir, embedded).await,
        None => Ok(Vetted {
            set: embedded.clone(),
            note: None,
        }),
    }
}

/// Reads and verifies a folder's set, and logs the note for its operator.
async fn read_folder(dir: PathBuf, embedded: &ScriptSet) -> Result<Vetted, Refusal> {
    let stand_in = embedded.clone();
    let read = tokio::task::spawn_blocking(move || folder::read(&dir, &stand_in)).await;
    let read = match read {
        Ok(read) => read?,
        Err(panic) => return Err(Refusal::Scratch(panic.to_string())),
    };
    let note = note(&verify(&read.set, Behaviour::WherePossible).await?);
    if !read.missing.is_empty() {
        let names: Vec<&str> = read.missing.iter().map(|script| script.name()).collect();
        log::info!(
            "{}: using the embedded {}",
            read.set.origin,
            names.join(", ")
        );
    }
    Ok(Vetted {
        set: read.set,
        note,
    })
}

/// The note on a set that may run but was not fully tried.
fn note(verdict: &Verdict) -> Option<String> {
    match verdict {
        Verdict::Behaves(_) => None,
        Verdict::Reads(reason) => Some(format!(
            "the behaviour of the scripts was not tried: {reason}"
        )),
    }
}

/// What a keeper needs.
pub struct Parts {
    pub embedded: ScriptSet,
    /// Runs this folder's scripts, whatever set is applied.
    pub lua_dir: Option<PathBuf>,
    pub keys: Keys,
    pub commands: Current,
    pub in_effect: watch::Sender<Arc<ScriptSet>>,
    pub tallies: Arc<Tallies>,
    pub server: ServerFacts,
}

/// Keeps a server's scripts.
pub struct Keeper {
    parts: Parts,
    /// The applied set that is not run, and why; it is not tried again.
    refused: Option<(u64, String)>,
    /// The note on the set in effect.
    note: Option<String>,
}

impl Keeper {
    /// `note` belongs to the first set.
    pub fn new(parts: Parts, note: Option<String>) -> Self {
        if let Some(note) = &note {
            log::warn!("{}: {note}", parts.in_effect.borrow().origin);
        }
        Self {
            parts,
            refused: None,
            note,
        }
    }

    /// Carries out orders until `cancel`.
    pub async fn run(
        mut self,
        mut inbox: mpsc::Receiver<Order>,
        mut folder_watch: Option<FolderWatch>,
        cancel: CancellationToken,
    ) {
        loop {
            let order = tokio::select! {
                () = cancel.cancelled() => return,
                order = inbox.recv() => match order {
                    Some(order) => order,
                    None => return,
                },
                () = changed(&mut folder_watch) => Order::Reload,
            };
            tokio::select! {
                () = cancel.cancelled() => return,
                () = self.carry_out(order) => {}
            }
        }
    }

    async fn carry_out(&mut self, order: Order) {
        match order {
            Order::Prepare(mut connection, done) => {
                // The receiver is gone only if the connection has broken meanwhile.
                let _ = done.send(self.prepare(&mut connection).await);
            }
            Order::LookAgain => self.look_again().await,
            Order::Reload => self.reload().await,
            Order::Answer(question) => self.answer(question).await,
        }
    }

    async fn prepare(
        &mut self,
        connection: &mut MultiplexedConnection,
    ) -> Result<(), ConnectError> {
        self.take_applied(connection).await?;
        self.leave_folder_without_rights(connection).await?;
        let set = self.parts.in_effect.borrow().clone();
        load(connection, &set).await
    }

    /// Records beside the applied sets that this server runs. A full Redis accepts no record, and is used all the same.
    async fn note_server(&self, connection: &mut MultiplexedConnection) {
        let noted = applied::note_server(connection, &self.parts.keys, &self.parts.server);
        if let Ok(Err(error)) = tokio::time::timeout(LOAD_TIMEOUT, noted).await {
            log::debug!("cannot record that this server runs: {error}");
        }
    }

    async fn look_again(&mut self) {
        let Some(mut connection) = self.connection() else {
            // The next connection is prepared, which checks again.
            return;
        };
        if let Err(error) = self.take_applied(&mut connection).await {
            log::warn!("cannot read which scripts are applied: {error}");
        }
    }

    fn connection(&self) -> Option<MultiplexedConnection> {
        let up = self.parts.commands.borrow();
        up.as_ref().map(|up| up.redis.clone())
    }

    /// Puts the applied set into effect, if it is a different one and may run here.
    ///
    /// Fails only if Redis does not answer: an unfit set is logged, and remembered as refused.
    async fn take_applied(
        &mut self,
        connection: &mut MultiplexedConnection,
    ) -> Result<(), ConnectError> {
        if self.parts.lua_dir.is_some() {
            return Ok(());
        }
        let wanted =
            tokio::time::timeout(LOAD_TIMEOUT, applied::current(connection, &self.parts.keys));
        let wanted = wanted.await.map_err(|_| NO_ANSWER)??;
        let running = self.parts.in_effect.borrow().origin.clone();
        match wanted {
            None if running == Origin::Embedded => self.refused = None,
            None => {
                if !applied::any(connection, &self.parts.keys).await? {
                    log::warn!(
                        "Redis has lost {running} and all others: the embedded set runs now. Apply the scripts again"
                    );
                }
                let (set, note) = (self.parts.embedded.clone(), None);
                self.swap(Vetted { set, note });
            }
            Some(number) if running == Origin::Applied(number) => self.refused = None,
            Some(number) if self.has_refused(number) => {}
            Some(number) => match self.fetch(connection, number).await {
                Ok(vetted) => self.swap(vetted),
                Err(FetchError::Redis(error)) => return Err(error),
                Err(FetchError::Unfit(reason)) => {
                    log::error!("applied set {number} is not run, but {running}: {reason}");
                    self.refused = Some((number, reason));
                }
            },
        }
        Ok(())
    }

    fn has_refused(&self, number: u64) -> bool {
        matches!(&self.refused, Some((refused, _)) if *refused == number)
    }

    /// Reads an applied set, verifies it and loads it.
    async fn fetch(
        &self,
        connection: &mut MultiplexedConnection,
        number: u64,
    ) -> Result<Vetted, FetchError> {
        let read = tokio::time::timeout(
            LOAD_TIMEOUT,
            applied::read(connection, &self.parts.keys, number),
        );
        let stored = match read.await {
            Ok(Ok(stored)) => stored,
            Ok(Err(AppliedError::Redis(error))) => return Err(FetchError::Redis(error.into())),
            Ok(Err(error)) => return Err(FetchError::Unfit(error.to_string())),
            Err(_) => return Err(FetchError::Redis(NO_ANSWER)),
        };
        let unfit = |reason: String| FetchError::Unfit(reason);
        let set = stored.to_set(&self.parts.embedded);
        let set = set.map_err(|reason| unfit(reason.to_string()))?;
        let verdict = verify(&set, Behaviour::WherePossible).await;
        let verdict = verdict.map_err(|refusal| unfit(refusal.to_string()))?;
        let missing = self.missing_rights(connection, &set).await;
        if let Some(missing) = missing.map_err(FetchError::Redis)? {
            return Err(unfit(missing));
        }
        load(connection, &set).await.map_err(FetchError::Redis)?;
        self.note_server(connection).await;
        let note = note(&verdict);
        Ok(Vetted { set, note })
    }

    /// The commands that the set needs and Redis does not allow its user, as text. Such a set would stop half-way in a
    /// call.
    async fn missing_rights(
        &self,
        connection: &mut MultiplexedConnection,
        set: &ScriptSet,
    ) -> Result<Option<String>, ConnectError> {
        let needed = Needed::beyond(set, &self.parts.embedded, &self.parts.keys);
        let asked = tokio::time::timeout(LOAD_TIMEOUT, needed.missing(connection)).await;
        let missing = match asked.map_err(|_| NO_ANSWER)? {
            Ok(missing) => missing,
            // This Redis cannot report it.
            Err(error) if error.code() == Some("ERR") => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        let rights: Vec<String> = missing.iter().map(Right::to_string).collect();
        let right = |right: &Right| format!("+{}", right.command.to_lowercase());
        let wanted: Vec<String> = missing.iter().map(right).collect();
        Ok((!missing.is_empty()).then(|| {
            format!(
                "Redis does not allow its user what these scripts need: {}. Give the user {}, or do without them",
                rights.join("; "),
                wanted.join(" ")
            )
        }))
    }

    /// Stops running a folder's set that lacks rights in Redis.
    async fn leave_folder_without_rights(
        &mut self,
        connection: &mut MultiplexedConnection,
    ) -> Result<(), ConnectError> {
        let set = self.parts.in_effect.borrow().clone();
        if !matches!(set.origin, Origin::Folder(_)) {
            return Ok(());
        }
        if let Some(missing) = self.missing_rights(connection, &set).await? {
            log::error!(
                "the scripts of LUA_DIR are not run; the embedded set runs instead: {missing}"
            );
            let (set, note) = (self.parts.embedded.clone(), Some(missing));
            self.swap(Vetted { set, note });
        }
        Ok(())
    }

    /// The single step that puts a set into effect. Calls in progress finish with the set that they began with.
    fn swap(&mut self, vetted: Vetted) {
        let Vetted { set, note } = vetted;
        let before = self.parts.in_effect.borrow().clone();
        let differing = set.differing(&before);
        let names: Vec<&str> = differing.iter().map(|script| script.name()).collect();
        log::info!(
            "scripts: {} is in effect, changed: {}",
            set.origin,
            if names.is_empty() {
                "nothing".to_owned()
            } else {
                names.join(", ")
            }
        );
        if let Some(note) = &note {
            log::warn!("{}: {note}", set.origin);
        }
        (self.refused, self.note) = (None, note);
        self.parts.in_effect.send_replace(Arc::new(set));
    }

    /// Reads `LUA_DIR` again; without it, checks whether another set was applied.
    async fn reload(&mut self) {
        let Some(dir) = self.parts.lua_dir.clone() else {
            log::info!("LUA_DIR is not set: checking which set is applied");
            return self.look_again().await;
        };
        match read_folder(dir, &self.parts.embedded).await {
            Err(refusal) => {
                log::error!(
                    "the scripts are not exchanged, the old ones stay in effect:\n{refusal}"
                );
                self.note = Some(format!("the folder as it is now was refused: {refusal}"));
            }
            Ok(vetted) => self.take_folder(vetted).await,
        }
    }

    async fn take_folder(&mut self, vetted: Vetted) {
        if let Some(mut connection) = self.connection() {
            match self.missing_rights(&mut connection, &vetted.set).await {
                Ok(None) => {}
                Ok(Some(missing)) => {
                    log::error!(
                        "the scripts are not exchanged, the old ones stay in effect: {missing}"
                    );
                    self.note = Some(format!("the folder as it is now was refused: {missing}"));
                    return;
                }
                // The next connection is checked.
                Err(error) => {
                    log::warn!("cannot check the rights that the new scripts need: {error}")
                }
            }
            if let Err(error) = load(&mut connection, &vetted.set).await {
                // They are loaded by the first call that finds them missing.
                log::warn!("the new scripts could not be loaded in advance: {error}");
            }
        }
        self.swap(vetted);
    }

    async fn answer(&mut self, question: Question) {
        if !self.parts.keys.is_answers(&question.reply_to) {
            log::warn!("a question about scripts names a channel that is not for answers");
            return;
        }
        if question.want == Want::Settle {
            self.look_again().await;
        }
        let Some(mut connection) = self.connection() else {
            log::warn!("a question about scripts is not answered: Redis cannot be used right now");
            return;
        };
        if question.want == Want::Settle {
            self.note_server(&mut connection).await;
        }
        let mut report = self.report();
        if question.from.is_some() {
            report.scripts.clear();
        }
        let answer = match serde_json::to_string(&report) {
            Ok(answer) => answer,
            Err(error) => return log::error!("cannot answer about scripts: {error}"),
        };
        let mut publish = redis::cmd("SPUBLISH");
        publish.arg(&question.reply_to).arg(answer);
        let sent = publish.exec_async(&mut connection);
        if let Ok(Err(error)) = tokio::time::timeout(LOAD_TIMEOUT, sent).await {
            log::warn!("cannot answer about scripts: {error}");
        }
    }

    fn report(&self) -> Answer {
        let set = self.parts.in_effect.borrow().clone();
        let refused = match (&self.refused, &self.parts.lua_dir) {
            (Some((_, reason)), _) => Some(reason.clone()),
            (None, Some(_)) => Some("LUA_DIR is set".to_owned()),
            (None, None) => None,
        };
        let scripts = set.iter().map(|(script, text)| {
            let counted = self.parts.tallies.of(script);
            ScriptReport {
                name: script.name().to_owned(),
                sha1: text.sha1.clone(),
                calls: counted.calls,
                average_us: counted.average_us,
                worst_us: counted.worst_us,
            }
        });
        Answer {
            server: self.parts.server.clone(),
            set: set.origin.to_string(),
            applied: match set.origin {
                Origin::Applied(number) => Some(number),
                _ => None,
            },
            refused,
            note: self.note.clone(),
            scripts: scripts.collect(),
        }
    }
}

enum FetchError {
    Redis(ConnectError),
    Unfit(String),
}

const NO_ANSWER: ConnectError = ConnectError::NotYet("it does not answer in time");

async fn load(connection: &mut MultiplexedConnection, set: &ScriptSet) -> Result<(), ConnectError> {
    let loaded = tokio::time::timeout(LOAD_TIMEOUT, load_scripts(connection, set));
    loaded.await.map_err(|_| NO_ANSWER)?
}

/// Resolves when the watched folder has changed; never if none is watched.
async fn changed(folder_watch: &mut Option<FolderWatch>) {
    match folder_watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

/// The sender with which the keeper swaps the set in effect, and a receiver of it.
pub fn in_effect(first: ScriptSet) -> (watch::Sender<Arc<ScriptSet>>, InEffect) {
    watch::channel(Arc::new(first))
}
