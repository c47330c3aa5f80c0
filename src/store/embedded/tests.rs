#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use log::Level;
use redis::aio::MultiplexedConnection;
use tempfile::TempDir;
use tokio::process::Child;
use tokio::time::{sleep, timeout};

use super::child::{self, PID_FILE, find_program, parse_log_line};
use super::control::Control;
use super::folders::{MAX_SOCKET_PATH_BYTES, default_runtime_dir};
use super::{EmbeddedError, EmbeddedOptions, EmbeddedRedis};

/// No test here depends on time; this only ends a test that hangs.
const AT_MOST: Duration = Duration::from_secs(60);

/// Folders for one server. Their names need escaping in a URL and in Redis's settings.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn data_dir(&self) -> PathBuf {
        self.0.path().join("dätä 100% \"a?b#c\"")
    }

    fn runtime_dir(&self) -> PathBuf {
        self.0.path().join("run it?")
    }

    fn options(&self) -> EmbeddedOptions {
        EmbeddedOptions {
            data_dir: self.data_dir(),
            runtime_dir: Some(self.runtime_dir()),
            sync_each_write: false,
        }
    }

    async fn start(&self) -> Result<EmbeddedRedis, EmbeddedError> {
        EmbeddedRedis::start(self.options()).await
    }

    /// A Redis as a killed server leaves it: running, with nothing to stop it.
    async fn leave_orphan(&self, data_dir: &Path, runtime_dir: &Path) -> (Child, String) {
        fs::create_dir_all(data_dir).unwrap();
        fs::create_dir_all(runtime_dir).unwrap();
        fs::set_permissions(runtime_dir, Permissions::from_mode(0o700)).unwrap();
        let program = find_program(std::env::var_os("PATH").as_deref()).unwrap();
        let socket = runtime_dir.join("redis.sock");
        let orphan = child::command(&program, &data_dir.canonicalize().unwrap(), &socket, false)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let url = Control::new(&socket).url("resp3");
        open(&url).await;
        (orphan, url)
    }
}

/// Waits until the Redis there has loaded its data; this also waits for a restarted one.
async fn open(url: &str) -> MultiplexedConnection {
    let client = redis::Client::open(url).unwrap();
    let opened = timeout(AT_MOST, async {
        loop {
            if let Ok(mut connection) = client.get_multiplexed_async_connection().await
                && let Ok(()) = redis::cmd("PING").query_async(&mut connection).await
            {
                return connection;
            }
            sleep(Duration::from_millis(10)).await;
        }
    });
    opened.await.expect("Redis should answer")
}

async fn set(url: &str, value: &str) {
    let mut connection = open(url).await;
    let mut set = redis::cmd("SET");
    let set = set.arg("greeting").arg(value);
    set.query_async::<()>(&mut connection).await.unwrap();
}

async fn get(url: &str) -> Option<String> {
    let mut connection = open(url).await;
    let mut get = redis::cmd("GET");
    get.arg("greeting")
        .query_async(&mut connection)
        .await
        .unwrap()
}

fn pid_in(data_dir: &Path) -> u32 {
    let pid = fs::read_to_string(data_dir.join(PID_FILE)).unwrap();
    pid.trim().parse().unwrap()
}

fn signal(signal: &str, pid: u32) -> bool {
    let script = format!("kill -{signal} {pid} 2>/dev/null");
    Command::new("sh")
        .args(["-c", &script])
        .status()
        .unwrap()
        .success()
}

async fn until_gone(pid: u32) {
    let gone = timeout(AT_MOST, async {
        while signal("0", pid) {
            sleep(Duration::from_millis(10)).await;
        }
    });
    gone.await.expect("the process should end");
}

#[tokio::test]
async fn a_stopped_redis_leaves_no_process_and_no_socket() {
    let home = Home::new();

    let redis = home.start().await.unwrap();
    set(redis.url(), "hello").await;
    let pid = pid_in(&home.data_dir());
    assert!(home.runtime_dir().join("redis.sock").exists());
    redis.stop().await;

    assert!(!signal("0", pid));
    assert_eq!(fs::read_dir(home.runtime_dir()).unwrap().count(), 0);
}

