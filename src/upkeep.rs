//! What a server does unasked: repairs gaps, sends chat lists again, renews viewers' leases.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio_util::sync::CancellationToken;

use crate::chat::{Chat, list};
use crate::protocol::ids::RoomId;
use crate::store::keys::Topic;

/// Calls of each kind under way at once: they must not crowd out sends.
const AT_ONCE: usize = 16;
/// Pause before something that failed is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// How long a subscription may take before the repair of its room is put off.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Runs all of it until `cancel`.
pub async fn run(chat: Arc<Chat>, cancel: CancellationToken) {
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
                if let Err(error) = list::refresh(chat, &user).await {
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
    let mut ticks = tokio::time::interval(chat.store.rules().viewer_lease / 3);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
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
