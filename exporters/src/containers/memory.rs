//! Memory of a cgroup.

use std::path::Path;

use super::Sink;
use super::cpu::field;
use super::hierarchy::{Cgroup, Controller};
use crate::procfs::{number, read_optional};

const WAITING: (&str, &str) = (
    "container_pressure_memory_waiting_seconds_total",
    "Total time duration tasks in the container have waited due to memory congestion.",
);
const STALLED: (&str, &str) = (
    "container_pressure_memory_stalled_seconds_total",
    "Total time duration no tasks in the container could make progress due to memory congestion.",
);

/// From here on a limit of version 1 means none: it is the largest number of whole pages.
const UNLIMITED_BYTES: f64 = 4e18;

/// What is shown of a cgroup; each only where the kernel counts it.
#[derive(Debug, Default)]
struct Memory {
    usage: Option<f64>,
    usage_max: Option<f64>,
    rss: Option<f64>,
    cache: Option<f64>,
    mapped_file: Option<f64>,
    swap: Option<f64>,
    kernel: Option<f64>,
    failcnt: Option<f64>,
    active_file: Option<f64>,
    inactive_file: Option<f64>,
    /// Page faults and major page faults, of the cgroup alone and of all below it.
    faults: [[Option<f64>; 2]; 2],
    oom_kills: Option<f64>,
    limit: Option<f64>,
    reservation: Option<f64>,
    swap_limit: Option<f64>,
}

pub(super) fn collect(cgroup: &Cgroup, sink: &mut Sink<'_>) {
    let memory = match (cgroup.v1(Controller::Memory), cgroup.v2()) {
        (Some(folder), _) => read_v1(folder),
        (None, Some(folder)) => read_v2(folder, cgroup.is_root()),
        (None, None) => return,
    };
    memory.show(sink);
    let folder = cgroup.v2();
    if let Some(text) = folder.and_then(|folder| read_optional(&folder.join("memory.pressure"))) {
        sink.pressure(&text, WAITING, STALLED);
    }
}

fn read_v1(folder: &Path) -> Memory {
    let file = |name: &str| number(&folder.join(name));
    let limit =
        |name: &str| file(name).map(|bytes| if bytes >= UNLIMITED_BYTES { 0.0 } else { bytes });
    let stat = read_optional(&folder.join("memory.stat")).unwrap_or_default();
    let oom = read_optional(&folder.join("memory.oom_control")).unwrap_or_default();
    Memory {
        usage: file("memory.usage_in_bytes"),
        usage_max: file("memory.max_usage_in_bytes"),
        rss: field(&stat, "total_rss"),
        cache: field(&stat, "total_cache"),
        mapped_file: field(&stat, "total_mapped_file"),
        swap: field(&stat, "total_swap"),
        kernel: file("memory.kmem.usage_in_bytes"),
        failcnt: file("memory.failcnt"),
        active_file: field(&stat, "total_active_file"),
        inactive_file: field(&stat, "total_inactive_file"),
        faults: [
            [field(&stat, "pgfault"), field(&stat, "pgmajfault")],
            [field(&stat, "total_pgfault"), field(&stat, "total_pgmajfault")],
        ],
        oom_kills: field(&oom, "oom_kill"),
        limit: limit("memory.limit_in_bytes"),
        reservation: limit("memory.soft_limit_in_bytes"),
        swap_limit: limit("memory.memsw.limit_in_bytes"),
    }
}

fn read_v2(folder: &Path, is_root: bool) -> Memory {
    let file = |name: &str| number(&folder.join(name));
    let limit = |name: &str| {
        let text = read_optional(&folder.join(name))?;
        // `max` means none.
        Some(text.trim().parse().unwrap_or(0.0))
    };
    let stat = read_optional(&folder.join("memory.stat")).unwrap_or_default();
    let events = read_optional(&folder.join("memory.events")).unwrap_or_default();
    let (rss, cache) = (field(&stat, "anon"), field(&stat, "file"));
    // The root has no memory.current; what is used there is what its pages are.
    let of_root = || if is_root { Some(rss? + cache?) } else { None };
    // Both scopes are the same: version 2 counts hierarchies alone.
    let faults = [field(&stat, "pgfault"), field(&stat, "pgmajfault")];
    Memory {
        usage: file("memory.current").or_else(of_root),
        usage_max: file("memory.peak"),
        rss,
        cache,
        mapped_file: field(&stat, "file_mapped"),
        swap: file("memory.swap.current"),
        kernel: field(&stat, "kernel"),
        failcnt: None,
        active_file: field(&stat, "active_file"),
        inactive_file: field(&stat, "inactive_file"),
        faults: [faults, faults],
        oom_kills: field(&events, "oom_kill"),
        limit: limit("memory.max"),
        reservation: limit("memory.low"),
        swap_limit: limit("memory.swap.max"),
    }
}

impl Memory {
    /// Usage less the page cache that could go at once: what the kubelet evicts by and `kubectl top` shows.
    fn working_set(&self) -> Option<f64> {
        Some((self.usage? - self.inactive_file?).max(0.0))
    }

    fn show(&self, sink: &mut Sink<'_>) {
        for (name, help, value) in [
            (
                "container_memory_usage_bytes",
                "Current memory usage in bytes, including all memory regardless of when it was accessed",
                self.usage,
            ),
            (
                "container_memory_working_set_bytes",
                "Current working set in bytes.",
                self.working_set(),
            ),
            (
                "container_memory_max_usage_bytes",
                "Maximum memory usage recorded in bytes",
                self.usage_max,
            ),
            ("container_memory_rss", "Size of RSS in bytes.", self.rss),
            ("container_memory_cache", "Number of bytes of page cache memory.", self.cache),
            (
                "container_memory_mapped_file",
                "Size of memory mapped files in bytes.",
                self.mapped_file,
            ),
            ("container_memory_swap", "Container swap usage in bytes.", self.swap),
            (
                "container_memory_kernel_usage",
                "Size of kernel memory allocated in bytes.",
                self.kernel,
            ),
            (
                "container_memory_total_active_file_bytes",
                "Current total active file in bytes.",
                self.active_file,
            ),
            (
                "container_memory_total_inactive_file_bytes",
                "Current total inactive file in bytes.",
                self.inactive_file,
            ),
            ("container_spec_memory_limit_bytes", "Memory limit for the container.", self.limit),
            (
                "container_spec_memory_reservation_limit_bytes",
                "Memory reservation limit for the container.",
                self.reservation,
            ),
            (
                "container_spec_memory_swap_limit_bytes",
                "Memory swap limit for the container.",
                self.swap_limit,
            ),
        ] {
            if let Some(value) = value {
                sink.gauge(name, help, value);
            }
        }
        self.show_counters(sink);
    }

    fn show_counters(&self, sink: &mut Sink<'_>) {
        if let Some(count) = self.failcnt {
            let help = "Number of memory usage hits limits";
            sink.counter("container_memory_failcnt", help, count);
        }
        if let Some(count) = self.oom_kills {
            let help = "Count of out of memory events observed for the container";
            sink.counter("container_oom_events_total", help, count);
        }
        for (scope, faults) in ["container", "hierarchy"].into_iter().zip(self.faults) {
            for (kind, count) in ["pgfault", "pgmajfault"].into_iter().zip(faults) {
                let Some(count) = count else { continue };
                sink.counter_with(
                    "container_memory_failures_total",
                    "Cumulative count of memory allocation failures.",
                    &[("failure_type", kind), ("scope", scope)],
                    count,
                );
            }
        }
    }
}
