//! The accept loop, one task for each TCP connection, and what its requests meet: Socket.IO, CORS, warp's routes.
//!
//! warp's own server is not used: it sets no time limits, and its shutdown does not wait for upgraded sockets.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use engineioxide::service::EngineIoService;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tower::Layer;
use tower_http::cors::{AllowHeaders, AllowMethods, AllowOrigin, CorsLayer};

use super::admission::query_value;
use super::connection::{Body, boxed, serve};
use super::joining::Transports;
use super::reply::json_reply;
use super::socket_io::{Door, PATH};
use super::{Gateway, engine_io, origin, routes, upgrade};
use crate::config::AllowedOrigins;
use crate::error::{ChatError, ErrorCode};

/// What the transports of Socket.IO use; browsers ask with the last whether they may.
const METHODS: &str = "GET, POST, OPTIONS";
/// HTTP connections beside the devices: those being upgraded, those that poll, health checks.
const EXTRA_CONNECTIONS: usize = 1024;
/// Pause after a failed accept: out of file descriptors, for one, does not pass at once.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

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
        let (served, service) = (gateway.clone(), service.clone());
        gateway.tasks.spawn(async move {
            serve(stream, service, &served.timing, &served.stopping).await;
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

/// Who is not even let in to say who they are: Socket.IO clients of foreign pages, those that do not speak HTTP as the
/// transports do, or anybody while there is no room.
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
