//! Requests that are wrong in every way we could think of: each gets the error that the protocol names, the connection
//! stays open, and nothing is written.

use serde_json::Map;

use crate::support::{
    Client, RawSocket, Redis, Server, Value, code, json,
    raw::{BINARY, FIN, PING, PONG, TEXT, frame},
};

/// A room of Alice's and Bob's with one message, and Carol, who is not in it.
struct Scene {
    redis: Redis,
    server: Server,
    alice: Client,
    carol: Client,
    room: String,
    message: Value,
}

async fn scene() -> Scene {
    let redis = Redis::start().await;
    let server = Server::start(&redis).await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let carol = Client::connect_delta(&server, "carol").await;
    let room = alice.open_room(&["bob"]).await;
    let message = alice.say(&room, "Hello").await["id"].clone();
    alice.settle().await;
    Scene {
        redis,
        server,
        alice,
        carol,
        room,
        message,
    }
}

/// A room id that is well formed and belongs to no room.
const NO_ROOM: &str = "00000000-0000-4000-8000-000000000000";

#[tokio::test]
async fn who_is_no_member_learns_nothing_and_writes_nothing() {
    // Given a room that Carol is not in, one that does not exist, and ids that are invalid
    let Scene {
        server: _server,
        redis,
        mut carol,
        room,
        message,
        ..
    } = scene().await;
    let before = redis.dump().await;

    // When she tries everything on each of them
    let mut texts = Vec::new();
    for room in [
        &room,
        NO_ROOM,
        "general",
        "",
        "../meta",
        "{room:1}",
        &"x".repeat(64),
    ] {
        for (event, data) in [
            ("enterChat", json!({ "roomId": room })),
            (
                "sendMessage",
                json!({ "roomId": room, "content": "Let me in" }),
            ),
            (
                "markAsRead",
                json!({ "roomId": room, "messageId": message }),
            ),
            ("getHistory", json!({ "roomId": room })),
        ] {
            // Then the answer is the same, whether the room exists or not
            let error = carol.refused(event, data, "NOT_MEMBER").await;
            texts.push(error["message"].clone());
        }
    }
    texts.dedup();
    assert_eq!(
        texts,
        [json!("You do not have permission to join this chat.")]
    );

    // And nothing was written
    before.assert_same(&redis.dump().await, "a stranger's request");
}

