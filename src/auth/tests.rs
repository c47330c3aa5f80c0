#![allow(clippy::unwrap_used, clippy::expect_used)]

use http::{HeaderMap, HeaderName, HeaderValue};
use jsonwebtoken::Algorithm;
use serde_json::json;

use super::*;

const SECRET: &str = "a-secret-for-tests-a-secret-for-tests";

/// A moment to check tokens at: seconds since 1970.
const NOW: u64 = 1_800_000_000;

macro_rules! fixture {
    ($name:literal) => {
        include_str!(concat!("../../tests/fixtures/", $name, ".pem"))
    };
}

fn config(key: KeySource) -> AuthConfig {
    AuthConfig {
        key,
        user_claim: None,
        require_exp: false,
        issuer: None,
        audience: None,
        leeway: Duration::ZERO,
        allow_query_token: false,
    }
}

fn secret_config() -> AuthConfig {
    config(KeySource::HmacSecret(SECRET.to_owned()))
}

fn public_config(pem: &str) -> AuthConfig {
    config(KeySource::PublicKeyPem(pem.as_bytes().to_vec()))
}

fn at(secs: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(secs)
}

fn hs256(claims: &Value) -> String {
    token(
        Algorithm::HS256,
        &EncodingKey::from_secret(SECRET.as_bytes()),
        claims,
    )
}

fn token(algorithm: Algorithm, key: &EncodingKey, claims: &Value) -> String {
    jsonwebtoken::encode(&Header::new(algorithm), claims, key).unwrap()
}

/// What a token with these claims and a good signature comes to at [`NOW`].
fn judge(config: &AuthConfig, claims: &Value) -> Result<Identity, AuthError> {
    Verifier::new(config)
        .unwrap()
        .verify_at(&hs256(claims), at(NOW))
}

fn user(claims: Value) -> Result<String, AuthError> {
    judge(&secret_config(), &claims).map(|identity| identity.user_id)
}

/// Base64url without padding, to make tokens by hand.
fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk
            .iter()
            .fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - chunk.len()));
        for digit in 0..=chunk.len() {
            text.push(char::from(DIGITS[(bits >> (18 - 6 * digit) & 63) as usize]));
        }
    }
    text
}

fn by_hand(header: &Value, claims: &Value, signature: &str) -> String {
    let part = |value: &Value| base64url(value.to_string().as_bytes());
    format!("{}.{}.{signature}", part(header), part(claims))
}

#[test]
fn each_claim_layout_names_its_user() {
    for claim in [
        "id", "sub", "userId", "user_id", "uid", "_id", "username", "email",
    ] {
        assert_eq!(
            user(json!({claim: "alice", "x": 1})).unwrap(),
            "alice",
            "{claim}"
        );
        assert_eq!(user(json!({claim: 42})).unwrap(), "42", "{claim}");
    }
}

#[test]
fn the_first_usable_claim_counts() {
    assert_eq!(user(json!({"sub": "bob", "id": "alice"})).unwrap(), "alice");
    assert_eq!(user(json!({"id": "", "sub": "bob"})).unwrap(), "bob");
    for unusable in [json!(null), json!(true), json!({}), json!(["alice"])] {
        assert_eq!(
            user(json!({"id": unusable, "email": "a@b.c"})).unwrap(),
            "a@b.c"
        );
    }
    assert!(user(json!({"name": "alice"})).is_err());
}

#[test]
fn integers_become_their_decimal_string() {
    for (id, text) in [
        (json!(0), "0"),
        (json!(-7), "-7"),
        (json!(u64::MAX), "18446744073709551615"),
        (json!(i64::MIN), "-9223372036854775808"),
    ] {
        assert_eq!(user(json!({"id": id})).unwrap(), text);
    }
}

