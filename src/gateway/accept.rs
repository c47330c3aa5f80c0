//! The accept loop: one task for each TCP connection, small buffers, a time limit on headers.
//!
//! warp's own server is not used: it sets no header timeout, and its shutdown does not wait for upgraded sockets.

use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::{Gateway, routes};

/// Bytes of a request's head, at most.
const HEAD_MAX_BYTES: usize = 16 * 1024;
/// HTTP connections beside the devices: those being upgraded, health checks.
const EXTRA_CONNECTIONS: usize = 1024;
/// Pause after a failed accept: out of file descriptors, for one, does not pass at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections until `cancel`.
pub async fn accept(gateway: Arc<Gateway>, listener: TcpListener, cancel: CancellationToken) {
    let service = TowerToHyperService::new(warp::service(routes::routes(gateway.clone())));
    // Past the limit connections wait in the kernel's backlog.
    let places = Arc::new(Semaphore::new(EXTRA_CONNECTIONS));
    loop {
        let accepted = async {
            let place = places.clone().acquire_owned().await;
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            () = cancel.cancelled() => return,
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
        let connection = serve(
            stream,
            service.clone(),
            gateway.timing.header_timeout,
            cancel.clone(),
        );
        gateway.tasks.spawn(async move {
            connection.await;
            drop(place);
        });
    }
}

async fn serve<S, B>(stream: TcpStream, service: TowerToHyperService<S>, header_timeout: Duration, cancel: CancellationToken)
where
    TowerToHyperService<S>: hyper::service::Service<hyper::Request<hyper::body::Incoming>, Response = hyper::Response<B>>,
    <TowerToHyperService<S> as hyper::service::Service<hyper::Request<hyper::body::Incoming>>>::Error:
        Into<Box<dyn std::error::Error + Send + Sync>>,
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
        () = cancel.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        log::debug!("a connection ended: {error}");
    }
}
