//! Writing to a device: what is queued for it goes to its socket.
//!
//! This is not done by the device's own task, which would have to be woken for each event, but by one of a few tasks
//! that write for all devices. The device's own task writes its answers, and what a full socket did not take.

use std::sync::{Arc, Weak};

use bytes::Bytes;

use super::dialect::Dialect;
use super::pipe::{Pipe, Rest};
use crate::hub::device::{Close, Device};
use crate::hub::due::{self, Due, Priority, Turn};
use crate::hub::lane::Taken;
use crate::metrics::DoorMetrics;

/// The outlet of one device.
pub(super) struct Outlet {
    pub(super) pipe: Arc<Pipe>,
    device: Arc<Device>,
    dialect: Dialect,
    metrics: DoorMetrics,
}

/// The outcome of a flush.
pub(super) enum Flushed {
    /// Everything is written.
    All,
    /// Everything is written, and the connection is to be closed.
    Last(Close),
    /// The socket takes no more for now.
    Stuck,
    /// The connection is broken.
    Broken,
}

impl Outlet {
    /// From now on the device's events are written here.
    pub(super) fn open(
        pipe: Arc<Pipe>,
        device: Arc<Device>,
        dialect: Dialect,
        metrics: DoorMetrics,
    ) -> Arc<Self> {
        let outlet = Arc::new(Self {
            pipe,
            device,
            dialect,
            metrics,
        });
        let weak: Weak<Self> = Arc::downgrade(&outlet);
        outlet.device.opens(weak);
        outlet
    }

    /// Writes what is queued, as far as the socket takes it now. What arrives meanwhile is due again.
    pub(super) fn flush(&self) -> Flushed {
        let mut rest = self.pipe.lock();
        loop {
            match self.pipe.write(&mut rest) {
                Ok(true) => {}
                Ok(false) => return Flushed::Stuck,
                Err(_) => return Flushed::Broken,
            }
            match self.take(&mut rest) {
                Taken::Frames => {}
                Taken::Nothing(close) => return close.map_or(Flushed::All, Flushed::Last),
            }
        }
    }

    fn take(&self, rest: &mut Rest) -> Taken {
        let mut frames = 0;
        let taken = self.device.take(|frame| {
            frames += 1;
            if let Some(text) = self.dialect.text(&frame) {
                rest.extend(text.frame());
            }
        });
        self.metrics.sent(self.dialect.door(), frames);
        taken
    }

    /// Answers requests, then writes the answers with the events that arrived meanwhile.
    pub(super) async fn answering(&self, answer: impl Future<Output = ()>) {
        self.device.set_answering(true);
        answer.await;
        // What Redis published with the answer arrives over another connection, often a moment later: one write for
        // both.
        tokio::task::yield_now().await;
        self.device.set_answering(false);
        self.flush_or_wake();
    }

    /// Writes what is queued; what remains to be done is left to the device's task.
    fn flush_or_wake(&self) {
        if !matches!(self.flush(), Flushed::All) {
            self.device.wake_task();
        }
    }

    /// Appends a frame of the transport to what waits for the socket.
    pub(super) fn put(&self, bytes: Bytes) {
        self.pipe.lock().extend([bytes]);
    }
}

impl due::Outlet for Outlet {
    fn flush(&self, priority: Priority) {
        self.device.leave_due(priority);
        self.flush_or_wake();
    }
}

/// Writes to the devices that are due. Any number of these may run in parallel.
pub async fn write_due(due: Arc<Due>) {
    let mut turn = Turn::default();
    loop {
        due.take(&mut turn).await;
        turn.write();
        // Requests and messages from Redis take priority over more of this.
        tokio::task::yield_now().await;
    }
}
