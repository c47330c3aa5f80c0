//! The `chat-server` binary under test.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use regex::Regex;
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    sync::watch,
    time::timeout,
};

use super::{PATIENCE, Redis, eventually, http, token};

/// Fixed on every machine: a fault that occurs with one thread only, or only with several, must show on all of them.
fn next_worker_threads() -> &'static str {
    static STARTED: AtomicUsize = AtomicUsize::new(0);
    ["1", "4", "2"][STARTED.fetch_add(1, Ordering::Relaxed) % 3]
}

const BINARY: &str = env!("CARGO_BIN_EXE_chat-server");

/// A running server, killed on drop together with the Redis it may have started.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) log: Log,
    process: Child,
    pid: u32,
    children: Vec<u32>,
    _cwd: TempDir,
}

/// How a server is to be started.
#[derive(Clone)]
pub(crate) struct Builder {
    env: BTreeMap<String, String>,
    files: BTreeMap<String, String>,
    args: Vec<String>,
}

/// How a process that was expected to end did end.
#[derive(Debug)]
pub(crate) struct Exit {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Server {
    /// Starts one on `redis` with the defaults.
    pub(crate) async fn start(redis: &Redis) -> Self {
        Self::on(redis).start().await
    }

    /// One on `redis`, to be configured further.
    pub(crate) fn on(redis: &Redis) -> Builder {
        Self::builder().env("REDIS_URL", &redis.url())
    }

    /// One that starts its own Redis with its data in `folder`.
    pub(crate) fn embedded(folder: &Path) -> Builder {
        Self::builder().env("REDIS_DATA_DIR", &folder.display().to_string())
    }

    /// One for which no Redis is named.
    pub(crate) fn builder() -> Builder {
        Builder {
            env: BTreeMap::new(),
            files: BTreeMap::new(),
            args: vec!["serve".into()],
        }
        .env("APP_ENV", "dev")
        .env("PORT", "0")
        .env("JWT_SECRET", token::SECRET)
        .env("RUST_LOG", "info")
        // Tests send faster than people.
        .env("MAX_REQUESTS_PER_SEC", "0")
        .env("WORKER_THREADS", next_worker_threads())
    }

    /// Asks it to stop as an operator would, and checks that it does so cleanly.
    pub(crate) async fn stop(mut self) {
        signal(self.pid, "TERM");
        self.assert_exits_cleanly().await;
    }

    /// Sends SIGTERM without waiting for the end.
    pub(crate) fn terminate(&self) {
        signal(self.pid, "TERM");
    }

    /// Sends SIGHUP, on which it reads the scripts again.
    pub(crate) fn hang_up(&self) {
        signal(self.pid, "HUP");
    }

    /// Waits for the exit, which must be clean.
    pub(crate) async fn assert_exits_cleanly(&mut self) {
        let status = self.exited().await;
        assert_eq!(status.code(), Some(0), "exit status {status}\n{}", self.log);
    }

    /// Waits until the process has ended.
    pub(crate) async fn exited(&mut self) -> ExitStatus {
        match timeout(PATIENCE, self.process.wait()).await {
            Ok(status) => status.expect("wait for the server"),
            Err(_) => panic!("the server did not end in time\n{}", self.log),
        }
    }

    /// `kill -9`. The processes that it started live on until this value is dropped.
    pub(crate) async fn kill_9(&mut self) {
        self.children = self.child_processes();
        signal(self.pid, "KILL");
        self.exited().await;
    }

