//! The headers that tell browsers which pages may use the server (CORS,
//! <https://fetch.spec.whatwg.org/#http-cors-protocol>).

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD,
    ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue};

use super::origin;
use crate::config::AllowedOrigins;

/// The request headers that the answer depends on, for caches.
const DEPENDS_ON: HeaderValue = HeaderValue::from_static(
    "origin, access-control-request-method, access-control-request-headers",
);

/// The headers of an answer to a request with these headers.
pub(super) fn headers(allowed: &AllowedOrigins, request: &HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(VARY, DEPENDS_ON);
    match allowed {
        AllowedOrigins::Any => {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        }
        AllowedOrigins::List(_) | AllowedOrigins::ThisMachine(_) => {
            let origin = request.get(ORIGIN);
            if let Some(origin) = origin.filter(|origin| origin::is_named(allowed, origin)) {
                headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            }
            let yes = HeaderValue::from_static("true");
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
        }
    }
    headers
}

/// The headers of the answer to a browser's preflight request, which asks whether a page may make a request: everything
/// that it names is allowed.
pub(super) fn preflight(allowed: &AllowedOrigins, request: &HeaderMap) -> HeaderMap {
    let mut headers = headers(allowed, request);
    let asked = [
        (ACCESS_CONTROL_REQUEST_METHOD, ACCESS_CONTROL_ALLOW_METHODS),
        (ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_ALLOW_HEADERS),
    ];
    for (asked, allowed) in asked {
        if let Some(value) = request.get(asked) {
            headers.insert(allowed, value.clone());
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn asked_by(origin: &str) -> HeaderMap {
        let pairs = [
            (ORIGIN, origin),
            (ACCESS_CONTROL_REQUEST_METHOD, "POST"),
            (ACCESS_CONTROL_REQUEST_HEADERS, "token,content-type"),
        ];
        let pairs = pairs.map(|(name, value)| (name, value.parse().unwrap()));
        HeaderMap::from_iter(pairs)
    }

    #[test]
    fn listed_pages_may_send_their_credentials_and_what_they_ask_for() {
        let allowed = AllowedOrigins::List(vec!["https://a.example".to_owned()]);
        let told = preflight(&allowed, &asked_by("https://a.example"));
        assert_eq!(told[ACCESS_CONTROL_ALLOW_ORIGIN], "https://a.example");
        assert_eq!(told[ACCESS_CONTROL_ALLOW_CREDENTIALS], "true");
        assert_eq!(told[ACCESS_CONTROL_ALLOW_METHODS], "POST");
        assert_eq!(told[ACCESS_CONTROL_ALLOW_HEADERS], "token,content-type");
        assert!(told[VARY].to_str().unwrap().starts_with("origin"));
        for foreign in ["https://b.example", "https://a.example.evil", "null"] {
            let told = preflight(&allowed, &asked_by(foreign));
            assert!(!told.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN), "{foreign}");
        }
    }

    #[test]
    fn where_every_page_may_come_none_sends_credentials() {
        let told = headers(&AllowedOrigins::Any, &asked_by("https://b.example"));
        assert_eq!(told[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert!(!told.contains_key(ACCESS_CONTROL_ALLOW_CREDENTIALS));
        assert!(!told.contains_key(ACCESS_CONTROL_ALLOW_METHODS));
    }
}
