//! The HTTP routes.

use std::convert::Infallible;
use std::sync::Arc;

use http::StatusCode;
use serde_json::json;
use warp::filters::BoxedFilter;
use warp::reject::{LengthRequired, PayloadTooLarge};
use warp::reply::Response;
use warp::{Filter, Rejection};

use super::reply::{json_reply, text_reply};
use super::{Gateway, upgrade, web};

/// The wire protocol for programs.
const ASYNCAPI: &str = include_str!("../../asyncapi.yaml");

/// Every route of the server; what matches none is answered in JSON too.
pub fn routes(gateway: Arc<Gateway>) -> BoxedFilter<(Response,)> {
    let healthz = warp::path!("healthz")
        .and(warp::get())
        .map(|| json_reply(StatusCode::OK, &json!({"status": "ok"})));
    let ready = gateway.clone();
    let readyz = warp::path!("readyz")
        .and(warp::get())
        .map(move || readiness(&ready));
    let web = gateway.clone();
    let asyncapi = warp::path!("asyncapi.yaml")
        .and(warp::get())
        .map(|| text_reply("application/yaml", ASYNCAPI));
    let ws = warp::path!("ws")
        .and(warp::get())
        .and(warp::header::headers_cloned())
        .and(warp::query::raw().or(warp::any().map(String::new)).unify())
        .and(warp::ext::optional())
        .map(move |headers, query: String, on_upgrade| {
            upgrade::upgrade(&gateway, &headers, &query, on_upgrade)
        });
    healthz
        .or(readyz)
        .unify()
        .or(asyncapi)
        .unify()
        .or(ws)
        .unify()
        .or(web::token_route(web.clone()))
        .unify()
        .or(web::file_route(web))
        .unify()
        .recover(not_found)
        .unify()
        .boxed()
}

fn readiness(gateway: &Gateway) -> Response {
    match gateway.ready() {
        Ok(()) => json_reply(StatusCode::OK, &json!({"status": "ready"})),
        Err(why) => json_reply(
            StatusCode::SERVICE_UNAVAILABLE,
            &json!({"status": "not ready", "message": why.message()}),
        ),
    }
}

async fn not_found(rejection: Rejection) -> Result<Response, Infallible> {
    let (status, code) = if rejection.is_not_found() {
        (StatusCode::NOT_FOUND, "NOT_FOUND")
    } else if rejection.find::<PayloadTooLarge>().is_some() {
        (StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE")
    } else if rejection.find::<LengthRequired>().is_some() {
        (StatusCode::LENGTH_REQUIRED, "LENGTH_REQUIRED")
    } else {
        (StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED")
    };
    let message = "there is /ws for WebSocket clients, /socket.io/ for Socket.IO clients, / for browsers (WEB_CLIENT), /healthz, /readyz and /asyncapi.yaml";
    Ok(json_reply(
        status,
        &json!({"code": code, "message": message}),
    ))
}