    /// The peak of its resident memory so far, in bytes.
    #[allow(dead_code, reason = "of the binaries that share this only one asks")]
    pub(crate) fn peak_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).expect("Linux");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = peak.and_then(|peak| peak.trim().strip_suffix(" kB"));
        1024 * kib.and_then(|kib| kib.parse::<u64>().ok()).expect("a peak")
    }

    /// Sends it any signal.
    #[allow(dead_code, reason = "of the binaries that share this only one drills")]
    pub(crate) fn signal(&self, name: &str) {
        signal(self.pid, name);
    }

    /// The processes that the server started, such as its Redis.
    pub(crate) fn child_processes(&self) -> Vec<u32> {
        processes()
            .into_iter()
            .filter(|(_, parent)| *parent == self.pid)
            .map(|(pid, _)| pid)
            .collect()
    }

    /// Whether `/readyz` says yes.
    pub(crate) async fn is_ready(&self) -> bool {
        is_ready(self.address).await
    }

    /// Waits until `/readyz` says yes.
    pub(crate) async fn ready(&self) {
        eventually("the server is ready", async || self.is_ready().await).await;
    }
}

async fn is_ready(address: SocketAddr) -> bool {
    let answer = http::try_get(address, "/readyz", &[("Connection", "close")]).await;
    answer.is_some_and(|answer| answer.status == 200)
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(None) = self.process.try_wait() {
            self.children.extend(self.child_processes());
            self.process.start_kill().ok();
        }
        for child in &self.children {
            signal(*child, "KILL");
        }
    }
}

impl Builder {
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.env.remove(name);
        self
    }

    /// A file in the folder in which it starts.
    #[allow(
        dead_code,
        reason = "of the binaries that share this only one has files"
    )]
    pub(crate) fn file(mut self, name: &str, text: &str) -> Self {
        self.files.insert(name.into(), text.into());
        self
    }

    /// The arguments, in place of `serve`.
    pub(crate) fn args(mut self, args: &[&str]) -> Self {
        self.args = args.iter().map(|arg| (*arg).into()).collect();
        self
    }

    /// Starts it and waits until it is ready.
    pub(crate) async fn start(self) -> Server {
        let server = self.start_unready().await;
        eventually(&format!("the server is ready\n{}", server.log), || {
            server.is_ready()
        })
        .await;
        server
    }

    /// Starts it and waits until it listens; its Redis may be absent.
    pub(crate) async fn start_unready(self) -> Server {
        let fixed_port = self.env.get("PORT").filter(|port| *port != "0").cloned();
        let (mut process, cwd) = self.spawn(Stdio::null());
        let pid = process.id().expect("a process id");
        let stderr = process.stderr.take().expect("piped");
        let log = Log::collect(stderr.into_owned_fd().expect("a descriptor").into());
        let mut server = Server {
            address: ([127, 0, 0, 1], 0).into(),
            log,
            process,
            pid,
            children: Vec::new(),
            _cwd: cwd,
        };
        let port = match fixed_port {
            Some(port) => port,
            None => {
                let line = Regex::new(r"listening on (?:http://)?\S+:(\d+)").expect("a pattern");
                server.log.capture(&line).await
            }
        };
        server.address.set_port(port.parse().expect("a port"));
        let address = server.address;
        eventually("the server listens", async || {
            tokio::net::TcpStream::connect(address).await.is_ok()
        })
        .await;
        server
    }

    /// Runs it until it exits by itself.
    pub(crate) async fn run(self) -> Exit {
        let (process, _cwd) = self.spawn(Stdio::piped());
        let output = match timeout(PATIENCE, process.wait_with_output()).await {
            Ok(output) => output.expect("wait for the process"),
            Err(_) => panic!("still running: {:?} {:?}", self.args, self.env),
        };
        Exit {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: strip_colours(&String::from_utf8_lossy(&output.stderr)),
        }
    }

    /// Spawns it in a folder that has only its files, with no environment except its own and PATH.
    fn spawn(&self, stdout: Stdio) -> (Child, TempDir) {
        let cwd = TempDir::with_prefix("chat-it-").expect("a temporary folder");
        for (name, text) in &self.files {
            std::fs::write(cwd.path().join(name), text).expect("a file");
        }
        let mut command = Command::new(BINARY);
        command.args(&self.args).current_dir(cwd.path()).env_clear();
        for name in ["PATH", "TMPDIR", "LLVM_PROFILE_FILE"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.env("HOME", cwd.path()).envs(&self.env);
        command
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(Stdio::piped());
        let process = command
            .kill_on_drop(true)
            .spawn()
            .expect("start chat-server");
        (process, cwd)
    }
}

