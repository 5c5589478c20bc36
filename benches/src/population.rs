//! Populations: machines or pods that come and go, with series of known classes.
//!
//! The shares of the classes, the churn and the failures are calibrated on real exporters and published reports: 64 of 100 series of a node exporter
//! are constant, most others are integer counters; a cluster replaces its pods up to three times a day. A sample is a function of seed, series and time.

use std::collections::BTreeMap;

use clap::ValueEnum;
use model::{Labels, Timestamp, stale_marker};

use crate::profile::{container_name, control_group, mix, pod_name};

/// Who is observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Profile {
    /// Machines with a node exporter: 532 series each, none replaced.
    Node,
    /// Pods with container metrics and an instrumented application: 149 series each; rollouts replace them, jobs come for minutes.
    Kubernetes,
    /// Pods with what dashboards and alerts ask for, under well-known names: 21 or 35 series each; rollouts replace them. No value is special.
    Service,
}

/// How many, for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) profile: Profile,
    pub(crate) seed: u64,
    /// Machines or pods at a time.
    pub(crate) units: u64,
    pub(crate) hours: u64,
    /// Pods replaced in a day, in hundredths of the pods.
    pub(crate) churn_percent: u64,
    pub(crate) start: Timestamp,
}

pub(crate) const INTERVAL_MS: i64 = 15_000;
/// How long a counter has counted before it is scraped for the first time. Where one is near zero at the start of a window, versions of
/// Prometheus extrapolate differently.
const UNOBSERVED_TICKS: u64 = 100;
/// How late a scrape may be.
const LATE_MS_MAX: u64 = 200;
pub(crate) const TICKS_PER_HOUR: u64 = 240;

/// What is scraped together: it exists for some ticks.
#[derive(Debug)]
pub(crate) struct Unit {
    pub(crate) series: Vec<Series>,
    seed: u64,
    born: u64,
    ends: u64,
}

#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) labels: Labels,
    class: Class,
    state: u64,
    /// Whether a value may be NaN, infinite or tiny.
    special: bool,
}

#[derive(Clone, Copy, Debug)]
enum Class {
    Constant,
    /// This value.
    Fixed(f64),
    /// Integers; how many a second is spread over eight orders of magnitude.
    Counter,
    /// Seconds of CPU, in hundredths or nanoseconds.
    CpuSeconds,
    /// Multiples of 4096, every third tick another.
    Pages,
    /// A ratio with 3 to 17 digits.
    Ratio,
    /// One more every twenty ticks.
    Sparse,
    /// Observations up to a bound of a histogram, in millionths of all.
    Bucket(u32),
    /// The sum of a histogram's observations.
    Sum,
    /// 0 or 1.
    Info,
}

use Class::{Constant, Counter, CpuSeconds, Pages, Ratio, Sparse};

/// Of 100 series.
const NODE_SHARES: [(Class, u64); 6] =
    [(Constant, 64), (Counter, 15), (CpuSeconds, 6), (Pages, 6), (Ratio, 5), (Sparse, 4)];
const CONTAINER_SHARES: [(Class, u64); 6] =
    [(Constant, 45), (Counter, 20), (CpuSeconds, 10), (Pages, 15), (Ratio, 5), (Sparse, 5)];
/// An application's, beside two histograms.
const APPLICATION: [(Class, u64); 7] = [
    (Constant, 17),
    (Counter, 18),
    (CpuSeconds, 9),
    (Pages, 5),
    (Ratio, 8),
    (Sparse, 9),
    (Class::Info, 5),
];
/// Bounds of a histogram and the millionths of a log-normal latency below them.
const BUCKETS: [(&str, u32); 12] = [
    ("0.005", 20_000),
    ("0.01", 91_000),
    ("0.025", 300_000),
    ("0.05", 500_000),
    ("0.1", 710_000),
    ("0.25", 902_000),
    ("0.5", 968_000),
    ("1", 991_000),
    ("2.5", 998_600),
    ("5", 999_700),
    ("10", 999_950),
    ("+Inf", 1_000_000),
];

impl Plan {
    /// Ticks that are in all these hours.
    pub(crate) const fn ticks(&self) -> u64 {
        self.hours * TICKS_PER_HOUR
    }

