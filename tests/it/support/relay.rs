//! An address that moves: its connections are passed on to one Redis, then to another.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU16, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};

/// A TCP port whose connections stay with the target that they were made to.
pub(crate) struct Relay {
    pub(crate) port: u16,
    target: Arc<AtomicU16>,
    connections: Arc<Mutex<Vec<Passed>>>,
    accepting: AbortHandle,
}

struct Passed {
    /// What the client has written so far.
    written: Arc<Mutex<Vec<u8>>>,
    task: AbortHandle,
}

impl Relay {
    /// One that leads to this port on loopback.
    pub(crate) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let own = listener.local_addr().expect("an address").port();
        let target = Arc::new(AtomicU16::new(port));
        let connections: Arc<Mutex<Vec<Passed>>> = Arc::default();
        let (leads_to, kept) = (target.clone(), connections.clone());
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let written: Arc<Mutex<Vec<u8>>> = Arc::default();
                let task = pass(client, leads_to.load(Ordering::SeqCst), written.clone());
                let task = tokio::spawn(task).abort_handle();
                kept.lock().expect("a lock").push(Passed { written, task });
            }
        });
        Self {
            port: own,
            target,
            connections,
            accepting: accepting.abort_handle(),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// New connections lead to this port from now on; those that are open stay.
    pub(crate) fn lead_to(&self, port: u16) {
        self.target.store(port, Ordering::SeqCst);
    }

    /// Closes the connections over which a client has written this.
    pub(crate) fn cut_those_that_wrote(&self, what: &str) {
        for passed in self.connections.lock().expect("a lock").iter() {
            let written = passed.written.lock().expect("a lock");
            if String::from_utf8_lossy(&written).contains(what) {
                passed.task.abort();
            }
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
        for passed in self.connections.lock().expect("a lock").iter() {
            passed.task.abort();
        }
    }
}

/// Passes a connection on until either side ends it.
async fn pass(client: TcpStream, port: u16, written: Arc<Mutex<Vec<u8>>>) -> Option<()> {
    let redis = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_redis, mut to_redis) = redis.into_split();
    let requests = async {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let read = from_client
                .read(&mut buffer)
                .await
                .ok()
                .filter(|n| *n > 0)?;
            written.lock().expect("a lock").extend(&buffer[..read]);
            to_redis.write_all(&buffer[..read]).await.ok()?;
        }
    };
    tokio::select! {
        ended = requests => ended,
        _ = tokio::io::copy(&mut from_redis, &mut to_client) => None,
    }
}