#[tokio::test]
async fn ill_formed_data_is_named_and_changes_nothing() {
    // Given every event with every one of its fields wrong or missing
    let Scene {
        redis,
        server,
        room,
        message,
        ..
    } = scene().await;
    let wrong = [
        ("sendMessage", json!({ "content": "x" }), "roomId"),
        ("sendMessage", json!({ "roomId": room }), "content"),
        (
            "sendMessage",
            json!({ "roomId": 5, "content": "x" }),
            "roomId",
        ),
        (
            "sendMessage",
            json!({ "roomId": null, "content": "x" }),
            "roomId",
        ),
        (
            "sendMessage",
            json!({ "roomId": [room], "content": "x" }),
            "roomId",
        ),
        (
            "sendMessage",
            json!({ "roomId": "x".repeat(65), "content": "x" }),
            "roomId",
        ),
        (
            "sendMessage",
            json!({ "roomId": room, "content": "" }),
            "content",
        ),
        (
            "sendMessage",
            json!({ "roomId": room, "content": 5 }),
            "content",
        ),
        (
            "sendMessage",
            json!({ "roomId": room, "content": { "text": "x" } }),
            "content",
        ),
        (
            "sendMessage",
            json!({ "roomId": room, "content": ["x", 5] }),
            "content",
        ),
        (
            "sendMessage",
            json!({ "roomId": room, "content": [] }),
            "content",
        ),
        (
            "sendMessage",
            json!({ "roomId": room, "content": ["", ""] }),
            "content",
        ),
        (
            "sendMessage",
            json!({ "roomId": room, "content": vec!["x"; 21] }),
            "content",
        ),
        (
            "sendMessage",
            json!({ "roomId": room, "content": "x", "type": "" }),
            "type",
        ),
        (
            "sendMessage",
            json!({ "roomId": room, "content": "x", "type": "x".repeat(33) }),
            "type",
        ),
        (
            "sendMessage",
            json!({ "roomId": room, "content": "x", "type": "böse" }),
            "type",
        ),
        (
            "sendMessage",
            json!({ "roomId": room, "content": "x", "type": ["text"] }),
            "type",
        ),
        (
            "sendMessage",
            json!({ "roomId": room, "content": "x", "type": "system" }),
            "type",
        ),
        (
            "sendMessage",
            json!({ "roomId": room, "content": true }),
            "content",
        ),
        (
            "sendMessage",
            with_client_id(&room, json!(7)),
            "clientMessageId",
        ),
        (
            "sendMessage",
            with_client_id(&room, json!("")),
            "clientMessageId",
        ),
        (
            "sendMessage",
            with_client_id(&room, json!("two words")),
            "clientMessageId",
        ),
        (
            "sendMessage",
            with_client_id(&room, json!("é")),
            "clientMessageId",
        ),
        (
            "sendMessage",
            with_client_id(&room, json!("tab\t")),
            "clientMessageId",
        ),
        (
            "sendMessage",
            with_client_id(&room, json!("x".repeat(65))),
            "clientMessageId",
        ),
        ("markAsRead", json!({ "roomId": room }), "messageId"),
        ("markAsRead", json!({ "messageId": message }), "roomId"),
        (
            "markAsRead",
            json!({ "roomId": room, "messageId": 1 }),
            "messageId",
        ),
        (
            "markAsRead",
            json!({ "roomId": room, "messageId": "x".repeat(65) }),
            "messageId",
        ),
        ("enterChat", json!({}), "roomId"),
        ("enterChat", json!({ "roomId": {} }), "roomId"),
        ("enterChat", json!({ "roomId": room, "limit": 0 }), "limit"),
        (
            "enterChat",
            json!({ "roomId": room, "limit": 101 }),
            "limit",
        ),
        (
            "enterChat",
            json!({ "roomId": room, "limit": "ten" }),
            "limit",
        ),
        ("getHistory", json!({}), "roomId"),
        ("getHistory", json!({ "roomId": room, "limit": 0 }), "limit"),
        (
            "getHistory",
            json!({ "roomId": room, "limit": 101 }),
            "limit",
        ),
        (
            "getHistory",
            json!({ "roomId": room, "limit": -1 }),
            "limit",
        ),
        (
            "getHistory",
            json!({ "roomId": room, "limit": 1.5 }),
            "limit",
        ),
        (
            "getHistory",
            json!({ "roomId": room, "limit": "10" }),
            "limit",
        ),
        (
            "getHistory",
            json!({ "roomId": room, "before": 1 }),
            "before",
        ),
        (
            "getHistory",
            json!({ "roomId": room, "after": {} }),
            "after",
        ),
        (
            "getHistory",
            json!({ "roomId": room, "before": message, "after": message }),
            "after",
        ),
        ("initializeChat", json!({}), "participants"),
        (
            "initializeChat",
            json!({ "participants": "bob" }),
            "participants",
        ),
        (
            "initializeChat",
            json!({ "participants": [] }),
            "participants",
        ),
        (
            "initializeChat",
            json!({ "participants": ["alice"] }),
            "participants",
        ),
        (
            "initializeChat",
            json!({ "participants": [""] }),
            "participants",
        ),
        (
            "initializeChat",
            json!({ "participants": ["bob", ""] }),
            "participants",
        ),
        (
            "initializeChat",
            json!({ "participants": ["bob", 5] }),
            "participants",
        ),
        (
            "initializeChat",
            json!({ "participants": ["bob", null] }),
            "participants",
        ),
        (
            "initializeChat",
            json!({ "participants": { "0": "bob" } }),
            "participants",
        ),
        ("initializeChat", group("name", json!("")), "name"),
        (
            "initializeChat",
            group("name", json!("x".repeat(129))),
            "name",
        ),
        ("initializeChat", group("name", json!(5)), "name"),
        (
            "initializeChat",
            group("clientRoomId", json!("")),
            "clientRoomId",
        ),
        (
            "initializeChat",
            group("clientRoomId", json!("a b")),
            "clientRoomId",
        ),
        (
            "initializeChat",
            group("clientRoomId", json!("x".repeat(65))),
            "clientRoomId",
        ),
        (
            "initializeChat",
            group("clientRoomId", json!(1)),
            "clientRoomId",
        ),
        ("authenticate", json!({}), "token"),
        ("authenticate", json!({ "token": 5 }), "token"),
    ];
    let before = redis.dump().await;

    // When Alice sends each of them (on a new device now and then: a hundred bad requests would close one)
    for some in wrong.chunks(40) {
        let mut alice = Client::connect_delta(&server, "alice").await;
        for (event, data, field) in some {
            // Then the error says which field is wrong
            let error = alice.refused(event, data.clone(), "INVALID_PAYLOAD").await;
            let message = error["message"].as_str().expect("a message");
            assert!(
                message.contains(field),
                "{event} {data}: {message:?} names no {field}"
            );
            assert_eq!(error["event"], *event);
        }
        // And where there is no object at all, the code is the same
        for event in [
            "sendMessage",
            "enterChat",
            "markAsRead",
            "getHistory",
            "initializeChat",
        ] {
            for data in [Value::Null, json!("text"), json!(5), json!([]), json!([{}])] {
                if some.len() < 40 {
                    alice.refused(event, data, "INVALID_PAYLOAD").await;
                }
            }
        }
        assert_eq!(
            alice.done("getHistory", json!({ "roomId": room })).await["roomId"],
            room
        );
    }

    // And nothing was written
    before.assert_same(&redis.dump().await, "an ill-formed request");
}

