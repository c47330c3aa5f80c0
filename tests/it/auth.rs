//! Who may connect, as which user, and for how long.

use jsonwebtoken::{Algorithm, EncodingKey};

use crate::support::{
    Client, Redis, Server, Value, eventually, http, json,
    token::{
        self, EC_PRIVATE, EC_PUBLIC, ED_PRIVATE, ED_PUBLIC, RSA_PRIVATE, RSA_PUBLIC, SECRET,
        base64url, hmac, now, sign, unsigned, with_claims,
    },
};

/// The status of an upgrade request with these headers.
async fn status(server: &Server, path: &str, headers: &[(&str, &str)]) -> u16 {
    http::upgrade(server.address, path, headers).await.status
}

/// Checks that a token is refused with 401 and an explanation.
async fn assert_refused(server: &Server, what: &str, token: &str) {
    let answer = http::upgrade(server.address, "/ws", &[("token", token)]).await;
    assert_eq!(answer.status, 401, "{what}: {answer:?}");
    let error = answer.json();
    assert!(
        ["UNAUTHORIZED", "TOKEN_EXPIRED"].contains(&crate::support::code(&error)),
        "{what}: {error}"
    );
    assert!(
        error["message"]
            .as_str()
            .is_some_and(|text| !text.is_empty()),
        "{what}: {error}"
    );
    if !token.is_empty() {
        assert!(
            !answer.body.contains(token),
            "{what}: the answer repeats the token"
        );
    }
}

#[tokio::test]
async fn a_token_is_found_in_each_place() {
    // Given a token of Alice's
    let redis = Redis::start().await;
    let server = Server::start(&redis).await;
    let token = token::of("alice");
    let bearer = format!("Bearer {token}");
    let lower = format!("bearer {token}");
    let protocols = format!("chat, {token}");

    // When she presents it in a header, as a bearer token or among the subprotocols, she may connect
    for header in [
        ("token", token.as_str()),
        ("Authorization", &bearer),
        ("authorization", &lower),
        ("Sec-WebSocket-Protocol", &protocols),
    ] {
        assert_eq!(status(&server, "/ws", &[header]).await, 101, "{}", header.0);
    }

    // And the subprotocol that is chosen is never the token
    let chosen = http::upgrade(
        server.address,
        "/ws",
        &[("Sec-WebSocket-Protocol", &protocols)],
    )
    .await;
    assert_eq!(
        chosen
            .headers
            .get("sec-websocket-protocol")
            .map(String::as_str),
        Some("chat")
    );

    // And the first place counts: a good token in a later place does not make up for a bad one there
    let both = [("token", "garbage"), ("Authorization", bearer.as_str())];
    assert_eq!(status(&server, "/ws", &both).await, 401);
    let both = [
        ("token", token.as_str()),
        ("Authorization", "Bearer garbage"),
    ];
    assert_eq!(status(&server, "/ws", &both).await, 101);
}

#[tokio::test]
async fn a_token_in_the_query_needs_a_setting() {
    // Given a token in the query, where proxies log it
    let redis = Redis::start().await;
    let path = format!("/ws?token={}", token::of("alice"));

    // Then it is refused, unless the operator allows it
    let careful = Server::start(&redis).await;
    assert_eq!(status(&careful, &path, &[]).await, 401);
    let lax = Server::on(&redis)
        .env("ALLOW_QUERY_TOKEN", "1")
        .start()
        .await;
    assert_eq!(status(&lax, &path, &[]).await, 101);
    assert_eq!(
        status(&lax, &format!("{path}&chatList=delta"), &[]).await,
        101
    );

    // And it appears in neither log
    assert!(!careful.log.text().contains(&token::of("alice")));
    assert!(!lax.log.text().contains(&token::of("alice")));
}

