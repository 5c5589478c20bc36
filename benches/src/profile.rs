//! What the targets show: container metrics of a Kubernetes node, made up.
//!
//! Nothing is random at run time: a value is a function of the seed, the series and the tick, so that the same flags give the
//! same bytes on every machine and to every server. The shares of the classes are those of container metrics on a busy
//! node: almost half of the series never change, most that do are counters of integers or of CPU nanoseconds.

use std::fmt::Write;

use model::{FloatFormat, write_float};

/// Metrics of a container with the class of their values. A target shows whole containers, the last one cut short.
pub(crate) const METRICS: [(&str, &str, Class); 20] = [
    ("container_cpu_usage_seconds_total", "counter", Class::CpuSeconds),
    ("container_cpu_user_seconds_total", "counter", Class::CpuSeconds),
    ("container_cpu_cfs_periods_total", "counter", Class::Counter),
    ("container_cpu_cfs_throttled_periods_total", "counter", Class::Sparse),
    ("container_memory_usage_bytes", "gauge", Class::Pages),
    ("container_memory_working_set_bytes", "gauge", Class::Pages),
    ("container_memory_rss", "gauge", Class::Pages),
    ("container_memory_cache", "gauge", Class::Constant),
    ("container_memory_failures_total", "counter", Class::Counter),
    ("container_network_receive_bytes_total", "counter", Class::Counter),
    ("container_network_transmit_bytes_total", "counter", Class::Counter),
    ("container_network_receive_errors_total", "counter", Class::Constant),
    ("container_network_transmit_errors_total", "counter", Class::Constant),
    ("container_fs_reads_total", "counter", Class::Constant),
    ("container_fs_writes_bytes_total", "counter", Class::Constant),
    ("container_spec_memory_limit_bytes", "gauge", Class::Constant),
    ("container_spec_cpu_quota", "gauge", Class::Constant),
    ("container_start_time_seconds", "gauge", Class::Constant),
    ("container_threads", "gauge", Class::Constant),
    ("container_cpu_load_average_10s", "gauge", Class::Ratio),
];

/// How the values of a series move.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Class {
    /// Never.
    Constant,
    /// Integers that grow at every tick.
    Counter,
    /// Seconds to the nanosecond that grow at every tick.
    CpuSeconds,
    /// Multiples of 4096 that move at every third tick.
    Pages,
    /// Fractions with all their digits.
    Ratio,
    /// Integers that grow by one every twenty ticks.
    Sparse,
}

/// SplitMix64, the finalizer of Steele, Lea and Flood (2014).
pub(crate) fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// One target: the text of its series, and what their values are made from.
#[derive(Debug)]
pub(crate) struct Target {
    text: String,
    series: Vec<Series>,
}

#[derive(Debug)]
struct Series {
    /// Where the text of the series ends in `Target::text`; it begins where the one before ends.
    end: usize,
    class: Class,
    state: u64,
}

impl Target {
    /// Target number `index` with `series_count` series.
    pub(crate) fn new(seed: u64, index: usize, series_count: usize) -> Self {
        let node_seed = mix(seed ^ index as u64);
        let mut target = Self { text: String::new(), series: Vec::with_capacity(series_count) };
        let containers = series_count.div_ceil(METRICS.len());
        // Exposition keeps the samples of a metric together.
        for (metric, (name, kind, class)) in METRICS.iter().enumerate() {
            for container in 0..containers {
                if container * METRICS.len() + metric >= series_count {
                    continue;
                }
                if container == 0 {
                    let _ = write!(target.text, "# HELP {name} Made up.\n# TYPE {name} {kind}\n");
                }
                let container_seed = mix(node_seed.wrapping_add(container as u64));
                write_series(&mut target.text, name, index, container_seed);
                let state = mix(container_seed ^ metric as u64);
                target.series.push(Series { end: target.text.len(), class: *class, state });
            }
        }
        target
    }

    /// Writes the exposition of tick `tick`.
    pub(crate) fn render(&self, tick: u64, out: &mut Vec<u8>) {
        out.reserve(self.text.len() + self.series.len() * 20);
        let mut start = 0;
        for series in &self.series {
            out.extend_from_slice(&self.text.as_bytes()[start..series.end]);
            out.push(b' ');
            write_float(out, value(series.class, series.state, tick), FloatFormat::General);
            out.push(b'\n');
            start = series.end;
        }
    }
}

