//! The HTTP routes.

use std::convert::Infallible;
use std::sync::Arc;

use http::header::ALLOW;
use http::{HeaderValue, Method, StatusCode};
use serde_json::json;
use warp::filters::BoxedFilter;
use warp::reject::{LengthRequired, PayloadTooLarge, Reject};
use warp::reply::Response;
use warp::{Filter, Rejection};

use super::reply::{json_reply, text_reply};
use super::{Gateway, operations, upgrade, web};

/// The description of the wire protocol for programs.
const ASYNCAPI: &str = include_str!("../../asyncapi.yaml");

/// Every route of the server; a request that matches none is answered in JSON too.
pub fn routes(gateway: Arc<Gateway>) -> BoxedFilter<(Response,)> {
    let probes = operations::probes(gateway.readiness.clone());
    let metrics = operations::metrics(gateway.exposition.clone());
    let web = gateway.clone();
    let asyncapi = warp::path!("asyncapi.yaml")
        .and(only(GET))
        .map(|| text_reply("application/yaml", ASYNCAPI));
    let ws = warp::path!("ws")
        .and(only(GET))
        .and(warp::method())
        .and(warp::header::headers_cloned())
        .and(warp::query::raw().or(warp::any().map(String::new)).unify())
        .and(warp::ext::optional())
        .map(
            move |method, headers, query: String, on_upgrade: Option<_>| {
                let on_upgrade = on_upgrade.filter(|_| method == Method::GET);
                upgrade::upgrade(&gateway, &headers, &query, on_upgrade)
            },
        );
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

/// Answers a request that matched no route; `message` says which routes exist.
pub(super) fn not_found(rejection: &Rejection, message: &str) -> Response {
    if let Some(WrongMethod(allowed)) = rejection.find() {
        return wrong_method(allowed);
    }
    let (status, code) = if rejection.is_not_found() {
        (StatusCode::NOT_FOUND, "NOT_FOUND")
    } else if rejection.find::<PayloadTooLarge>().is_some() {
        (StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE")
    } else if rejection.find::<LengthRequired>().is_some() {
        (StatusCode::LENGTH_REQUIRED, "LENGTH_REQUIRED")
    } else {
        (StatusCode::BAD_REQUEST, "BAD_REQUEST")
    };
    json_reply(status, &json!({"code": code, "message": message}))
}

/// The methods of readable resources: whatever answers GET answers HEAD.
pub(super) const GET: &str = "GET, HEAD";
pub(super) const POST: &str = "POST";

/// The path exists, but not for this method; these are the allowed ones.
#[derive(Debug)]
struct WrongMethod(&'static str);

impl Reject for WrongMethod {}

/// Accepts only these methods, which are written as in `Allow`. Use it after the path: any other method is answered
/// 405.
pub(super) fn only(
    allowed: &'static str,
) -> impl Filter<Extract = (), Error = Rejection> + Clone + Send + Sync + 'static {
    let matches = move |method: Method| {
        let is_allowed = allowed.split(", ").any(|name| name == method.as_str());
        let wrong = || warp::reject::custom(WrongMethod(allowed));
        std::future::ready(is_allowed.then_some(()).ok_or_else(wrong))
    };
    warp::method().and_then(matches).untuple_one()
}

/// Answers a request whose method its path does not support.
pub(super) fn wrong_method(allowed: &'static str) -> Response {
    let message = format!("this address is for {allowed}");
    let body = json!({"code": "METHOD_NOT_ALLOWED", "message": message});
    let mut response = json_reply(StatusCode::METHOD_NOT_ALLOWED, &body);
    let allowed = HeaderValue::from_static(allowed);
    response.headers_mut().insert(ALLOW, allowed);
    response
}