#[tokio::test]
async fn every_layout_of_claims_names_its_user() {
    let redis = Redis::start().await;
    let server = Server::start(&redis).await;
    for (claims, user) in [
        (json!({ "id": "alice" }), "alice"),
        (json!({ "sub": "alice" }), "alice"),
        (json!({ "userId": "alice" }), "alice"),
        (json!({ "user_id": "alice" }), "alice"),
        (json!({ "uid": "alice" }), "alice"),
        (json!({ "_id": "alice" }), "alice"),
        (json!({ "username": "alice" }), "alice"),
        (json!({ "email": "alice@example.com" }), "alice@example.com"),
        // Integers are users too
        (json!({ "id": 42 }), "42"),
        (json!({ "id": 0 }), "0"),
        (json!({ "sub": -7 }), "-7"),
        (
            json!({ "id": 9_007_199_254_740_993_u64 }),
            "9007199254740993",
        ),
        (json!({ "id": u64::MAX }), "18446744073709551615"),
        // The first claim that is a valid name counts
        (json!({ "email": "e", "sub": "s", "id": "i" }), "i"),
        (json!({ "id": "", "sub": "s" }), "s"),
        (json!({ "id": null, "uid": "u", "email": "e" }), "u"),
        (
            json!({ "id": { "a": 1 }, "userId": ["x"], "user_id": true, "_id": "m" }),
            "m",
        ),
        // The rest does not matter
        (
            json!({ "id": "alice", "role": "admin", "exp": now() + 60, "iat": 5 }),
            "alice",
        ),
    ] {
        // `connect` checks that the greeting names the user
        Client::device(user)
            .token(&with_claims(&claims))
            .connect(&server)
            .await;
    }

    // And where no claim names a user, the connection is refused
    for claims in [
        json!({}),
        json!({ "id": "" }),
        json!({ "id": null, "sub": false, "uid": {} }),
        json!({ "name": "alice" }),
        json!({ "user": { "id": "alice" } }),
        json!({ "id": 1.5 }),
        // A number that may have been rounded is not a valid name, and no other claim is used instead
        json!({ "id": 1.5, "sub": "s" }),
        json!({ "id": 1e20, "sub": "s" }),
        json!({ "id": "a\u{0}b" }),
        json!({ "id": "a\nb" }),
        json!({ "id": "\u{7f}" }),
        json!({ "id": "x".repeat(129) }),
        json!({ "id": "é".repeat(65) }),
    ] {
        assert_refused(&server, &claims.to_string(), &with_claims(&claims)).await;
    }
}

#[tokio::test]
async fn a_setting_pins_the_claim() {
    let redis = Redis::start().await;
    let server = Server::on(&redis)
        .env("JWT_USER_CLAIM", "user.id")
        .start()
        .await;

    // Given the setting `user.id`, then that path names the user and nothing else does
    let claims = json!({ "id": "mallory", "user": { "id": "alice" } });
    Client::device("alice")
        .token(&with_claims(&claims))
        .connect(&server)
        .await;
    assert_refused(
        &server,
        "no such claim",
        &with_claims(&json!({ "id": "alice" })),
    )
    .await;
    let empty = json!({ "id": "alice", "user": { "id": "" } });
    assert_refused(&server, "an empty claim", &with_claims(&empty)).await;
}

#[tokio::test]
async fn bad_tokens_are_refused() {
    let redis = Redis::start().await;
    let server = Server::start(&redis).await;
    let alice = json!({ "id": "alice" });
    let good = token::of("alice");
    let parts: Vec<&str> = good.split('.').collect();
    let expired = with_claims(&json!({ "id": "alice", "exp": now() - 3600 }));
    let early = with_claims(&json!({ "id": "alice", "nbf": now() + 3600 }));
    let other_key = hmac(
        Algorithm::HS256,
        &alice,
        b"another secret of more than 32 bytes!!",
    );
    let rsa = EncodingKey::from_rsa_pem(RSA_PRIVATE.as_bytes()).expect("a key");
    let forged = format!(
        "{}.{}.{}",
        parts[0],
        base64url(r#"{"id":"root"}"#),
        parts[2]
    );
    for (what, token) in [
        ("expired", expired.as_str()),
        ("not yet valid", &early),
        ("another key", &other_key),
        ("an empty key", &hmac(Algorithm::HS256, &alice, b"")),
        ("another algorithm", &sign(Algorithm::RS256, &alice, &rsa)),
        ("no algorithm", &unsigned(&alice)),
        (
            "no algorithm, a signature",
            &format!("{}{}", unsigned(&alice), parts[2]),
        ),
        ("no signature", &format!("{}.{}.", parts[0], parts[1])),
        ("no signature at all", &format!("{}.{}", parts[0], parts[1])),
        ("other claims", &forged),
        ("more after it", &format!("{good}x")),
        ("four parts", &format!("{good}.{}", parts[2])),
        ("claims that are no object", &with_claims(&json!("alice"))),
        (
            "an exp that is no number",
            &with_claims(&json!({ "id": "alice", "exp": "soon" })),
        ),
        ("garbage", "garbage"),
        ("dots", ".."),
        ("nothing", ""),
        ("a secret", SECRET),
        ("quite long", &"x".repeat(6000)),
    ] {
        assert_refused(&server, what, token).await;
    }

    // And the same without any token, with an empty bearer token, or with another scheme
    let basic = format!("Basic {good}");
    let none: [&[(&str, &str)]; 5] = [
        &[],
        &[("Authorization", "Bearer ")],
        &[("Authorization", &basic)],
        &[("Sec-WebSocket-Protocol", "chat")],
        &[("Cookie", "token=x")],
    ];
    for headers in none {
        let answer = http::upgrade(server.address, "/ws", headers).await;
        assert_eq!(answer.status, 401, "{headers:?}");
        assert_eq!(answer.json()["code"], "UNAUTHORIZED");
    }

    // And a client with an expired token gets an error that says so
    let answer = http::upgrade(server.address, "/ws", &[("token", &expired)]).await;
    assert_eq!(answer.json()["code"], "TOKEN_EXPIRED");

    // And no refused client left anything behind
    assert_eq!(redis.dump().await.keys(), Vec::<&str>::new());
    assert!(!server.log.text().contains(&good));
}

#[tokio::test]
async fn all_hmac_sizes_are_accepted() {
    let redis = Redis::start().await;
    let server = Server::start(&redis).await;
    for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
        let token = hmac(algorithm, &json!({ "id": "alice" }), SECRET.as_bytes());
        Client::device("alice").token(&token).connect(&server).await;
    }
}

