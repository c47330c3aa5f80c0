//! A client with `rust_socketio`, over WebSocket only: it connects, chats, and comes back after a restart of the server.
//!
//! It starts the server that `CHAT_SERVER_BIN` names, and a `redis-server`, on free ports. It prints what it does, and
//! ends with an error where something does not come.

use std::env;
use std::error::Error;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rust_socketio::client::Client;
use rust_socketio::{ClientBuilder, Event, Payload, TransportType};
use serde_json::{Value, json};

/// Far longer than anything takes: it only ends a hang.
const PATIENCE: Duration = Duration::from_secs(60);
const SECRET: &str = "a-secret-for-tests-that-is-long-enough";

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// A process that is killed when the test ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A device, and what it received.
struct Device {
    client: Client,
    told: Receiver<(String, Value)>,
}

impl Device {
    fn connect(url: &str, token: &str) -> Outcome<Self> {
        let (sender, told) = mpsc::channel();
        let client = ClientBuilder::new(url)
            .transport_type(TransportType::Websocket)
            .auth(json!({ "token": token }))
            .reconnect(true)
            .reconnect_on_disconnect(true)
            .reconnect_delay(100, 500)
            .on_any(move |event: Event, payload: Payload, _| {
                if let Payload::Text(values) = payload {
                    let data = values.into_iter().next().unwrap_or_default();
                    // The test may have ended.
                    let _ = sender.send((String::from(event), data));
                }
            })
            .connect()?;
        Ok(Self { client, told })
    }

    /// The data of the next `event` that is `wanted`.
    fn take(&self, event: &str, wanted: impl Fn(&Value) -> bool) -> Outcome<Value> {
        let late = Instant::now() + PATIENCE;
        loop {
            let left = late.saturating_duration_since(Instant::now());
            let (name, data) = self
                .told
                .recv_timeout(left)
                .map_err(|_| format!("no {event} came"))?;
            if name == event && wanted(&data) {
                return Ok(data);
            }
        }
    }

    /// Sends a message until it is accepted: a connection that has just come back accepts it.
    fn say(&self, room: &Value, content: &str) -> Outcome {
        let data = json!({ "roomId": room, "content": content, "clientMessageId": content.replace(' ', "-") });
        let late = Instant::now() + PATIENCE;
        while let Err(error) = self.client.emit("sendMessage", data.clone()) {
            if Instant::now() > late {
                return Err(error.into());
            }
            sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

fn free_port() -> Outcome<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn server(port: u16, redis: u16) -> Outcome<Command> {
    let mut command = Command::new(env::var("CHAT_SERVER_BIN")?);
    command
        .env("APP_ENV", "dev")
        .env("PORT", port.to_string())
        .env("JWT_SECRET", SECRET)
        .env("REDIS_URL", format!("redis://127.0.0.1:{redis}"))
        .env("RUST_LOG", "warn")
        .stdin(Stdio::null());
    Ok(command)
}

fn serve(port: u16, redis: u16, folder: &Path) -> Outcome<Running> {
    let process = server(port, redis)?
        .arg("serve")
        .current_dir(folder)
        .spawn()?;
    let running = Running(process);
    wait_for("the server", || is_ready(port).unwrap_or(false))?;
    Ok(running)
}

/// Whether it accepts clients.
fn is_ready(port: u16) -> Outcome<bool> {
    let mut socket = TcpStream::connect(("127.0.0.1", port))?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    socket.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    Ok(answer.starts_with("HTTP/1.1 200"))
}

fn token(redis: u16, user: &str) -> Outcome<String> {
    let output = server(0, redis)?.args(["token", user]).output()?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn wait_for(what: &str, is_there: impl Fn() -> bool) -> Outcome {
    let late = Instant::now() + PATIENCE;
    while !is_there() {
        if Instant::now() > late {
            return Err(format!("{what} did not come").into());
        }
        sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn is_list(list: &Value) -> bool {
    list.is_array()
}

fn story(folder: &Path) -> Outcome {
    let (port, redis) = (free_port()?, free_port()?);
    let store = Command::new("redis-server")
        .args([
            "--port",
            &redis.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
        ])
        .args(["--dir", &folder.to_string_lossy()])
        .stdout(Stdio::null())
        .spawn()?;
    let _store = Running(store);
    wait_for("Redis", || TcpStream::connect(("127.0.0.1", redis)).is_ok())?;
    let first = serve(port, redis, folder)?;
    let url = format!("http://127.0.0.1:{port}/");

    println!("Alice and Bob connect");
    let alice = Device::connect(&url, &token(redis, "alice")?)?;
    alice.take("chatList", is_list)?;
    let bob = Device::connect(&url, &token(redis, "bob")?)?;
    bob.take("chatList", is_list)?;

    println!("Alice opens a chat with Bob, and says something");
    alice
        .client
        .emit("initializeChat", json!({ "participants": ["bob"] }))?;
    let members = alice.take("roomMembers", |data| data["members"] == json!(["bob"]))?;
    let room = &members["roomId"];
    alice.say(room, "Hello Bob")?;
    bob.take("newMessage", |message| message["content"] == "Hello Bob")?;

    println!("the server is restarted, and both come back");
    drop(first);
    let _second = serve(port, redis, folder)?;
    for device in [&alice, &bob] {
        device.take("chatList", |list| list[0]["seq"] == 1)?;
    }

    println!("Bob answers");
    bob.say(room, "Hello again")?;
    alice.take("newMessage", |message| message["content"] == "Hello again")?;
    Ok(())
}

fn main() -> Outcome {
    let folder = env::temp_dir().join(format!("rust-client-test-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let outcome = story(&folder);
    std::fs::remove_dir_all(&folder)?;
    outcome?;
    println!("all came");
    Ok(())
}
