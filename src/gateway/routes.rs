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
use super::{Gateway, operations, upgrade, web};

/// The wire protocol for programs.
const ASYNCAPI: &str = include_str!("../../asyncapi.yaml");

/// Every route of the server; what matches none is answered in JSON too.
pub fn routes(gateway: Arc<Gateway>) -> BoxedFilter<(Response,)> {
    let probes = operations::probes(gateway.readiness.clone());
    let metrics = operations::metrics(gateway.exposition.clone());
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
    let there = "there is /ws for WebSocket clients, /socket.io/ for Socket.IO clients, / for browsers (WEB_CLIENT), /healthz, /readyz and /asyncapi.yaml";
    probes
        .or(metrics)
        .unify()
        .or(asyncapi)
        .unify()
        .or(ws)
        .unify()
        .or(web::token_route(web.clone()))
        .unify()
        .or(web::file_route(web))
        .unify()
        .recover(move |rejection: Rejection| async move {
            Ok::<_, Infallible>(not_found(&rejection, there))
        })
        .unify()
        .boxed()
}

/// Answers what no route took; `message` says which there are.
pub(super) fn not_found(rejection: &Rejection, message: &str) -> Response {
    let (status, code) = if rejection.is_not_found() {
        (StatusCode::NOT_FOUND, "NOT_FOUND")
    } else if rejection.find::<PayloadTooLarge>().is_some() {
        (StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE")
    } else if rejection.find::<LengthRequired>().is_some() {
        (StatusCode::LENGTH_REQUIRED, "LENGTH_REQUIRED")
    } else {
        (StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED")
    };
    json_reply(status, &json!({"code": code, "message": message}))
}
