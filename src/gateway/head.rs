//! Requirements on the head of a request before anything else reads it (RFC 9112, 3.2).

use http::header::HOST;
use http::uri::Authority;
use http::{HeaderValue, Method, Request, StatusCode, Version};
use serde_json::json;
use warp::reply::Response;

use super::reply::json_reply;

/// What is wrong with a request's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadHead {
    #[error("the request target must be a path or an http address")]
    Target,
    #[error("there must be exactly one Host: a name or an address, with or without a port")]
    Host,
}

impl BadHead {
    pub(super) fn reply(self) -> Response {
        let body = json!({"code": "BAD_REQUEST", "message": self.to_string()});
        json_reply(StatusCode::BAD_REQUEST, &body)
    }
}

/// Checks the target of a request. An absolute URI as the target is split: its host is the one that counts.
pub(super) fn check<B>(request: &mut Request<B>) -> Result<(), BadHead> {
    let (uri, method) = (request.uri(), request.method());
    let is_whole = matches!(uri.scheme_str(), Some("http" | "https"));
    let leads_somewhere = match uri.path() {
        // The server as a whole
        "*" => method == Method::OPTIONS,
        // A host name without a path is a request for a tunnel to a proxy.
        path => path.starts_with('/') && (is_whole || uri.authority().is_none()),
    };
    if !leads_somewhere || method == Method::CONNECT {
        return Err(BadHead::Target);
    }
    let mut hosts = request.headers().get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if request.version() == Version::HTTP_10 => {}
        (Some(host), None) if is_host(host) => {}
        _ => return Err(BadHead::Host),
    }
    if let Some(authority) = request.uri().authority() {
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| BadHead::Target)?;
        request.headers_mut().insert(HOST, host);
    }
    Ok(())
}

fn is_host(value: &HeaderValue) -> bool {
    let authority = value.to_str().ok().map(str::parse::<Authority>);
    // A user name and password do not belong there.
    authority.is_some_and(|authority| authority.is_ok_and(|host| !host.as_str().contains('@')))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn checked(method: &str, target: &str, hosts: &[&str]) -> Result<Option<String>, BadHead> {
        let mut request = Request::builder().method(method).uri(target);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        let mut request = request.body(()).unwrap();
        check(&mut request)?;
        let host = request.headers().get(HOST);
        Ok(host.map(|host| host.to_str().unwrap().to_owned()))
    }

    #[test]
    fn targets_are_paths_or_whole_addresses() {
        for good in ["/", "/ws?token=%zz", "//", "/%", "http://x/", "http://x?y"] {
            assert!(checked("GET", good, &["x"]).is_ok(), "{good}");
        }
        for bad in ["x", "x:80", "*", "ftp://x/"] {
            assert_eq!(checked("GET", bad, &["x"]), Err(BadHead::Target), "{bad}");
        }
        assert!(checked("OPTIONS", "*", &["x"]).is_ok());
        for target in ["x:80", "/"] {
            assert_eq!(checked("CONNECT", target, &["x"]), Err(BadHead::Target));
        }
    }

    #[test]
    fn there_is_one_host_and_that_of_the_target_counts() {
        for bad in [&[][..], &["x", "x"], &["x y"], &["me@x"], &[""], &["x/y"]] {
            assert_eq!(checked("GET", "/", bad), Err(BadHead::Host), "{bad:?}");
        }
        for good in ["chat.example:3000", "[::1]:3000", "127.0.0.1"] {
            assert_eq!(checked("GET", "/", &[good]), Ok(Some(good.to_owned())));
        }
        let both = checked("GET", "http://other.example/ws", &["chat.example"]);
        assert_eq!(both, Ok(Some("other.example".to_owned())));
    }
}