#[test]
fn a_number_that_is_no_exact_integer_is_refused_and_not_passed_over() {
    for number in ["1.5", "42.0", "1e3", "-0", "18446744073709551616", "1e308"] {
        let number: Value = serde_json::from_str(number).unwrap();
        for claims in [
            json!({"id": number, "sub": "alice"}),
            json!({"_id": number, "email": "a@b.c"}),
            json!({"sub": number}),
        ] {
            let refused = user(claims.clone());
            let says_why =
                matches!(refused, Err(AuthError::Invalid(why)) if why.contains("number"));
            assert!(says_why, "{claims}: {refused:?}");
        }
        assert_eq!(
            user(json!({"id": "alice", "sub": number})).unwrap(),
            "alice"
        );
    }
}

#[test]
fn half_a_surrogate_pair_matters_in_the_users_claim_only() {
    let judge = |config: &AuthConfig, claims: &str| {
        let message = format!(
            "{}.{}",
            base64url(br#"{"alg":"HS256"}"#),
            base64url(claims.as_bytes())
        );
        let key = EncodingKey::from_secret(SECRET.as_bytes());
        let signature =
            jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
        Verifier::new(config)
            .unwrap()
            .verify(&format!("{message}.{signature}"))
    };
    let config = secret_config();
    for claim in [
        r#""name": "\ud800""#,
        r#""name": ["x", {"y": "\udfff\ud800"}]"#,
        r#""na\udc00me": 1"#,
        r#""sub": "\ud83e""#,
        r#""iss": "\ud83e""#,
        r#""aud": ["\ud83e"]"#,
    ] {
        let claims = format!(r#"{{{claim}, "id": "\ud83e\udd80"}}"#);
        assert_eq!(judge(&config, &claims).unwrap().user_id, "🦀", "{claims}");
    }
    for user in [
        r#"\ud83e"#,
        r#"\udd80"#,
        r#"a\udd80\ud83e"#,
        r#"\ud83e\ud83e\udd80"#,
    ] {
        let claims = format!(r#"{{"id": "{user}", "sub": "alice"}}"#);
        assert!(judge(&config, &claims).is_err(), "{claims}");
    }
    let pinned = AuthConfig {
        user_claim: Some("user.id".to_owned()),
        issuer: Some("us".to_owned()),
        ..config
    };
    let claims = r#"{"iss": "us", "id": "\ud800", "user": {"name": "\ud800", "id": "alice"}}"#;
    assert_eq!(judge(&pinned, claims).unwrap().user_id, "alice");
    let other_issuer = r#"{"iss": "us\ud800", "user": {"id": "alice"}}"#;
    assert!(judge(&pinned, other_issuer).is_err());
}

#[test]
fn user_ids_have_1_to_128_bytes_and_no_control_characters() {
    for odd in ["auth0|x", "a@b.c", "{a}:b", "🦀", " ", &"x".repeat(128)] {
        assert_eq!(user(json!({"sub": odd})).unwrap(), odd);
    }
    // The claim that counts is judged, not passed over.
    for bad in [
        "a\nb",
        "\0",
        "\u{7f}",
        "\u{85}",
        &"x".repeat(129),
        &"é".repeat(65),
    ] {
        assert!(user(json!({"id": bad, "sub": "alice"})).is_err(), "{bad:?}");
    }
}

#[test]
fn a_pinned_claim_or_path_is_the_only_one() {
    let pinned = |claim: &str| AuthConfig {
        user_claim: Some(claim.to_owned()),
        ..secret_config()
    };
    let user = |claim, claims| judge(&pinned(claim), &claims).map(|id| id.user_id);
    assert_eq!(
        user("user.id", json!({"user": {"id": 5}, "id": "x"})).unwrap(),
        "5"
    );
    assert_eq!(
        user("a.b.c", json!({"a": {"b": {"c": "deep"}}})).unwrap(),
        "deep"
    );
    assert_eq!(
        user("name", json!({"name": "alice", "id": "x"})).unwrap(),
        "alice"
    );
    let claim = "https://example.com/user";
    assert_eq!(user(claim, json!({claim: "alice"})).unwrap(), "alice");
    for claims in [
        json!({"id": "x"}),
        json!({"user": "x"}),
        json!({"user": {"id": ""}}),
    ] {
        assert!(user("user.id", claims).is_err());
    }
}

#[test]
fn exp_ends_a_token() {
    let judge = |exp: Value| judge(&secret_config(), &json!({"id": "alice", "exp": exp}));
    assert_eq!(judge(json!(NOW + 1)).unwrap().expires_at, Some(at(NOW + 1)));
    assert_eq!(judge(json!(NOW)), Err(AuthError::Expired));
    assert_eq!(judge(json!(0)), Err(AuthError::Expired));
    assert!(judge(json!(NOW as f64 + 0.5)).is_ok());
    for ill_typed in [
        json!("1800000001"),
        json!(null),
        json!(-1),
        json!({}),
        json!(true),
    ] {
        assert!(matches!(judge(ill_typed), Err(AuthError::Invalid(_))));
    }
    // A time past the year 9999 could not be written, so it is cut there.
    for far in [json!(1e300), json!(u64::MAX)] {
        assert_eq!(judge(far).unwrap().expires_at, Some(at(253_402_300_799)));
    }
}

#[test]
fn a_token_without_exp_is_good_unless_exp_is_required() {
    let claims = json!({"id": "alice"});
    assert_eq!(judge(&secret_config(), &claims).unwrap().expires_at, None);
    let strict = AuthConfig {
        require_exp: true,
        ..secret_config()
    };
    assert!(matches!(
        judge(&strict, &claims),
        Err(AuthError::Invalid(_))
    ));
    assert!(judge(&strict, &json!({"id": "alice", "exp": NOW + 9})).is_ok());
}

#[test]
fn nbf_begins_a_token() {
    let judge = |nbf: Value| judge(&secret_config(), &json!({"id": "alice", "nbf": nbf}));
    assert!(judge(json!(NOW)).is_ok());
    for bad in [json!(NOW + 1), json!("0"), json!(null), json!(-1)] {
        assert!(matches!(judge(bad), Err(AuthError::Invalid(_))));
    }
}

#[test]
fn leeway_stretches_both_ends() {
    let lenient = AuthConfig {
        leeway: Duration::from_secs(10),
        ..secret_config()
    };
    let judge = |claim: &str, time: u64| judge(&lenient, &json!({"id": "alice", claim: time}));
    assert_eq!(judge("exp", NOW - 9).unwrap().expires_at, Some(at(NOW + 1)));
    assert_eq!(judge("exp", NOW - 10), Err(AuthError::Expired));
    assert!(judge("nbf", NOW + 10).is_ok());
    assert!(judge("nbf", NOW + 11).is_err());
}

#[test]
fn issuer_and_audience_are_checked_where_configured() {
    let strict = AuthConfig {
        issuer: Some("https://login".to_owned()),
        audience: Some("chat".to_owned()),
        ..secret_config()
    };
    for (iss, aud, good) in [
        (json!("https://login"), json!("chat"), true),
        (json!("https://login"), json!(["web", "chat"]), true),
        (json!("https://login"), json!(["web"]), false),
        (json!("https://login"), json!("web"), false),
        (json!("https://login"), json!(7), false),
        (json!("https://login"), json!(null), false),
        (json!("https://evil"), json!("chat"), false),
        (json!(["https://login"]), json!("chat"), false),
        (json!(null), json!("chat"), false),
    ] {
        let claims = json!({"id": "alice", "iss": iss, "aud": aud});
        assert_eq!(judge(&strict, &claims).is_ok(), good, "{claims}");
        assert!(judge(&secret_config(), &claims).is_ok(), "{claims}");
    }
    assert!(judge(&strict, &json!({"id": "alice"})).is_err());
}

#[test]
fn expired_means_good_but_for_the_age() {
    let strict = AuthConfig {
        issuer: Some("https://login".to_owned()),
        ..secret_config()
    };
    let claims = json!({"id": "alice", "exp": 1});
    assert!(matches!(
        judge(&strict, &claims),
        Err(AuthError::Invalid(_))
    ));
    let wrong_key = token(
        Algorithm::HS256,
        &EncodingKey::from_secret(b"other"),
        &claims,
    );
    let verdict = Verifier::new(&secret_config()).unwrap().verify(&wrong_key);
    assert!(matches!(verdict, Err(AuthError::Invalid(_))));
}

#[test]
fn a_secret_takes_all_hmac_algorithms_and_no_other() {
    let verifier = Verifier::new(&secret_config()).unwrap();
    let claims = json!({"id": "alice"});
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
        assert!(
            verifier.verify(&token(algorithm, &key, &claims)).is_ok(),
            "{algorithm:?}"
        );
    }
    let rsa = EncodingKey::from_rsa_pem(fixture!("rsa_private").as_bytes()).unwrap();
    let foreign = token(Algorithm::RS256, &rsa, &claims);
    assert!(matches!(
        verifier.verify(&foreign),
        Err(AuthError::Invalid(_))
    ));
}

#[test]
fn each_kind_of_public_key_takes_its_own_algorithms_only() {
    use Algorithm::*;
    let rsa = EncodingKey::from_rsa_pem(fixture!("rsa_private").as_bytes()).unwrap();
    let p256 = EncodingKey::from_ec_pem(fixture!("ec_p256_private").as_bytes()).unwrap();
    let p384 = EncodingKey::from_ec_pem(fixture!("ec_p384_private").as_bytes()).unwrap();
    let ed = EncodingKey::from_ed_pem(fixture!("ed25519_private").as_bytes()).unwrap();
    let pairs = [
        (
            fixture!("rsa_public"),
            &rsa,
            vec![RS256, RS384, RS512, PS256, PS384, PS512],
        ),
        (fixture!("ec_p256_public"), &p256, vec![ES256]),
        (fixture!("ec_p384_public"), &p384, vec![ES384]),
        (fixture!("ed25519_public"), &ed, vec![EdDSA]),
    ];
    for (public, _, accepted) in &pairs {
        let verifier = Verifier::new(&public_config(public)).unwrap();
        for algorithm in pairs.iter().flat_map(|(_, _, algorithms)| algorithms) {
            let (_, key, _) = pairs
                .iter()
                .find(|(_, _, of)| of.contains(algorithm))
                .unwrap();
            let verdict = verifier.verify(&token(*algorithm, key, &json!({"id": "alice"})));
            assert_eq!(
                verdict.is_ok(),
                accepted.contains(algorithm),
                "{algorithm:?}"
            );
        }
    }
}

#[test]
fn a_public_key_is_never_an_hmac_secret() {
    let public = fixture!("rsa_public");
    let verifier = Verifier::new(&public_config(public)).unwrap();
    for secret in [public, public.trim()] {
        for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            let key = EncodingKey::from_secret(secret.as_bytes());
            let forged = token(algorithm, &key, &json!({"id": "alice"}));
            assert!(matches!(
                verifier.verify(&forged),
                Err(AuthError::Invalid(_))
            ));
        }
    }
}

#[test]
fn unsigned_tokens_are_refused() {
    let claims = json!({"id": "alice"});
    for config in [secret_config(), public_config(fixture!("rsa_public"))] {
        let verifier = Verifier::new(&config).unwrap();
        for algorithm in ["none", "None", "NONE", ""] {
            let header = json!({"alg": algorithm, "typ": "JWT"});
            for signature in ["", "AAAA"] {
                let forged = by_hand(&header, &claims, signature);
                assert!(matches!(
                    verifier.verify(&forged),
                    Err(AuthError::Invalid(_))
                ));
            }
        }
        let stripped = by_hand(&json!({"alg": "HS256"}), &claims, "");
        assert!(matches!(
            verifier.verify(&stripped),
            Err(AuthError::Invalid(_))
        ));
    }
}

#[test]
fn changed_and_critical_tokens_are_refused() {
    let verifier = Verifier::new(&secret_config()).unwrap();
    let good = hs256(&json!({"id": "alice"}));
    let (header, rest) = good.split_once('.').unwrap();
    let (_, signature) = rest.split_once('.').unwrap();
    let other = base64url(json!({"id": "bob"}).to_string().as_bytes());
    let changed = format!("{header}.{other}.{signature}");
    assert_eq!(
        verifier.verify(&changed),
        Err(AuthError::Invalid("its signature does not match"))
    );
    let header = Header {
        crit: Some(vec!["b64".to_owned()]),
        ..Header::default()
    };
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let critical = jsonwebtoken::encode(&header, &json!({"id": "alice"}), &key).unwrap();
    assert!(verifier.verify(&critical).is_err());
}

#[test]
fn garbage_is_refused_and_nothing_is_missing() {
    let verifier = Verifier::new(&secret_config()).unwrap();
    assert_eq!(verifier.verify(""), Err(AuthError::Missing));
    let good = hs256(&json!({"id": "alice"}));
    let claims_are_no_object = hs256(&json!(["alice"]));
    let long = "x".repeat(100_000);
    for bad in [
        "x",
        ".",
        "..",
        "...",
        "a.b.c",
        "🦀.🦀.🦀",
        "null",
        &long,
        &claims_are_no_object,
        &good[1..],
        &good[..good.len() - 1],
        &format!("{good}.{good}"),
        &format!(" {good}"),
    ] {
        assert!(
            matches!(verifier.verify(bad), Err(AuthError::Invalid(_))),
            "{bad}"
        );
    }
}

#[test]
fn keys_that_cannot_be_used_are_refused() {
    for (pem, error) in [
        (fixture!("rsa_private"), AuthSetupError::PrivateKey),
        (fixture!("ec_p256_private"), AuthSetupError::PrivateKey),
        (fixture!("rsa_1024_public"), AuthSetupError::ShortRsaKey),
        (fixture!("ec_p521_public"), AuthSetupError::Unsupported),
        (
            "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----",
            AuthSetupError::Certificate,
        ),
        ("garbage", AuthSetupError::Unsupported),
        ("", AuthSetupError::Unsupported),
    ] {
        assert_eq!(Verifier::new(&public_config(pem)).unwrap_err(), error);
    }
}

#[test]
fn signed_tokens_are_accepted_with_all_that_is_configured() {
    let strict = AuthConfig {
        user_claim: Some("user.id".to_owned()),
        require_exp: true,
        issuer: Some("https://login".to_owned()),
        audience: Some("chat".to_owned()),
        ..secret_config()
    };
    let extra = json!({"user": {"name": "Alice"}})
        .as_object()
        .unwrap()
        .clone();
    let token = sign(&strict, "alice", extra, Some(Duration::from_secs(60))).unwrap();
    let identity = Verifier::new(&strict).unwrap().verify(&token).unwrap();
    assert_eq!(identity.user_id, "alice");
    let payload = jsonwebtoken::dangerous::insecure_decode::<Value>(&token)
        .unwrap()
        .claims;
    assert_eq!(payload["user"]["name"], "Alice");
}

#[test]
fn what_cannot_be_signed_is_refused() {
    let public = public_config(fixture!("rsa_public"));
    assert!(matches!(
        sign(&public, "a", Map::new(), None),
        Err(SignError::PublicKeyOnly)
    ));
    for bad in ["", "a\nb", &"x".repeat(129)] {
        let refused = sign(&secret_config(), bad, Map::new(), None);
        assert!(matches!(refused, Err(SignError::BadUserId)), "{bad:?}");
    }
    let extra = json!({"id": "bob"}).as_object().unwrap().clone();
    let refused = sign(&secret_config(), "alice", extra, None);
    assert!(matches!(refused, Err(SignError::OtherUser(user)) if user == "bob"));
    let refused = sign(&secret_config(), "alice", Map::new(), Some(Duration::MAX));
    assert!(matches!(refused, Err(SignError::BadLifetime)));
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            (name, HeaderValue::from_str(value).unwrap())
        })
        .collect()
}

