//! What a room is and how it moves on: positions, pages, entries, and the state machines that keep a server in step
//! with the store. They have no store, socket, lock or clock; their owner passes them the time.

mod agenda;
mod facts;
mod feed;
mod fence;
pub mod flaws;
mod page;
mod position;
mod topic;

pub use self::agenda::{Agenda, Next, Turn, pause_after};
pub use self::facts::{ListedRoom, PositionedEntry, RoomFacts};
pub use self::feed::{Feed, Positioned, Reason, Standing, Tick, Verdict};
pub use self::fence::{Fence, Fences, Publish};
pub use self::page::{Marks, Missed, Page};
pub use self::position::Position;
pub use self::topic::Topic;
