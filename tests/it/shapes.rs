//! Messages of several strings and of types other than text, as received by devices that want contents in one shape or
//! another.

use crate::support::{Client, Redis, Server, Value, code, entry, http, json, token};

/// Bob's devices, by the shape of contents that each has chosen.
const SHAPES: [&str; 3] = ["string", "array", "as-sent"];

struct Scene {
    server: Server,
    alice: Client,
    bobs: [Client; 3],
    room: String,
    _redis: Redis,
}

async fn scene() -> Scene {
    let redis = Redis::start().await;
    let server = Server::start(&redis).await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let room = alice.open_room(&["bob"]).await;
    let mut bobs = Vec::new();
    for shape in SHAPES {
        bobs.push(Client::device("bob").content(shape).connect(&server).await);
    }
    let Ok(bobs) = bobs.try_into() else {
        panic!("three devices");
    };
    Scene {
        server,
        alice,
        bobs,
        room,
        _redis: redis,
    }
}

/// A message as sent, and its content as each of [`SHAPES`] has it.
fn messages() -> [(Value, [Value; 3]); 3] {
    let (one, two) = (json!("Hello\nBob"), json!("Hello\nBob\n☕"));
    let array = json!(["Hello\nBob", "☕"]);
    [
        (one.clone(), [one.clone(), json!([one]), one]),
        (json!(["hi"]), [json!("hi"), json!(["hi"]), json!(["hi"])]),
        (array.clone(), [two, array.clone(), array]),
    ]
}

#[tokio::test]
async fn each_device_gets_contents_in_the_shape_that_it_has_chosen() {
    let Scene {
        server,
        mut alice,
        mut bobs,
        room,
        _redis,
    } = scene().await;
    for (sent, shown) in messages() {
        // When Alice sends a message of some shape
        let data = json!({ "roomId": room, "type": "image", "content": sent });
        let said = alice.done("sendMessage", data).await;
        let is_it = |message: &Value| message["id"] == said["id"];
        let check = |message: &Value, content: &Value| {
            assert_eq!(
                (&message["content"], &message["type"]),
                (content, &json!("image"))
            );
        };

        for ((bob, shape), content) in bobs.iter_mut().zip(SHAPES).zip(&shown) {
            // Then each device gets it in the shape it wants: as it is sent
            check(&bob.until("newMessage", is_it).await, content);
            // And as the last message of its lists
            let holds_it = |list: &Value| is_it(&entry(list, &room)["lastMessage"]);
            let list = bob.until("chatList", holds_it).await;
            check(&entry(&list, &room)["lastMessage"], content);
            check(&entry(&bob.list().await, &room)["lastMessage"], content);
            // And on entering, and in pages, in an ack and as an event
            bob.enter(&room).await;
            let history = bob.expect_any("chatHistory").await;
            check(history.as_array().unwrap().last().unwrap(), content);
            check(bob.history(&room).await.last().unwrap(), content);
            bob.emit("getHistory", json!({ "roomId": room, "limit": 1 }))
                .await;
            check(&bob.expect_any("chatHistory").await[0], content);
            // And on a new device, whose list has it, or which gets it as an entry
            let device = Client::device("bob").content(shape).delta();
            let mut device = device.connect(&server).await;
            check(&entry(&device.first_list, &room)["lastMessage"], content);
            let with_alice = json!({ "participants": ["alice"] });
            device.done("initializeChat", with_alice).await;
            let found = device.expect_any("chatEntry").await;
            check(&found["lastMessage"], content);
            bob.leave().await;
        }
    }
}

#[tokio::test]
async fn what_is_cut_for_a_list_keeps_its_strings_as_far_as_it_goes() {
    let Scene {
        server: _server,
        mut alice,
        mut bobs,
        room,
        _redis,
    } = scene().await;
    let content = ["é".repeat(100), String::new(), "x".repeat(1000)];
    let data = json!({ "roomId": room, "content": content });
    alice.done("sendMessage", data).await;
    let list = bobs[1].list().await;
    let last = &entry(&list, &room)["lastMessage"];
    assert_eq!(last["truncated"], true);
    let shown: Vec<String> = serde_json::from_value(last["content"].clone()).unwrap();
    assert_eq!(shown[..2], content[..2]);
    assert!(content[2].starts_with(&shown[2]) && shown[2].len() > 200);
}

#[tokio::test]
async fn a_message_sent_again_in_another_shape_is_the_first_one() {
    let Scene {
        server: _server,
        mut alice,
        room,
        _redis,
        ..
    } = scene().await;
    let send =
        |content: Value| json!({ "roomId": room, "content": content, "clientMessageId": "m-1" });
    let first = alice.done("sendMessage", send(json!(["a", "b"]))).await;
    let again = alice.done("sendMessage", send(json!("a"))).await;
    assert_eq!(
        (&again["id"], &again["duplicate"]),
        (&first["id"], &json!(true))
    );
    assert_eq!(alice.history(&room).await.len(), 1);
}

#[tokio::test]
async fn a_message_that_says_no_type_is_a_text() {
    let Scene {
        server: _server,
        mut alice,
        room,
        _redis,
        ..
    } = scene().await;
    for kind in [None, Some(Value::Null), Some(json!("text"))] {
        let mut data = json!({ "roomId": room, "content": "Hello" });
        if let Some(kind) = kind {
            data["type"] = kind;
        }
        alice.done("sendMessage", data).await;
        assert_eq!(alice.expect("newMessage").await["type"], "text");
    }
    // A message with any other printable type name keeps it
    let name = "a b~!".repeat(6) + "12";
    let data = json!({ "roomId": room, "content": "Hello", "type": name });
    alice.done("sendMessage", data).await;
    assert_eq!(alice.expect("newMessage").await["type"], name);
}

#[tokio::test]
async fn all_strings_together_have_one_bound() {
    let Scene {
        server: _server,
        mut alice,
        room,
        _redis,
        ..
    } = scene().await;
    let content = |more: usize| json!(["x".repeat(8192), "x".repeat(8192 + more), ""]);
    let data = |more| json!({ "roomId": room, "content": content(more) });
    alice.done("sendMessage", data(0)).await;
    let refused = alice.refused("sendMessage", data(1), "MESSAGE_TOO_LARGE");
    refused.await;
}

#[tokio::test]
async fn a_shape_of_another_name_is_refused() {
    let redis = Redis::start().await;
    let server = Server::start(&redis).await;
    let token = token::of("alice");
    let headers = [("token", token.as_str())];
    let answer = http::upgrade(server.address, "/ws?content=lines", &headers).await;
    assert_eq!(
        (answer.status, code(&answer.json())),
        (400, "INVALID_PAYLOAD")
    );
}
