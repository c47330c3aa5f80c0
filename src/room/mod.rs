//! What a room is and how it moves on: positions, pages, entries. It knows no store, no socket and no lock.

mod facts;
pub mod flaws;
mod page;
mod position;
mod topic;

pub use self::facts::{PositionedEntry, RoomFacts};
pub use self::page::{Marks, Missed, Page};
pub use self::position::Position;
pub use self::topic::Topic;
