//! HTTP answers.

use http::StatusCode;
use http::header::CONTENT_TYPE;
use warp::reply::{Reply, Response};

/// A JSON body with a status.
pub fn json_reply(status: StatusCode, body: &impl serde::Serialize) -> Response {
    warp::reply::with_status(warp::reply::json(body), status).into_response()
}

/// A text of this media type.
pub fn text_reply(media_type: &'static str, text: &'static str) -> Response {
    warp::reply::with_header(text, CONTENT_TYPE, media_type).into_response()
}
