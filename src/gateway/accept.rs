//! The accept loop, one task per TCP connection, and how its requests are routed: Socket.IO, CORS, warp's routes.
//!
//! warp's own server is not used: it sets no time limits, and its shutdown does not wait for upgraded sockets.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;

use super::admission::query_value;
use super::connection::{Body, boxed, serve};
use super::engine::{Engine, PATH};
use super::reply::{json_reply, unavailable};
use super::{Gateway, cors, origin, routes, upgrade};
use crate::error::{ChatError, ErrorCode};

/// The methods of the Socket.IO transports; browsers send OPTIONS to ask for permission.
const METHODS: &str = "GET, POST, OPTIONS";
/// Pause after a failed accept: running out of file descriptors, for example, does not pass at once.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections until the server stops.
pub async fn accept(gateway: Arc<Gateway>, listener: TcpListener) {
    let service = service(gateway.clone());
    loop {
        let accepted = async {
            // While too many connections are about to close, new ones wait in the kernel's backlog.
            let permit = gateway.guests.permit().await;
            (listener.accept().await, permit)
        };
        let (accepted, permit) = tokio::select! {
            () = gateway.stopping.cancelled() => return,
            accepted = accepted => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                log::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let guest = gateway.guests.enter(permit);
        let (served, service) = (gateway.clone(), service.clone());
        gateway.tasks.spawn(async move {
            serve(stream, guest, service, &served.timing, &served.stopping).await;
        });
    }
}

/// Socket.IO, warp's routes alongside it, and the CORS headers for both.
fn service(
    gateway: Arc<Gateway>,
) -> impl Service<Request<Incoming>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone
{
    let engine = Engine::new(gateway.clone());
    let routes = TowerToHyperService::new(warp::service(routes::routes(gateway.clone())));
    service_fn(move |request: Request<Incoming>| {
        let (gateway, engine, routes) = (gateway.clone(), engine.clone(), routes.clone());
        async move {
            if let Some(refusal) = refusal(&gateway, &request) {
                return Ok(refusal.map(boxed));
            }
            if request.method() == Method::OPTIONS {
                let mut answer = Response::new(boxed(Empty::new()));
                *answer.headers_mut() = cors::preflight(&gateway.origins, request.headers());
                return Ok(answer);
            }
            let told = cors::headers(&gateway.origins, request.headers());
            let mut answer = if is_socket_io(&request) {
                engine.answer(request).await
            } else {
                routes.call(request).await?.map(boxed)
            };
            answer.headers_mut().extend(told);
            Ok(answer)
        }
    })
}

fn is_socket_io(request: &Request<Incoming>) -> bool {
    let rest = request.uri().path().strip_prefix(PATH);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Refuses requests before a session begins: Socket.IO clients on foreign pages, requests that do not use HTTP as the
/// transports do, and every new client while the server is full.
fn refusal(gateway: &Gateway, request: &Request<Incoming>) -> Option<warp::reply::Response> {
    if !is_socket_io(request) {
        return None;
    }
    if !origin::is_allowed(&gateway.origins, request.headers()) {
        let error = ChatError::new(
            ErrorCode::Unauthorized,
            "pages of this origin may not use the server",
        );
        gateway.metrics.refused(error.code);
        return Some(json_reply(StatusCode::FORBIDDEN, &error));
    }
    if !METHODS
        .split(", ")
        .any(|name| name == request.method().as_str())
    {
        return Some(routes::wrong_method(METHODS));
    }
    let query = request.uri().query().unwrap_or_default();
    if query_value(query, "transport") == Some("websocket") && !upgrade::is_asked(request) {
        return Some(upgrade::no_upgrade(gateway));
    }
    let is_new = query_value(query, "sid").is_none();
    if !is_new || request.method() == Method::OPTIONS {
        return None;
    }
    let denied = gateway.room().err()?;
    let wait = denied.wait();
    let error = ChatError::from(denied);
    gateway.metrics.refused(error.code);
    Some(unavailable(wait, &error))
}
