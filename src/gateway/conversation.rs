//! What both protocols do with a session: they start it, answer its requests, and end it when its token expires.
//!
//! Whatever ends a session here closes its device: the writer sends what is still queued, then closes the connection.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use tokio::time::Sleep;

use super::bad_requests::BadRequests;
use crate::chat::session::Session;
use crate::config::Limits;
use crate::error::{ChatError, ErrorCode};
use crate::hub::device::{Close, Device};
use crate::protocol::request::Request;
use crate::rate::Bucket;

/// A session, its bad requests and its rate.
pub struct Conversation {
    session: Session,
    bad_requests: BadRequests,
    rate: Bucket,
    expiry: Expiry,
}

impl Conversation {
    pub fn new(session: Session, limits: &Limits) -> Self {
        Self {
            expiry: Expiry::at(session.expires_at),
            session,
            bad_requests: BadRequests::default(),
            rate: Bucket::new(
                limits.max_requests_per_sec as f64,
                limits.max_request_burst as f64,
                Instant::now(),
            ),
        }
    }

    pub fn device(&self) -> Arc<Device> {
        self.session.device.clone()
    }

    /// Sends the first chat list. If it cannot be read, closes the device and never resolves: the writer ends the
    /// connection.
    pub async fn start(&self) {
        if let Err(error) = self.session.start().await {
            self.session.tell(&error);
            self.session.device.close(Close::StoreUnavailable);
            std::future::pending().await
        }
    }

    /// Waits for the device's next input, which is not read before most of what the device asked for is written. If the
    /// token expires first, closes the device and never resolves.
    pub async fn next<T>(&mut self, incoming: impl Future<Output = T>) -> T {
        let device = &self.session.device;
        let next = async {
            device.may_ask().await;
            incoming.await
        };
        tokio::select! {
            incoming = next => incoming,
            () = self.expiry.passed() => {
                let text = "token expired: connect again with a fresh one";
                let error = ChatError::new(ErrorCode::TokenExpired, text);
                self.session.tell(&error);
                self.session.device.close(Close::TokenExpired);
                std::future::pending().await
            }
        }
    }

    /// Answers requests, in order. If there was one bad request too many, closes the device and never resolves.
    ///
    /// Several requests are messages that were sent in a row.
    pub async fn answer(&mut self, mut requests: Vec<Request>) {
        requests.retain(|request| self.is_in_time(request));
        // Boxed: an idle connection must not reserve space for its largest request.
        let codes = Box::pin(self.session.handle_all(requests)).await;
        self.expiry.follow(self.session.expires_at);
        for code in codes.into_iter().flatten() {
            if code.is_bad_request() && self.bad_requests.add(Instant::now()) {
                self.session.device.close(Close::TooManyBadRequests);
                std::future::pending().await
            }
        }
    }

    /// Charges a request to the rate limit; refuses it if nothing is left.
    fn is_in_time(&mut self, request: &Request) -> bool {
        let is_in_time = self.rate.take(1.0, Instant::now());
        if !is_in_time {
            let text = "too many requests in a short time: this one was not done, send more slowly";
            let error = ChatError::new(ErrorCode::RateLimited, text);
            self.session
                .refuse(request.id.as_ref(), request.event.as_deref(), error);
        }
        is_in_time
    }

    /// The connection has closed.
    pub async fn end(self) {
        self.session.end().await;
    }
}

/// The expiry of a token. One timer, however often it is awaited.
struct Expiry {
    at: Option<SystemTime>,
    /// `None` for a token that does not expire.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Expiry {
    fn at(at: Option<SystemTime>) -> Self {
        let left = |at: SystemTime| at.duration_since(SystemTime::now()).unwrap_or_default();
        let timer = at.map(|at| Box::pin(tokio::time::sleep(left(at))));
        Self { at, timer }
    }

    /// The device may have presented another token meanwhile.
    fn follow(&mut self, at: Option<SystemTime>) {
        if at != self.at {
            *self = Self::at(at);
        }
    }

    async fn passed(&mut self) {
        match &mut self.timer {
            Some(timer) => timer.as_mut().await,
            None => std::future::pending().await,
        }
    }
}
