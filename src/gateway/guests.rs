//! Guests: connections without a device yet, and sessions that have not presented a token.
//!
//! They have places of their own, so that they take none from users who have joined. When all of these are taken, the
//! oldest guest gives way. So a client that joins immediately gets in, however many others never do.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// The places.
pub struct Guests {
    max: usize,
    seated: Mutex<Seated>,
    /// A permit for each guest connection: those with a place, and as many that were evicted and are about to close.
    permits: Arc<Semaphore>,
    /// A permit for each connection that is no longer a guest, because it carries requests of sessions that have
    /// joined.
    vouched: Arc<Semaphore>,
}

#[derive(Default)]
struct Seated {
    /// By number, in order of arrival.
    guests: BTreeMap<u64, CancellationToken>,
    next: u64,
}

impl Guests {
    /// `max` places, and `max_vouched` for connections that are no longer guests.
    pub fn new(max: usize, max_vouched: usize) -> Arc<Self> {
        Arc::new(Self {
            max,
            seated: Mutex::default(),
            permits: Arc::new(Semaphore::new(2 * max)),
            vouched: Arc::new(Semaphore::new(max_vouched)),
        })
    }

    fn seated(&self) -> MutexGuard<'_, Seated> {
        // No code under this lock panics halfway through a change.
        self.seated.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until one more connection may be accepted.
    pub(super) async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        // Always `Some`: the semaphore is never closed.
        self.permits.clone().acquire_owned().await.ok()
    }

    /// Takes a place, for a connection with its permit or for a session. If there is none left, the oldest guest gives
    /// way.
    pub(super) fn enter(self: &Arc<Self>, permit: Option<OwnedSemaphorePermit>) -> Guest {
        let turned_out = CancellationToken::new();
        let mut seated = self.seated();
        if seated.guests.len() >= self.max
            && let Some((_, longest)) = seated.guests.pop_first()
        {
            longest.cancel();
        }
        let number = seated.next;
        seated.next += 1;
        seated.guests.insert(number, turned_out.clone());
        drop(seated);
        Guest {
            guests: self.clone(),
            number,
            turned_out,
            permit: Mutex::new(permit),
        }
    }
}

/// A place, held until this is dropped.
pub(super) struct Guest {
    guests: Arc<Guests>,
    number: u64,
    turned_out: CancellationToken,
    permit: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Guest {
    /// Resolves when this guest has to give way. What has arrived from it is to be handled first.
    pub(super) async fn turned_out(&self) {
        self.turned_out.cancelled().await;
    }

    /// This connection carries a request of a session that has joined: it is no longer a guest, if there is room.
    pub(super) fn vouch(&self) {
        if self.guests.seated().guests.contains_key(&self.number)
            && let Ok(permit) = self.guests.vouched.clone().try_acquire_owned()
        {
            *self.permit.lock().unwrap_or_else(PoisonError::into_inner) = Some(permit);
            self.leave();
        }
    }

    fn leave(&self) {
        self.guests.seated().guests.remove(&self.number);
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use futures_util::FutureExt;

    use super::*;

    fn is_turned_out(guest: &Guest) -> bool {
        guest.turned_out().now_or_never().is_some()
    }

    #[test]
    fn who_was_there_longest_gives_way() {
        let guests = Guests::new(2, 0);
        let (first, second) = (guests.enter(None), guests.enter(None));
        let third = guests.enter(None);
        assert!(is_turned_out(&first) && !is_turned_out(&second));
        // The place now belongs to the third, whenever the first goes
        drop(first);
        let fourth = guests.enter(None);
        assert!(is_turned_out(&second) && !is_turned_out(&third));
        // And a place that was given up is free
        drop(third);
        let fifth = guests.enter(None);
        assert!(!is_turned_out(&fourth));
        drop((second, fourth, fifth));
        assert!(guests.seated().guests.is_empty());
    }

    #[tokio::test]
    async fn connections_that_were_turned_out_are_to_go_before_more_come() {
        let guests = Guests::new(1, 0);
        let first = guests.enter(guests.permit().await);
        let _second = guests.enter(guests.permit().await);
        assert!(is_turned_out(&first));
        let mut more = Box::pin(guests.permit());
        assert!(more.as_mut().now_or_never().is_none());
        drop(first);
        assert!(more.await.is_some());
    }

    #[tokio::test]
    async fn who_is_vouched_for_takes_no_place_of_a_guest() {
        let guests = Guests::new(1, 1);
        let first = guests.enter(guests.permit().await);
        first.vouch();
        assert_eq!(guests.permits.available_permits(), 2);
        let second = guests.enter(None);
        // There is no more room for those: this one stays a guest
        second.vouch();
        let third = guests.enter(None);
        assert!(is_turned_out(&second) && !is_turned_out(&first));
        drop(first);
        // A guest that was evicted goes, even if it is vouched for
        second.vouch();
        third.vouch();
        let _fourth = guests.enter(None);
        assert!(!is_turned_out(&third));
    }
}
