//! Limits how many members the rooms that one user creates may have per minute.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::protocol::ids::UserId;
use crate::rate::Bucket;

/// The allowance of each user for new rooms, on this server. All connections of a user share it.
#[derive(Debug)]
pub struct NewRooms {
    /// 0 means no limit.
    members_per_min: f64,
    users: Mutex<Users>,
}

#[derive(Debug, Default)]
struct Users {
    buckets: HashMap<UserId, Bucket>,
    /// The number of users kept before those with a full allowance are dropped.
    swept_at: usize,
}

/// Up to this number users are kept without a sweep.
const FEW: usize = 1024;

impl NewRooms {
    pub fn new(members_per_min: usize) -> Self {
        Self {
            members_per_min: members_per_min as f64,
            users: Mutex::default(),
        }
    }

    /// Takes the members of a room to be created from the user's allowance. False if too little is left.
    pub fn take(&self, user: &UserId, members: usize, now: Instant) -> bool {
        if self.members_per_min == 0.0 {
            return true;
        }
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        if users.buckets.len() > users.swept_at.max(FEW) {
            users.buckets.retain(|_, bucket| !bucket.is_full(now));
            users.swept_at = 2 * users.buckets.len();
        }
        let full = || Bucket::new(self.members_per_min / 60.0, self.members_per_min, now);
        let bucket = users.buckets.entry(user.clone()).or_insert_with(full);
        bucket.take(members as f64, now)
    }

    /// No room was created: what was taken for it is returned.
    pub fn give_back(&self, user: &UserId, members: usize) {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = users.buckets.get_mut(user) {
            bucket.give_back(members as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn each_user_has_as_much() {
        let (rooms, start) = (NewRooms::new(60), Instant::now());
        let (one, other) = (UserId::random(), UserId::random());
        assert!(rooms.take(&one, 60, start) && !rooms.take(&one, 2, start));
        assert!(rooms.take(&other, 60, start));
        rooms.give_back(&one, 2);
        assert!(rooms.take(&one, 2, start) && !rooms.take(&one, 2, start));
        assert!(rooms.take(&one, 2, start + Duration::from_secs(3)));
    }

    #[test]
    fn who_has_all_left_again_is_not_kept() {
        let (rooms, start) = (NewRooms::new(60), Instant::now());
        let later = start + Duration::from_secs(60);
        for now in [start, later] {
            for _ in 0..10 * FEW {
                assert!(rooms.take(&UserId::random(), 2, now));
            }
        }
        // The first ones have their full allowance again, and are dropped while others come.
        let users = rooms.users.lock().unwrap_or_else(PoisonError::into_inner);
        assert_eq!(users.buckets.len(), 10 * FEW);
    }
}
