//! What a server does on its own: it looks for gaps and repairs them, sends chat lists again, and renews viewers'
//! leases.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::chat::{Chat, entry_reads, list, list_reads, viewed};
use crate::hub::repair::Repair;
use crate::protocol::ids::RoomId;
use crate::room::{Position, Topic, Turn};
use crate::store::calls::COMPARE_CHUNK;

/// The number of concurrent background tasks of each kind: they must not crowd out requests.
const REPAIRS_AT_ONCE: usize = 8;
const READS_AT_ONCE: usize = 4;
const RENEWALS_AT_ONCE: usize = 4;
/// Lists that are being sent again at once. These wait for their turn among all lists.
const REFRESHES_AT_ONCE: usize = 16;
/// A room that is repaired this many times in a row is worth a line in the log.
const OFTEN: u32 = 4;
/// How long published events may take to arrive before a comparison is postponed.
const FENCE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a subscription may take before the repair of its room is postponed.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Runs all of it until `cancel`; quiet rooms are compared with the store once per `quiet_room_check`.
pub async fn run(chat: Arc<Chat>, quiet_room_check: Duration, cancel: CancellationToken) {
    let chat = &*chat;
    let repairs = work_off(
        chat,
        REPAIRS_AT_ONCE,
        || chat.hub.repairs.take(),
        |turn| {
            Box::pin(async move {
                repair(chat, &turn).await;
                chat.hub.repairs.done(&turn.thing);
            })
        },
    );
    let recounts = work_off(
        chat,
        READS_AT_ONCE,
        || chat.hub.recounts.take(),
        |Turn { thing: user, .. }| {
            Box::pin(async move {
                if list::recount(chat, &user).await.is_err() {
                    chat.hub.recounts.add(user.clone());
                }
                chat.hub.recounts.done(&user);
            })
        },
    );
    let entries = work_off(
        chat,
        READS_AT_ONCE,
        || chat.hub.new_entries.take(),
        |Turn { thing, .. }| {
            Box::pin(async move {
                let (user, room) = &thing;
                if list::send_entry(chat, user, *room).await.is_err() {
                    chat.hub.new_entries.add(thing.clone());
                }
                chat.hub.new_entries.done(&thing);
            })
        },
    );
    let list_reads = work_off(
        chat,
        list_reads::AT_ONCE,
        || chat.list_reads.take(),
        |turn| Box::pin(list::work_off(chat, turn)),
    );
    let entry_reads = take_turns(
        entry_reads::AT_ONCE,
        || chat.entry_reads.take(),
        |turn| Box::pin(list::make_call(chat, turn)),
    );
    let refreshes = work_off(
        chat,
        REFRESHES_AT_ONCE,
        || chat.hub.next_refresh(),
        |user| {
            Box::pin(async move {
                let refreshed = list::refresh(chat, &user).await;
                chat.lists.refreshed(refreshed.is_ok());
                if let Err(error) = refreshed {
                    log::debug!("a chat list could not be read yet: {error}");
                }
            })
        },
    );
    let histories = work_off(
        chat,
        READS_AT_ONCE,
        || chat.hub.next_history(),
        |room| {
            Box::pin(async move {
                if let Err(error) = viewed::push(chat, room).await {
                    log::debug!(
                        "the history of room {room} could not be read, it follows: {error}"
                    );
                    chat.hub.history_untold(room);
                }
            })
        },
    );
    tokio::select! {
        () = cancel.cancelled() => {}
        () = repairs => {}
        () = recounts => {}
        () = entries => {}
        () = list_reads => {}
        () = entry_reads => {}
        () = refreshes => {}
        () = histories => {}
        () = beat(chat) => {}
        () = renew_viewers(chat) => {}
        () = compare_doubtful_rooms(chat) => {}
        () = compare_quiet_rooms(chat, quiet_room_check) => {}
    }
}

/// Takes things to do while there is a store, and does a bounded number at once. Never returns.
async fn work_off<'a, T, Take>(
    chat: &Chat,
    at_once: usize,
    take: impl Fn() -> Take,
    work: impl Fn(T) -> BoxFuture<'a, ()>,
) where
    Take: Future<Output = T>,
{
    let take = || async {
        chat.store.up().await;
        take().await
    };
    take_turns(at_once, take, work).await;
}

