//! The text that Prometheus reads.

use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusHandle, PrometheusRecorder};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::process;

/// Of the text: Prometheus's text format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Histograms keep each value until it is put into its bucket: what a busy server records in so long is some megabytes.
const TIDY_EVERY: Duration = Duration::from_secs(2);

/// Writes down what was counted.
pub struct Exposition {
    handle: PrometheusHandle,
    observe: Box<dyn Fn() + Send + Sync>,
    /// One at a time: a client that asks without end costs one thread.
    turn: Semaphore,
}

impl Exposition {
    /// `observe` is called before each text, to set what is looked at only then.
    pub fn new(recorder: &PrometheusRecorder, observe: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            handle: recorder.handle(),
            observe: Box::new(observe),
            turn: Semaphore::new(1),
        }
    }

    /// All of it, in Prometheus's text format. `None` if the server is coming down.
    pub async fn text(self: &Arc<Self>) -> Option<String> {
        let _turn = self.turn.acquire().await.ok()?;
        let this = self.clone();
        // Thousands of open files are listed one by one.
        let written = tokio::task::spawn_blocking(move || this.write());
        written.await.ok()
    }

    fn write(&self) -> String {
        (self.observe)();
        let mut text = self.handle.render();
        text.push_str(&process::text());
        text
    }

    /// Puts what histograms have recorded into their buckets, until `cancel`: also where nobody ever asks.
    pub async fn tidy(self: Arc<Self>, cancel: CancellationToken) {
        let tick = || cancel.run_until_cancelled(tokio::time::sleep(TIDY_EVERY));
        while tick().await.is_some() {
            self.handle.run_upkeep();
        }
    }
}