    /// All units that exist at some time, in order of their beginning.
    pub(crate) fn units(&self) -> anyhow::Result<Vec<Unit>> {
        let mut units = Vec::new();
        match self.profile {
            Profile::Node => {
                for node in 0..self.units {
                    units.push(self.node(node)?);
                }
            }
            Profile::Kubernetes | Profile::Service => {
                for app in 0..self.units.div_ceil(REPLICAS) {
                    self.rollouts(app, &mut units)?;
                    if self.profile == Profile::Kubernetes && app % 4 == 0 {
                        self.jobs(app, &mut units)?;
                    }
                }
            }
        }
        units.retain(|unit| unit.born < unit.ends);
        units.sort_by_key(|unit| unit.born);
        Ok(units)
    }

    fn node(&self, node: u64) -> anyhow::Result<Unit> {
        let mut unit = self.unit(mix(self.seed ^ node), 0, self.ticks());
        let instance = format!("node-{node:03}.example.com:9100");
        for i in 0..532 {
            // About 3 series a metric: cpus and modes, devices, mount points.
            let metric = format!("node_metric_{:03}_total", i / 3);
            let part = ["cpu0", "sda1", "eth0"][i % 3];
            let labels = [
                ("__name__", metric.as_str()),
                ("device", part),
                ("instance", instance.as_str()),
                ("job", "node"),
            ];
            unit.push(&labels, class_at(&NODE_SHARES, i as u64))?;
        }
        Ok(unit)
    }

    /// The pods of an application, each rollout within three minutes.
    fn rollouts(&self, app: u64, units: &mut Vec<Unit>) -> anyhow::Result<()> {
        let seed = mix(self.seed ^ app);
        let day = 24 * TICKS_PER_HOUR;
        let period = (day * 100).checked_div(self.churn_percent).unwrap_or(u64::MAX);
        for replica in 0..REPLICAS {
            let (mut born, mut generation) = (0, 0);
            let mut next = seed % period.max(1) + replica * 12 / REPLICAS;
            while born < self.ticks() {
                let ends = next.min(self.ticks());
                let mut pod = self.unit(mix(seed ^ (replica << 32 | generation)), born, ends);
                if self.profile == Profile::Service {
                    pod.add_service(app, self.start)?;
                } else {
                    pod.add_containers(app, 50)?;
                    pod.add_application(app)?;
                }
                units.push(pod);
                (born, generation) = (next, generation + 1);
                next = next.saturating_add(period);
            }
        }
        Ok(())
    }

    /// A job every half hour that lives for one to ten minutes.
    fn jobs(&self, app: u64, units: &mut Vec<Unit>) -> anyhow::Result<()> {
        for run in 0..self.hours * 2 {
            let seed = mix(self.seed ^ (app << 40 | run) ^ 0xc0b);
            let born = run * TICKS_PER_HOUR / 2 + app % 60;
            let ends = (born + 4 + seed % 37).min(self.ticks());
            let mut job = self.unit(seed, born, ends);
            job.add_containers(app, 50)?;
            units.push(job);
        }
        Ok(())
    }

    fn unit(&self, seed: u64, born: u64, ends: u64) -> Unit {
        Unit { series: Vec::new(), seed, born, ends }
    }
}

/// Pods of an application.
const REPLICAS: u64 = 5;

/// The labels that all series of a container have.
type PodLabels = BTreeMap<&'static str, String>;

/// The labels that a series has which the application in the pod shows.
fn of_application<'a>(pod: &'a PodLabels, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let kept = ["instance", "namespace", "node", "pod", "zone"];
    let kept = kept.iter().map(|name| (*name, pod[name].as_str()));
    kept.chain([("job", "app")]).chain(more.iter().copied()).collect()
}

impl Unit {
    fn push(&mut self, labels: &[(&str, &str)], class: Class) -> anyhow::Result<()> {
        let state = mix(self.seed ^ mix(self.series.len() as u64));
        let labels = Labels::from_pairs(labels.iter().copied())?;
        self.series.push(Series { labels, class, state, special: true });
        Ok(())
    }

    fn pod_labels(&self, app: u64) -> PodLabels {
        BTreeMap::from([
            ("container", format!("app-{app}")),
            ("id", control_group(self.seed)),
            ("image", format!("registry.example.com/team-{}/app-{app}:v1.{}", app % 7, app % 11)),
            ("instance", format!("10.0.{}.{}:10250", self.seed % 20, self.seed % 250)),
            ("job", String::from("kubelet")),
            ("name", container_name(self.seed)),
            ("namespace", format!("team-{}", app % 7)),
            ("node", format!("node-{}", self.seed % 20)),
            ("pod", pod_name(app, self.seed)),
            ("service", String::from("kubelet")),
            ("zone", format!("zone-{}", self.seed % 3)),
        ])
    }

