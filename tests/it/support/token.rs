//! Tokens, good and bad.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};

use super::{Value, json};

/// The `JWT_SECRET` of every server under test.
pub(crate) const SECRET: &str = "a-secret-for-tests-of-more-than-32-bytes";

pub(crate) const RSA_PRIVATE: &str = include_str!("../../fixtures/rsa_private.pem");
pub(crate) const RSA_PUBLIC: &str = include_str!("../../fixtures/rsa_public.pem");
pub(crate) const EC_PRIVATE: &str = include_str!("../../fixtures/ec_p256_private.pem");
pub(crate) const EC_PUBLIC: &str = include_str!("../../fixtures/ec_p256_public.pem");
pub(crate) const ED_PRIVATE: &str = include_str!("../../fixtures/ed25519_private.pem");
pub(crate) const ED_PUBLIC: &str = include_str!("../../fixtures/ed25519_public.pem");

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_secs()
}

/// A good token of `user`.
pub(crate) fn of(user: &str) -> String {
    with_claims(&json!({ "id": user }))
}

/// A good token of `user` that expires `secs` from now.
pub(crate) fn expiring(user: &str, secs: u64) -> String {
    with_claims(&json!({ "id": user, "exp": now() + secs }))
}

/// A token with these claims, signed with the right secret.
pub(crate) fn with_claims(claims: &Value) -> String {
    hmac(Algorithm::HS256, claims, SECRET.as_bytes())
}

/// A token signed with any secret.
pub(crate) fn hmac(algorithm: Algorithm, claims: &Value, secret: &[u8]) -> String {
    sign(algorithm, claims, &EncodingKey::from_secret(secret))
}

/// A token signed with any key.
pub(crate) fn sign(algorithm: Algorithm, claims: &Value, key: &EncodingKey) -> String {
    encode(&Header::new(algorithm), claims, key).expect("sign a token")
}

/// A token that says `"alg": "none"` and carries no signature.
pub(crate) fn unsigned(claims: &Value) -> String {
    let header = json!({ "alg": "none", "typ": "JWT" });
    format!(
        "{}.{}.",
        base64url(&header.to_string()),
        base64url(&claims.to_string())
    )
}

/// Base64 with the alphabet of URLs and no padding.
pub(crate) fn base64url(text: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::new();
    for chunk in text.as_bytes().chunks(3) {
        let bits = chunk
            .iter()
            .fold(0u32, |bits, byte| bits << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for i in 0..=chunk.len() {
            out.push(char::from(ALPHABET[(bits >> (18 - 6 * i) & 63) as usize]));
        }
    }
    out
}
