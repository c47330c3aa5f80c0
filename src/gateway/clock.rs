//! The time that a client has for one HTTP request: from its first byte until its answer is taken. It runs while the
//! server waits for the client, and stops while the client waits for the server, as in a long poll.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::{Request, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// The clock of one connection, for its requests one after the other.
#[derive(Clone)]
pub(super) struct Clock {
    limit: Duration,
    turn: Arc<Mutex<Turn>>,
}

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// Nobody's: the next request has not begun.
    Between,
    /// The client's, until this time: it has to send its request, or to take its answer.
    Client(Instant),
    /// The server's. This much time is left to the client for the answer.
    Server(Duration),
    /// The client's, until this time; all that is missing is that it takes what has been written.
    Taking(Instant),
    /// The connection changes its protocol once this answer has been taken.
    Switching(Instant),
    /// The protocol has changed: what is sent from now on is not a request.
    Switched,
}

impl Clock {
    /// Gives a client this long for each request.
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            limit,
            turn: Arc::new(Mutex::new(Turn::Between)),
        }
    }

    fn turn(&self) -> MutexGuard<'_, Turn> {
        // No code under this lock panics halfway through a change.
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Data has arrived.
    fn heard(&self) {
        let mut turn = self.turn();
        if *turn == Turn::Between {
            *turn = Turn::Client(Instant::now() + self.limit);
        }
    }

    /// A request's head has arrived. The server's turn begins, unless a body is still to come.
    pub(super) fn asked<B: Body>(&self, request: &Request<B>) {
        // The next of several requests that arrived at once.
        self.heard();
        let mut turn = self.turn();
        if let Turn::Client(end) = *turn
            && request.body().is_end_stream()
        {
            *turn = Turn::Server(end.saturating_duration_since(Instant::now()));
        }
    }

    /// The server has its answer. The client's turn continues.
    pub(super) fn answered<B>(&self, response: Response<B>) -> Response<Answer<B>> {
        let mut turn = self.turn();
        if let Turn::Server(left) = *turn {
            *turn = Turn::Client(Instant::now() + left);
        }
        if let Turn::Client(end) = *turn
            && response.status() == StatusCode::SWITCHING_PROTOCOLS
        {
            *turn = Turn::Switching(end);
        }
        drop(turn);
        response.map(|body| Answer {
            body,
            clock: self.clone(),
        })
    }

    /// The connection has the whole answer.
    fn handed_over(&self) {
        let mut turn = self.turn();
        if let Turn::Client(end) = *turn {
            *turn = Turn::Taking(end);
        }
    }

    /// The client's side has taken everything that the connection had.
    fn taken(&self) {
        let mut turn = self.turn();
        match *turn {
            Turn::Taking(_) => *turn = Turn::Between,
            Turn::Switching(_) => *turn = Turn::Switched,
            _ => {}
        }
    }

    /// When the client's time is up, if it is running.
    fn end(&self) -> Option<Instant> {
        match *self.turn() {
            Turn::Client(end) | Turn::Taking(end) | Turn::Switching(end) => Some(end),
            Turn::Between | Turn::Server(_) | Turn::Switched => None,
        }
    }
}

/// Wakes a connection's task when its client's time is up.
#[derive(Default)]
pub(super) struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Ready if the time is up. To be polled after anything that may have changed the clock.
    pub(super) fn poll(&mut self, clock: &Clock, cx: &mut Context<'_>) -> Poll<()> {
        let Some(end) = clock.end() else {
            return Poll::Pending;
        };
        let sleep = self
            .0
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(end)));
        if sleep.deadline() != end {
            sleep.as_mut().reset(end);
        }
        sleep.as_mut().poll(cx)
    }
}

/// The body of an answer, which reports when the connection has finished with it.
pub(super) struct Answer<B> {
    body: B,
    clock: Clock,
}

impl<B: Body<Data = Bytes> + Unpin> Body for Answer<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> Drop for Answer<B> {
    fn drop(&mut self) {
        self.clock.handed_over();
    }
}

/// A connection that reports to its clock what arrives and what is taken.
pub(super) struct Timed<T> {
    stream: T,
    clock: Clock,
}

impl<T> Timed<T> {
    pub(super) fn new(stream: T, clock: Clock) -> Self {
        Self { stream, clock }
    }

    pub(super) fn into_inner(self) -> T {
        self.stream
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Timed<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.clock.heard();
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Timed<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// The connection flushes when it has written everything it had.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if matches!(flushed, Poll::Ready(Ok(()))) {
            self.clock.taken();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    fn clock() -> (Clock, Instant) {
        let clock = Clock::new(LIMIT);
        clock.heard();
        let end = clock.end().unwrap_or_else(Instant::now);
        (clock, end)
    }

    fn response(status: StatusCode) -> Response<String> {
        let mut response = Response::new("answer".to_owned());
        *response.status_mut() = status;
        response
    }

    #[test]
    fn it_runs_from_the_first_byte_until_the_answer_is_taken() {
        let (clock, end) = clock();
        // A body is still to come: more bytes change nothing
        clock.asked(&Request::new("body".to_owned()));
        clock.heard();
        assert_eq!(clock.end(), Some(end));
        let answer = clock.answered(response(StatusCode::OK));
        // What was written before the answer was complete does not count
        clock.taken();
        assert_eq!(clock.end(), Some(end));
        drop(answer);
        assert_eq!(clock.end(), Some(end));
        clock.taken();
        assert_eq!(clock.end(), None);
    }

    #[test]
    fn it_stands_while_the_server_has_all_that_it_needs() {
        let (clock, end) = clock();
        clock.asked(&Request::new(String::new()));
        assert_eq!(clock.end(), None);
        // And continues with what is left
        let answer = clock.answered(response(StatusCode::OK));
        let left = clock.end();
        assert!(left >= Some(end) && left <= Some(Instant::now() + LIMIT));
        drop(answer);
    }

    #[test]
    fn it_ends_with_the_switch_to_another_protocol() {
        let (clock, _) = clock();
        clock.asked(&Request::new(String::new()));
        let answer = clock.answered(response(StatusCode::SWITCHING_PROTOCOLS));
        drop(answer);
        assert!(clock.end().is_some());
        clock.taken();
        clock.heard();
        assert_eq!(clock.end(), None);
    }
}
