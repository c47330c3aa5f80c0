//! What the server relies on, case by case.
//!
//! Each case has its own users and rooms on an empty Redis. An operator's rule may refuse any write or add messages to
//! a new room, so cases count from a room's current position and let each user send only once where possible.

mod history;
mod messages;
mod reading;
mod rooms;
mod shapes;
mod texts;

use futures_util::future::BoxFuture;

use super::fault::Ended;
use super::stage::{Room, Stage};
use crate::protocol::event::Message;
use crate::protocol::ids::MessageId;
use crate::protocol::request::Cursor;
use crate::room::Page;
use crate::scripts::Script;

/// Something that the server relies on.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) play: fn(&mut Stage) -> BoxFuture<'_, Outcome>,
}

type Outcome = Result<(), Ended>;

/// Cheap and specific cases come first: the first failure is the one that is reported.
pub(super) const CASES: [Case; 23] = [
    Case {
        name: "Redis accepts every script",
        play: |stage| Box::pin(stage.load()),
    },
    Case {
        name: "a direct room is created once",
        play: |stage| Box::pin(rooms::direct_room(stage)),
    },
    Case {
        name: "a group has its name and its members",
        play: |stage| Box::pin(rooms::group(stage)),
    },
    Case {
        name: "a message is stored and published once",
        play: |stage| Box::pin(messages::message(stage)),
    },
    Case {
        name: "a duplicate is one message",
        play: |stage| Box::pin(messages::duplicate(stage)),
    },
    Case {
        name: "a message keeps its type and its strings",
        play: |stage| Box::pin(shapes::shape(stage)),
    },
    Case {
        name: "messages of many users are in one order",
        play: |stage| Box::pin(messages::order(stage)),
    },
    Case {
        name: "a user who is not a member is refused",
        play: |stage| Box::pin(messages::no_member(stage)),
    },
    Case {
        name: "a user who enters has read everything",
        play: |stage| Box::pin(reading::entering(stage)),
    },
    Case {
        name: "a user who views a room has read what is sent",
        play: |stage| Box::pin(reading::viewing(stage)),
    },
    Case {
        name: "a lease expires unless it is renewed",
        play: |stage| Box::pin(reading::leases(stage)),
    },
    Case {
        name: "a read marker only moves forward",
        play: |stage| Box::pin(reading::marking(stage)),
    },
    Case {
        name: "an unknown message id is refused",
        play: |stage| Box::pin(reading::no_message(stage)),
    },
    Case {
        name: "history comes in pages",
        play: |stage| Box::pin(history::history(stage)),
    },
    Case {
        name: "a server learns what it missed",
        play: |stage| Box::pin(history::syncing(stage)),
    },
    Case {
        name: "a server learns in which rooms it missed something",
        play: |stage| Box::pin(history::comparing(stage)),
    },
    Case {
        name: "a large room works the same way",
        play: |stage| Box::pin(rooms::large_room(stage)),
    },
    Case {
        name: "texts of every kind are read as they were published",
        play: |stage| Box::pin(texts::every_kind(stage)),
    },
    Case {
        name: "no text is cut inside a character",
        play: |stage| Box::pin(texts::cuts(stage)),
    },
    Case {
        name: "names of every kind are read as they were published",
        play: |stage| Box::pin(texts::group_names(stage)),
    },
    Case {
        name: "no text takes long",
        play: |stage| Box::pin(texts::hard_ones(stage)),
    },
    Case {
        name: "all of this holds with the `ext` fields that scripts read",
        play: |stage| Box::pin(texts::switches(stage)),
    },
    Case {
        name: "a reset deletes this chat and nothing else",
        play: |stage| Box::pin(rooms::reset(stage)),
    },
];

const PAGE: u32 = 50;

/// The latest messages as one member gets them.
async fn latest(stage: &mut Stage, room: &Room, member: usize) -> Result<Page, Ended> {
    let store = stage.store.clone();
    let call = store.get_history(room.id, &room.members[member], Cursor::Latest, PAGE);
    stage.call(Script::GetHistory, call).await
}

/// The newest message of a page; the zero id if it is empty.
fn newest(page: &Page) -> MessageId {
    ids(&page.messages).last().copied().unwrap_or_default()
}

fn ids(messages: &[Message]) -> Vec<MessageId> {
    messages.iter().map(|message| message.id).collect()
}
