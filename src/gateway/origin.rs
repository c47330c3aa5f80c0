//! Which web pages may use this server from a browser.

use std::net::IpAddr;

use http::header::{HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue};

use crate::config::{AllowedOrigins, normal_origin};

/// Whether the request comes from a page that may use the server, or from no page at all.
///
/// A browser sends its page's origin in `Origin`; other clients send none.
pub fn is_allowed(allowed: &AllowedOrigins, headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(ORIGIN) else {
        return true;
    };
    // In development a page of the server's own is either one of this machine, or its name was made to resolve here.
    let own_counts = matches!(allowed, AllowedOrigins::List(_));
    is_named(allowed, origin) || own_counts && is_own(headers)
}

/// Whether the settings list this origin as one whose pages may use the server.
pub(super) fn is_named(allowed: &AllowedOrigins, origin: &HeaderValue) -> bool {
    let origin_text = origin.to_str().map(normal_origin).unwrap_or_default();
    let is_in = |list: &[String]| list.contains(&origin_text);
    match allowed {
        AllowedOrigins::Any => true,
        AllowedOrigins::List(list) => is_in(list),
        AllowedOrigins::ThisMachine(list) => {
            is_in(list) || host_of(origin).is_some_and(is_loopback)
        }
    }
}

/// Whether the request comes from one of the server's own pages, or from no page at all.
pub fn is_own(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(ORIGIN) else {
        return true;
    };
    let own = || {
        let origin = origin.to_str().ok()?;
        let (scheme, _) = origin.split_once("://")?;
        let own = format!("{scheme}://{}", host(headers)?);
        Some(normal_origin(origin) == normal_origin(&own))
    };
    own().unwrap_or(false)
}

/// The host and port of an origin's pages; `None` for `null`.
fn host_of(origin: &HeaderValue) -> Option<&str> {
    let (_, host) = origin.to_str().ok()?.split_once("://")?;
    Some(host)
}

/// Whether the address that the client used names this machine. Only this distinguishes the server's own pages from a
/// page of a foreign name that was made to resolve here (DNS rebinding).
pub fn is_for_this_machine(headers: &HeaderMap) -> bool {
    host(headers).is_some_and(is_loopback)
}

/// Whether a host, with or without a port, is this machine and no other.
fn is_loopback(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else {
        return false;
    };
    let name = authority.host().trim_matches(['[', ']']);
    name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

fn host(headers: &HeaderMap) -> Option<&str> {
    headers.get(HOST).and_then(|host| host.to_str().ok())
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
        assert!(is_own(&headers("http://chat.example:3000")));
        assert!(!is_own(&headers("https://a.example")));
        assert!(!is_own(&headers("null")));
    }

    #[test]
    fn in_development_only_pages_of_this_machine_may_come_and_those_listed() {
        let allowed = AllowedOrigins::ThisMachine(vec!["https://a.example".to_owned()]);
        let may = |origin: &str, host: &str| {
            let pairs = [(ORIGIN, origin), (HOST, host)];
            let headers = pairs.map(|(name, value)| (name, value.parse().unwrap()));
            is_allowed(&allowed, &HeaderMap::from_iter(headers))
        };
        for origin in [
            "http://localhost",
            "http://localhost:5173",
            "https://LOCALHOST:5173",
            "http://127.0.0.1:3000",
            "http://127.8.8.8",
            "http://[::1]:8080",
            "capacitor://localhost",
            "https://a.example",
        ] {
            assert!(may(origin, "127.0.0.1:3000"), "{origin}");
        }
        for origin in [
            "http://evil.example",
            "https://evil.example:3000",
            "http://localhost.evil.example",
            "http://localhost@evil.example",
            "http://evil.example/://localhost",
            "http://127.0.0.1.evil.example",
            "http://192.168.0.7:3000",
            "http://[::ffff:192.0.2.1]",
            "localhost",
            "file://",
            "null",
            "",
        ] {
            assert!(!may(origin, "127.0.0.1:3000"), "{origin}");
        }
        // A name that was made to resolve here looks like the server's own
        assert!(!may("http://evil.example:3000", "evil.example:3000"));
        assert!(is_allowed(&allowed, &HeaderMap::new()));
    }

    #[test]
    fn only_some_names_are_this_machines() {
        let names = |host: &str| HeaderMap::from_iter([(HOST, host.parse().unwrap())]);
        for own in [
            "localhost",
            "LOCALHOST:3000",
            "127.0.0.1:3000",
            "[::1]:3000",
        ] {
            assert!(is_for_this_machine(&names(own)), "{own}");
        }
        for other in [
            "evil.example:3000",
            "localhost.evil.example",
            "192.0.2.1:3000",
            "",
        ] {
            assert!(!is_for_this_machine(&names(other)), "{other}");
        }
        assert!(!is_for_this_machine(&HeaderMap::new()));
    }
}
