//! HTTP answers in JSON.

use http::StatusCode;
use warp::reply::{Reply, Response};

/// A JSON body with a status.
pub fn json_reply(status: StatusCode, body: &impl serde::Serialize) -> Response {
    warp::reply::with_status(warp::reply::json(body), status).into_response()
}
