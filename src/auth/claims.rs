//! What a token with a good signature says: its user, the time in which it counts, its issuer and its audience.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};

use super::{AuthError, Identity};
use crate::config::AuthConfig;

/// The longest user id in bytes.
pub const MAX_USER_ID_BYTES: usize = 128;

/// Where a user id may be, the first one counts.
const USER_CLAIMS: [&str; 8] = [
    "id", "sub", "userId", "user_id", "uid", "_id", "username", "email",
];

/// 9999-12-31T23:59:59Z in seconds since 1970, the last time that ISO 8601 writes with a year of
/// four digits. A later `exp` counts as this one.
const LAST_SECOND: u64 = 253_402_300_799;

type Claims = Map<String, Value>;

/// Whether a user id has 1 to 128 bytes and no control characters.
#[must_use]
pub fn is_valid_user_id(id: &str) -> bool {
    (1..=MAX_USER_ID_BYTES).contains(&id.len()) && !id.chars().any(char::is_control)
}

/// How claims are judged.
#[derive(Debug, Clone)]
pub(super) struct ClaimRules {
    user_claim: Option<String>,
    require_exp: bool,
    issuer: Option<String>,
    audience: Option<String>,
    leeway: Duration,
}

impl ClaimRules {
    pub(super) fn new(config: &AuthConfig) -> Self {
        Self {
            user_claim: config.user_claim.clone(),
            require_exp: config.require_exp,
            issuer: config.issuer.clone(),
            audience: config.audience.clone(),
            leeway: config.leeway,
        }
    }

    /// Checks all claims. The age comes last, so that "expired" means "good but for its age".
    pub(super) fn identity(&self, claims: &Claims, now: SystemTime) -> Result<Identity, AuthError> {
        self.check_not_before(claims, now)?;
        self.check_issuer(claims)?;
        self.check_audience(claims)?;
        let user_id = self.user_id(claims)?;
        let expires_at = self.expires_at(claims)?;
        if expires_at.is_some_and(|end| now >= end) {
            return Err(AuthError::Expired);
        }
        Ok(Identity {
            user_id,
            expires_at,
        })
    }

    /// The user that the claims name.
    pub(super) fn user_id(&self, claims: &Claims) -> Result<String, AuthError> {
        let found = match &self.user_claim {
            Some(path) => at_path(claims, path).and_then(as_user_id),
            None => USER_CLAIMS
                .iter()
                .find_map(|name| claims.get(*name).and_then(as_user_id)),
        };
        let user_id = found.ok_or(AuthError::Invalid("it names no user"))??;
        if !is_valid_user_id(&user_id) {
            return Err(AuthError::Invalid(
                "its user id must have 1 to 128 bytes and no control characters",
            ));
        }
        Ok(user_id)
    }

    /// Puts the user where [`Self::user_id`] looks for it.
    pub(super) fn set_user_id(&self, claims: &mut Claims, user_id: &str) {
        let path = self.user_claim.as_deref().unwrap_or("sub");
        set_at_path(claims, path, user_id.into());
    }

    fn expires_at(&self, claims: &Claims) -> Result<Option<SystemTime>, AuthError> {
        match claims.get("exp") {
            None if self.require_exp => Err(AuthError::Invalid("it has no exp")),
            None => Ok(None),
            Some(exp) => {
                let exp = numeric_date(exp).ok_or(AuthError::Invalid("its exp is not a time"))?;
                let last = UNIX_EPOCH + Duration::from_secs(LAST_SECOND);
                Ok(Some((exp + self.leeway).min(last)))
            }
        }
    }

    fn check_not_before(&self, claims: &Claims, now: SystemTime) -> Result<(), AuthError> {
        let Some(nbf) = claims.get("nbf") else {
            return Ok(());
        };
        let nbf = numeric_date(nbf).ok_or(AuthError::Invalid("its nbf is not a time"))?;
        if now + self.leeway < nbf {
            return Err(AuthError::Invalid("it is not valid yet"));
        }
        Ok(())
    }

    fn check_issuer(&self, claims: &Claims) -> Result<(), AuthError> {
        let Some(wanted) = &self.issuer else {
            return Ok(());
        };
        match claims.get("iss") {
            Some(Value::String(issuer)) if issuer == wanted => Ok(()),
            _ => Err(AuthError::Invalid("its iss is not the expected one")),
        }
    }

    fn check_audience(&self, claims: &Claims) -> Result<(), AuthError> {
        let Some(wanted) = &self.audience else {
            return Ok(());
        };
        let is_wanted = |value: &Value| value.as_str() == Some(wanted);
        let found = match claims.get("aud") {
            Some(Value::Array(list)) => list.iter().any(is_wanted),
            Some(value) => is_wanted(value),
            None => false,
        };
        if found {
            return Ok(());
        }
        Err(AuthError::Invalid("its aud is not the expected one"))
    }
}

/// A user id is a non-empty string or an integer; `None` for what is no user id. A number that JSON readers
/// may round is refused: passed over, it would leave the choice of the user to another claim.
fn as_user_id(value: &Value) -> Option<Result<String, AuthError>> {
    match value {
        Value::String(text) if !text.is_empty() => Some(Ok(text.clone())),
        Value::Number(number) if number.is_i64() || number.is_u64() => Some(Ok(number.to_string())),
        Value::Number(_) => Some(Err(AuthError::Invalid(
            "its user id is a number with a fraction or an exponent, or too large a one; a text has no such limits",
        ))),
        _ => None,
    }
}

/// The value of a claim, or at the end of a path. A claim with that very name wins, since names
/// such as `https://example.com/user` have dots in them.
fn at_path<'a>(claims: &'a Claims, path: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(path) {
        return Some(value);
    }
    let (first, rest) = path.split_once('.')?;
    rest.split('.').try_fold(claims.get(first)?, |value, name| {
        value.as_object()?.get(name)
    })
}

/// Sets what [`at_path`] finds, making the objects on the way.
fn set_at_path(claims: &mut Claims, path: &str, value: Value) {
    let Some((first, rest)) = path.split_once('.') else {
        claims.insert(path.to_owned(), value);
        return;
    };
    let mut inner = match claims.remove(first) {
        Some(Value::Object(inner)) => inner,
        _ => Claims::new(),
    };
    set_at_path(&mut inner, rest, value);
    claims.insert(first.to_owned(), Value::Object(inner));
}

/// A time as RFC 7519 writes it: seconds since 1970, a fraction allowed. At most year 9999.
fn numeric_date(value: &Value) -> Option<SystemTime> {
    let secs = value.as_f64().filter(|secs| *secs >= 0.0)?;
    let since_1970 = if secs >= LAST_SECOND as f64 {
        Duration::from_secs(LAST_SECOND)
    } else {
        Duration::try_from_secs_f64(secs).ok()?
    };
    UNIX_EPOCH.checked_add(since_1970)
}
