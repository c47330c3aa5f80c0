//! One `redis-server` process and its log.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::EmbeddedError;
use super::control::Control;

/// In the data folder; Redis writes it, and removes it on a clean shutdown.
pub(super) const PID_FILE: &str = "redis.pid";

const PROGRAMS: [&str; 2] = ["redis-server", "valkey-server"];
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);
const ENDS_WITHIN: Duration = Duration::from_secs(10);
const ASK_EVERY: Duration = Duration::from_millis(20);
const ASK_TO_END_EVERY: Duration = Duration::from_millis(200);
/// How long to keep reading the log of an ended process: a fork of it may keep the pipes open.
const LOG_ENDS_WITHIN: Duration = Duration::from_secs(1);
const LAST_WORDS_LINES: usize = 20;

/// Redis before 7.2 logs these at warning level at each start and stop.
const ROUTINE: [&str; 8] = [
    "oO0OoO0OoO0Oo",
    "Redis version=",
    "Valkey version=",
    "Configuration loaded",
    "Server initialized",
    "User requested shutdown",
    "Redis is now ready to exit",
    "Valkey is now ready to exit",
];

/// Finds the server program in the folders of `path`, the value of PATH.
pub fn find_program(path: Option<&OsStr>) -> Option<PathBuf> {
    let dirs: Vec<PathBuf> = std::env::split_paths(path?)
        .filter(|dir| dir.is_absolute())
        .collect();
    PROGRAMS
        .iter()
        .flat_map(|program| dirs.iter().map(move |dir| dir.join(program)))
        .find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    file.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// The command line of the child.
pub(super) fn command(
    program: &Path,
    data_dir: &Path,
    socket: &Path,
    sync_each_write: bool,
) -> Command {
    let sync = if sync_each_write {
        "always"
    } else {
        "everysec"
    };
    let pid_file = data_dir.join(PID_FILE);
    let mut command = Command::new(program);
    let mut set = |name: &str, value: &dyn AsRef<OsStr>| {
        command.arg(format!("--{name}")).arg(value);
    };
    // Reachable through the socket only.
    set("port", &"0");
    set("unixsocket", &socket);
    set("unixsocketperm", &"700");
    // Every write goes to the append-only file. Unless each is synced, a crash of the machine costs at most a second.
    set("dir", &data_dir);
    set("appendonly", &"yes");
    set("appendfsync", &sync);
    set("save", &"");
    // Never drop chats to make room.
    set("maxmemory-policy", &"noeviction");
    // What rooms remember of messages sent with an id expires in large hashes: they are freed in the background.
    set("lazyfree-lazy-expire", &"yes");
    // Small hashes are scanned from end to end, by every send with an id.
    set("hash-max-listpack-entries", &"128");
    // A child of ours, which logs to its standard output.
    set("daemonize", &"no");
    set("supervised", &"no");
    set("pidfile", &pid_file);
    set("loglevel", &"notice");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Ctrl-C in the terminal is meant for the server, which then stops the child.
        .process_group(0)
        .kill_on_drop(true);
    command
}

/// A running child; killed when dropped.
#[derive(Debug)]
pub(super) struct RedisChild {
    program: PathBuf,
    process: Child,
    pid: u32,
    log_readers: JoinSet<()>,
    last_words: LastWords,
}

impl RedisChild {
    pub(super) fn spawn(program: &Path, mut command: Command) -> Result<Self, EmbeddedError> {
        let mut process = command.spawn().map_err(|source| EmbeddedError::Spawn {
            program: program.to_owned(),
            source,
        })?;
        let pid = process.id().unwrap_or_default();
        let last_words = LastWords::default();
        let mut log_readers = JoinSet::new();
        if let Some(stdout) = process.stdout.take() {
            log_readers.spawn(forward_log(stdout, last_words.clone()));
        }
        if let Some(stderr) = process.stderr.take() {
            log_readers.spawn(forward_log(stderr, last_words.clone()));
        }
        Ok(Self {
            program: program.to_owned(),
            process,
            pid,
            log_readers,
            last_words,
        })
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits until the child answers; if it exits instead, or takes too long, it is gone afterwards.
    pub(super) async fn until_it_answers(
        &mut self,
        control: &Control,
    ) -> Result<(), EmbeddedError> {
        let answer = timeout(ANSWERS_WITHIN, async {
            while !control.answers().await {
                sleep(ASK_EVERY).await;
            }
        });
        tokio::select! {
            biased;
            exited = self.exited() => Err(EmbeddedError::EndedAtStart {
                program: self.program.clone(),
                exited,
                log: self.last_words.text(),
            }),
            answered = answer => match answered {
                Ok(()) => Ok(()),
                Err(_) => {
                    self.kill().await;
                    Err(EmbeddedError::NoAnswer {
                        program: self.program.clone(),
                        waited_secs: ANSWERS_WITHIN.as_secs(),
                        log: self.last_words.text(),
                    })
                }
            },
        }
    }

    /// Waits until the child has exited and its log has been read. Returns how it ended.
    pub(super) async fn exited(&mut self) -> String {
        let exited = match self.process.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => format!("its exit status is unknown: {error}"),
        };
        self.finish_log().await;
        exited
    }

    /// Stops the child: SHUTDOWN, repeated until it is accepted (the child may just be starting), and a kill when the
    /// time is up.
    pub(super) async fn stop(mut self, control: &Control) {
        let ask = timeout(ENDS_WITHIN, async {
            while let Err(error) = control.shut_down().await {
                log::debug!("the embedded Redis does not stop yet: {error}");
                sleep(ASK_TO_END_EVERY).await;
            }
            std::future::pending::<()>().await;
        });
        tokio::select! {
            biased;
            exited = self.exited() => log::debug!("the embedded Redis has stopped ({exited})"),
            _ = ask => {
                log::warn!(
                    "the embedded Redis (pid {}) did not stop within {} s and is killed",
                    self.pid,
                    ENDS_WITHIN.as_secs()
                );
                self.kill().await;
            }
        }
    }

    async fn kill(&mut self) {
        if let Err(error) = self.process.kill().await {
            log::error!("cannot kill the embedded Redis (pid {}): {error}", self.pid);
        }
        self.finish_log().await;
    }

    async fn finish_log(&mut self) {
        let ended = timeout(LOG_ENDS_WITHIN, async {
            while self.log_readers.join_next().await.is_some() {}
        });
        if ended.await.is_err() {
            self.log_readers.shutdown().await;
        }
    }
}

/// The last lines of a log, shared by its readers.
#[derive(Debug, Clone, Default)]
struct LastWords(Arc<Mutex<VecDeque<String>>>);

impl LastWords {
    fn push(&self, line: &str) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LAST_WORDS_LINES {
            lines.pop_front();
        }
        lines.push_back(line.to_owned());
    }

    fn text(&self) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        lines.join("\n")
    }
}