/// About 290 bytes and 12 labels with those that the server adds, as the kubelet shows them.
fn write_series(text: &mut String, name: &str, node: usize, seed: u64) {
    let app = seed % 40;
    let _ = write!(
        text,
        "{name}{{container=\"app-{app}\",id=\"{}\",image=\"registry.example.com/team-{}/app-{app}:v1.{}.{}\",name=\"{}\",\
         namespace=\"team-{}\",pod=\"{}\",cluster=\"bench\",zone=\"zone-{}\",service=\"kubelet\"}}",
        control_group(seed),
        app % 7,
        app % 11,
        app % 5,
        container_name(seed),
        app % 7,
        pod_name(app, seed),
        node % 3,
    );
}

/// The control group of a pod, which the kubelet shows as `id`.
pub(crate) fn control_group(seed: u64) -> String {
    let hex = |n: u64| mix(seed.wrapping_add(n));
    format!(
        "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{:08x}_{:04x}_{:04x}.slice",
        hex(1) >> 32,
        hex(2) >> 48,
        hex(3) >> 48
    )
}

/// The name that a runtime gives a container: 64 hexadecimal digits.
pub(crate) fn container_name(seed: u64) -> String {
    let hex = |n: u64| mix(seed.wrapping_add(n));
    format!("{:016x}{:016x}{:016x}{:016x}", hex(4), hex(5), hex(6), hex(7))
}

/// The name of a pod of an application, as a replica set gives it.
pub(crate) fn pod_name(app: u64, seed: u64) -> String {
    let hex = |n: u64| mix(seed.wrapping_add(n));
    format!("app-{app}-{:08x}-{:05x}", hex(8) >> 32, hex(9) >> 44)
}

#[expect(clippy::cast_precision_loss, reason = "made-up values lose nothing that matters")]
/// The value at a tick of a series of this class with this state.
pub(crate) fn value(class: Class, state: u64, tick: u64) -> f64 {
    let noise = mix(state ^ mix(tick));
    match class {
        Class::Constant => (state % 5 * (state >> 32 & 0xffff)) as f64,
        Class::Counter => {
            // Below one step of noise: it grows at every tick.
            let step = 1 + (state >> 40) % 100_000;
            (state % 1_000_000_000 + tick * step + noise % step) as f64
        }
        Class::CpuSeconds => {
            let step = 1_000_000 + state % 2_000_000_000;
            (state % 1_000_000_000_000 + tick * step + noise % step) as f64 / 1e9
        }
        Class::Pages => {
            let level = mix(state ^ (tick.wrapping_add(state) / 3)) % 2_000;
            ((10_000 + state % 100_000 + level) * 4096) as f64
        }
        Class::Ratio => (noise >> 11) as f64 / (1_u64 << 53) as f64,
        Class::Sparse => (tick.wrapping_add(state % 20) / 20) as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(target: &Target, tick: u64) -> String {
        let mut out = Vec::new();
        target.render(tick, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn samples(text: &str) -> Vec<(&str, f64)> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines
            .map(|line| line.rsplit_once(' ').unwrap())
            .map(|(s, v)| (s, v.parse().unwrap()))
            .collect()
    }

    #[test]
    fn targets_are_made_of_distinct_series_and_the_same_every_time() {
        let text = render(&Target::new(1, 3, 997), 5);
        assert_eq!(text, render(&Target::new(1, 3, 997), 5));
        assert_ne!(text, render(&Target::new(2, 3, 997), 5));
        let series: std::collections::BTreeSet<_> = samples(&text).iter().map(|s| s.0).collect();
        assert_eq!(series.len(), 997);
    }

    #[test]
    fn counters_grow_and_about_half_of_the_series_stand_still() {
        let target = Target::new(1, 0, 1000);
        let (before, after) = (render(&target, 7), render(&target, 8));
        let (before, after) = (samples(&before), samples(&after));
        let mut still = 0;
        for ((series, v), (again, w)) in before.iter().zip(&after) {
            assert_eq!(series, again);
            still += usize::from(v == w);
            if series.contains("_total{") {
                assert!(w >= v, "{series} fell from {v} to {w}");
            }
        }
        assert!((400..650).contains(&still), "{still} of 1000 stand still");
    }
}
