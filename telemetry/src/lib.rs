//! The project's own metrics: one registry per process, written in the Prometheus text format.
//!
//! The metric types are those of the `prometheus` crate. Each crate keeps a struct of its metrics, registered once
//! with the [`Registry`] that it is handed; nothing here is global.

mod computed;
mod process;

pub use computed::register_computed;
pub use prometheus::{
    Counter, CounterVec, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter,
    IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use prometheus::core::Collector;
use prometheus::{Encoder, TextEncoder};

/// The version of the project, as `sextant --version` prints it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Registers `metric` and hands it back.
///
/// # Panics
/// If a metric of the same name and labels is registered already, or a name is malformed: both are
/// mistakes in our own source, found by the first test that starts the component.
pub fn register<M: Collector + Clone + 'static>(
    registry: &Registry,
    metric: prometheus::Result<M>,
) -> M {
    let metric = metric.expect("metric names and labels are constants of valid form");
    registry.register(Box::new(metric.clone())).expect("each metric is registered once");
    metric
}

/// A registry with what every daemon reports: `process_*`, and `sextant_build_info`.
///
/// # Panics
/// Never: the registry is new and the names are constants.
#[must_use]
pub fn new_registry() -> Registry {
    let registry = Registry::new();
    registry.register(Box::new(process::ProcessCollector::new())).expect("the registry is empty");
    let build = register(
        &registry,
        IntGaugeVec::new(
            Opts::new("sextant_build_info", "Always 1; the labels say what was built."),
            &["version"],
        ),
    );
    build.with_label_values(&[VERSION]).set(1);
    registry
}

/// Appends all metrics of `registry` to `out` in text format 0.0.4.
///
/// # Panics
/// Never: memory takes every write and gathered families are not empty.
pub fn encode(registry: &Registry, out: &mut Vec<u8>) {
    TextEncoder::new()
        .encode(&registry.gather(), out)
        .expect("writing to memory cannot fail and gathered families are not empty");
}

/// Resident memory of this process in bytes, 0 where `/proc` does not say.
#[must_use]
pub fn resident_bytes() -> u64 {
    process::read_stat().map_or(0, |stat| stat.resident_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_reports_the_process() {
        let registry = new_registry();
        let counter = register(&registry, IntCounter::new("test_things_total", "Things counted."));
        counter.inc_by(3);
        let mut out = Vec::new();
        encode(&registry, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("# TYPE test_things_total counter\ntest_things_total 3\n"), "{text}");
        assert!(text.contains("sextant_build_info{version=\""), "{text}");
        for name in [
            "process_cpu_seconds_total",
            "process_open_fds",
            "process_max_fds",
            "process_resident_memory_bytes",
            "process_virtual_memory_bytes",
            "process_start_time_seconds",
            "process_threads",
        ] {
            assert!(text.contains(&format!("\n{name} ")), "{name} is missing:\n{text}");
        }
        assert!(resident_bytes() > 100_000);
    }
}