#[tokio::test]
async fn it_listens_on_a_private_socket_only_and_keeps_everything() {
    let home = Home::new();
    let redis = home.start().await.unwrap();
    let mut connection = open(redis.url()).await;

    for (name, value) in [
        ("port", "0"),
        ("unixsocketperm", "700"),
        ("appendonly", "yes"),
        ("appendfsync", "everysec"),
        ("save", ""),
        ("maxmemory-policy", "noeviction"),
        ("lazyfree-lazy-expire", "yes"),
        ("hash-max-listpack-entries", "128"),
    ] {
        let mut config = redis::cmd("CONFIG");
        let config = config.arg(&["GET", name]);
        let found: Vec<(String, String)> = config.query_async(&mut connection).await.unwrap();
        assert_eq!(found, [(name.to_owned(), value.to_owned())]);
    }
    for folder in [home.runtime_dir(), home.data_dir()] {
        assert_eq!(
            folder.metadata().unwrap().permissions().mode() & 0o777,
            0o700
        );
    }
    redis.stop().await;
}

#[tokio::test]
async fn data_survives_a_stop_and_a_start() {
    let home = Home::new();
    let redis = home.start().await.unwrap();
    set(redis.url(), "still here").await;
    redis.stop().await;

    let redis = home.start().await.unwrap();

    assert_eq!(get(redis.url()).await.as_deref(), Some("still here"));
    redis.stop().await;
}

#[tokio::test]
async fn a_killed_child_comes_back_with_its_data() {
    let home = Home::new();
    let redis = home.start().await.unwrap();
    for life in ["first", "second", "third"] {
        set(redis.url(), life).await;
        let pid = pid_in(&home.data_dir());

        assert!(signal("KILL", pid));
        until_gone(pid).await;

        assert_eq!(get(redis.url()).await.as_deref(), Some(life));
        assert_ne!(pid_in(&home.data_dir()), pid);
    }
    let pid = pid_in(&home.data_dir());
    redis.stop().await;
    assert!(!signal("0", pid));
}

#[tokio::test]
async fn a_stop_while_the_child_is_being_restarted_leaves_nothing() {
    let home = Home::new();
    let redis = home.start().await.unwrap();
    let pid = pid_in(&home.data_dir());

    signal("KILL", pid);
    redis.stop().await;

    assert!(!signal("0", pid));
    assert_eq!(fs::read_dir(home.runtime_dir()).unwrap().count(), 0);
    home.start().await.unwrap().stop().await;
}

#[tokio::test]
async fn a_dropped_redis_takes_its_child_along() {
    let home = Home::new();
    let redis = home.start().await.unwrap();
    set(redis.url(), "dropped").await;
    let pid = pid_in(&home.data_dir());

    drop(redis);
    until_gone(pid).await;

    let redis = home.start().await.unwrap();
    assert_eq!(get(redis.url()).await.as_deref(), Some("dropped"));
    redis.stop().await;
}

#[tokio::test]
async fn a_second_server_on_one_data_folder_is_refused() {
    let home = Home::new();
    let first = home.start().await.unwrap();
    set(first.url(), "mine").await;

    let options = EmbeddedOptions {
        runtime_dir: Some(home.0.path().join("other")),
        ..home.options()
    };
    let error = EmbeddedRedis::start(options).await.unwrap_err().to_string();

    let pid = std::process::id();
    assert!(
        error.contains(&format!("in use by another chat-server (pid {pid})")),
        "{error}"
    );
    assert_eq!(get(first.url()).await.as_deref(), Some("mine"));
    first.stop().await;
    home.start().await.unwrap().stop().await;
}

#[tokio::test]
async fn a_second_server_on_one_runtime_folder_is_refused() {
    let home = Home::new();
    let first = home.start().await.unwrap();

    let options = EmbeddedOptions {
        data_dir: home.0.path().join("other"),
        ..home.options()
    };
    let error = EmbeddedRedis::start(options).await.unwrap_err();

    assert!(
        matches!(error, EmbeddedError::RuntimeDirInUse { .. }),
        "{error}"
    );
    first.stop().await;
}

#[tokio::test]
async fn an_orphan_is_replaced_and_its_data_kept() {
    let home = Home::new();
    let (mut orphan, url) = home
        .leave_orphan(&home.data_dir(), &home.runtime_dir())
        .await;
    set(&url, "from before").await;

    let redis = home.start().await.unwrap();

    assert!(orphan.wait().await.unwrap().success());
    assert_eq!(get(redis.url()).await.as_deref(), Some("from before"));
    redis.stop().await;
}