/// Sends a signal to a process, if it still exists.
pub(crate) fn signal(pid: u32, name: &str) {
    std::process::Command::new("sh")
        .args(["-c", &format!("kill -{name} {pid}")])
        .stderr(Stdio::null())
        .status()
        .expect("run sh");
}

/// Whether a process still runs.
pub(crate) fn lives(pid: u32) -> bool {
    processes().iter().any(|(other, _)| *other == pid)
}

/// Every living process with its parent.
fn processes() -> Vec<(u32, u32)> {
    let Ok(folders) = std::fs::read_dir("/proc") else {
        // This is not Linux, then.
        let ps = std::process::Command::new("ps")
            .args(["-A", "-o", "pid=,stat=,ppid="])
            .output();
        let table = ps.expect("ps must be in PATH").stdout;
        return String::from_utf8_lossy(&table)
            .lines()
            .filter_map(living)
            .collect();
    };
    folders
        .filter_map(|folder| std::fs::read_to_string(folder.ok()?.path().join("stat")).ok())
        .filter_map(|stat| {
            // `pid (name) state parent …`; a name may hold anything.
            let (pid, _) = stat.split_once(" (")?;
            let (_, rest) = stat.rsplit_once(") ")?;
            living(&format!("{pid} {rest}"))
        })
        .collect()
}

/// Reads `pid state parent`; returns nothing for a process that has ended.
fn living(line: &str) -> Option<(u32, u32)> {
    let mut words = line.split_whitespace();
    let pid = words.next()?.parse().ok()?;
    let ended = words.next()?.starts_with('Z');
    let parent = words.next()?.parse().ok()?;
    (!ended).then_some((pid, parent))
}

/// The repository's folder.
pub(crate) fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// What a server has written to stderr so far.
#[derive(Clone)]
pub(crate) struct Log {
    lines: Arc<Mutex<Vec<String>>>,
    grown: watch::Receiver<usize>,
}

impl Log {
    /// Collects lines on a thread of its own, so that a busy test never makes the server wait for its log.
    fn collect(stderr: std::fs::File) -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (sender, grown) = watch::channel(0);
        let collected = lines.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).split(b'\n') {
                let Ok(line) = line else { break };
                let line = strip_colours(&String::from_utf8_lossy(&line));
                let mut lines = collected.lock().expect("the log");
                lines.push(line);
                sender.send_replace(lines.len());
            }
        });
        Self { lines, grown }
    }

    /// The whole of it.
    pub(crate) fn text(&self) -> String {
        self.lines.lock().expect("the log").join("\n")
    }

    /// Waits for a line that matches, and returns its first group.
    async fn capture(&self, pattern: &Regex) -> String {
        let mut grown = self.grown.clone();
        let seen = timeout(PATIENCE, async {
            loop {
                let text = self.text();
                if let Some(found) = pattern.captures(&text) {
                    return Some(found[1].to_owned());
                }
                if grown.changed().await.is_err() {
                    return None;
                }
            }
        });
        match seen.await {
            Ok(Some(found)) => found,
            _ => panic!("no line {pattern} in the log:\n{self}"),
        }
    }
}

impl std::fmt::Display for Log {
    /// The last lines, for messages.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lines = self.lines.lock().expect("the log");
        writeln!(f, "--- server log, last lines of {} ---", lines.len())?;
        for line in lines.iter().skip(lines.len().saturating_sub(60)) {
            writeln!(f, "{line}")?;
        }
        Ok(())
    }
}

fn strip_colours(text: &str) -> String {
    let colours = Regex::new("\x1b\\[[0-9;]*m").expect("a pattern");
    colours.replace_all(text, "").into_owned()
}
