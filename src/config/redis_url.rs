//! The address of a Redis: what is accepted, and how it is shown without its password.

use std::borrow::Cow;
use std::net::IpAddr;

/// The driver parses the address, so that what passes here is what it can use.
pub(super) fn check(text: &str) -> Result<(), String> {
    let url = redis::parse_redis_url(text).ok_or("it is not an address of a Redis")?;
    if url.fragment().is_some() {
        return Err("what stands after # is not supported".to_owned());
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

/// An address of a Redis without its password. What can't be parsed is not shown at all.
pub(super) fn masked(text: &str) -> String {
    let Some(mut url) = redis::parse_redis_url(text) else {
        return "the value (not shown: it may hold a password)".to_owned();
    };
    if url.password().is_some() {
        // It fails only for addresses that can't have a password.
        let _ = url.set_password(Some("***"));
    }
    let has_password = url.query_pairs().any(|(key, _)| key == "pass");
    if has_password {
        let mask = |(key, value): (Cow<'_, str>, Cow<'_, str>)| {
            let shown = if key == "pass" { "***".into() } else { value };
            (key.into_owned(), shown.into_owned())
        };
        let pairs: Vec<(String, String)> = url.query_pairs().map(mask).collect();
        url.query_pairs_mut().clear().extend_pairs(pairs);
    }
    url.to_string()
}