    fn add_containers(&mut self, app: u64, count: u64) -> anyhow::Result<()> {
        let pod = self.pod_labels(app);
        for i in 0..count {
            let metric = format!("container_metric_{i:02}_total");
            let mut labels: Vec<(&str, &str)> = pod.iter().map(|(n, v)| (*n, v.as_str())).collect();
            labels.push(("__name__", &metric));
            self.push(&labels, class_at(&CONTAINER_SHARES, i * 2))?;
        }
        Ok(())
    }

    fn add_application(&mut self, app: u64) -> anyhow::Result<()> {
        let pod = self.pod_labels(app);
        self.add_histogram(&pod, "app_request_duration_seconds", 0)?;
        self.add_histogram(&pod, "app_query_duration_seconds", 1)?;
        for i in 0..APPLICATION.iter().map(|(_, share)| share).sum() {
            let name = format!("app_metric_{i:02}");
            self.push(&of_application(&pod, &[("__name__", &name)]), class_at(&APPLICATION, i))?;
        }
        Ok(())
    }

    /// The series of one histogram count the same observations.
    fn add_histogram(&mut self, pod: &PodLabels, name: &str, number: u64) -> anyhow::Result<()> {
        let first = self.series.len();
        for (le, millionths) in BUCKETS {
            let labels = [("__name__", format!("{name}_bucket")), ("le", String::from(le))];
            let labels = labels.each_ref().map(|(name, value)| (*name, value.as_str()));
            self.push(&of_application(pod, &labels), Class::Bucket(millionths))?;
        }
        for (suffix, class) in [("count", Class::Bucket(1_000_000)), ("sum", Class::Sum)] {
            let name = format!("{name}_{suffix}");
            self.push(&of_application(pod, &[("__name__", &name)]), class)?;
        }
        for series in &mut self.series[first..] {
            series.state = mix(self.seed ^ number);
        }
        Ok(())
    }

    /// Three containers, an application that counts requests, and what is known of the pod.
    fn add_service(&mut self, app: u64, start: Timestamp) -> anyhow::Result<()> {
        let pod = self.pod_labels(app);
        for (number, container) in (0..).zip([pod["container"].as_str(), "proxy", "logs"]) {
            let name = container_name(mix(self.seed ^ number));
            for (metric, class) in [
                ("container_cpu_usage_seconds_total", CpuSeconds),
                ("container_memory_working_set_bytes", Pages),
            ] {
                let mut labels = pod.clone();
                labels.insert("container", String::from(container));
                labels.insert("name", name.clone());
                labels.insert("__name__", String::from(metric));
                let labels: Vec<_> = labels.iter().map(|(n, v)| (*n, v.as_str())).collect();
                self.push(&labels, class)?;
            }
        }
        for handler in ["/", "/api/items"] {
            for code in ["200", "301", "404", "429", "500"] {
                let name = ("__name__", "http_requests_total");
                let labels = [name, ("code", code), ("handler", handler)];
                self.push(&of_application(&pod, &labels), Counter)?;
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "below 2^53")]
        let (limit, born) = {
            let born = start + self.born.cast_signed() * INTERVAL_MS;
            (((self.seed % 4 + 1) << 28) as f64, (born / 1000) as f64)
        };
        for (name, class) in [
            ("grpc_server_handled_total", Counter),
            ("kube_pod_container_status_restarts_total", Sparse),
            ("kube_pod_memory_limit_bytes", Class::Fixed(limit)),
            ("process_start_time_seconds", Class::Fixed(born)),
            ("up", Class::Fixed(1.0)),
        ] {
            self.push(&of_application(&pod, &[("__name__", name)]), class)?;
        }
        if app.is_multiple_of(4) {
            self.add_histogram(&pod, "http_request_duration_seconds", 0)?;
        }
        for series in &mut self.series {
            series.special = false;
        }
        Ok(())
    }

