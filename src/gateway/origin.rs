//! Which web pages may use this server from a browser.

use std::net::IpAddr;

use http::HeaderMap;
use http::header::{HOST, ORIGIN};
use http::uri::Authority;

use crate::config::AllowedOrigins;

/// Whether the request comes from a page that may use the server, or from no page at all.
///
/// A browser says in `Origin` which page it runs; other clients send none. The server's own pages may always.
pub fn is_allowed(allowed: &AllowedOrigins, headers: &HeaderMap) -> bool {
    let listed = |list: &[String]| {
        let origin = headers.get(ORIGIN);
        list.iter()
            .any(|listed| origin.is_some_and(|origin| origin == listed.as_str()))
    };
    match allowed {
        AllowedOrigins::Any => true,
        AllowedOrigins::List(list) => listed(list) || is_own(headers),
    }
}

/// Whether the request comes from one of the server's own pages, or from no page at all.
pub fn is_own(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(ORIGIN) else {
        return true;
    };
    let page_host = origin
        .to_str()
        .ok()
        .and_then(|origin| origin.split_once("://"))
        .map(|(_, host)| host);
    page_host.is_some() && page_host == host(headers)
}

/// Whether the address that the client used names this machine. A page of a foreign name that was made to lead here (DNS
/// rebinding) looks like the server's own but for this.
pub fn is_for_this_machine(headers: &HeaderMap) -> bool {
    let Some(authority) = host(headers).and_then(|host| host.parse::<Authority>().ok()) else {
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
