//! Which web pages may use this server from a browser.

use http::HeaderMap;
use http::header::{HOST, ORIGIN};

use crate::config::AllowedOrigins;

/// Whether the request comes from a page that may use the server, or from no page at all.
///
/// A browser says in `Origin` which page it runs; other clients send none. The server's own pages may always.
pub fn is_allowed(allowed: &AllowedOrigins, headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(ORIGIN) else {
        return true;
    };
    let Ok(origin) = origin.to_str() else {
        return false;
    };
    let own = || {
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        origin.split_once("://").map(|(_, page_host)| page_host) == host
    };
    match allowed {
        AllowedOrigins::Any => true,
        AllowedOrigins::List(list) => list.iter().any(|listed| listed == origin) || own(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_listed_pages_and_the_servers_own_may_come() {
        let listed = AllowedOrigins::List(vec!["https://a.example".to_owned()]);
        let headers = |origin: &str| {
            let pairs = [(ORIGIN, origin), (HOST, "chat.example:3000")];
            pairs
                .into_iter()
                .map(|(name, value)| (name, value.parse().unwrap()))
                .collect::<HeaderMap>()
        };
        assert!(is_allowed(&listed, &HeaderMap::new()));
        assert!(is_allowed(&listed, &headers("https://a.example")));
        assert!(is_allowed(&listed, &headers("http://chat.example:3000")));
        assert!(!is_allowed(&listed, &headers("https://a.example.evil")));
        assert!(!is_allowed(&listed, &headers("null")));
        assert!(is_allowed(
            &AllowedOrigins::Any,
            &headers("https://b.example")
        ));
    }
}