fn presented(pairs: &[(&str, &str)], query: Option<&str>, allow: bool) -> Option<(String, bool)> {
    token_from_request(&headers(pairs), query, allow).map(|p| (p.token, p.via_subprotocol))
}

#[test]
fn a_token_is_found_in_each_place_in_order() {
    let all = [
        ("token", "t1"),
        ("authorization", "Bearer t2"),
        ("sec-websocket-protocol", "chat, t3"),
    ];
    let query = Some("a=b&token=t4");
    let expected = [("t1", false), ("t2", false), ("t3", true), ("t4", false)];
    for (first, (token, via_subprotocol)) in expected.into_iter().enumerate() {
        let found = presented(&all[first..], query, true);
        assert_eq!(found, Some((token.to_owned(), via_subprotocol)));
    }
    assert_eq!(presented(&[], query, false), None);
    assert_eq!(presented(&[], None, true), None);
}

#[test]
fn places_are_read_with_care() {
    let found = |name, value| presented(&[(name, value)], None, false).map(|(token, _)| token);
    let token = Some("t".to_owned());
    assert_eq!(found("Token", " t "), token);
    assert_eq!(found("authorization", "bEARER   t"), token);
    assert_eq!(found("sec-websocket-protocol", "t,chat"), token);
    for (name, value) in [
        ("token", ""),
        ("authorization", "Basic t"),
        ("authorization", "Bearer"),
        ("authorization", "Bearer  "),
        ("sec-websocket-protocol", "chat"),
        ("sec-websocket-protocol", "t"),
        ("sec-websocket-protocol", " , ,"),
    ] {
        assert_eq!(found(name, value), None, "{name}: {value}");
    }
    // An empty header does not hide the next place.
    let next = presented(&[("token", ""), ("authorization", "Bearer t")], None, false);
    assert_eq!(next, Some(("t".to_owned(), false)));
    let twice = [
        ("sec-websocket-protocol", "chat"),
        ("sec-websocket-protocol", "t"),
    ];
    let mut headers = HeaderMap::new();
    for (name, value) in twice {
        headers.append(name, HeaderValue::from_static(value));
    }
    assert_eq!(
        token_from_request(&headers, None, false).unwrap().token,
        "t"
    );
    assert!(offers_chat_subprotocol(&headers));
}

#[test]
fn query_tokens_are_percent_decoded() {
    let found = |query| presented(&[], Some(query), true).map(|(token, _)| token);
    assert_eq!(found("token=a%2Eb%2ec").as_deref(), Some("a.b.c"));
    assert_eq!(found("x=token=1&token=t").as_deref(), Some("t"));
    for nothing in ["", "token", "token=", "tokens=t", "token=%ff"] {
        assert_eq!(found(nothing), None, "{nothing}");
    }
}

#[test]
fn chat_is_offered_wherever_the_token_is() {
    let offers = |value| offers_chat_subprotocol(&headers(&[("sec-websocket-protocol", value)]));
    assert!(offers("chat") && offers("x, chat") && offers("chat,t"));
    assert!(!offers("Chat") && !offers("chatter") && !offers_chat_subprotocol(&HeaderMap::new()));
}

#[test]
fn debug_output_holds_no_token() {
    let found = token_from_request(&headers(&[("token", "s3cret")]), None, false);
    assert!(!format!("{found:?}").contains("s3cret"));
    let verifier = Verifier::new(&secret_config()).unwrap();
    assert!(!format!("{verifier:?}").contains(SECRET));
}
