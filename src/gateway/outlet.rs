//! Writing to a device: what its queue holds goes to its socket.
//!
//! Not the device's own task does that, which would have to be woken for each event, but one of a few that write for all
//! devices. The own task writes its answers, and what a full socket did not take.

use std::sync::{Arc, Weak};

use bytes::Bytes;

use super::dialect::Dialect;
use super::pipe::{Pipe, Rest};
use crate::hub::device::{Close, Device};
use crate::hub::due::{self, Due, Priority, Turn};
use crate::hub::lane::Taken;
use crate::metrics::DoorMetrics;

/// One device's.
pub(super) struct Outlet {
    pub(super) pipe: Arc<Pipe>,
    device: Arc<Device>,
    dialect: Dialect,
    metrics: DoorMetrics,
}

/// What became of what waited.
pub(super) enum Flushed {
    /// All is written.
    All,
    /// All is written, and the connection is to be closed.
    Last(Close),
    /// The socket takes no more for now.
    Stuck,
    /// The connection is gone.
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

    /// Writes what waits, as far as the socket takes it now. What comes meanwhile is due again.
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

    /// Answers requests, then writes the answers with the events that came meanwhile.
    pub(super) async fn answering(&self, answer: impl Future<Output = ()>) {
        self.device.set_answering(true);
        answer.await;
        // What Redis published with the answer comes over another connection, often a moment later: one write for both.
        tokio::task::yield_now().await;
        self.device.set_answering(false);
        self.flush_or_wake();
    }

    /// Writes what waits; what remains to be done is left to the device's task.
    fn flush_or_wake(&self) {
        if !matches!(self.flush(), Flushed::All) {
            self.device.wake_task();
        }
    }

    /// Puts something of the transport's behind what waits in the socket.
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

/// Writes to the devices that are due. Any number of these may run side by side.
pub async fn write_due(due: Arc<Due>) {
    let mut turn = Turn::default();
    loop {
        due.take(&mut turn).await;
        turn.write();
        // Requests and what Redis says come before more of this.
        tokio::task::yield_now().await;
    }
}
