//! Who is admitted, over either protocol: a client needs a valid token and a free seat.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use tokio::sync::OwnedSemaphorePermit;

use super::Gateway;
use crate::auth::{self, AuthError, Identity};
use crate::chat::session::Session;
use crate::error::{ChatError, ErrorCode};
use crate::hub::Full;
use crate::hub::device::{ListMode, Preferences};
use crate::protocol::content::ContentShape;
use crate::protocol::ids::UserId;

/// Why a client is to come back later.
const BUSY: &str = "too many clients come at once: try again later";

/// A device that was admitted, and its seat.
pub struct Admitted {
    pub session: Session,
    pub seat: OwnedSemaphorePermit,
}

/// Why a device is not admitted.
#[derive(Debug)]
pub enum Denied {
    Token(AuthError),
    /// The server is full, not ready or shutting down.
    Unavailable(&'static str),
    /// More lists are waiting than can be read in the time that a device waits for its own; contains the expected wait.
    Busy(Duration),
    /// The user has too many connections.
    TooManyOfUser,
}

impl Denied {
    /// When retrying may help, at the earliest, if that is known.
    pub fn wait(&self) -> Option<Duration> {
        match self {
            Self::Busy(wait) => Some(*wait),
            _ => None,
        }
    }
}

impl From<Denied> for ChatError {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Token(error) => error.into(),
            Denied::Unavailable(text) => Self::new(ErrorCode::Unavailable, text),
            Denied::Busy(_) => Self::new(ErrorCode::Unavailable, BUSY),
            Denied::TooManyOfUser => {
                Self::new(ErrorCode::RateLimited, "this user has too many connections")
            }
        }
    }
}

impl Gateway {
    /// Whether one more device can be served.
    pub fn room(&self) -> Result<(), Denied> {
        self.ready()
            .map_err(|why| Denied::Unavailable(why.message()))?;
        let wait = self.chat.list_reads.expected_wait();
        if wait > self.chat.list_patience {
            return Err(Denied::Busy(wait));
        }
        if self.seats.available_permits() == 0 {
            return Err(Denied::Unavailable("the server has too many connections"));
        }
        Ok(())
    }

    /// Admits a device if its user's token is valid and there is a seat.
    pub fn admit(
        self: &Arc<Self>,
        identity: &Identity,
        preferences: Preferences,
    ) -> Result<Admitted, Denied> {
        self.room()?;
        let no_seat = || Denied::Unavailable("the server has too many connections");
        let seat = self
            .seats
            .clone()
            .try_acquire_owned()
            .map_err(|_| no_seat())?;
        let unfit = Denied::Token(AuthError::Invalid("the user id does not fit"));
        let user = UserId::parse(&identity.user_id).ok_or(unfit)?;
        let max_per_user = self.limits.max_connections_per_user;
        let session = Session::open(self.chat.clone(), user, identity, preferences, max_per_user);
        let session = session.map_err(|full| match full {
            Full::User => Denied::TooManyOfUser,
            Full::Closing => Denied::Unavailable("the server is shutting down"),
        })?;
        Ok(Admitted { session, seat })
    }
}

/// Identifies the user by the request's token. A token `elsewhere`, such as Socket.IO's `auth`, is considered in its
/// turn.
pub fn identify(
    gateway: &Gateway,
    headers: &HeaderMap,
    query: &str,
    elsewhere: Option<&str>,
) -> Result<Identity, AuthError> {
    let presented =
        auth::token_from_request(headers, Some(query), false).map(|presented| presented.token);
    let in_query =
        || auth::token_from_request(&HeaderMap::new(), Some(query), gateway.allow_query_token);
    let token = presented
        .or_else(|| elsewhere.map(str::to_owned))
        .or_else(|| in_query().map(|presented| presented.token));
    let missing = match query_value(query, "token") {
        Some(_) => AuthError::Invalid("this server takes none in the address, send it in a header"),
        None => AuthError::Missing,
    };
    gateway.chat.verifier.verify(&token.ok_or(missing)?)
}

/// What a client asks for by `chatList` and `content`. By default it gets whole lists, and contents in the usual shape
/// for its protocol.
pub fn preferences(
    list_mode: Option<&str>,
    content: Option<&str>,
    usual_content: ContentShape,
) -> Result<Preferences, ChatError> {
    let unknown = || ChatError::invalid_payload("\"content\" must be string, array or as-sent");
    let shape = content.map(|name| ContentShape::of(name).ok_or_else(unknown));
    Ok(Preferences {
        list_mode: read_list_mode(list_mode)?,
        content: shape.transpose()?.unwrap_or(usual_content),
        is_classic: false,
    })
}

fn read_list_mode(asked: Option<&str>) -> Result<ListMode, ChatError> {
    match asked {
        None | Some("full") => Ok(ListMode::Full),
        Some("delta") => Ok(ListMode::Delta),
        Some(_) => Err(ChatError::invalid_payload(
            "\"chatList\" must be full or delta",
        )),
    }
}

/// A query value that needs no decoding, such as `chatList`.
pub fn query_value<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query
        .split('&')
        .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}