fn with_client_id(room: &str, id: Value) -> Value {
    json!({ "roomId": room, "content": "x", "clientMessageId": id })
}

fn group(field: &str, value: Value) -> Value {
    json!({ "participants": ["bob", "carol"], field: value })
}

#[tokio::test]
async fn what_lies_at_the_edge_of_the_limits_is_accepted() {
    let Scene {
        redis: _redis,
        server: _server,
        mut alice,
        room,
        ..
    } = scene().await;

    // Content of exactly 16 KiB, client ids of 64 characters, any of printable ASCII
    let printable: String = ('!'..='~').take(64).collect();
    for (first, content) in [
        ('a', "x".repeat(16 * 1024)),
        ('b', "é".repeat(8 * 1024)),
        ('c', " ".into()),
        ('d', "\0\n\u{7f}".into()),
    ] {
        let id = format!("{first}{}", &printable[1..]);
        let data = json!({ "roomId": room, "content": content, "clientMessageId": id });
        alice.done("sendMessage", data).await;
        let message = alice
            .until("newMessage", |it| it["content"] == content.as_str())
            .await;
        assert_eq!(message["clientMessageId"], id.as_str());
    }

    // A name of 128 characters that are more than 128 bytes
    let name = "é".repeat(128);
    let request = json!({ "participants": ["bob", "carol"], "name": name });
    let opened = alice.done("initializeChat", request).await;
    let entry = alice
        .until("chatEntry", |entry| entry["roomId"] == opened["roomId"])
        .await;
    assert_eq!(entry["groupName"], name.as_str());

    // Pages of 1 and of 100
    for limit in [1, 100] {
        alice
            .done("getHistory", json!({ "roomId": room, "limit": limit }))
            .await;
        alice
            .done("enterChat", json!({ "roomId": room, "limit": limit }))
            .await;
    }

    // A room's id in other letter case is either the room's or nobody's, and never causes an error of ours
    let shouted = alice
        .request("getHistory", json!({ "roomId": room.to_uppercase() }))
        .await;
    assert!(
        shouted
            .as_ref()
            .map_or_else(|error| code(error) == "NOT_MEMBER", |_| true)
    );
}