#[tokio::test]
async fn an_orphan_in_another_runtime_folder_is_found_through_the_lock_file() {
    let home = Home::new();
    let elsewhere = home.0.path().join("elsewhere");
    let (mut orphan, url) = home.leave_orphan(&home.data_dir(), &elsewhere).await;
    set(&url, "from elsewhere").await;
    let lock = format!("123\n{}", elsewhere.join("redis.sock").display());
    fs::write(home.data_dir().join("chat-server.lock"), lock).unwrap();

    let redis = home.start().await.unwrap();

    assert!(orphan.wait().await.unwrap().success());
    assert_eq!(get(redis.url()).await.as_deref(), Some("from elsewhere"));
    redis.stop().await;
}

#[tokio::test]
async fn an_orphan_without_its_socket_is_named() {
    let home = Home::new();
    let (mut orphan, _) = home
        .leave_orphan(&home.data_dir(), &home.runtime_dir())
        .await;
    fs::remove_file(home.runtime_dir().join("redis.sock")).unwrap();

    let error = home.start().await.unwrap_err().to_string();

    assert!(
        error.contains(&format!("pid {}", orphan.id().unwrap())),
        "{error}"
    );
    orphan.kill().await.unwrap();
    home.start().await.unwrap().stop().await;
}

#[tokio::test]
async fn a_redis_on_other_data_is_left_alone() {
    let home = Home::new();
    let other_data = home.0.path().join("other");
    let (mut other, url) = home.leave_orphan(&other_data, &home.runtime_dir()).await;

    // It listens where we would listen: refused.
    let error = home.start().await.unwrap_err();
    assert!(
        matches!(error, EmbeddedError::RuntimeDirInUse { .. }),
        "{error}"
    );

    // It is only named in the lock file, as in a copy of its data folder: it does not concern us.
    let lock = format!("123\n{}", home.runtime_dir().join("redis.sock").display());
    fs::write(home.data_dir().join("chat-server.lock"), lock).unwrap();
    let options = EmbeddedOptions {
        runtime_dir: Some(home.0.path().join("own")),
        ..home.options()
    };
    let redis = EmbeddedRedis::start(options).await.unwrap();
    redis.stop().await;

    set(&url, "unharmed").await;
    other.kill().await.unwrap();
}

#[tokio::test]
async fn a_stale_socket_is_no_obstacle() {
    let home = Home::new();
    let (mut orphan, url) = home
        .leave_orphan(&home.data_dir(), &home.runtime_dir())
        .await;
    set(&url, "killed").await;
    orphan.kill().await.unwrap();
    assert!(home.runtime_dir().join("redis.sock").exists());

    let redis = home.start().await.unwrap();

    assert_eq!(get(redis.url()).await.as_deref(), Some("killed"));
    redis.stop().await;
}

#[tokio::test]
async fn data_that_redis_refuses_ends_the_start_with_redis_own_words() {
    let home = Home::new();
    home.start().await.unwrap().stop().await;
    let manifest = home
        .data_dir()
        .join("appendonlydir/appendonly.aof.manifest");
    fs::write(manifest, "this is no manifest\n").unwrap();

    let error = home.start().await.unwrap_err();

    assert!(
        matches!(error, EmbeddedError::EndedAtStart { .. }),
        "{error}"
    );
    assert!(error.to_string().contains("AOF manifest"), "{error}");
}

#[tokio::test]
async fn a_runtime_folder_that_others_can_enter_is_refused() {
    let home = Home::new();
    fs::create_dir(home.runtime_dir()).unwrap();
    fs::set_permissions(home.runtime_dir(), Permissions::from_mode(0o755)).unwrap();

    let error = home.start().await.unwrap_err().to_string();

    assert!(error.contains("its mode is 0755"), "{error}");
    assert!(error.contains("REDIS_RUNTIME_DIR"), "{error}");
}

#[tokio::test]
async fn a_runtime_folder_that_is_a_link_is_refused() {
    let home = Home::new();
    let target = home.0.path().join("target");
    fs::create_dir(&target).unwrap();
    fs::set_permissions(&target, Permissions::from_mode(0o700)).unwrap();
    symlink(&target, home.runtime_dir()).unwrap();

    for path in [home.runtime_dir(), home.runtime_dir().join("")] {
        let options = EmbeddedOptions {
            runtime_dir: Some(path),
            ..home.options()
        };
        let error = EmbeddedRedis::start(options).await.unwrap_err().to_string();
        assert!(error.contains("a link or a file"), "{error}");
    }
}

