//! Endpoints for operators and their programs: `/healthz`, `/readyz`, `/metrics`; on the clients' port, or on one of
//! their own.

use std::convert::Infallible;
use std::sync::Arc;

use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use warp::filters::BoxedFilter;
use warp::reply::Response;
use warp::{Filter, Rejection};

use super::accept::ACCEPT_PAUSE;
use super::connection::serve;
use super::guests::Guests;
use super::readiness::Readiness;
use super::reply::json_reply;
use super::routes::{GET, not_found, only};
use crate::config::Timing;
use crate::metrics::{self, Exposition};

/// Connections to the operators' port, at most.
const CONNECTIONS: usize = 64;

/// `/healthz` and `/readyz`.
pub(super) fn probes(readiness: Readiness) -> BoxedFilter<(Response,)> {
    let healthz = warp::path!("healthz")
        .and(only(GET))
        .map(|| json_reply(StatusCode::OK, &json!({"status": "ok"})));
    let readyz = warp::path!("readyz")
        .and(only(GET))
        .map(move || ready(&readiness));
    healthz.or(readyz).unify().boxed()
}

fn ready(readiness: &Readiness) -> Response {
    let mut body = json!({"status": "ready", "checks": readiness.checks()});
    let missing = readiness.missing_rights();
    if !missing.is_empty() {
        body["missingRights"] = json!(&*missing);
    }
    let others = readiness.others.borrow().clone();
    if !others.versions.is_empty() {
        body["otherVersions"] = json!(others.versions);
    }
    if others.silent > 0 {
        body["silentServers"] = json!(others.silent);
    }
    let status = match readiness.ready() {
        Ok(()) => StatusCode::OK,
        Err(why) => {
            body["status"] = json!("not ready");
            body["message"] = json!(why.message());
            StatusCode::SERVICE_UNAVAILABLE
        }
    };
    json_reply(status, &body)
}

/// `/metrics`; absent without an exposition.
pub(super) fn metrics(exposition: Option<Arc<Exposition>>) -> BoxedFilter<(Response,)> {
    let there = move || {
        let exposition = exposition.clone();
        std::future::ready(exposition.ok_or_else(warp::reject::not_found))
    };
    warp::path!("metrics")
        .and_then(there)
        .and(only(GET))
        .then(async |exposition: Arc<Exposition>| written(exposition.text().await))
        .boxed()
}

fn written(text: Option<String>) -> Response {
    let Some(text) = text else {
        let message = "the server is shutting down";
        return json_reply(
            StatusCode::SERVICE_UNAVAILABLE,
            &json!({"message": message}),
        );
    };
    let mut response = Response::new(text.into());
    let kind = HeaderValue::from_static(metrics::CONTENT_TYPE);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// Answers on the operators' port until `cancel`, even while the server closes its devices' connections.
pub async fn serve_operations(
    listener: TcpListener,
    readiness: Readiness,
    exposition: Arc<Exposition>,
    timing: Timing,
    cancel: CancellationToken,
) {
    let there = "there is /metrics, /healthz and /readyz";
    let routes = probes(readiness)
        .or(metrics(Some(exposition)))
        .unify()
        .recover(move |rejection: Rejection| async move {
            Ok::<_, Infallible>(not_found(&rejection, there))
        })
        .unify();
    let service = TowerToHyperService::new(warp::service(routes));
    let (tasks, guests) = (TaskTracker::new(), Guests::new(CONNECTIONS, 0));
    while let Some((accepted, permit)) = cancel
        .run_until_cancelled(async {
            let permit = guests.permit().await;
            (listener.accept().await, permit)
        })
        .await
    {
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                log::warn!("cannot accept a connection to the metrics: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let guest = guests.enter(permit);
        let (service, timing, cancel) = (service.clone(), timing.clone(), cancel.clone());
        tasks.spawn(async move {
            serve(stream, guest, service, &timing, &cancel).await;
        });
    }
    tasks.close();
    tasks.wait().await;
}
