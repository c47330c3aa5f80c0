//! The queue of a polling client's requests, bounded like the queue in the other direction.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc::{self, error::TrySendError};

use crate::config::Limits;
use crate::protocol::frame::RequestId;
use crate::protocol::request::Request;

/// The end where requests are added.
pub(super) struct Inbox {
    sender: mpsc::Sender<(Request, usize)>,
    bytes: Arc<AtomicUsize>,
    max_bytes: usize,
}

/// There is no room for the request with this id.
#[derive(Debug)]
pub(super) struct Full(pub(super) Option<RequestId>);

/// The end where requests are taken.
pub(super) struct Requests {
    receiver: mpsc::Receiver<(Request, usize)>,
    bytes: Arc<AtomicUsize>,
}

impl Inbox {
    pub(super) fn new(limits: &Limits) -> (Self, Requests) {
        let (sender, receiver) = mpsc::channel(limits.max_requests_waiting);
        let bytes = Arc::new(AtomicUsize::new(0));
        let inbox = Self {
            sender,
            bytes: bytes.clone(),
            max_bytes: limits.queue_max_bytes,
        };
        (inbox, Requests { receiver, bytes })
    }

    /// Adds a request whose packet has this many bytes. A request of any size fits in an empty queue.
    pub(super) fn push(&self, request: Request, len: usize) -> Result<(), Full> {
        let waiting = self.bytes.load(Ordering::Relaxed);
        if waiting > 0 && waiting + len > self.max_bytes {
            return Err(Full(request.id));
        }
        self.bytes.fetch_add(len, Ordering::Relaxed);
        match self.sender.try_send((request, len)) {
            // The device is being closed: nothing answers it any more.
            Ok(()) | Err(TrySendError::Closed(_)) => Ok(()),
            Err(TrySendError::Full((request, len))) => {
                self.bytes.fetch_sub(len, Ordering::Relaxed);
                Err(Full(request.id))
            }
        }
    }
}

impl Requests {
    /// The next request; `None` once there will be no more.
    pub(super) async fn next(&mut self) -> Option<Request> {
        let (request, len) = self.receiver.recv().await?;
        self.bytes.fetch_sub(len, Ordering::Relaxed);
        Some(request)
    }
}
