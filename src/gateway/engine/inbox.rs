//! Where the requests of a client that polls wait for their turn, bounded like the queue in the other direction.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc::{self, error::TrySendError};

use crate::config::Limits;
use crate::protocol::frame::RequestId;
use crate::protocol::request::Request;

/// The end that requests are put in.
pub(super) struct Inbox {
    sender: mpsc::Sender<(Request, usize)>,
    bytes: Arc<AtomicUsize>,
    max_bytes: usize,
}

/// There is no room for the request of this id.
#[derive(Debug)]
pub(super) struct Full(pub(super) Option<RequestId>);

/// The end that they are taken from.
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

    /// Puts in a request whose packet has so many bytes. One of any size finds room where nothing waits.
    pub(super) fn push(&self, request: Request, len: usize) -> Result<(), Full> {
        let waiting = self.bytes.load(Ordering::Relaxed);
        if waiting > 0 && waiting + len > self.max_bytes {
            return Err(Full(request.id));
        }
        self.bytes.fetch_add(len, Ordering::Relaxed);
        match self.sender.try_send((request, len)) {
            // The device is being closed: nobody answers it any more.
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