/// Takes things to do, and does a bounded number at once. Never returns.
async fn take_turns<'a, T, Take>(
    at_once: usize,
    take: impl Fn() -> Take,
    work: impl Fn(T) -> BoxFuture<'a, ()>,
) where
    Take: Future<Output = T>,
{
    let mut under_way = FuturesUnordered::new();
    loop {
        tokio::select! {
            item = take(), if under_way.len() < at_once => under_way.push(work(item)),
            Some(()) = under_way.next() => {}
        }
    }
}

/// Publishes this server's numbers to itself.
async fn beat(chat: &Chat) {
    loop {
        chat.store.up().await;
        let number = chat.hub.beats.next().await;
        if let Err(error) = chat.store.beat(chat.hub.server, number).await {
            log::debug!("a number of this server could not be published: {error}");
        }
    }
}

/// Fetches what is missing from a room and delivers it in order, once.
async fn repair(chat: &Chat, turn: &Turn<RoomId>) {
    let room = turn.thing;
    if turn.times == OFTEN {
        log::warn!(
            "room {room} is repaired again and again, less and less often; debug logs say why"
        );
    }
    let topic = Topic::Room(room);
    match tokio::time::timeout(SUBSCRIBE_TIMEOUT, chat.hub.interest.heard(&topic)).await {
        Ok(Ok(())) => {}
        // Nobody here follows the room any more.
        Ok(Err(_)) => return,
        Err(_) => return chat.hub.repairs.add(room),
    }
    while let Some(from) = chat.hub.ask_repair(room) {
        match chat.store.sync_room(room, &from).await {
            Ok(missed) => {
                if chat.hub.repair(room, &from, missed, turn.times) == Repair::Ended {
                    return;
                }
            }
            Err(error) => {
                log::debug!("room {room} could not be repaired yet: {error}");
                return chat.hub.repairs.add(room);
            }
        }
    }
}

/// Reports to the store, every third of a lease, which rooms this server's devices view.
async fn renew_viewers(chat: &Chat) {
    let mut ticks = every(chat.store.rules().viewer_lease / 3);
    loop {
        ticks.tick().await;
        let renewals = futures_util::stream::iter(chat.hub.viewers())
            .map(|(room, viewers)| async move { chat.store.renew_viewers(room, &viewers).await })
            .buffer_unordered(RENEWALS_AT_ONCE);
        let failed = renewals
            .filter(|outcome| std::future::ready(outcome.is_err()))
            .count()
            .await;
        if failed > 0 {
            log::debug!("{failed} viewed rooms could not be renewed");
        }
    }
}

/// Compares quiet rooms with the store: no later number reveals the loss of a room's last event.
async fn compare_quiet_rooms(chat: &Chat, period: Duration) {
    let mut sweeps = every(period);
    loop {
        sweeps.tick().await;
        let quiet = chat.hub.quiet_rooms();
        let calls = quiet.len().div_ceil(COMPARE_CHUNK).max(1);
        // Spread over the period: many rooms cause no burst.
        let mut turns = every(period / u32::try_from(calls).unwrap_or(u32::MAX));
        for rooms in quiet.chunks(COMPARE_CHUNK) {
            turns.tick().await;
            compare(chat, rooms).await;
        }
    }
}

/// Compares rooms that may be missing something, batching those that were added together.
async fn compare_doubtful_rooms(chat: &Chat) {
    loop {
        chat.store.up().await;
        let rooms = chat.hub.doubts.take_several(COMPARE_CHUNK).await;
        if !compare(chat, &chat.hub.positions(&rooms)).await {
            rooms.iter().for_each(|room| chat.hub.doubts.add(*room));
        }
        rooms.iter().for_each(|room| chat.hub.doubts.done(room));
    }
}

/// Requests repairs of the rooms whose position in the store differs. False if the store could not answer.
async fn compare(chat: &Chat, rooms: &[(RoomId, Position)]) -> bool {
    if rooms.is_empty() {
        return true;
    }
    let changed: HashSet<RoomId> = match chat.store.compare_rooms(rooms).await {
        Ok(changed) => changed.into_iter().collect(),
        Err(error) => {
            log::debug!("rooms could not be compared yet: {error}");
            return false;
        }
    };
    if changed.is_empty() {
        return true;
    }
    // What was published before the answer may still be in flight: that is late, not lost.
    let fence = chat.hub.beats.ask();
    if tokio::time::timeout(FENCE_TIMEOUT, chat.hub.beats.passed(fence))
        .await
        .is_err()
    {
        return false;
    }
    for (room, asked) in rooms.iter().filter(|(room, _)| changed.contains(room)) {
        chat.hub.differs(*room, asked);
    }
    true
}

/// Ticks now and after each `period`; a late tick delays those after it.
fn every(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
