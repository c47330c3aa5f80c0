//! A room keeps a limited number of messages; everything older is gone, without side effects.

use crate::support::{Client, Mirror, Redis, Server, Value, code, entry, json};

/// Bob sends `count` messages; returns their ids.
async fn send(bob: &mut Client, room: &str, count: usize) -> Vec<Value> {
    let mut ids = Vec::new();
    for number in 1..=count {
        ids.push(bob.say(room, &format!("number {number}")).await["id"].clone());
    }
    ids
}

#[tokio::test]
async fn a_thousand_sends_leave_about_a_hundred() {
    // Given a server that keeps 100 messages per room, and a thousand of Bob's
    let redis = Redis::start().await;
    let server = Server::on(&redis)
        .env("HISTORY_MAX_MESSAGES", "100")
        .start()
        .await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let mut bob = Client::connect_delta(&server, "bob").await;
    let room = bob.open_room(&["alice"]).await;
    let ids = send(&mut bob, &room, 1000).await;

    // Then about 100 are left, the last ones, without a gap
    let history = alice.history(&room).await;
    let kept = history.len();
    assert!((100..=200).contains(&kept), "{kept} messages are left");
    let seqs: Vec<_> = history
        .iter()
        .map(|message| message["seq"].as_u64())
        .collect();
    let first = 1001 - kept as u64;
    assert_eq!(seqs, (first..=1000).map(Some).collect::<Vec<_>>());

    // And all thousand are still unread, though most can't be read any more
    let list = alice.list().await;
    assert_eq!(entry(&list, &room)["unreadCnt"], 1000);
    assert_eq!(entry(&list, &room)["seq"], 1000);

    // When Alice marks one that is gone, then the marker is where it would have been
    let marked = alice.mark(&room, &ids[9]).await;
    assert_eq!(
        marked,
        json!({ "roomId": room, "readSeq": 10, "unreadCnt": 990 })
    );
    let marked = alice.mark(&room, &ids[499]).await;
    assert_eq!(
        marked,
        json!({ "roomId": room, "readSeq": 500, "unreadCnt": 500 })
    );
    let invented = json!({ "roomId": room, "messageId": "5-2000" });
    alice
        .refused("markAsRead", invented, "MESSAGE_NOT_FOUND")
        .await;

    // When she asks for what came after one that is gone, with others missing in between, then her history is no longer
    // this one
    let after = json!({ "roomId": room, "after": ids[0] });
    let error = alice.refused("getHistory", after, "HISTORY_RESET").await;
    assert_eq!(error["roomId"], room.as_str());

    // But where nothing in between is missing, she gets it, although that one is gone
    let last_gone = usize::try_from(first).expect("an index") - 2;
    let after = json!({ "roomId": room, "after": ids[last_gone], "limit": 5 });
    let page = alice.done("getHistory", after).await;
    assert_eq!(page["messages"][0]["seq"], first);

    // And before the first there is nothing, whether the id exists or is gone
    for id in [&ids[last_gone + 1], &ids[last_gone], &ids[0]] {
        let page = alice
            .done("getHistory", json!({ "roomId": room, "before": id }))
            .await;
        assert_eq!(
            page,
            json!({ "roomId": room, "messages": [], "hasMore": false })
        );
    }

    // And entering reads them all
    let entered = alice.enter(&room).await;
    assert_eq!(entered["seq"], 1000);
    assert_eq!(entry(&alice.list().await, &room)["unreadCnt"], 0);
}

#[tokio::test]
async fn who_was_there_all_along_misses_nothing() {
    // Given Alice, connected while far more is sent than is kept
    let redis = Redis::start().await;
    let server = Server::on(&redis)
        .env("HISTORY_MAX_MESSAGES", "100")
        .start()
        .await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let mut bob = Client::connect_delta(&server, "bob").await;
    let room = bob.open_room(&["alice"]).await;
    alice.settle().await;
    let mut books = Mirror::new("alice", &alice.list().await);
    send(&mut bob, &room, 400).await;

    // Then she got every one, and has the right count
    alice
        .settle()
        .await
        .iter()
        .for_each(|frame| books.apply(frame));
    assert_eq!(books.room(&room).contents.len(), 400);
    books.assert_agrees(&alice.list().await);
}

#[tokio::test]
async fn an_after_that_never_was_is_a_reset() {
    // Given a room with three messages
    let redis = Redis::start().await;
    let server = Server::start(&redis).await;
    let mut bob = Client::connect_delta(&server, "bob").await;
    let room = bob.open_room(&["alice"]).await;
    send(&mut bob, &room, 3).await;

    // When Bob asks for what came after a message of another history, such as one from an earlier room of the same id
    for id in ["99999999999999-7", "99999999999999-1", "1-2"] {
        let answer = bob
            .request("getHistory", json!({ "roomId": room, "after": id }))
            .await;

        // Then he gets the error that his history is no longer this one
        let error = answer.expect_err("an id of another history");
        assert_eq!(code(&error), "HISTORY_RESET", "after {id}");
        assert_eq!(error["roomId"], room.as_str());
    }
}
