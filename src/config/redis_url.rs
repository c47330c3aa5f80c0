//! The address of a Redis: what is accepted, and how it is shown without its password.

use std::net::IpAddr;

use url::Url;

/// The driver parses the address, so that what passes here is what it can use.
pub(super) fn check(text: &str) -> Result<(), String> {
    let url = redis::parse_redis_url(text).ok_or("it is not an address of a Redis")?;
    if url.fragment().is_some() {
        return Err("nothing may come after #".to_owned());
    }
    let info = redis::IntoConnectionInfo::into_connection_info(text).map_err(|error| {
        // The kind of the error that follows the dash says no more.
        let text = error.to_string().to_lowercase();
        text.split(" - ").next().unwrap_or_default().to_owned()
    })?;
    // The driver ignores ?db= in an address of a host.
    let db_in_query = url.query_pairs().any(|(key, db)| key == "db" && db != "0");
    if info.redis_settings().db() != 0 || db_in_query {
        return Err("it names a database other than 0".to_owned());
    }
    Ok(())
}

/// Whether it is the address of a Redis on this machine: a socket's, or one of loopback's.
pub(super) fn is_local(text: &str) -> bool {
    let Some(url) = redis::parse_redis_url(text) else {
        return false;
    };
    match url.host_str() {
        None | Some("" | "localhost") => true,
        Some(host) => host
            .trim_matches(['[', ']'])
            .parse()
            .is_ok_and(|host: IpAddr| host.is_loopback()),
    }
}

/// An address of a Redis without its secrets. It is shown only where each of its parts is what it should be: elsewhere
/// there is no saying where the password is.
pub(super) fn masked(text: &str) -> String {
    let shown = redis::parse_redis_url(text).and_then(|url| shown(text, &url));
    shown.unwrap_or_else(|| "the value (not shown: it may hold a password)".to_owned())
}

fn shown(text: &str, url: &Url) -> Option<String> {
    let socket = url.host_str().is_none_or(str::is_empty);
    let path = url.path();
    let is_path_plain = match socket {
        true => is_plain(path, "/._-~+"),
        // The number of a database
        false => path
            .trim_start_matches('/')
            .chars()
            .all(|c| c.is_ascii_digit()),
    };
    let is_host_plain = url.host_str().is_none_or(|host| is_plain(host, ".-_[]:"));
    // More than one @ is one in a password that should have been written as %40, or several addresses.
    if !is_path_plain || !is_host_plain || url.fragment().is_some() || text.matches('@').count() > 1
    {
        return None;
    }
    let host = url.host_str().unwrap_or_default();
    let port = url
        .port()
        .map(|port| format!(":{port}"))
        .unwrap_or_default();
    let (user, query) = (user_shown(url)?, query_shown(url)?);
    Some(format!(
        "{}://{user}{host}{port}{path}{query}",
        url.scheme()
    ))
}

/// The user is shown where there is a password beside it: alone it may well be the password.
fn user_shown(url: &Url) -> Option<String> {
    match (url.username(), url.password()) {
        ("", None) => Some(String::new()),
        (_, None) => Some(format!("{MASK}@")),
        (user, Some(_)) => is_plain(user, "._-").then(|| format!("{user}:{MASK}@")),
    }
}

/// The query, with all values masked but those that are known to be none to hide.
fn query_shown(url: &Url) -> Option<String> {
    let mut query = String::new();
    for (name, value) in url.query_pairs() {
        let value = match &*name {
            "db" | "protocol" | "user" if is_plain(&value, "._-") => &*value,
            "pass" | "password" => MASK,
            _ => return None,
        };
        let separator = if query.is_empty() { '?' } else { '&' };
        query.push_str(&format!("{separator}{name}={value}"));
    }
    Some(query)
}

/// Stands for what is not shown.
const MASK: &str = "***";

fn is_plain(text: &str, also: &str) -> bool {
    text.chars()
        .all(|c| c.is_ascii_alphanumeric() || also.contains(c))
}
