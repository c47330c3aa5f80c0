//! Many devices at once: nothing is lost, nothing is duplicated, and all agree.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::support::{Client, Mirror, Redis, Server, Value, entry, json, names};

const USERS: usize = 10;
const DEVICES_EACH: usize = 5;
const SENDS_EACH: usize = 12;

/// What one device knows when it is done.
struct Done {
    device: Client,
    books: Mirror,
    /// The acks of its sends, by content.
    acks: Vec<(String, Value)>,
    /// The furthest that its user must have read, according to the acks of this device.
    read_at_least: u64,
}

/// Sends, enters, marks and leaves without ever waiting for the others.
async fn take_part(mut device: Client, room: String, number: usize) -> Done {
    let mut books = Mirror::new(&device.user, &device.first_list);
    let mut acks = Vec::new();
    let mut read_at_least = 0;
    let mut latest = Value::Null;
    for round in 0..SENDS_EACH {
        let content = format!("{round} from device {number}");
        let data = json!({
            "roomId": room, "content": content, "clientMessageId": format!("{number}-{round}"),
        });
        // Two requests in flight, so that they may meet on the way.
        let sent = device.ask("sendMessage", data.clone()).await;
        let other = match (number + round) % 4 {
            0 => Some(
                device
                    .ask("enterChat", json!({ "roomId": room, "limit": 5 }))
                    .await,
            ),
            1 => Some(device.ask("leaveChat", Value::Null).await),
            2 if !latest.is_null() => {
                let data = json!({ "roomId": room, "messageId": latest });
                Some(device.ask("markAsRead", data).await)
            }
            3 => Some(device.ask("sendMessage", data).await),
            _ => None,
        };
        let ack = device.answer(sent).await.expect("sent");
        read_at_least = read_at_least.max(ack["seq"].as_u64().expect("a seq"));
        if let Some(other) = other {
            let answer = device.answer(other).await.expect("done");
            if (number + round) % 4 == 3 {
                assert_eq!(
                    (&answer["id"], &answer["duplicate"]),
                    (&ack["id"], &json!(true))
                );
            }
            let read = answer["readSeq"]
                .as_u64()
                .or_else(|| answer["seq"].as_u64());
            read_at_least = read_at_least.max(read.unwrap_or(0));
        }
        acks.push((content, ack));
        for frame in device.take_inbox() {
            if frame.event == "newMessage" {
                latest = frame.data["id"].clone();
            }
            books.apply(&frame);
        }
    }
    device.leave().await;
    Done {
        device,
        books,
        acks,
        read_at_least,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_devices_in_one_room_over_two_servers() {
    // Given ten users with five devices each, spread over two servers, in one group
    let redis = Redis::start().await;
    let servers = [Server::start(&redis).await, Server::start(&redis).await];
    let users: Vec<String> = (0..USERS).map(|number| format!("user-{number}")).collect();
    let others: Vec<&str> = users[1..].iter().map(String::as_str).collect();
    let mut first = Client::connect_delta(&servers[0], &users[0]).await;
    let room = first.open_room(&others).await;
    let mut devices = Vec::new();
    for number in 0..USERS * DEVICES_EACH {
        let user = &users[number % USERS];
        devices.push(Client::connect_delta(&servers[number / USERS % 2], user).await);
    }

    // When all send, enter, mark and leave at once
    let tasks: Vec<_> = devices
        .into_iter()
        .enumerate()
        .map(|(number, device)| tokio::spawn(take_part(device, room.clone(), number)))
        .collect();
    let mut done = Vec::new();
    for task in tasks {
        done.push(task.await.expect("a device got through"));
    }

    // Then every acked message is in the history once, where its ack said
    let total = USERS * DEVICES_EACH * SENDS_EACH;
    let history = first.history(&room).await;
    assert_eq!(history.len(), total);
    let by_content: HashMap<&str, &Value> = history
        .iter()
        .map(|message| (message["content"].as_str().expect("content"), message))
        .collect();
    assert_eq!(by_content.len(), total);
    for (content, ack) in done.iter().flat_map(|done| &done.acks) {
        let stored = by_content[content.as_str()];
        for field in ["id", "seq", "timestamp"] {
            assert_eq!(stored[field], ack[field], "{field} of {content:?}");
        }
    }

    // And the numbers have no gaps, and all ids are different
    let seqs: Vec<_> = history
        .iter()
        .map(|message| message["seq"].as_u64())
        .collect();
    assert_eq!(seqs, (1..=total as u64).map(Some).collect::<Vec<_>>());
    let ids: HashSet<_> = history
        .iter()
        .map(|message| message["id"].to_string())
        .collect();
    assert_eq!(ids.len(), total);

    // And every device saw the same messages in the same order
    let order: Vec<&str> = history
        .iter()
        .map(|message| message["content"].as_str().expect("content"))
        .collect();
    for done in &mut done {
        done.device
            .settle()
            .await
            .iter()
            .for_each(|frame| done.books.apply(frame));
        assert_eq!(
            done.books.room(&room).contents,
            order,
            "{}",
            done.device.user
        );
    }

    // And all devices agree with Redis on how far each user has read
    let mut markers = BTreeMap::new();
    for done in &mut done {
        let list = done.device.list().await;
        done.books.assert_agrees(&list);
        let read = entry(&list, &room)["readSeq"].as_u64().expect("a seq");
        let known = markers.entry(done.device.user.clone()).or_insert(read);
        assert_eq!(*known, read, "{}'s devices disagree", done.device.user);
    }
    for done in &done {
        assert_eq!(
            done.books.room(&room).markers,
            markers,
            "in the books of {}",
            done.device.user
        );
        assert!(
            markers[&done.device.user] >= done.read_at_least,
            "{}",
            done.device.user
        );
    }

    // And the history names exactly those as readers
    for message in first.history(&room).await {
        let seq = message["seq"].as_u64().expect("a seq");
        let readers: Vec<String> = markers
            .iter()
            .filter(|(_, read)| **read >= seq)
            .map(|(user, _)| user.clone())
            .collect();
        assert_eq!(
            names(&message["readBy"]),
            readers,
            "readers of message {seq}"
        );
        assert_eq!(message["readCount"], readers.len());
    }
}