#[tokio::test]
async fn a_public_key_accepts_its_own_family_alone() {
    let claims = json!({ "id": "alice" });
    let rsa = EncodingKey::from_rsa_pem(RSA_PRIVATE.as_bytes()).expect("a key");
    let ec = EncodingKey::from_ec_pem(EC_PRIVATE.as_bytes()).expect("a key");
    let ed = EncodingKey::from_ed_pem(ED_PRIVATE.as_bytes()).expect("a key");
    let tokens = [
        (RSA_PUBLIC, sign(Algorithm::RS256, &claims, &rsa)),
        (RSA_PUBLIC, sign(Algorithm::PS384, &claims, &rsa)),
        (EC_PUBLIC, sign(Algorithm::ES256, &claims, &ec)),
        (ED_PUBLIC, sign(Algorithm::EdDSA, &claims, &ed)),
    ];
    for public in [RSA_PUBLIC, EC_PUBLIC, ED_PUBLIC] {
        // Given a server that knows one public key
        let redis = Redis::start().await;
        let builder = Server::on(&redis)
            .without("JWT_SECRET")
            .env("JWT_PUBLIC_KEY", public);
        let server = builder.start().await;

        // Then tokens signed with its private key are accepted, and other tokens are not
        for (theirs, token) in &tokens {
            if *theirs == public {
                Client::device("alice").token(token).connect(&server).await;
            } else {
                assert_refused(&server, "another family", token).await;
            }
        }

        // And the public key does not work as an HMAC secret, though everyone has it
        for text in [public, public.trim_end()] {
            let confused = hmac(Algorithm::HS256, &claims, text.as_bytes());
            assert_refused(&server, "HMAC with the public key", &confused).await;
        }
        assert_refused(&server, "no algorithm", &unsigned(&claims)).await;
    }
}

#[tokio::test]
async fn a_public_key_may_be_in_a_file() {
    let redis = Redis::start().await;
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), RSA_PUBLIC).expect("write");
    let path = file.path().display().to_string();
    let server = Server::on(&redis)
        .without("JWT_SECRET")
        .env("JWT_PUBLIC_KEY", &path)
        .start()
        .await;
    let key = EncodingKey::from_rsa_pem(RSA_PRIVATE.as_bytes()).expect("a key");
    let token = sign(Algorithm::RS512, &json!({ "sub": "alice" }), &key);
    Client::device("alice").token(&token).connect(&server).await;
}

#[tokio::test]
async fn an_end_an_issuer_and_an_audience_can_be_required() {
    let redis = Redis::start().await;
    let server = Server::on(&redis)
        .env("JWT_REQUIRE_EXP", "1")
        .env("JWT_ISSUER", "https://id.example")
        .env("JWT_AUDIENCE", "chat")
        .start()
        .await;
    let claims = |change: &str, value: Value| {
        let mut claims = json!({
            "id": "alice", "exp": now() + 60, "iss": "https://id.example", "aud": "chat",
        });
        claims[change] = value;
        with_claims(&claims)
    };

    // Given tokens with all three, then they are accepted
    Client::device("alice")
        .token(&claims("x", Value::Null))
        .connect(&server)
        .await;
    let many = claims("aud", json!(["web", "chat"]));
    Client::device("alice").token(&many).connect(&server).await;

    // And with one of them wrong or missing they are not
    for (claim, value) in [
        ("exp", Value::Null),
        ("iss", Value::Null),
        ("iss", json!("https://evil.example")),
        ("aud", Value::Null),
        ("aud", json!("web")),
        ("aud", json!(["web"])),
    ] {
        assert_refused(&server, claim, &claims(claim, value)).await;
    }
    assert_refused(&server, "none of them", &token::of("alice")).await;
}

