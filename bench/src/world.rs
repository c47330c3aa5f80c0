//! The target of the load: running servers, or a Redis and a server of its own.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;
use tempfile::TempDir;

use crate::Error;
use crate::cli::Place;
use crate::door::Door;
use crate::process::Process;

/// How long a process may take until it listens.
const START: Duration = Duration::from_secs(10);
const OWN_SECRET: &str = "a secret of the load's own, for one run";
/// Tokens of the load are valid for as long as the longest run may last.
const TOKEN_SECS: u64 = 24 * 60 * 60;

/// A server, its Redis, and what can be observed of them.
pub(crate) struct World {
    pub(crate) address: SocketAddr,
    /// The address of Redis; `None` if it was not specified.
    pub(crate) redis_url: Option<String>,
    pub(crate) server: Option<Process>,
    pub(crate) redis: Option<Process>,
    secret: String,
    // Ended in this order: the server before its Redis, and both before their folder.
    _own: Vec<Own>,
    _folder: Option<TempDir>,
}

/// A process that is ended when this value is dropped.
struct Own(Child);

impl Drop for Own {
    fn drop(&mut self) {
        // It may have ended by itself. Nothing in it is worth an orderly shutdown.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl World {
    /// Opens what `place` specifies, for this protocol.
    pub(crate) fn open(place: &Place, door: Door) -> Result<Self, Error> {
        if place.self_contained {
            return Self::start(place, door);
        }
        let address = place
            .address
            .to_socket_addrs()
            .ok()
            .and_then(|mut found| found.next())
            .ok_or_else(|| Error::NoAddress(place.address.clone()))?;
        let secret = place.jwt_secret.clone();
        let secret = secret.or_else(|| std::env::var("JWT_SECRET").ok());
        Ok(Self {
            address,
            redis_url: place.redis_url.clone(),
            server: place.server_pid.map(Process::new),
            redis: place.redis_pid.map(Process::new),
            secret: secret.unwrap_or_default(),
            _own: Vec::new(),
            _folder: None,
        })
    }

    /// A Redis and a server with its defaults.
    pub(crate) fn with_defaults(server: &Path) -> Result<Self, Error> {
        Self::start_with(|redis, folder| start_server(server, redis, folder, &[]))
    }

    fn start(place: &Place, door: Door) -> Result<Self, Error> {
        Self::start_with(|redis, folder| match door {
            Door::Relay => start_relay(&place.relay, redis),
            Door::Native | Door::Socketio => start_server(&place.server, redis, folder, UNLIMITED),
        })
    }

    fn start_with(
        start: impl FnOnce(&Path, &Path) -> Result<(Own, SocketAddr), Error>,
    ) -> Result<Self, Error> {
        let folder = tempfile::Builder::new().prefix("chat-bench").tempdir()?;
        let (redis, socket) = start_redis(folder.path())?;
        let redis_process = Process::new(redis.0.id());
        let (server, address) = start(&socket, folder.path())?;
        Ok(Self {
            address,
            redis_url: Some(format!("unix://{}", socket.display())),
            server: Some(Process::new(server.0.id())),
            redis: Some(redis_process),
            secret: OWN_SECRET.to_owned(),
            _own: vec![server, redis],
            _folder: Some(folder),
        })
    }

    /// A token that admits `user`.
    pub(crate) fn token(&self, user: &str) -> Result<String, Error> {
        let now = jsonwebtoken::get_current_timestamp();
        let claims = json!({ "sub": user, "iat": now, "exp": now + TOKEN_SECS });
        let key = EncodingKey::from_secret(self.secret.as_bytes());
        Ok(jsonwebtoken::encode(&Header::default(), &claims, &key)?)
    }
}

/// A Redis alone, for a measurement without a server.
pub(crate) struct OwnRedis {
    pub(crate) url: String,
    _own: Own,
    _folder: TempDir,
}

impl OwnRedis {
    /// Starts it on a socket in a temporary folder, without persistence.
    pub(crate) fn start() -> Result<Self, Error> {
        let folder = tempfile::Builder::new().prefix("chat-bench").tempdir()?;
        let (redis, socket) = start_redis(folder.path())?;
        Ok(Self {
            url: format!("unix://{}", socket.display()),
            _own: redis,
            _folder: folder,
        })
    }
}

fn start_redis(folder: &Path) -> Result<(Own, PathBuf), Error> {
    let socket = folder.join("redis.sock");
    let mut command = Command::new("redis-server");
    command
        .args(["--port", "0", "--save", "", "--appendonly", "no", "--dir"])
        .arg(folder)
        .arg("--unixsocket")
        .arg(&socket)
        .stdout(Stdio::null());
    let redis = spawn(command, "redis-server")?;
    let began = Instant::now();
    while std::os::unix::net::UnixStream::connect(&socket).is_err() {
        if began.elapsed() > START {
            return Err(Error::NotUp("redis-server".to_owned()));
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok((redis, socket))
}

/// For a load, which comes from few users on one machine.
const UNLIMITED: &[(&str, &str)] = &[
    ("MAX_REQUESTS_PER_SEC", "0"),
    ("MAX_NEW_ROOM_MEMBERS_PER_MIN", "0"),
    ("MAX_CONNECTIONS", "1000000"),
    ("MAX_CONNECTIONS_PER_USER", "1000000"),
];

/// Starts the server with its defaults, except for some settings.
fn start_server(
    program: &Path,
    redis: &Path,
    folder: &Path,
    settings: &[(&str, &str)],
) -> Result<(Own, SocketAddr), Error> {
    let mut command = Command::new(program.canonicalize().unwrap_or(program.to_owned()));
    command
        .arg("serve")
        // There is no settings file here, so none is read.
        .current_dir(folder)
        .env("APP_ENV", "production")
        .env("HOST", "127.0.0.1")
        .env("PORT", "0")
        .env("REDIS_URL", format!("unix://{}", redis.display()))
        .env("JWT_SECRET", OWN_SECRET)
        .envs(settings.iter().copied())
        .env("RUST_LOG", "warn,chat_server::server=info")
        .stderr(Stdio::piped());
    let name = program.display().to_string();
    let mut server = spawn(command, &name)?;
    let lines = server.0.stderr.take().map(BufReader::new);
    let address = lines.and_then(listening).ok_or(Error::NotUp(name))?;
    wait_ready(address)?;
    Ok((server, address))
}

fn start_relay(program: &Path, redis: &Path) -> Result<(Own, SocketAddr), Error> {
    let mut command = Command::new("node");
    command
        .arg(program)
        .env("NODE_ENV", "production")
        .env("REDIS_URL", format!("unix://{}", redis.display()))
        .stdout(Stdio::piped());
    let name = program.display().to_string();
    let mut relay = spawn(command, "node")?;
    let lines = relay.0.stdout.take().map(BufReader::new);
    let address = lines.and_then(listening).ok_or(Error::NotUp(name))?;
    Ok((relay, address))
}

fn spawn(mut command: Command, name: &str) -> Result<Own, Error> {
    match command.stdin(Stdio::null()).spawn() {
        Ok(child) => Ok(Own(child)),
        Err(error) => Err(Error::Start(name.to_owned(), error)),
    }
}

/// Reads lines up to the one with the address, and passes all further ones to our stderr.
fn listening(mut lines: impl BufRead + Send + 'static) -> Option<SocketAddr> {
    let address = loop {
        let mut line = String::new();
        if lines.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match address_in(&line) {
            Some(address) => break address,
            None => eprint!("{line}"),
        }
    };
    thread::spawn(move || {
        for line in lines.lines().map_while(Result::ok) {
            eprintln!("{line}");
        }
    });
    Some(address)
}

fn address_in(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("listening on ")?;
    let end = rest.find([',', '\n', ' ']).unwrap_or(rest.len());
    let address = rest[..end].trim_start_matches("http://");
    address.parse().ok()
}

/// Waits until `/readyz` reports ready.
fn wait_ready(address: SocketAddr) -> Result<(), Error> {
    let began = Instant::now();
    while !is_ready(address).unwrap_or(false) {
        if began.elapsed() > START {
            return Err(Error::NotUp(address.to_string()));
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn is_ready(address: SocketAddr) -> std::io::Result<bool> {
    use std::io::Write;
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: chat\r\nConnection: close\r\n\r\n")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(line.contains(" 200 "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_found_in_what_is_printed() {
        let address = "127.0.0.1:4000".parse().ok();
        for line in [
            " INFO chat_server::server > chat-server 0.1.0 listening on http://127.0.0.1:4000, production, Redis\n",
            "listening on 127.0.0.1:4000\n",
        ] {
            assert_eq!(address_in(line), address);
        }
        assert_eq!(address_in("ready"), None);
    }
}
