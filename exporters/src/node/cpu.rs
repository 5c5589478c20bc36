//! `cpu`: time by mode, throttling, isolation.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use super::Collector;
use crate::CollectError;
use crate::families::Families;
use crate::procfs::{cpu_list, number, parse, read, read_optional};

/// `USER_HZ`, fixed at 100 by the kernel's user-space interface.
const TICKS_PER_SECOND: f64 = 100.0;
/// An idle time that falls by this many seconds or more is a CPU that was taken away and came back.
const RESET_SECONDS: f64 = 3.0;
/// Columns of a `cpu` line that are modes of their own, in their order.
const MODES: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"];
const IDLE: usize = 3;
const COLUMNS: usize = 10;

type Seconds = [f64; COLUMNS];

/// Reads `stat` and the CPUs of sysfs.
pub(super) struct Cpu {
    stat: PathBuf,
    cpus: PathBuf,
    /// The kernel's counters of idle and iowait go backwards now and then; what was shown never does.
    shown: Mutex<HashMap<String, Seconds>>,
}

impl Cpu {
    pub(super) fn new(procfs: &Path, sysfs: &Path) -> Self {
        Self {
            stat: procfs.join("stat"),
            cpus: sysfs.join("devices/system/cpu"),
            shown: Mutex::default(),
        }
    }

    fn collect_modes(&self, families: &mut Families) -> Result<(), CollectError> {
        let stat = read(&self.stat)?;
        let mut shown = self.shown.lock();
        let mut cpus = Vec::new();
        for line in stat.lines() {
            let Some((cpu, columns)) = line.strip_prefix("cpu").and_then(|l| l.split_once(' '))
            else {
                continue;
            };
            if cpu.is_empty() {
                continue;
            }
            let mut now: Seconds = [0.0; COLUMNS];
            for (seconds, ticks) in now.iter_mut().zip(columns.split_ascii_whitespace()) {
                *seconds = parse(ticks, &self.stat, line)? / TICKS_PER_SECOND;
            }
            let before = shown.entry(String::from(cpu)).or_default();
            advance(before, &now);
            cpus.push((cpu, *before));
        }
        // CPUs that went away are forgotten, so that they start anew.
        shown.retain(|cpu, _| cpus.iter().any(|(present, _)| present == cpu));
        let total =
            families.counter("node_cpu_seconds_total", "Seconds the CPUs spent in each mode.");
        for (cpu, seconds) in &cpus {
            for (mode, seconds) in MODES.iter().zip(seconds) {
                total.add(&[("cpu", cpu), ("mode", mode)], *seconds);
            }
        }
        let guest = families.counter(
            "node_cpu_guest_seconds_total",
            "Seconds the CPUs spent in guests (VMs) for each mode.",
        );
        for (cpu, seconds) in &cpus {
            guest.add(&[("cpu", cpu), ("mode", "user")], seconds[8]);
            guest.add(&[("cpu", cpu), ("mode", "nice")], seconds[9]);
        }
        Ok(())
    }

    fn collect_throttles(&self, families: &mut Families) {
        let mut cores = BTreeMap::new();
        let mut packages = BTreeMap::new();
        let folders = fs::read_dir(&self.cpus).into_iter().flatten().flatten();
        for folder in folders.map(|entry| entry.path()).filter(|path| is_cpu(path)) {
            let id = |file: &str| read_optional(&folder.join("topology").join(file));
            let (Some(package), Some(core)) = (id("physical_package_id"), id("core_id")) else {
                continue;
            };
            let (package, core) = (String::from(package.trim()), String::from(core.trim()));
            let throttle = folder.join("thermal_throttle");
            // Hyper-threads share the counters of their core: the first to be seen speaks for it.
            if let Some(count) = number(&throttle.join("core_throttle_count")) {
                cores.entry((package.clone(), core)).or_insert(count);
            }
            if let Some(count) = number(&throttle.join("package_throttle_count")) {
                packages.entry(package).or_insert(count);
            }
        }
        let by_core = families.counter(
            "node_cpu_core_throttles_total",
            "Number of times this CPU core has been throttled.",
        );
        for ((package, core), count) in &cores {
            by_core.add(&[("package", package), ("core", core)], *count);
        }
        let by_package = families.counter(
            "node_cpu_package_throttles_total",
            "Number of times this CPU package has been throttled.",
        );
        for (package, count) in &packages {
            by_package.add(&[("package", package)], *count);
        }
    }

    fn collect_state(&self, families: &mut Families) {
        if let Some(list) = read_optional(&self.cpus.join("isolated")) {
            let isolated = families.gauge(
                "node_cpu_isolated",
                "Whether each core is isolated, information from /sys/devices/system/cpu/isolated.",
            );
            for cpu in cpu_list(&list) {
                isolated.add(&[("cpu", &cpu.to_string())], 1.0);
            }
        }
        // Where the first CPU cannot be taken offline, upstream shows none.
        if number(&self.cpus.join("cpu0/online")).is_none() {
            return;
        }
        let online = families.gauge("node_cpu_online", "CPUs that are online and being scheduled.");
        let folders = fs::read_dir(&self.cpus).into_iter().flatten().flatten();
        for folder in folders.map(|entry| entry.path()).filter(|path| is_cpu(path)) {
            let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let is_online = number(&folder.join("online")).unwrap_or(0.0);
            online.add(&[("cpu", name.trim_start_matches("cpu"))], is_online);
        }
    }
}

impl Collector for Cpu {
    fn collect(&self, families: &mut Families) -> Result<(), CollectError> {
        self.collect_state(families);
        self.collect_throttles(families);
        self.collect_modes(families)
    }
}

/// Whether a path ends in `cpu` and a number.
fn is_cpu(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let number = name.strip_prefix("cpu").unwrap_or_default();
    !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
}

/// Moves `shown` on to `now`, never backwards, unless the CPU has started anew.
fn advance(shown: &mut Seconds, now: &Seconds) {
    if now[IDLE] - shown[IDLE] <= -RESET_SECONDS {
        *shown = *now;
        return;
    }
    for (shown, now) in shown.iter_mut().zip(now) {
        *shown = shown.max(*now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_do_not_go_backwards_unless_the_cpu_came_back() {
        let seconds = |idle: f64, user: f64| {
            let mut all = [0.0; COLUMNS];
            (all[IDLE], all[0]) = (idle, user);
            all
        };
        let mut shown = seconds(100.0, 10.0);
        advance(&mut shown, &seconds(99.5, 11.0));
        assert_eq!(shown, seconds(100.0, 11.0));
        advance(&mut shown, &seconds(1.0, 2.0));
        assert_eq!(shown, seconds(1.0, 2.0));
    }
}
