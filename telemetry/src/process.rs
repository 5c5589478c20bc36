//! `process_*`: what the operating system says about this process, read when it is asked for.

use std::fs;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge};

/// Clock ticks per second in `/proc`; fixed at 100 by the kernel's user-space interface.
const TICKS_PER_SECOND: f64 = 100.0;

/// What `/proc/self/stat` says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProcessStat {
    cpu_seconds: f64,
    threads: f64,
    start_seconds_after_boot: f64,
    virtual_bytes: f64,
    pub(crate) resident_bytes: u64,
}

/// Reads `/proc/self/stat`; `None` where there is no such file.
pub(crate) fn read_stat() -> Option<ProcessStat> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The command's name stands in parentheses and may contain anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<f64>().ok();
    let resident_pages: u64 = fields.get(21)?.parse().ok()?;
    Some(ProcessStat {
        cpu_seconds: (number(11)? + number(12)?) / TICKS_PER_SECOND,
        threads: number(17)?,
        start_seconds_after_boot: number(19)? / TICKS_PER_SECOND,
        virtual_bytes: number(20)?,
        resident_bytes: resident_pages * rustix::param::page_size() as u64,
    })
}

fn boot_time_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

fn fds_max() -> Option<f64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// Reads `/proc/self` on every scrape.
pub(crate) struct ProcessCollector {
    cpu_seconds: Counter,
    gauges: [Gauge; 6],
}

/// Order of `ProcessCollector::gauges`.
const GAUGES: [(&str, &str); 6] = [
    ("process_open_fds", "Number of open file descriptors."),
    ("process_max_fds", "Maximum number of open file descriptors."),
    ("process_resident_memory_bytes", "Resident memory size in bytes."),
    ("process_virtual_memory_bytes", "Virtual memory size in bytes."),
    ("process_start_time_seconds", "Start time of the process since unix epoch in seconds."),
    ("process_threads", "Number of OS threads in the process."),
];

impl ProcessCollector {
    pub(crate) fn new() -> Self {
        let cpu =
            Counter::new("process_cpu_seconds_total", "User and system CPU time spent in seconds.");
        Self {
            cpu_seconds: cpu.expect("a valid name"),
            gauges: GAUGES.map(|(name, help)| Gauge::new(name, help).expect("a valid name")),
        }
    }

    fn refresh(&self) -> Option<()> {
        let stat = read_stat()?;
        let earlier = self.cpu_seconds.get();
        self.cpu_seconds.inc_by((stat.cpu_seconds - earlier).max(0.0));
        #[expect(clippy::cast_precision_loss, reason = "counts and bytes far below 2^53")]
        let values = [
            fs::read_dir("/proc/self/fd").ok()?.count() as f64,
            fds_max()?,
            stat.resident_bytes as f64,
            stat.virtual_bytes,
            boot_time_seconds()? + stat.start_seconds_after_boot,
            stat.threads,
        ];
        for (gauge, value) in self.gauges.iter().zip(values) {
            gauge.set(value);
        }
        Some(())
    }
}

impl Collector for ProcessCollector {
    fn desc(&self) -> Vec<&Desc> {
        let mut all = self.cpu_seconds.desc();
        all.extend(self.gauges.iter().flat_map(Collector::desc));
        all
    }

    fn collect(&self) -> Vec<MetricFamily> {
        if self.refresh().is_none() {
            return Vec::new();
        }
        let mut all = self.cpu_seconds.collect();
        all.extend(self.gauges.iter().flat_map(Collector::collect));
        all
    }
}
