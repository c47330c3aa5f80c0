//! Counts and latencies: of the whole measured time, and of each second of it.

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::Error;

/// Three significant digits of each latency are kept.
const DIGITS: u8 = 3;
const NS_PER_US: u64 = 1000;

/// Latencies, in ms.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Latency {
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
    pub(crate) max_ms: f64,
}

/// One second of the measured time.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Second {
    pub(crate) sends: u64,
    pub(crate) deliveries: u64,
    pub(crate) ack: Latency,
    pub(crate) delivery: Latency,
}

/// What is measured while messages flow.
pub(crate) struct Meter {
    /// Acks and deliveries count only while this is set; the latency of messages sent meanwhile is recorded.
    running: bool,
    began_ns: u64,
    ended_ns: u64,
    pub(crate) sends: u64,
    pub(crate) deliveries: u64,
    ack: Kind,
    delivery: Kind,
    pub(crate) seconds: Vec<Second>,
    second_began_with: (u64, u64),
}

/// Latencies of one kind.
struct Kind {
    all: Histogram<u64>,
    second: Histogram<u64>,
}

impl Kind {
    fn new() -> Result<Self, Error> {
        let histogram = Histogram::new(DIGITS)?;
        Ok(Self {
            second: histogram.clone(),
            all: histogram,
        })
    }

    fn record(&mut self, latency_ns: u64) {
        let latency_us = latency_ns / NS_PER_US;
        // The histograms grow as needed: nothing is out of range.
        let _ = self.all.record(latency_us);
        let _ = self.second.record(latency_us);
    }

    fn end_second(&mut self) -> Latency {
        let latency = latency(&self.second);
        self.second.reset();
        latency
    }
}

impl Meter {
    /// Not running yet.
    pub(crate) fn new() -> Result<Self, Error> {
        Ok(Self {
            running: false,
            began_ns: u64::MAX,
            ended_ns: u64::MAX,
            sends: 0,
            deliveries: 0,
            ack: Kind::new()?,
            delivery: Kind::new()?,
            seconds: Vec::new(),
            second_began_with: (0, 0),
        })
    }

    pub(crate) fn has_started(&self) -> bool {
        self.began_ns != u64::MAX
    }

    pub(crate) fn start(&mut self, now_ns: u64) {
        self.running = true;
        self.began_ns = now_ns;
    }

    /// Ends a second of the measured time.
    pub(crate) fn end_second(&mut self) -> Second {
        let (sends, deliveries) = self.second_began_with;
        self.second_began_with = (self.sends, self.deliveries);
        let second = Second {
            sends: self.sends - sends,
            deliveries: self.deliveries - deliveries,
            ack: self.ack.end_second(),
            delivery: self.delivery.end_second(),
        };
        self.seconds.push(second);
        second
    }

    pub(crate) fn stop(&mut self, now_ns: u64) {
        self.running = false;
        self.ended_ns = now_ns;
    }

    /// A send was answered.
    pub(crate) fn acked(&mut self, sent_ns: u64, now_ns: u64) {
        self.sends += u64::from(self.running);
        if self.measures(sent_ns) {
            self.ack.record(now_ns.saturating_sub(sent_ns));
        }
    }

    /// A message arrived at a device.
    pub(crate) fn delivered(&mut self, sent_ns: u64, now_ns: u64) {
        self.deliveries += u64::from(self.running);
        if self.measures(sent_ns) {
            self.delivery.record(now_ns.saturating_sub(sent_ns));
        }
    }

    fn measures(&self, sent_ns: u64) -> bool {
        (self.began_ns..self.ended_ns).contains(&sent_ns)
    }

    /// How long it ran.
    pub(crate) fn secs(&self) -> f64 {
        self.ended_ns.saturating_sub(self.began_ns) as f64 / 1e9
    }

    /// Latencies of all acks and of all deliveries.
    pub(crate) fn latencies(&self) -> (Latency, Latency) {
        (latency(&self.ack.all), latency(&self.delivery.all))
    }
}

fn latency(histogram: &Histogram<u64>) -> Latency {
    let ms = |us: u64| us as f64 / 1000.0;
    let at = |quantile| ms(histogram.value_at_quantile(quantile));
    Latency {
        p50_ms: at(0.5),
        p99_ms: at(0.99),
        p999_ms: at(0.999),
        max_ms: ms(histogram.max()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_the_measured_time_counts() {
        let mut meter = Meter::new().unwrap();
        meter.acked(1_000_000, 2_000_000);
        meter.start(10_000_000);
        meter.acked(5_000_000, 11_000_000);
        meter.acked(10_000_000, 12_000_000);
        meter.stop(20_000_000);
        meter.acked(19_000_000, 23_000_000);
        meter.acked(21_000_000, 99_000_000);
        assert_eq!(meter.sends, 2);
        let (ack, _) = meter.latencies();
        assert!((1.9..2.1).contains(&ack.p50_ms), "{ack:?}");
        assert!((3.9..4.1).contains(&ack.max_ms), "{ack:?}");
    }
}