    /// What a scrape at `tick` gives: a time, and a value of each series. `None`: nothing.
    pub(crate) fn scrape(
        &self,
        plan: &Plan,
        tick: u64,
        values: &mut Vec<f64>,
    ) -> Option<Timestamp> {
        values.clear();
        if tick < self.born || tick > self.ends || tick >= plan.ticks() {
            return None;
        }
        let luck = mix(self.seed ^ mix(tick));
        let offset = self.seed % (INTERVAL_MS.unsigned_abs() - LATE_MS_MAX);
        // Within 2 ms a server writes down the time that it planned; of 100 scrapes one is late by more.
        let late = if luck.is_multiple_of(100) { (luck >> 32) % LATE_MS_MAX } else { 0 };
        let t = plan.start + (offset + late).cast_signed() + tick.cast_signed() * INTERVAL_MS;
        // Odd, so that no window of a query whose times are even begins with a sample: there, versions of Prometheus differ.
        let t = t | 1;
        if tick == self.ends || (luck >> 8).is_multiple_of(1000) {
            values.resize(self.series.len(), stale_marker());
        } else {
            let at = tick - self.born;
            values.extend(self.series.iter().map(|series| series.value(at)));
        }
        Some(t)
    }
}

/// The class of series `i` when 100 have these shares; neighbours differ.
fn class_at(shares: &[(Class, u64)], i: u64) -> Class {
    let total: u64 = shares.iter().map(|(_, share)| share).sum();
    let mut at = i * 37 % total;
    for &(class, share) in shares {
        if at < share {
            return class;
        }
        at -= share;
    }
    Constant
}

#[expect(clippy::cast_precision_loss, reason = "made-up values lose nothing that matters")]
impl Series {
    fn value(&self, tick: u64) -> f64 {
        let Self { state, .. } = *self;
        let noise = mix(state ^ mix(tick));
        if self.special && noise.is_multiple_of(100_000) && !matches!(self.class, Constant) {
            return [f64::NAN, f64::INFINITY, 1e-300][(noise >> 40) as usize % 3];
        }
        // A counter begins anew in 0.05 % of the hours.
        let hour = state % 2000;
        let begun = if hour < 24 && tick >= hour * TICKS_PER_HOUR { hour } else { 0 };
        let since = tick - begun * TICKS_PER_HOUR + UNOBSERVED_TICKS;
        let unit = |bits: u64| (bits >> 11) as f64 / (1_u64 << 53) as f64;
        // Never beyond the next tick's, so counters do not fall.
        let progress = since as f64 + unit(noise);
        match self.class {
            Class::Fixed(v) => v,
            Constant => (state % 5 * (state >> 32 & 0xffff)) as f64,
            Counter => {
                let per_second = 10_f64.powf(unit(state) * 8.0 - 2.0);
                let day = std::f64::consts::TAU * progress / 5760.0;
                let progress = progress + 200.0 * (1.0 - day.cos());
                (per_second * 15.0 * progress).floor()
            }
            CpuSeconds => {
                let step = 1e9 * 15.0 * unit(state);
                let nanoseconds = (step * progress).floor();
                if state.is_multiple_of(2) {
                    nanoseconds / 1e9
                } else {
                    (nanoseconds / 1e7).floor() / 100.0
                }
            }
            Pages => {
                let level = mix(state ^ ((tick + state % 3) / 3)) % 2_000;
                ((10_000 + state % 100_000 + level) * 4096) as f64
            }
            Ratio => {
                let scale = 10_f64.powi(3 + (state % 15) as i32);
                let wave = (tick as f64 / 40.0 + unit(state) * 6.0).sin();
                let value = 0.5 + 0.4 * wave + 0.02 * unit(noise);
                (value * scale).round() / scale
            }
            Sparse => ((since + state % 20) / 20) as f64,
            Class::Bucket(millionths) => {
                let observed = (self.rate() * progress_of_all(state, since)).floor();
                (observed * f64::from(millionths) / 1e6).floor()
            }
            Class::Sum => {
                let observed = (self.rate() * progress_of_all(state, since)).floor();
                observed * 0.087_312_5 + unit(state)
            }
            Class::Info => f64::from(u8::from(state.is_multiple_of(3))),
        }
    }

    /// Observations of a histogram a tick.
    fn rate(&self) -> f64 {
        15.0 * 10_f64.powf((self.state >> 48) as f64 / 65_536.0 * 4.0 - 1.0)
    }
}

