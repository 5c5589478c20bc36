//! CPU time, throttling and shares of a cgroup.

use std::path::Path;

use super::Sink;
use super::hierarchy::{Cgroup, Controller};
use crate::procfs::{number, read_optional};

const WAITING: (&str, &str) = (
    "container_pressure_cpu_waiting_seconds_total",
    "Total time duration tasks in the container have waited due to CPU congestion.",
);
const STALLED: (&str, &str) = (
    "container_pressure_cpu_stalled_seconds_total",
    "Total time duration no tasks in the container could make progress due to CPU congestion.",
);

/// `USER_HZ`, fixed at 100 by the kernel's user-space interface.
const TICKS_PER_SECOND: f64 = 100.0;

const USAGE: (&str, &str) =
    ("container_cpu_usage_seconds_total", "Cumulative cpu time consumed in seconds.");
const USER: (&str, &str) =
    ("container_cpu_user_seconds_total", "Cumulative user cpu time consumed in seconds.");
const SYSTEM: (&str, &str) =
    ("container_cpu_system_seconds_total", "Cumulative system cpu time consumed in seconds.");

pub(super) fn collect(cgroup: &Cgroup, sink: &mut Sink<'_>) {
    match cgroup.v1(Controller::Cpuacct) {
        Some(folder) => usage_v1(folder, sink),
        None => {
            if let Some(stat) = cgroup.v2().and_then(|f| read_optional(&f.join("cpu.stat"))) {
                usage_v2(&stat, sink);
            }
        }
    }
    match (cgroup.v1(Controller::Cpu), cgroup.v2()) {
        (Some(folder), _) => limits_v1(folder, sink),
        (None, Some(folder)) => limits_v2(folder, sink),
        (None, None) => {}
    }
    if let Some(text) = cgroup.v2().and_then(|folder| read_optional(&folder.join("cpu.pressure"))) {
        sink.pressure(&text, WAITING, STALLED);
    }
}

/// The value of `key` in a file of `key value` lines.
pub(super) fn field(text: &str, key: &str) -> Option<f64> {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(k, _)| *k == key)?.1.trim().parse().ok()
}

fn usage(sink: &mut Sink<'_>, seconds: f64) {
    // The kernel of version 1 could tell CPUs apart; what is shown is their sum, as the kubelet shows it.
    sink.counter_with(USAGE.0, USAGE.1, &[("cpu", "total")], seconds);
}

fn usage_v1(folder: &Path, sink: &mut Sink<'_>) {
    if let Some(nanoseconds) = number(&folder.join("cpuacct.usage")) {
        usage(sink, nanoseconds / 1e9);
    }
    let stat = read_optional(&folder.join("cpuacct.stat")).unwrap_or_default();
    for (key, (name, help)) in [("user", USER), ("system", SYSTEM)] {
        if let Some(ticks) = field(&stat, key) {
            sink.counter(name, help, ticks / TICKS_PER_SECOND);
        }
    }
}

fn usage_v2(stat: &str, sink: &mut Sink<'_>) {
    if let Some(microseconds) = field(stat, "usage_usec") {
        usage(sink, microseconds / 1e6);
    }
    for (key, (name, help)) in [("user_usec", USER), ("system_usec", SYSTEM)] {
        if let Some(microseconds) = field(stat, key) {
            sink.counter(name, help, microseconds / 1e6);
        }
    }
}

/// What a quota did, as far as `cpu.stat` tells: names of its lines, what they become, and whether they are times. Shown only
/// where there is a quota, as in cAdvisor.
fn throttling(stat: &str, times: [&str; 2], times_per_second: f64, sink: &mut Sink<'_>) {
    for (key, name, help, unit) in [
        (
            "nr_periods",
            "container_cpu_cfs_periods_total",
            "Number of elapsed enforcement period intervals.",
            1.0,
        ),
        (
            "nr_throttled",
            "container_cpu_cfs_throttled_periods_total",
            "Number of throttled period intervals.",
            1.0,
        ),
        (
            times[0],
            "container_cpu_cfs_throttled_seconds_total",
            "Total time duration the container has been throttled.",
            times_per_second,
        ),
        (
            "nr_bursts",
            "container_cpu_cfs_burst_periods_total",
            "Number of periods when burst occurs.",
            1.0,
        ),
        (
            times[1],
            "container_cpu_cfs_burst_seconds_total",
            "Total time duration the container has been bursted.",
            times_per_second,
        ),
    ] {
        if let Some(value) = field(stat, key) {
            sink.counter(name, help, value / unit);
        }
    }
}

fn spec(sink: &mut Sink<'_>, quota: Option<f64>, period: Option<f64>, shares: Option<f64>) {
    for (name, help, value) in [
        ("container_spec_cpu_quota", "CPU quota of the container.", quota),
        ("container_spec_cpu_period", "CPU period of the container.", period),
        ("container_spec_cpu_shares", "CPU share of the container.", shares),
    ] {
        if let Some(value) = value {
            sink.gauge(name, help, value);
        }
    }
}

fn limits_v1(folder: &Path, sink: &mut Sink<'_>) {
    let quota = number(&folder.join("cpu.cfs_quota_us")).filter(|quota| *quota > 0.0);
    let period = number(&folder.join("cpu.cfs_period_us"));
    spec(sink, quota, period, number(&folder.join("cpu.shares")));
    if quota.is_none() {
        return;
    }
    let stat = read_optional(&folder.join("cpu.stat")).unwrap_or_default();
    throttling(&stat, ["throttled_time", "burst_time"], 1e9, sink);
}

fn limits_v2(folder: &Path, sink: &mut Sink<'_>) {
    let max = read_optional(&folder.join("cpu.max")).unwrap_or_default();
    let mut columns = max.split_ascii_whitespace().map(|column| column.parse::<f64>().ok());
    let quota = columns.next().flatten();
    let period = columns.next().flatten();
    // The map from weights to shares that runtimes used until 2025, inverted.
    let shares = number(&folder.join("cpu.weight"))
        .map(|weight| (2.0 + (weight - 1.0) * 262_142.0 / 9_999.0).floor());
    spec(sink, quota, period, shares);
    if quota.is_none() {
        return;
    }
    let stat = read_optional(&folder.join("cpu.stat")).unwrap_or_default();
    throttling(&stat, ["throttled_usec", "burst_usec"], 1e6, sink);
}
