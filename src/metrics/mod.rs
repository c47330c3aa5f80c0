//! What `/metrics` reports: each counter, gauge and histogram, registered once when the server starts.
//!
//! The code that counts keeps a handle: counting is an atomic add or two, without a look-up and without an allocation. Labels take
//! only values that are listed in here, so that nothing a client sends makes a new series. Outside a server (in tests, in
//! `chat-server scripts`) no recorder is set, and the same handles count nothing.

mod doors;
mod exposition;
mod process;
mod redis;
mod requests;
mod rooms;
mod scraped;
mod scripts;

use ::metrics::{Counter, Gauge, Histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusRecorder};

pub use self::doors::{DoorLabel, DoorMetrics, Ending, Presence};
pub use self::exposition::{CONTENT_TYPE, Exposition};
pub use self::redis::{ConnectionMetrics, PublishedMetrics};
pub use self::requests::RequestMetrics;
pub use self::rooms::{Caught, HubMetrics, ListMetrics};
pub use self::scraped::{Scraped, Standing};
pub use self::scripts::ScriptMetrics;

/// Upper bounds of what takes time: from what a local Redis needs to what a call may take.
const SECONDS: &[f64] = &[
    0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
    10.0,
];
/// Upper bounds of how many devices get an event.
const DEVICES: &[f64] = &[
    0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0,
];

/// Every handle of a server.
#[derive(Debug, Clone)]
pub struct Metrics {
    pub doors: DoorMetrics,
    pub requests: RequestMetrics,
    pub scripts: ScriptMetrics,
    pub hub: HubMetrics,
    pub lists: ListMetrics,
    pub published: PublishedMetrics,
    pub commands: ConnectionMetrics,
    pub subscriptions: ConnectionMetrics,
    pub confirmations: ConnectionMetrics,
    pub scraped: Scraped,
}

impl Metrics {
    /// Handles that the recorder reports. `confirms`: there is a connection for confirmations.
    ///
    /// # Errors
    /// The recorder takes no such buckets.
    pub fn recorded(confirms: bool) -> Result<(Self, PrometheusRecorder), BuildError> {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS)?
            .set_buckets_for_metric(Matcher::Suffix("_devices".to_owned()), DEVICES)?
            .build_recorder();
        let metrics = ::metrics::with_local_recorder(&recorder, || Self::register(confirms));
        Ok((metrics, recorder))
    }

    fn register(confirms: bool) -> Self {
        Self {
            doors: DoorMetrics::register(),
            requests: RequestMetrics::register(),
            scripts: ScriptMetrics::register(),
            hub: HubMetrics::register(),
            lists: ListMetrics::register(),
            published: PublishedMetrics::register(),
            commands: ConnectionMetrics::commands(),
            subscriptions: ConnectionMetrics::subscriptions(),
            confirmations: ConnectionMetrics::confirmations(confirms),
            scraped: Scraped::register(confirms),
        }
    }
}

/// A label and its value.
type Label = (&'static str, String);

fn label(name: &'static str, value: impl ToString) -> Label {
    (name, value.to_string())
}

fn counter(name: &'static str, help: &'static str, labels: &[Label]) -> Counter {
    ::metrics::describe_counter!(name, help);
    ::metrics::counter!(name, labels)
}

fn gauge(name: &'static str, help: &'static str, labels: &[Label]) -> Gauge {
    ::metrics::describe_gauge!(name, help);
    ::metrics::gauge!(name, labels)
}

fn histogram(name: &'static str, help: &'static str, labels: &[Label]) -> Histogram {
    ::metrics::describe_histogram!(name, help);
    ::metrics::histogram!(name, labels)
}

/// A number of things as a value of a gauge or a histogram.
#[allow(
    clippy::cast_precision_loss,
    reason = "nothing here is counted past 2^53"
)]
fn number(count: usize) -> f64 {
    count as f64
}
