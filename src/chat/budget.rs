//! Memory for pages and chat lists in progress: one budget for the server. Each takes a share before it is read, and
//! gives it back part by part as it is written.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{ChatError, ErrorCode};
use crate::protocol::frame::Frame;

/// Shares are counted in these, as a semaphore gives at most `u32::MAX` permits at once.
const UNIT_BYTES: usize = 1024;
/// How long a request may wait for its share. Meanwhile the devices that read what is in progress either take it or are
/// given up.
const PATIENCE: Duration = Duration::from_secs(10);

/// The budget that all share. Clones share it.
#[derive(Clone)]
pub struct Budget {
    free: Arc<Semaphore>,
    units: u32,
    patience: Duration,
}

/// No share became available in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server has as much to send as it can hold: try again soon")]
pub struct Exhausted;

impl From<Exhausted> for ChatError {
    fn from(exhausted: Exhausted) -> Self {
        Self::new(ErrorCode::Unavailable, exhausted.to_string())
    }
}

impl Budget {
    pub fn new(bytes: usize) -> Self {
        let units = u32::try_from(bytes / UNIT_BYTES).unwrap_or(u32::MAX);
        Self {
            free: Arc::new(Semaphore::new(units as usize)),
            units,
            patience: PATIENCE,
        }
    }

    /// Takes a share of about this many bytes; waits for its turn. A request for more than the whole budget takes all
    /// of it.
    ///
    /// # Errors
    /// If it takes too long.
    pub async fn take(&self, bytes: usize) -> Result<Share, Exhausted> {
        let permit = self.permit(units(bytes)).await?;
        Ok(Share {
            budget: self.clone(),
            permit,
        })
    }

    async fn permit(&self, units: usize) -> Result<OwnedSemaphorePermit, Exhausted> {
        let units = u32::try_from(units).unwrap_or(u32::MAX).min(self.units);
        let permit = self.free.clone().acquire_many_owned(units);
        match tokio::time::timeout(self.patience, permit).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(Exhausted),
        }
    }
}

/// The share of one page or list.
pub struct Share {
    budget: Budget,
    permit: OwnedSemaphorePermit,
}

impl Share {
    /// Covers the frame that the share was taken for: any excess is given back at once, the rest with each part of the
    /// frame.
    ///
    /// # Errors
    /// If the frame is larger than estimated, and no more becomes available in time.
    pub async fn cover(self, frame: Frame) -> Result<Frame, Exhausted> {
        let Self { budget, mut permit } = self;
        let wanted = units(frame.len()).min(budget.units as usize);
        if let Some(missing) = wanted.checked_sub(permit.num_permits()) {
            permit.merge(budget.permit(missing).await?);
        }
        Ok(frame.owning(|bytes| permit.split(units(bytes).min(permit.num_permits()))))
    }
}

fn units(bytes: usize) -> usize {
    bytes.div_ceil(UNIT_BYTES)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use futures_util::FutureExt;

    use super::*;

    const ALL: usize = 1024 * UNIT_BYTES;

    fn free(budget: &Budget) -> usize {
        budget.free.available_permits() * UNIT_BYTES
    }

    fn frame(bytes: usize) -> Frame {
        Frame::status(&"x".repeat(bytes))
    }

    #[tokio::test]
    async fn a_share_is_given_back_with_the_parts_of_its_frame() {
        let budget = Budget::new(ALL);
        // The estimate was too small, and too large
        for thought in [0, 300_000, 800_000] {
            let share = budget.take(thought).await.unwrap();
            let frame = share.cover(frame(500_000)).await.unwrap();
            let taken = ALL - free(&budget);
            assert!((500_000..510_000).contains(&taken), "{taken}");
            // A writer has the text, over either protocol, and the frame is gone
            let native = frame.native().unwrap();
            let socket_io = frame.socket_io().unwrap();
            drop(frame);
            let mut parts = native.frame().chain(socket_io.frame()).collect::<Vec<_>>();
            drop((native, socket_io));
            assert_eq!(ALL - free(&budget), taken);
            // Its reader gives it back bit by bit
            let half = parts.len() / 2;
            parts.drain(..half).for_each(drop);
            assert_eq!(ALL - free(&budget), taken);
            parts.drain(..half / 2).for_each(drop);
            assert!(ALL - free(&budget) < taken);
            drop(parts);
            assert_eq!(free(&budget), ALL);
        }
    }

    #[tokio::test]
    async fn who_finds_too_little_waits_for_it_in_turn() {
        let budget = Budget::new(ALL);
        let first = budget.take(ALL - 10 * UNIT_BYTES).await.unwrap();
        let mut large = Box::pin(budget.take(20 * UNIT_BYTES));
        assert!(large.as_mut().now_or_never().is_none());
        // A small one does not overtake it
        let mut small = Box::pin(budget.take(UNIT_BYTES));
        assert!(small.as_mut().now_or_never().is_none());
        drop(first);
        assert!(large.await.is_ok());
        assert!(small.await.is_ok());
    }

    #[tokio::test]
    async fn what_is_larger_than_all_is_sent_alone() {
        let budget = Budget::new(ALL);
        let share = budget.take(10 * ALL).await.unwrap();
        assert_eq!(free(&budget), 0);
        let frame = share.cover(frame(3 * ALL)).await.unwrap();
        assert_eq!(free(&budget), 0);
        drop(frame);
        assert_eq!(free(&budget), ALL);
    }

    #[tokio::test]
    async fn nobody_waits_for_ever() {
        let patience = Duration::from_millis(1);
        let budget = Budget {
            patience,
            ..Budget::new(ALL)
        };
        let all = budget.take(ALL).await.unwrap();
        assert_eq!(budget.take(1).await.err(), Some(Exhausted));
        drop(all);
        let some = budget.take(ALL / 2).await.unwrap();
        let other = budget.take(ALL / 2).await.unwrap();
        assert!(some.cover(frame(ALL)).await.is_err());
        drop(other);
        assert_eq!(free(&budget), ALL);
    }
}