#[tokio::test]
async fn the_connection_ends_with_the_token() {
    // Given Alice with a token that is valid for three seconds, and Bob with one for an hour
    let redis = Redis::start().await;
    let server = Server::on(&redis).env("JWT_LEEWAY_SECS", "0").start().await;
    let end = now() + 3;
    let short = with_claims(&json!({ "id": "alice", "exp": end }));
    let mut alice = Client::device("alice")
        .delta()
        .token(&short)
        .connect(&server)
        .await;
    let long = token::expiring("bob", 3600);
    let mut bob = Client::device("bob")
        .delta()
        .token(&long)
        .connect(&server)
        .await;

    // When it has expired, then Alice gets an error that says so and is closed
    let error = alice.expect("error").await;
    assert_eq!(error["code"], "TOKEN_EXPIRED");
    assert_eq!(alice.close_code().await, Some(4401));

    // And not before its time
    assert!(now() >= end);

    // And Bob carries on
    bob.leave().await;
}

#[tokio::test]
async fn a_fresh_token_extends_the_connection_in_place() {
    // Given Alice with a token that expires soon
    let redis = Redis::start().await;
    let server = Server::on(&redis).env("JWT_LEEWAY_SECS", "0").start().await;
    let short = token::expiring("alice", 4);
    let mut alice = Client::device("alice")
        .delta()
        .token(&short)
        .connect(&server)
        .await;
    let later = token::expiring("witness", 5);
    let mut witness = Client::device("witness")
        .delta()
        .token(&later)
        .connect(&server)
        .await;
    let room = alice.open_room(&["bob"]).await;
    alice.enter(&room).await;
    alice.take_inbox();

    // When she presents a token of Bob's, a bad one or an old one, then it is refused
    for token in [
        token::of("bob"),
        "garbage".into(),
        unsigned(&json!({ "id": "alice" })),
    ] {
        let error = alice
            .refused("authenticate", json!({ "token": token }), "UNAUTHORIZED")
            .await;
        assert_eq!(error["event"], "authenticate");
    }
    let old = with_claims(&json!({ "id": "alice", "exp": now() - 3600 }));
    alice
        .refused("authenticate", json!({ "token": old }), "TOKEN_EXPIRED")
        .await;

    // When she presents a fresh one of her own, then the answer says until when it is valid
    let exp = 2_000_000_000;
    let fresh = with_claims(&json!({ "sub": "alice", "exp": exp }));
    let done = alice.done("authenticate", json!({ "token": fresh })).await;
    let until = done["expiresAt"].as_str().expect("a time");
    assert!(until.starts_with("2033-05-18T03:33:20"), "{until}");

    // And she is still connected when a client whose token expired after hers is gone
    assert_eq!(witness.close_code().await, Some(4401));
    alice.say(&room, "Still here").await;

    // And a token without an expiry has none in the answer
    let done = alice
        .done("authenticate", json!({ "token": token::of("alice") }))
        .await;
    assert_eq!(done, json!({ "expiresAt": null }));
}

#[tokio::test]
async fn one_user_has_so_many_connections_and_no_more() {
    // Given a limit of two connections for each user
    let redis = Redis::start().await;
    let server = Server::on(&redis)
        .env("MAX_CONNECTIONS_PER_USER", "2")
        .start()
        .await;
    let alices = token::of("alice");
    let _phone = Client::connect(&server, "alice").await;
    let laptop = Client::connect(&server, "alice").await;

    // When Alice connects a third time, then she is refused, and Bob is not
    let answer = http::upgrade(server.address, "/ws", &[("token", &alices)]).await;
    assert_eq!(answer.status, 429, "{answer:?}");
    assert!(answer.json()["code"].is_string() && answer.json()["message"].is_string());
    let _bob = Client::connect(&server, "bob").await;

    // When one of her devices disconnects, then she can connect again
    laptop.disconnect().await;
    eventually("Alice's third device is let in", async || {
        status(&server, "/ws", &[("token", &alices)]).await == 101
    })
    .await;
}

#[tokio::test]
async fn the_server_has_so_many_connections_and_no_more() {
    // Given a limit of three connections in total
    let redis = Redis::start().await;
    let server = Server::on(&redis).env("MAX_CONNECTIONS", "3").start().await;
    let _alice = Client::connect(&server, "alice").await;
    let _bob = Client::connect(&server, "bob").await;
    let carol = Client::connect(&server, "carol").await;

    // When Dave connects as the fourth, then he is refused
    let daves = token::of("dave");
    let answer = http::upgrade(server.address, "/ws", &[("token", &daves)]).await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.json()["code"].is_string());

    // When Carol disconnects, then he can connect
    carol.disconnect().await;
    eventually("Dave is let in", async || {
        status(&server, "/ws", &[("token", &daves)]).await == 101
    })
    .await;
}