#[tokio::test]
async fn content_over_16_kib_is_too_large() {
    let Scene {
        server: _server,
        redis,
        mut alice,
        room,
        ..
    } = scene().await;
    let before = redis.dump().await;

    // When Alice sends a byte more than 16 KiB, in one-byte or in two-byte characters
    for content in ["x".repeat(16 * 1024 + 1), "é".repeat(8 * 1024) + "x"] {
        let data = json!({ "roomId": room, "content": content });

        // Then that is too large, and nothing is written
        let error = alice
            .refused("sendMessage", data, "MESSAGE_TOO_LARGE")
            .await;
        assert_eq!(error["event"], "sendMessage");
        before.assert_same(&redis.dump().await, "a message too large");
    }
    alice.say(&room, "a short one").await;
}

#[tokio::test]
async fn unknown_fields_are_ignored() {
    // Given requests with fields that no one asked for
    let Scene {
        redis: _redis,
        server: _server,
        mut alice,
        room,
        message,
        ..
    } = scene().await;
    let extra = json!({
        "senderId": "bob", "id": "1-1", "seq": 99, "timestamp": 0, "readBy": ["bob"],
        "roomid": "x", "__proto__": { "a": 1 }, "": null, "nested": [[[{}]]],
    });
    let with = |data: Value| {
        let mut all: Map<String, Value> = extra.as_object().expect("an object").clone();
        all.extend(data.as_object().expect("an object").clone());
        Value::Object(all)
    };

    // When Alice sends them, then they work as they do without, and forge nothing
    let sent = alice
        .done(
            "sendMessage",
            with(json!({ "roomId": room, "content": "mine" })),
        )
        .await;
    assert_eq!(sent["seq"], 2);
    assert_eq!(alice.expect("newMessage").await["senderId"], "alice");
    alice
        .done(
            "markAsRead",
            with(json!({ "roomId": room, "messageId": message })),
        )
        .await;
    alice
        .done("enterChat", with(json!({ "roomId": room })))
        .await;
    alice
        .done("getHistory", with(json!({ "roomId": room })))
        .await;
    alice
        .done("initializeChat", with(json!({ "participants": ["bob"] })))
        .await;
    alice.done("leaveChat", extra.clone()).await;
    alice.done("getChatList", extra.clone()).await;
}

#[tokio::test]
async fn unknown_events_are_called_so() {
    let Scene {
        server: _server,
        redis,
        mut alice,
        ..
    } = scene().await;
    let before = redis.dump().await;
    for event in [
        "sendmessage",
        "",
        "status",
        "newMessage",
        "ack",
        "error",
        "connect",
        "e\u{0}v",
    ] {
        alice.refused(event, json!({}), "UNKNOWN_EVENT").await;
    }
    before.assert_same(&redis.dump().await, "an unknown event");
}

