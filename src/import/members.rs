//! The members of an old room.

use std::collections::HashMap;

use crate::protocol::ids::UserId;

/// The members of a room, in the order of their ids.
#[derive(Debug)]
pub(super) struct Members {
    list: Vec<UserId>,
    places: HashMap<UserId, usize>,
}

impl Members {
    pub(super) fn new(mut list: Vec<UserId>) -> Self {
        list.sort();
        list.dedup();
        let places = list.iter().cloned().zip(0..).collect();
        Self { list, places }
    }

    pub(super) fn list(&self) -> &[UserId] {
        &self.list
    }

    /// The user's index in the list.
    pub(super) fn place(&self, user: &UserId) -> Option<usize> {
        self.places.get(user).copied()
    }
}
