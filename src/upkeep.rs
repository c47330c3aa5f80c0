//! What a server does unasked: looks for gaps and repairs them, sends chat lists again, renews viewers' leases.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::chat::{Chat, list};
use crate::protocol::ids::RoomId;
use crate::room::Position;
use crate::room::Topic;
use crate::store::calls::COMPARE_CHUNK;

/// Calls of each kind under way at once: they must not crowd out sends.
const AT_ONCE: usize = 16;
/// Pause before something that failed is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// How long a subscription may take before the repair of its room is put off.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Runs all of it until `cancel`; quiet rooms are compared with the store once in each `quiet_room_check`.
pub async fn run(chat: Arc<Chat>, quiet_room_check: Duration, cancel: CancellationToken) {
    let repairs = work_off(
        || chat.hub.repairs.take(),
        |room| Box::pin(repair(&chat, room)),
    );
    let recounts = work_off(
        || chat.hub.recounts.take(),
        |user| {
            let chat = &chat;
            Box::pin(async move {
                if list::recount(chat, &user).await.is_err() {
                    tokio::time::sleep(RETRY_PAUSE).await;
                    chat.hub.recounts.add(user);
                }
            })
        },
    );
    let entries = work_off(
        || chat.hub.new_entries.take(),
        |(user, room)| {
            let chat = &chat;
            Box::pin(async move {
                if list::send_entry(chat, &user, room).await.is_err() {
                    tokio::time::sleep(RETRY_PAUSE).await;
                    chat.hub.new_entries.add((user, room));
                }
            })
        },
    );
    let refreshes = work_off(
        || chat.hub.next_refresh(),
        |user| {
            let chat = &chat;
            Box::pin(async move {
                let refreshed = list::refresh(chat, &user).await;
                chat.lists.refreshed(refreshed.is_ok());
                if let Err(error) = refreshed {
                    log::debug!("a chat list could not be read, it follows: {error}");
                }
            })
        },
    );
    tokio::select! {
        () = cancel.cancelled() => {}
        () = repairs => {}
        () = recounts => {}
        () = entries => {}
        () = refreshes => {}
        () = renew_viewers(&chat) => {}
        () = compare_quiet_rooms(&chat, quiet_room_check) => {}
    }
}

/// Takes things to do and does them, a bounded number at once. Never ends.
async fn work_off<'a, T, Take>(take: impl Fn() -> Take, work: impl Fn(T) -> BoxFuture<'a, ()>)
where
    Take: Future<Output = T>,
{
    let mut under_way = FuturesUnordered::new();
    loop {
        tokio::select! {
            item = take(), if under_way.len() < AT_ONCE => under_way.push(work(item)),
            Some(()) = under_way.next() => {}
        }
    }
}

/// Fetches what is missing of a room and delivers it, in order, once.
async fn repair(chat: &Chat, room: RoomId) {
    let topic = Topic::Room(room);
    match tokio::time::timeout(SUBSCRIBE_TIMEOUT, chat.hub.interest.heard(&topic)).await {
        Ok(Ok(())) => {}
        // Nobody here follows the room any more.
        Ok(Err(_)) => return,
        Err(_) => return chat.hub.repairs.add(room),
    }
    while let Some(from) = chat.hub.repair_from(room) {
        match chat.store.sync_room(room, &from).await {
            Ok(missed) => {
                if !chat.hub.repair(room, &from, missed) {
                    return;
                }
            }
            Err(error) => {
                log::debug!("room {room} could not be repaired yet: {error}");
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
    }
}

/// Tells the store which rooms this server's devices view, every third of a lease.
async fn renew_viewers(chat: &Chat) {
    let mut ticks = every(chat.store.rules().viewer_lease / 3);
    loop {
        ticks.tick().await;
        let renewals = futures_util::stream::iter(chat.hub.viewers())
            .map(|(room, viewers)| async move { chat.store.renew_viewers(room, &viewers).await })
            .buffer_unordered(AT_ONCE);
        let failed = renewals
            .filter(|outcome| std::future::ready(outcome.is_err()))
            .count()
            .await;
        if failed > 0 {
            log::debug!("{failed} viewed rooms could not be renewed");
        }
    }
}

/// Compares the rooms in which nothing happens with the store: no later number shows the loss of a last event.
async fn compare_quiet_rooms(chat: &Chat, period: Duration) {
    let mut sweeps = every(period);
    loop {
        sweeps.tick().await;
        let quiet = chat.hub.quiet_rooms();
        let calls = quiet.len().div_ceil(COMPARE_CHUNK).max(1);
        // Spread over the period: many rooms make no burst.
        let mut turns = every(period / u32::try_from(calls).unwrap_or(u32::MAX));
        for rooms in quiet.chunks(COMPARE_CHUNK) {
            turns.tick().await;
            compare(chat, rooms).await;
        }
    }
}

/// Has those of the rooms repaired that are elsewhere in the store. What fails is left to the next sweep.
async fn compare(chat: &Chat, rooms: &[(RoomId, Position)]) {
    match chat.store.compare_rooms(rooms).await {
        Ok(changed) => {
            for (room, asked) in rooms.iter().filter(|(room, _)| changed.contains(room)) {
                chat.hub.differs(*room, asked);
            }
        }
        Err(error) => log::debug!("quiet rooms could not be compared yet: {error}"),
    }
}

/// Ticks now and after each `period`; one that comes late puts off those after it.
fn every(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
