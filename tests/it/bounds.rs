//! How much one user may use: rooms, and members of new rooms.

use crate::support::{Client, Redis, Server, json};

#[tokio::test]
async fn a_user_makes_so_many_rooms_in_a_while() {
    // Given a server on which a user may make rooms with ten members in total per minute
    let redis = Redis::start().await;
    let server = Server::on(&redis).env("MAX_NEW_ROOM_MEMBERS_PER_MIN", "10");
    let server = server.start().await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    let mut phone = Client::connect_delta(&server, "alice").await;
    let group = |name: &str| {
        let others = ["bob", "carol", "dave", "erin"];
        json!({ "participants": others, "clientRoomId": name })
    };

    // When Alice makes two of five on two devices, then she may not make a third
    alice.done("initializeChat", group("one")).await;
    phone.done("initializeChat", group("two")).await;
    for device in [&mut alice, &mut phone] {
        let refused = device.refused("initializeChat", group("three"), "RATE_LIMITED");
        refused.await;
    }

    // But she can open existing rooms, and others can make rooms of any size
    for name in ["one", "two"] {
        let found = alice.done("initializeChat", group(name)).await;
        assert_eq!(found["created"], false);
    }
    let mut bob = Client::connect_delta(&server, "bob").await;
    let many: Vec<String> = (0..100).map(|number| format!("user-{number}")).collect();
    let large = json!({ "participants": many });
    let made = bob.done("initializeChat", large.clone()).await;
    assert_eq!(made["created"], true);
    bob.refused("initializeChat", large, "RATE_LIMITED").await;
}

#[tokio::test]
async fn a_user_has_so_many_rooms() {
    let redis = Redis::start().await;
    let server = Server::on(&redis).env("MAX_ROOMS_PER_USER", "3");
    let server = server.start().await;
    let mut alice = Client::connect_delta(&server, "alice").await;
    // Two rooms, and a third one for her fences.
    for friend in ["bob", "carol"] {
        alice.open_room(&[friend]).await;
    }
    let before = redis.dump().await;
    let mut bob = Client::connect_delta(&server, "bob").await;
    for (device, friend) in [(&mut alice, "dave"), (&mut bob, "alice")] {
        let data = json!({ "participants": [friend, "erin"] });
        let refused = device.refused("initializeChat", data, "TOO_MANY_ROOMS");
        refused.await;
    }
    before.assert_same(&redis.dump().await, "a room too many");
}
