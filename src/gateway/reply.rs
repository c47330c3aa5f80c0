//! HTTP answers.

use std::time::Duration;

use http::StatusCode;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use uuid::Uuid;
use warp::reply::{Reply, Response};

/// How soon to come back, at the earliest, to a server that accepts nobody right now.
const COME_BACK_AFTER: Duration = Duration::from_secs(1);

/// A JSON body with a status.
pub fn json_reply(status: StatusCode, body: &impl serde::Serialize) -> Response {
    warp::reply::with_status(warp::reply::json(body), status).into_response()
}

/// A text with this media type.
pub fn text_reply(media_type: &'static str, text: &'static str) -> Response {
    warp::reply::with_header(text, CONTENT_TYPE, media_type).into_response()
}

/// 503, with a time to come back: at some moment within the next `wait`, so that clients return as fast as others are
/// served.
pub fn unavailable(wait: Option<Duration>, body: &impl serde::Serialize) -> Response {
    let earliest_ms = COME_BACK_AFTER.as_millis();
    let spread_ms = wait.unwrap_or_default().as_millis().max(earliest_ms);
    let later_ms = Uuid::new_v4().as_u128() % spread_ms;
    let after_secs = (earliest_ms + later_ms).div_ceil(1000);
    let reply = json_reply(StatusCode::SERVICE_UNAVAILABLE, body);
    warp::reply::with_header(reply, RETRY_AFTER, after_secs.to_string()).into_response()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn who_is_sent_away_comes_back_at_times_that_are_spread_out() {
        let mut times = HashSet::new();
        for _ in 0..200 {
            let response = unavailable(Some(Duration::from_secs(20)), &"");
            let after = response.headers()[RETRY_AFTER].to_str().unwrap();
            let after: u64 = after.parse().unwrap();
            assert!((1..=21).contains(&after), "{after}");
            times.insert(after);
        }
        assert!(times.len() > 10, "{times:?}");
    }
}