#[tokio::test]
async fn a_socket_path_that_the_system_would_cut_off_is_refused() {
    let home = Home::new();
    // The longest folder that still works, with "/redis.sock" after it.
    let room = MAX_SOCKET_PATH_BYTES - "/redis.sock".len() - home.0.path().as_os_str().len() - 1;
    let with_runtime_dir = |length: usize| EmbeddedOptions {
        runtime_dir: Some(home.0.path().join("x".repeat(length))),
        ..home.options()
    };

    let redis = EmbeddedRedis::start(with_runtime_dir(room)).await.unwrap();
    redis.stop().await;
    let error = EmbeddedRedis::start(with_runtime_dir(room + 1))
        .await
        .unwrap_err()
        .to_string();

    assert!(error.contains("REDIS_RUNTIME_DIR"), "{error}");
}

#[tokio::test]
async fn the_default_runtime_folder_goes_with_the_server() {
    let home = Home::new();
    let options = EmbeddedOptions {
        runtime_dir: None,
        ..home.options()
    };

    let redis = EmbeddedRedis::start(options).await.unwrap();
    let lock = fs::read_to_string(home.data_dir().join("chat-server.lock")).unwrap();
    let socket = PathBuf::from(lock.split_once('\n').unwrap().1);
    assert!(socket.exists());
    redis.stop().await;

    assert!(!socket.parent().unwrap().exists());
}

#[test]
fn the_default_runtime_folder_depends_on_the_data_folder_and_the_user() {
    let home = Home::new();
    let xdg = home.0.path().to_owned();
    let uid = std::os::unix::fs::MetadataExt::uid(&xdg.metadata().unwrap());
    let temp = Path::new("/tmp");
    let choose = |data: &str, uid, xdg: &Path| {
        default_runtime_dir(Path::new(data), uid, Some(xdg.to_owned()), temp)
    };

    assert_eq!(choose("/a", uid, &xdg), choose("/a", uid, &xdg));
    assert_ne!(choose("/a", uid, &xdg), choose("/b", uid, &xdg));
    assert!(choose("/a", uid, &xdg).starts_with(&xdg));
    // Another user's folder, or one that does not exist.
    for unusable in [
        choose("/a", uid + 1, &xdg),
        choose("/a", uid, &xdg.join("no")),
    ] {
        assert!(unusable.starts_with(temp), "{}", unusable.display());
    }
}

#[tokio::test]
async fn without_a_redis_program_the_error_says_what_to_do() {
    let home = Home::new();

    let path = home.0.path().as_os_str();
    let error = EmbeddedRedis::start_from(home.options(), Some(path))
        .await
        .unwrap_err();

    let error = error.to_string();
    assert!(error.contains("apt install redis-server"), "{error}");
    assert!(error.contains("REDIS_URL"), "{error}");
    assert!(!home.data_dir().exists());
}

#[test]
fn the_program_is_an_executable_on_path_redis_before_valkey() {
    let home = Home::new();
    let [redis_dir, valkey_dir] = ["r", "v"].map(|dir| home.0.path().join(dir));
    let [redis, valkey] = [
        redis_dir.join("redis-server"),
        valkey_dir.join("valkey-server"),
    ];
    for (dir, program) in [(&redis_dir, &redis), (&valkey_dir, &valkey)] {
        fs::create_dir(dir).unwrap();
        fs::write(program, "").unwrap();
        fs::set_permissions(program, Permissions::from_mode(0o755)).unwrap();
    }
    let path = std::env::join_paths([&valkey_dir, &redis_dir]).unwrap();

    assert_eq!(find_program(Some(&path)), Some(redis.clone()));
    fs::set_permissions(&redis, Permissions::from_mode(0o644)).unwrap();
    assert_eq!(find_program(Some(&path)), Some(valkey));
    assert_eq!(find_program(None), None);
}

#[test]
fn log_lines_lose_their_prefix_and_keep_their_level() {
    for (line, level, message) in [
        (
            "7:M 22 Nov 2026 19:22:58.670 * Ready to go",
            Level::Debug,
            "Ready to go",
        ),
        (
            "7:M 22 Nov 2026 19:22:58.670 - 2 clients",
            Level::Debug,
            "2 clients",
        ),
        (
            "7:C 22 Nov 2026 19:22:58.670 # Server initialized",
            Level::Debug,
            "Server initialized",
        ),
        (
            "7:M 22 Nov 2026 19:22:58.670 # Disk full",
            Level::Warn,
            "Disk full",
        ),
        (
            "*** FATAL CONFIG FILE ERROR ***",
            Level::Warn,
            "*** FATAL CONFIG FILE ERROR ***",
        ),
        ("", Level::Warn, ""),
    ] {
        assert_eq!(parse_log_line(line), (level, message));
    }
}
