//! What operators can ask a running server, and on which port.

use std::net::SocketAddr;
use std::sync::Arc;

use metrics_exporter_prometheus::PrometheusRecorder;
use tokio::net::TcpListener;

use super::background::Background;
use crate::config::Timing;
use crate::gateway::operations::serve_operations;
use crate::gateway::readiness::Readiness;
use crate::hub::Hub;
use crate::metrics::{Exposition, Scraped, Standing};
use crate::store::connection::Current;

/// The state that each answer reads.
pub(super) struct Observed {
    pub(super) readiness: Readiness,
    /// The connection that confirms writes, if any.
    pub(super) confirming: Option<Current>,
    pub(super) hub: Arc<Hub>,
    pub(super) gauges: Scraped,
}

impl Observed {
    fn observe(&self) {
        let checks = self.readiness.checks();
        let confirming = self.confirming.as_ref();
        let (users, rooms) = self.hub.size();
        self.gauges.set(Standing {
            ready: self.readiness.ready().is_ok(),
            commands_up: checks.redis && checks.scripts,
            subscriptions_up: checks.subscriptions,
            confirmations_up: confirming.is_some_and(|current| current.borrow().is_some()),
            users,
            rooms,
        });
    }
}

/// Answers operators on a port of their own, if there is one. Otherwise returns what the clients' port is to expose.
pub(super) fn tell(
    background: &mut Background,
    recorder: &PrometheusRecorder,
    observed: Observed,
    listener: Option<TcpListener>,
    timing: Timing,
) -> Option<Arc<Exposition>> {
    let readiness = observed.readiness.clone();
    let exposition = Arc::new(Exposition::new(recorder, move || observed.observe()));
    let cancel = background.cancel.clone();
    background.spawn(exposition.clone().tidy(cancel.clone()));
    let Some(listener) = listener else {
        return Some(exposition);
    };
    background.spawn(serve_operations(
        listener, readiness, exposition, timing, cancel,
    ));
    None
}

/// For the start line: where the metrics are, if not on the clients' port.
pub(super) fn place(listener: Option<&TcpListener>) -> String {
    let address: Option<SocketAddr> = listener.and_then(|listener| listener.local_addr().ok());
    address.map_or_else(String::new, |address| format!(", metrics on {address}"))
}
