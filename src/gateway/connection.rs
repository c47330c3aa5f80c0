//! One HTTP connection, on whichever listener: bounded buffers, time limits, well-formed heads.

use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::clock::{Alarm, Clock, Timed};
use super::guests::Guest;
use super::head;
use crate::config::Timing;

/// Bytes of a request's head, at most.
const HEAD_MAX_BYTES: usize = 16 * 1024;
/// How long requests in progress may take when the server shuts down.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// The body of an answer, from either part of the server.
pub(super) type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// The stream of a connection that was switched to another protocol.
pub(super) type Stream = TokioIo<Timed<TcpStream>>;

pub(super) fn boxed<B>(body: B) -> Body
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    body.map_err(Into::into).boxed_unsync()
}

/// Serves one connection until it ends, has to give way, or `stopping` is set. Each request carries the guest.
pub(super) async fn serve<S, B>(
    stream: TcpStream,
    guest: Guest,
    service: S,
    timing: &Timing,
    stopping: &CancellationToken,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if let Err(error) = stream.set_nodelay(true) {
        return log::debug!("a connection ended at once: {error}");
    }
    // A connection that sends nothing costs no buffer.
    tokio::select! {
        biased;
        said = tokio::time::timeout(timing.header_timeout, stream.readable()) => if !matches!(said, Ok(Ok(()))) {
            return;
        },
        () = guest.turned_out() => return,
        () = stopping.cancelled() => return,
    }
    Box::pin(answer(stream, guest, service, timing, stopping)).await;
}

/// Answers the requests of a connection that has sent something.
async fn answer<S, B>(
    stream: TcpStream,
    guest: Guest,
    service: S,
    timing: &Timing,
    stopping: &CancellationToken,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (clock, guest) = (Clock::new(timing.request_timeout), Arc::new(guest));
    let service = service_fn(|mut request: Request<Incoming>| {
        clock.asked(&request);
        request.extensions_mut().insert(guest.clone());
        let answer = head::check(&mut request).map(|()| service.call(request));
        let clock = &clock;
        async move {
            let response = match answer {
                Ok(answer) => answer.await?.map(boxed),
                Err(bad) => bad.reply().map(boxed),
            };
            Ok::<_, Infallible>(clock.answered(response))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(timing.header_timeout)
        .max_buf_size(HEAD_MAX_BYTES)
        .serve_connection(TokioIo::new(Timed::new(stream, clock.clone())), service)
        .with_upgrades();
    tokio::pin!(connection);
    let mut alarm = Alarm::default();
    // Only the connection's own turns change the clock.
    let in_time = poll_fn(|cx| match connection.as_mut().poll(cx) {
        Poll::Ready(served) => Poll::Ready(Some(served)),
        Poll::Pending => alarm.poll(&clock, cx).map(|()| None),
    });
    let served = tokio::select! {
        biased;
        served = in_time => served,
        () = guest.turned_out() => return log::debug!("a connection gave way to others"),
        () = stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            // Otherwise it is a long poll, which would wait for events: its client comes back.
            tokio::time::timeout(LAST_ANSWERS, connection).await.ok()
        }
    };
    match served {
        Some(Ok(())) => {}
        Some(Err(error)) => log::debug!("a connection ended: {error}"),
        None => log::debug!("a connection took too long for a request"),
    }
}
