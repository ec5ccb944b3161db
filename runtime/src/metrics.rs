//! One registry of metrics for the process, over the crate `prometheus`.
//!
//! Names are constants in the crates that use them. Asking twice for the same metric gives the same metric, so a part
//! that is rebuilt after a failure goes on counting where it stopped.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use prometheus::core::Collector;
use prometheus::{HistogramOpts, Opts, Registry, TextEncoder};

pub use prometheus::{Counter, CounterVec, GaugeVec, HistogramVec};

/// Bounds of histograms of durations, in seconds: from one millisecond to one minute.
pub const SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 15.0, 60.0];

#[derive(Default)]
struct Known {
    registry: Registry,
    counters: HashMap<&'static str, CounterVec>,
    gauges: HashMap<&'static str, GaugeVec>,
    histograms: HashMap<&'static str, HistogramVec>,
}

static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);

/// A number that only grows.
pub fn counter(name: &'static str, help: &'static str, labels: &[&str]) -> CounterVec {
    with(|known| {
        let make = || CounterVec::new(Opts::new(name, help), labels);
        obtain(&known.registry, &mut known.counters, name, make)
    })
}

/// A number that goes up and down.
pub fn gauge(name: &'static str, help: &'static str, labels: &[&str]) -> GaugeVec {
    with(|known| {
        let make = || GaugeVec::new(Opts::new(name, help), labels);
        obtain(&known.registry, &mut known.gauges, name, make)
    })
}

/// How often a number fell below each of some bounds.
pub fn histogram(name: &'static str, help: &'static str, labels: &[&str], bounds: &[f64]) -> HistogramVec {
    with(|known| {
        let make = || HistogramVec::new(HistogramOpts::new(name, help).buckets(bounds.to_vec()), labels);
        obtain(&known.registry, &mut known.histograms, name, make)
    })
}

/// All metrics in the text format of Prometheus.
pub fn render() -> String {
    let families = with(|known| known.registry.gather());
    TextEncoder::new()
        .encode_to_string(&families)
        .unwrap_or_else(|error| format!("# {error}\n"))
}

fn with<T>(use_known: impl FnOnce(&mut Known) -> T) -> T {
    use_known(&mut KNOWN.lock().unwrap_or_else(PoisonError::into_inner))
}

fn obtain<M: Collector + Clone + 'static>(
    registry: &Registry,
    known: &mut HashMap<&'static str, M>,
    name: &'static str,
    make: impl FnOnce() -> prometheus::Result<M>,
) -> M {
    let new = || {
        let metric = make().unwrap_or_else(|error| unreachable!("name and labels are constants: {name}: {error}"));
        if let Err(error) = registry.register(Box::new(metric.clone())) {
            tracing::error!("metric {name} is not served: {error}");
        }
        metric
    };
    known.entry(name).or_insert_with(new).clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_name_is_the_same_metric() {
        counter("test_same_total", "Same.", &["kind"])
            .with_label_values(&["x"])
            .inc();
        counter("test_same_total", "Same.", &["kind"])
            .with_label_values(&["x"])
            .inc();
        gauge("test_lag_bytes", "Lag.", &[])
            .with_label_values(&[] as &[&str])
            .set(7.0);
        histogram("test_wait_seconds", "Wait.", &[], &SECONDS)
            .with_label_values(&[] as &[&str])
            .observe(0.003);
        let text = render();
        assert!(text.contains("test_same_total{kind=\"x\"} 2"), "{text}");
        assert!(text.contains("test_lag_bytes 7"), "{text}");
        assert!(text.contains("test_wait_seconds_bucket{le=\"0.005\"} 1"), "{text}");
    }
}