#[tokio::test]
async fn frames_that_are_no_requests_get_an_error_event() {
    // Given text that is not JSON, and JSON that is not a request
    let Scene {
        server: _server,
        redis,
        mut alice,
        mut carol,
        room,
        ..
    } = scene().await;
    let before = redis.dump().await;
    for text in [
        "",
        " ",
        "{",
        "{\"event\":",
        "hello",
        "{'event':'x'}",
        "\u{0}",
        "{} {}",
        "[1,",
    ] {
        // When Alice sends it, then the error is INVALID_JSON, as an event, for it has no id
        alice.send_text(text).await;
        let error = alice.expect("error").await;
        assert_eq!(code(&error), "INVALID_JSON", "{text:?} {error}");
    }
    for text in [
        "{}",
        "[]",
        "null",
        "42",
        "\"sendMessage\"",
        "{\"event\":5}",
        "{\"event\":null}",
        "{\"data\":{}}",
        "{\"event\":[\"sendMessage\"]}",
    ] {
        alice.send_text(text).await;
        let error = alice.expect("error").await;
        assert!(
            ["INVALID_PAYLOAD", "INVALID_JSON"].contains(&code(&error)),
            "{text} {error}"
        );
    }

    // And the same for an id that is neither a string nor an integer
    for id in ["{}", "[1]", "1.5", "true"] {
        carol
            .send_text(&format!(r#"{{"event":"leaveChat","id":{id}}}"#))
            .await;
        let error = carol.expect("error").await;
        assert!(
            ["INVALID_PAYLOAD", "INVALID_JSON"].contains(&code(&error)),
            "{id} {error}"
        );
    }

    // And nothing was written, and both can go on
    before.assert_same(&redis.dump().await, "a frame that is no request");
    alice.say(&room, "Still here").await;
    carol.leave().await;
}

#[tokio::test]
async fn json_of_any_depth_is_survived() {
    let Scene {
        server: _server,
        redis,
        mut alice,
        room,
        ..
    } = scene().await;
    let before = redis.dump().await;

    // When Alice sends 30,000 brackets in every place where a value may stand
    let deep = "[".repeat(15_000) + &"]".repeat(15_000);
    let objects = r#"{"a":"#.repeat(5_000) + "1" + &"}".repeat(5_000);
    for text in [
        deep.clone(),
        "[".repeat(60_000),
        format!(r#"{{"event":"sendMessage","data":{deep}}}"#),
        format!(r#"{{"event":"sendMessage","data":{objects}}}"#),
        format!(r#"{{"event":"sendMessage","data":{{"roomId":"{room}","content":{deep}}}}}"#),
        format!(r#"{{"event":{deep}}}"#),
    ] {
        alice.send_text(&text).await;

        // Then that is an error like any other
        let error = alice.expect("error").await;
        assert!(
            ["INVALID_PAYLOAD", "INVALID_JSON"].contains(&code(&error)),
            "{error}"
        );
    }
    before.assert_same(&redis.dump().await, "deep JSON");
    alice.say(&room, "Still here").await;
}

#[tokio::test]
async fn ids_come_back_as_they_were_sent() {
    // Given a request with an id of each kind
    let Scene {
        redis: _redis,
        server,
        ..
    } = scene().await;
    let mut socket = RawSocket::connect(&server, "dave").await;
    for id in [
        "7",
        "0",
        "-3",
        "9007199254740993",
        "\"seven\"",
        "\"\"",
        "\"\\u00e9 \\\"\"",
    ] {
        // When it is sent, then the ack carries the very same id
        let text = format!(r#"{{"id":{id},"event":"leaveChat"}}"#);
        socket.send_frame(FIN | TEXT, text.as_bytes()).await;
        let ack = loop {
            let (_, payload) = socket.read_frame().await.expect("a frame");
            let frame: Value = serde_json::from_slice(&payload).expect("JSON");
            if frame["event"] == "ack" {
                break frame;
            }
        };
        let sent: Value = serde_json::from_str(id).expect("JSON");
        assert_eq!(ack, json!({ "event": "ack", "id": sent, "data": {} }));
    }
}

#[tokio::test]
async fn a_hundred_bad_requests_in_ten_seconds_close_the_connection() {
    let Scene {
        server: _server,
        redis,
        mut alice,
        room,
        ..
    } = scene().await;
    let before = redis.dump().await;

    // When Alice makes 99 mistakes, in JSON, event and payload
    for mistake in 0..99 {
        match mistake % 3 {
            0 => alice.send_text("{").await,
            1 => alice.emit("nonsense", json!({})).await,
            _ => alice.emit("sendMessage", json!({})).await,
        }
    }
    for _ in 0..99 {
        alice.expect("error").await;
    }

    // Then she is still connected, until the hundredth
    assert_eq!(
        alice.done("getHistory", json!({ "roomId": room })).await["roomId"],
        room
    );
    alice.emit("nonsense", json!({})).await;
    assert_eq!(alice.close_code().await, Some(1008));
    before.assert_same(&redis.dump().await, "a hundred bad requests");
}

/// The code with which a device that sends `bytes` after connecting is closed. The server must serve others as before,
/// and nothing may be written.
async fn closed_with(bytes: &[u8]) -> Option<u16> {
    let Scene {
        redis,
        server,
        mut alice,
        room,
        ..
    } = scene().await;
    let mut socket = RawSocket::connect(&server, "dave").await;
    socket.read_until("chatList").await;
    let before = redis.dump().await;
    socket.send_bytes(bytes).await;
    let code = socket.close_code().await;
    before.assert_same(&redis.dump().await, "a bad frame");
    alice.say(&room, "Still here").await;
    code
}

#[tokio::test]
async fn a_binary_frame_is_not_supported() {
    assert_eq!(
        closed_with(&frame(FIN | BINARY, b"{\"event\":\"leaveChat\"}")).await,
        Some(1003)
    );
}

#[tokio::test]
async fn a_frame_over_64_kib_is_too_big() {
    assert_eq!(
        closed_with(&frame(FIN | TEXT, &[b' '; 65_537])).await,
        Some(1009)
    );
}

#[tokio::test]
async fn a_message_in_parts_is_too_big_when_its_sum_is() {
    let mut bytes = frame(TEXT, &[b' '; 40_000]);
    bytes.extend(frame(FIN, &[b' '; 40_000]));
    assert_eq!(closed_with(&bytes).await, Some(1009));
}

#[tokio::test]
async fn a_frame_that_only_says_it_is_huge_is_too_big_at_once() {
    // The header of a frame of 2^62 bytes, and nothing after it
    let mut bytes = vec![FIN | TEXT, 0x80 | 127];
    bytes.extend_from_slice(&(1u64 << 62).to_be_bytes());
    bytes.extend_from_slice(&[0; 4]);
    assert_eq!(closed_with(&bytes).await, Some(1009));
}

#[tokio::test]
async fn invalid_utf_8_is_refused() {
    assert_eq!(
        closed_with(&frame(FIN | TEXT, b"{\"event\":\"\xff\xfe\"}")).await,
        Some(1007)
    );
}

#[tokio::test]
async fn broken_frames_are_protocol_errors() {
    // An unknown opcode, a reserved bit, a continuation of nothing, a fragmented control frame, one that is too long,
    // and a frame without a mask
    let unmasked = [FIN | TEXT, 2, b'{', b'}'];
    for bytes in [
        frame(FIN | 0x3, b"{}"),
        frame(FIN | 0x40 | TEXT, b"{}"),
        frame(FIN, b"{}"),
        frame(PING, b""),
        frame(FIN | PING, &[0; 126]),
        unmasked.to_vec(),
    ] {
        let start = bytes[..2].to_vec();
        assert_eq!(
            closed_with(&bytes).await,
            Some(1002),
            "a frame that starts {start:02x?}"
        );
    }
}

#[tokio::test]
async fn frames_that_are_allowed_work() {
    // Given a device that uses everything a WebSocket client may use
    let Scene {
        redis: _redis,
        server,
        ..
    } = scene().await;
    let mut socket = RawSocket::connect(&server, "dave").await;
    socket.read_until("chatList").await;

    // When it sends a request of exactly 64 KiB
    let request = r#"{"event":"leaveChat","id":1}"#;
    let padded = request.to_owned() + &" ".repeat(65_536 - request.len());
    socket.send_frame(FIN | TEXT, padded.as_bytes()).await;
    assert_eq!(socket.read_until("ack").await, json!({}));

    // And one in three fragments with a ping between them, then both are answered
    socket.send_frame(TEXT, &request.as_bytes()[..10]).await;
    socket.send_frame(FIN | PING, b"are you there").await;
    socket.send_frame(0, &request.as_bytes()[10..20]).await;
    socket.send_frame(FIN, &request.as_bytes()[20..]).await;
    let pong = loop {
        let (opcode, payload) = socket.read_frame().await.expect("a frame");
        if opcode == PONG {
            break payload;
        }
    };
    assert_eq!(pong, b"are you there");
    assert_eq!(socket.read_until("ack").await, json!({}));

    // And an unsolicited pong changes nothing
    socket.send_frame(FIN | PONG, b"").await;
    socket.send_frame(FIN | TEXT, request.as_bytes()).await;
    assert_eq!(socket.read_until("ack").await, json!({}));
}
