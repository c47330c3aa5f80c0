//! How a client shows its user: where a token may be, how it is verified, which claim is the user.
//!
//! Nothing here does I/O.

mod claims;
mod keys;
mod payload;
mod request;
#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::dangerous::insecure_decode_claims;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, crypto, decode_header};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::config::{AuthConfig, KeySource};
use claims::ClaimRules;
pub use claims::{MAX_USER_ID_BYTES, is_valid_user_id};
pub use keys::{AuthSetupError, check_public_key};
pub use request::{CHAT_SUBPROTOCOL, PresentedToken, offers_chat_subprotocol, token_from_request};

/// The user that a token speaks for, and how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// 1 to 128 bytes without control characters.
    pub user_id: String,
    /// The moment from which the token counts no more, the leeway included, at most the end of
    /// the year 9999; `None` for a token without `exp`.
    pub expires_at: Option<SystemTime>,
}

/// Why a token is not accepted. The text is safe to show to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// No token was given.
    #[error("no token was given")]
    Missing,
    /// The token was good once.
    #[error("token expired")]
    Expired,
    /// Anything else, with the reason.
    #[error("the token is not accepted: {0}")]
    Invalid(&'static str),
}

/// Why no token could be signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// There is only a public key, which can check signatures but not make them.
    #[error(
        "JWT_PUBLIC_KEY is configured, and a public key cannot sign; sign with your private key"
    )]
    PublicKeyOnly,
    /// The user id does not fit.
    #[error("a user id has 1 to {MAX_USER_ID_BYTES} bytes and no control characters")]
    BadUserId,
    /// The extra claims name another user than was asked for.
    #[error("with these claims the user would be {0:?}; leave out the claim that says so")]
    OtherUser(String),
    /// The lifetime leads past what a time can hold.
    #[error("the lifetime is too long")]
    BadLifetime,
    /// The claims could not be signed.
    #[error("the token could not be signed: {0}")]
    Encoding(#[from] jsonwebtoken::errors::Error),
}

/// Checks tokens against one configured key.
#[derive(Debug, Clone)]
pub struct Verifier {
    key: DecodingKey,
    /// The only ones that tokens may be signed with.
    algorithms: Vec<Algorithm>,
    rules: ClaimRules,
}

impl Verifier {
    /// Makes ready to check tokens as `config` says.
    ///
    /// # Errors
    /// A public key that is none, or of a kind that is not supported.
    pub fn new(config: &AuthConfig) -> Result<Self, AuthSetupError> {
        let (key, algorithms) = keys::decoding_key(&config.key)?;
        Ok(Self {
            key,
            algorithms,
            rules: ClaimRules::new(config),
        })
    }

    /// Checks the signature and the claims of a token at this moment, and returns the user that it speaks for.
    ///
    /// # Errors
    /// [`AuthError::Missing`] for an empty token, [`AuthError::Expired`] for one whose only flaw
    /// is its age, [`AuthError::Invalid`] for any other.
    pub fn verify(&self, token: &str) -> Result<Identity, AuthError> {
        self.verify_at(token, SystemTime::now())
    }

    fn verify_at(&self, token: &str, now: SystemTime) -> Result<Identity, AuthError> {
        if token.is_empty() {
            return Err(AuthError::Missing);
        }
        let json = self.signed_claims(token)?;
        let claims = payload::claims(json.get()).map_err(|_| AuthError::Invalid(ILL_FORMED))?;
        self.rules.identity(&claims, now)
    }

    /// The claims of a token, as the JSON text that was signed with the key.
    ///
    /// The library's own `decode` is not used: it reads some claims itself, and refuses a token for what it cannot read,
    /// whether that is needed or not.
    fn signed_claims(&self, token: &str) -> Result<Box<RawValue>, AuthError> {
        let header = decode_header(token).map_err(refusal)?;
        if !self.algorithms.contains(&header.alg) {
            return Err(refusal(ErrorKind::InvalidAlgorithm.into()));
        }
        let (message, signature) = token
            .rsplit_once('.')
            .ok_or(AuthError::Invalid(ILL_FORMED))?;
        let is_signed = crypto::verify(signature, message.as_bytes(), &self.key, header.alg);
        if !is_signed.map_err(refusal)? {
            return Err(AuthError::Invalid("its signature does not match"));
        }
        // RFC 7515, 4.1.11: what a token calls critical must be understood, and nothing is here.
        if header.crit.is_some() {
            return Err(AuthError::Invalid(
                "it uses extensions that are not supported",
            ));
        }
        // Insecure only where nobody has checked the signature.
        insecure_decode_claims(token).map_err(refusal)
    }
}

const ILL_FORMED: &str = "it is not a well-formed token";

fn refusal(error: jsonwebtoken::errors::Error) -> AuthError {
    AuthError::Invalid(match error.kind() {
        ErrorKind::InvalidAlgorithm => "it is signed with an algorithm that is not allowed",
        _ => ILL_FORMED,
    })
}

/// Signs a token for `user_id` with the configured secret (HS256), for trying things out.
///
/// The user goes into the pinned claim, or `sub`; `iat`, and `iss` and `aud` as configured, are
/// added; `exp` where `ttl` is given. What `extra_claims` holds wins over all but the user and
/// the `exp` of `ttl`.
///
/// # Errors
/// A public key is configured, the user id does not fit, or the extra claims name another user.
pub fn sign(
    config: &AuthConfig,
    user_id: &str,
    extra_claims: Map<String, Value>,
    ttl: Option<Duration>,
) -> Result<String, SignError> {
    let KeySource::HmacSecret(secret) = &config.key else {
        return Err(SignError::PublicKeyOnly);
    };
    let now = SystemTime::now();
    let mut claims = default_claims(config, now);
    claims.extend(extra_claims);
    if let Some(ttl) = ttl {
        let exp = now.checked_add(ttl).ok_or(SignError::BadLifetime)?;
        claims.insert("exp".to_owned(), unix_secs(exp).into());
    }
    let rules = ClaimRules::new(config);
    rules.set_user_id(&mut claims, user_id);
    match rules.user_id(&claims) {
        Ok(found) if found == user_id => {}
        Ok(found) => return Err(SignError::OtherUser(found)),
        Err(_) => return Err(SignError::BadUserId),
    }
    let key = EncodingKey::from_secret(secret.as_bytes());
    Ok(jsonwebtoken::encode(&Header::default(), &claims, &key)?)
}

fn default_claims(config: &AuthConfig, now: SystemTime) -> Map<String, Value> {
    let mut claims = Map::new();
    claims.insert("iat".to_owned(), unix_secs(now).into());
    for (name, value) in [("iss", &config.issuer), ("aud", &config.audience)] {
        if let Some(value) = value {
            claims.insert(name.to_owned(), value.as_str().into());
        }
    }
    claims
}

fn unix_secs(time: SystemTime) -> u64 {
    // A clock before 1970 reads as 1970.
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}
