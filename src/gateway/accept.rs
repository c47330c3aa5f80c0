//! The accept loop: one task for each TCP connection, small buffers, a time limit on headers.
//!
//! warp's own server is not used: it sets no header timeout, and its shutdown does not wait for upgraded sockets.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use engineioxide::service::EngineIoService;
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower::Layer;
use tower_http::cors::{AllowHeaders, AllowMethods, AllowOrigin, CorsLayer};

use super::admission::query_value;
use super::joining::Transports;
use super::reply::json_reply;
use super::socket_io::{Door, PATH};
use super::{Gateway, engine_io, origin, routes};
use crate::config::AllowedOrigins;
use crate::error::{ChatError, ErrorCode};

/// Bytes of a request's head, at most.
const HEAD_MAX_BYTES: usize = 16 * 1024;
/// HTTP connections beside the devices: those being upgraded, those that poll, health checks.
const EXTRA_CONNECTIONS: usize = 1024;
/// Pause after a failed accept: out of file descriptors, for one, does not pass at once.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long requests under way may take when the server ends.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// Accepts connections until the server stops.
pub async fn accept(gateway: Arc<Gateway>, listener: TcpListener) {
    let service = service(gateway.clone());
    // Past the limit connections wait in the kernel's backlog.
    let places = Arc::new(Semaphore::new(
        gateway.limits.max_connections + EXTRA_CONNECTIONS,
    ));
    loop {
        let accepted = async {
            let place = places.clone().acquire_owned().await;
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
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
        let (header_timeout, stopping) = (gateway.timing.header_timeout, gateway.stopping.clone());
        let connection = serve(stream, service.clone(), header_timeout, stopping);
        gateway.tasks.spawn(async move {
            connection.await;
            drop(place);
        });
    }
}

/// warp's routes with the Socket.IO door before them, and CORS before both.
fn service(
    gateway: Arc<Gateway>,
) -> impl Service<Request<Incoming>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone
{
    let transports = Transports::default();
    let door = Arc::new(Door::new(gateway.clone(), transports.clone()));
    let routes = warp::service(routes::routes(gateway.clone()));
    let both = EngineIoService::with_config_inner(routes, door.clone(), door.config());
    let inner = TowerToHyperService::new(cors(&gateway.origins).layer(both));
    service_fn(move |mut request: Request<Incoming>| {
        let answer = refusal(&gateway, &door, &request).or_else(|| {
            is_socket_io(&request)
                .then(|| engine_io::upgrade(&gateway, &transports, &mut request))
                .flatten()
        });
        let inner = inner.clone();
        async move {
            match answer {
                Some(answer) => Ok(answer.map(boxed)),
                None => inner
                    .call(request)
                    .await
                    .map(|response| response.map(boxed)),
            }
        }
    })
}

fn boxed<B>(body: B) -> Body
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    body.map_err(Into::into).boxed_unsync()
}

/// What browsers are told of who may use the server.
fn cors(origins: &AllowedOrigins) -> CorsLayer {
    let layer = CorsLayer::new()
        .allow_methods(AllowMethods::mirror_request())
        .allow_headers(AllowHeaders::mirror_request());
    match origins {
        AllowedOrigins::Any => layer.allow_origin(AllowOrigin::any()),
        AllowedOrigins::List(list) => {
            let list = list.iter().filter_map(|origin| origin.parse().ok());
            layer
                .allow_origin(AllowOrigin::list(list))
                .allow_credentials(true)
        }
    }
}

fn is_socket_io(request: &Request<Incoming>) -> bool {
    request.uri().path().starts_with(PATH)
}

/// Who is not even let in to say who they are: Socket.IO clients of foreign pages, or while there is no room.
fn refusal(
    gateway: &Gateway,
    door: &Door,
    request: &Request<Incoming>,
) -> Option<warp::reply::Response> {
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
    let is_new = query_value(request.uri().query().unwrap_or_default(), "sid").is_none();
    let unavailable = |text| {
        json_reply(
            StatusCode::SERVICE_UNAVAILABLE,
            &ChatError::new(ErrorCode::Unavailable, text),
        )
    };
    let refusal = match gateway.ready() {
        _ if !is_new || request.method() == Method::OPTIONS => None,
        Err(why) => Some(unavailable(why.message())),
        Ok(()) if !door.has_room() || gateway.seats.available_permits() == 0 => {
            Some(unavailable("the server has too many connections"))
        }
        Ok(()) => None,
    };
    if refusal.is_some() {
        gateway.metrics.refused(ErrorCode::Unavailable);
    }
    refusal
}

/// Serves one connection, to its end or until `stopping`.
pub(super) async fn serve<S, B>(
    stream: TcpStream,
    service: S,
    header_timeout: Duration,
    stopping: CancellationToken,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: hyper::body::Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if let Err(error) = stream.set_nodelay(true) {
        return log::debug!("a connection was gone at once: {error}");
    }
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_buf_size(HEAD_MAX_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(LAST_ANSWERS, connection).await {
                Ok(served) => served,
                // A long poll, which would wait for events: its client comes back.
                Err(_) => return,
            }
        }
    };
    if let Err(error) = served {
        log::debug!("a connection ended: {error}");
    }
}