async fn forward_log(pipe: impl AsyncRead + Unpin, last_words: LastWords) {
    let mut reader = BufReader::new(pipe);
    let mut line = Vec::new();
    while let Ok(1..) = reader.read_until(b'\n', &mut line).await {
        // A script may log what a client sent: nothing in it may move a terminal's cursor.
        let text = String::from_utf8_lossy(&line)
            .trim_end()
            .replace(char::is_control, " ");
        line.clear();
        if text.is_empty() {
            continue;
        }
        let (level, message) = parse_log_line(&text);
        log::log!(target: "redis", level, "{message}");
        last_words.push(message);
    }
}

/// Splits `7891:M 22 Nov 2026 19:22:58.670 # text`; the mark before the text is the level: `.` debug, `-` verbose, `*`
/// notice, `#` warning. Any other line (an invalid setting, a crash report) is for the operator.
pub(super) fn parse_log_line(line: &str) -> (log::Level, &str) {
    let mut parts = line.splitn(7, ' ');
    let is_prefixed = parts.next().is_some_and(|process| {
        process
            .split_once(':')
            .is_some_and(|(pid, role)| pid.parse::<u32>().is_ok() && role.len() == 1)
    });
    let (mark, message) = (parts.nth(4), parts.next());
    match (is_prefixed, mark, message) {
        (true, Some("." | "-" | "*"), Some(message)) => (log::Level::Debug, message),
        (true, Some("#"), Some(message)) => {
            let is_routine = ROUTINE.iter().any(|start| message.starts_with(start));
            let level = if is_routine {
                log::Level::Debug
            } else {
                log::Level::Warn
            };
            (level, message)
        }
        _ => (log::Level::Warn, line),
    }
}
