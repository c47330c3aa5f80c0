//! The page: a chat client for browsers at `/`, and the tokens that it may ask for in development.
//!
//! Its files come from the folder `web/`, embedded in the binary.

use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use include_dir::{Dir, include_dir};
use serde::Deserialize;
use serde_json::json;
use warp::filters::BoxedFilter;
use warp::path::FullPath;
use warp::reply::{Reply, Response};
use warp::{Filter, Rejection};

use super::reply::json_reply;
use super::routes::{GET, POST, only};
use super::{Gateway, origin};
use crate::cli::{self, TokenArgs, TokenError};
use crate::config::{Config, KeySource};
use crate::error::{ChatError, ErrorCode};

static FILES: Dir = include_dir!("$CARGO_MANIFEST_DIR/web");

/// Where the page learns what this server offers.
const OFFERS: &str = "page.json";
/// Bytes of a request for a token, at most: a user id of 128 bytes, each of them escaped, fits.
const REQUEST_MAX_BYTES: u64 = 4096;
/// The page may load only its own files and connect only to its own server. It has no inline scripts or styles, and no
/// page may frame it. 'self' covers `ws:` and `wss:` of the same host.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/// What is served to browsers.
pub struct Web {
    page: bool,
    /// Whether all chats may be deleted.
    reset: bool,
    /// Signs tokens for any name; `None` if the server does not do that.
    tokens: Option<TokenDesk>,
}

impl Web {
    pub fn new(config: &Config) -> Self {
        let developing = config.serves_developers();
        let can_sign = matches!(config.auth.key, KeySource::HmacSecret(_));
        Self {
            page: config.web_client,
            reset: developing,
            tokens: (developing && can_sign).then(|| TokenDesk {
                config: Box::new(config.clone()),
            }),
        }
    }
}

/// `GET /` and its files; any other path is left to other routes.
pub fn file_route(gateway: Arc<Gateway>) -> BoxedFilter<(Response,)> {
    let look_up = move |path: FullPath| {
        let found = find(&gateway.web, path.as_str()).ok_or_else(warp::reject::not_found);
        std::future::ready(found)
    };
    warp::path::full()
        .and_then(look_up)
        .and(only(GET))
        .and(warp::header::headers_cloned())
        .map(|file: File, headers: HeaderMap| file.reply(&headers))
        .boxed()
}

/// A file of the page.
struct File {
    content_type: &'static str,
    bytes: Bytes,
}

fn find(web: &Web, path: &str) -> Option<File> {
    if !web.page {
        return None;
    }
    let name = match path.strip_prefix('/')? {
        "" => "index.html",
        name => name,
    };
    if name == OFFERS {
        let offers = json!({"signInByName": web.tokens.is_some(), "reset": web.reset});
        return Some(File {
            content_type: "application/json",
            bytes: offers.to_string().into(),
        });
    }
    Some(File {
        content_type: content_type(name)?,
        bytes: Bytes::from_static(FILES.get_file(name)?.contents()),
    })
}

fn content_type(name: &str) -> Option<&'static str> {
    let (_, extension) = name.rsplit_once('.')?;
    Some(match extension {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "svg" => "image/svg+xml",
        _ => return None,
    })
}

impl File {
    /// The file, or the confirmation that the browser's copy is still valid; the browser asks each time.
    fn reply(self, headers: &HeaderMap) -> Response {
        let mut hasher = DefaultHasher::new();
        hasher.write(&self.bytes);
        let tag = format!("\"{:016x}\"", hasher.finish());
        let known = headers
            .get(IF_NONE_MATCH)
            .is_some_and(|known| known == tag.as_str());
        let mut response = if known {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            Vec::from(self.bytes).into_response()
        };
        let fixed = [
            (CONTENT_TYPE, self.content_type),
            (CONTENT_SECURITY_POLICY, POLICY),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (REFERRER_POLICY, "no-referrer"),
            (CACHE_CONTROL, "no-cache"),
        ];
        for (name, value) in fixed {
            // Replaces warp's media type for plain bytes: with two media types the page would be downloaded.
            response
                .headers_mut()
                .insert(name, HeaderValue::from_static(value));
        }
        if let Ok(tag) = HeaderValue::from_str(&tag) {
            response.headers_mut().insert(ETAG, tag);
        }
        response
    }
}

/// `POST /dev/token {"id"}`: a token for any name, for developers on this machine. Elsewhere this route does not exist.
pub fn token_route(gateway: Arc<Gateway>) -> BoxedFilter<(Response,)> {
    let exists = gateway.clone();
    let there = move || {
        let there = exists.web.tokens.is_some();
        std::future::ready(there.then_some(()).ok_or_else(warp::reject::not_found))
    };
    warp::path!("dev" / "token")
        .and_then(there)
        .untuple_one()
        .and(only(POST))
        .and(warp::header::headers_cloned())
        .and(warp::body::content_length_limit(REQUEST_MAX_BYTES))
        .and(warp::body::bytes())
        .and_then(move |headers: HeaderMap, body: Bytes| {
            let desk = gateway.web.tokens.as_ref();
            let answer = desk.map(|desk| desk.answer(&headers, &body));
            std::future::ready::<Result<_, Rejection>>(answer.ok_or_else(warp::reject::not_found))
        })
        .boxed()
}

/// Signs tokens for any name.
struct TokenDesk {
    config: Box<Config>,
}

#[derive(Deserialize)]
struct TokenRequest {
    id: String,
}

impl TokenDesk {
    fn answer(&self, headers: &HeaderMap, body: &[u8]) -> Response {
        let own = origin::is_own(headers)
            && (self.config.dev_open || origin::is_for_this_machine(headers));
        if !own {
            let text = "only the server's own page may ask for tokens, and only at an address of this machine";
            let error = ChatError::new(ErrorCode::Unauthorized, text);
            return json_reply(StatusCode::FORBIDDEN, &error);
        }
        // Other pages' forms cannot send this type.
        if !is_json(headers) {
            let error = ChatError::invalid_payload("the content type must be application/json");
            return json_reply(StatusCode::UNSUPPORTED_MEDIA_TYPE, &error);
        }
        let Ok(TokenRequest { id }) = serde_json::from_slice(body) else {
            let error = ChatError::invalid_payload("the body must be {\"id\": \"a user id\"}");
            return json_reply(StatusCode::BAD_REQUEST, &error);
        };
        match self.sign(&id) {
            Ok(token) => {
                let mut response =
                    json_reply(StatusCode::OK, &json!({"token": token, "userId": id}));
                let never = HeaderValue::from_static("no-store");
                response.headers_mut().insert(CACHE_CONTROL, never);
                response
            }
            Err(error) => {
                let error = ChatError::invalid_payload(error.to_string());
                json_reply(StatusCode::BAD_REQUEST, &error)
            }
        }
    }

    /// As `chat-server token` does.
    fn sign(&self, id: &str) -> Result<String, TokenError> {
        let args = TokenArgs {
            user_id: id.to_owned(),
            claims: None,
            ttl: None,
            force: false,
        };
        cli::run_token(&self.config, &args)
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let given = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let (kind, _) = given.split_once(';').unwrap_or((given, ""));
    kind.trim().eq_ignore_ascii_case("application/json")
}