/// As a histogram's series must agree, the noise depends on what they have in common alone.
#[expect(clippy::cast_precision_loss, reason = "made-up values lose nothing that matters")]
fn progress_of_all(state: u64, tick: u64) -> f64 {
    tick as f64 + (mix(state ^ mix(tick)) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(profile: Profile) -> Plan {
        Plan { profile, seed: 1, units: 5, hours: 24, churn_percent: 300, start: 0 }
    }

    #[test]
    fn nodes_are_as_calibrated() {
        // Measured on a real node exporter: 64 % of its series are constant, 72.6 % of its samples repeat the one before.
        let plan = plan(Profile::Node);
        let units = plan.units().unwrap();
        let (mut constant, mut all, mut repeats, mut pairs) = (0, 0, 0, 0);
        for series in &units[0].series {
            let values: Vec<u64> = (0..240).map(|tick| series.value(tick).to_bits()).collect();
            let same = values.windows(2).filter(|pair| pair[0] == pair[1]).count();
            constant += usize::from(same == 239);
            repeats += same;
            (all, pairs) = (all + 1, pairs + 239);
        }
        let percent = |part: usize, whole: usize| 100 * part / whole;
        assert!((58..=70).contains(&percent(constant, all)), "{}", percent(constant, all));
        assert!((65..=80).contains(&percent(repeats, pairs)), "{}", percent(repeats, pairs));
    }

    #[test]
    fn pods_are_replaced_three_times_a_day() {
        let plan = plan(Profile::Kubernetes);
        let units = plan.units().unwrap();
        let pods: Vec<_> = units.iter().filter(|unit| unit.series.len() == 149).collect();
        assert!((5 * 3..=5 * 4).contains(&pods.len()), "{}", pods.len());
        for tick in [0, 1000, 5000] {
            let alive = pods.iter().filter(|pod| pod.born <= tick && tick < pod.ends).count();
            assert_eq!(alive, 5);
        }
        let all: std::collections::BTreeSet<_> =
            units.iter().flat_map(|unit| &unit.series).map(|series| &series.labels).collect();
        assert_eq!(all.len(), units.iter().map(|unit| unit.series.len()).sum::<usize>());
    }

    #[test]
    fn services_have_what_is_asked_for_and_nothing_special() {
        let plan = plan(Profile::Service);
        let units = plan.units().unwrap();
        let mut counts = BTreeMap::<&str, u32>::new();
        let pod = &units[0];
        for series in &pod.series {
            *counts.entry(series.labels.get("__name__").unwrap()).or_default() += 1;
            assert_eq!(series.labels.get("pod"), pod.series[0].labels.get("pod"));
            let values = (0..5760).map(|tick| series.value(tick));
            assert!(values.into_iter().all(|v| v.is_finite() && v != 1e-300), "{}", series.labels);
        }
        let expected = [
            ("container_cpu_usage_seconds_total", 3),
            ("container_memory_working_set_bytes", 3),
            ("grpc_server_handled_total", 1),
            ("http_request_duration_seconds_bucket", 12),
            ("http_request_duration_seconds_count", 1),
            ("http_request_duration_seconds_sum", 1),
            ("http_requests_total", 10),
            ("kube_pod_container_status_restarts_total", 1),
            ("kube_pod_memory_limit_bytes", 1),
            ("process_start_time_seconds", 1),
            ("up", 1),
        ];
        assert_eq!(counts, expected.into());
    }

    #[test]
    fn scrapes_are_at_odd_times_within_their_interval() {
        let plan = plan(Profile::Service);
        for unit in plan.units().unwrap() {
            for tick in unit.born..unit.ends {
                let t = unit.scrape(&plan, tick, &mut Vec::new()).unwrap();
                let at = t - tick.cast_signed() * INTERVAL_MS;
                assert!(t % 2 == 1 && (0..INTERVAL_MS).contains(&at), "{t} is of tick {tick}");
            }
        }
    }

    #[test]
    fn histograms_are_cumulative_and_counters_do_not_fall() {
        let plan = plan(Profile::Kubernetes);
        let units = plan.units().unwrap();
        let pod = units.iter().find(|unit| unit.series.len() == 149).unwrap();
        let ordinary = |v: f64| v.is_finite() && v > 1e-299;
        for tick in 0..239 {
            let bucket = |i: usize| pod.series[50 + i].value(tick);
            for i in 1..12 {
                let (below, above) = (bucket(i - 1), bucket(i));
                assert!(!ordinary(below) || !ordinary(above) || below <= above);
            }
            for series in &pod.series {
                let (v, w) = (series.value(tick), series.value(tick + 1));
                if matches!(series.class, Counter | CpuSeconds | Class::Bucket(_)) && v.is_finite()
                {
                    assert!(!ordinary(w) || v <= w, "{} fell to {w} from {v}", series.labels);
                }
            }
        }
    }
}
