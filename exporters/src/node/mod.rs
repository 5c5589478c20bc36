//! The node: what node_exporter shows, as far as its collectors are built.

mod cpu;
mod diskstats;
mod filesystem;
mod loadavg;
mod meminfo;
mod netdev;
mod pressure;
mod stat;
mod statfs;
mod time;
mod uname;
mod vmstat;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use model::{Clock, SystemClock};

use crate::CollectError;
use crate::families::Families;

/// Where the node is read from.
#[derive(Clone)]
pub struct NodeOptions {
    /// Where procfs is mounted.
    pub procfs: PathBuf,
    /// Where sysfs is mounted.
    pub sysfs: PathBuf,
    /// The root of the file systems to look at; stripped from mount points.
    pub rootfs: PathBuf,
    /// Where udev keeps what it knows about devices.
    pub udev_data: PathBuf,
    /// Names of collectors that are left out.
    pub without: Vec<String>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
}

impl Default for NodeOptions {
    fn default() -> Self {
        Self {
            procfs: PathBuf::from("/proc"),
            sysfs: PathBuf::from("/sys"),
            rootfs: PathBuf::from("/"),
            udev_data: PathBuf::from("/run/udev/data"),
            without: Vec::new(),
            clock: Arc::new(SystemClock),
        }
    }
}

impl std::fmt::Debug for NodeOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeOptions")
            .field("procfs", &self.procfs)
            .field("sysfs", &self.sysfs)
            .field("rootfs", &self.rootfs)
            .field("udev_data", &self.udev_data)
            .field("without", &self.without)
            .finish_non_exhaustive()
    }
}

/// Reads one part of the node.
trait Collector: Send + Sync {
    /// Adds what it reads to `families`. What was added before a failure is dropped.
    fn collect(&self, families: &mut Families) -> Result<(), CollectError>;
}

/// All collectors of the node.
pub struct Node {
    collectors: Vec<(&'static str, Box<dyn Collector>)>,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.collectors.iter().map(|(name, _)| name)).finish()
    }
}

impl Node {
    /// Collectors that read where `options` says.
    #[must_use]
    pub fn new(options: &NodeOptions) -> Self {
        let (procfs, sysfs) = (&options.procfs, &options.sysfs);
        let mut collectors: Vec<(&'static str, Box<dyn Collector>)> = vec![
            ("cpu", Box::new(cpu::Cpu::new(procfs, sysfs))),
            ("diskstats", Box::new(diskstats::Diskstats::new(procfs, sysfs, &options.udev_data))),
            ("filesystem", Box::new(filesystem::Filesystem::new(procfs, &options.rootfs))),
            ("loadavg", Box::new(loadavg::Loadavg::new(procfs))),
            ("meminfo", Box::new(meminfo::Meminfo::new(procfs))),
            ("netdev", Box::new(netdev::Netdev::new(procfs))),
            ("pressure", Box::new(pressure::Pressure::new(procfs))),
            ("stat", Box::new(stat::Stat::new(procfs))),
            ("time", Box::new(time::Time::new(sysfs, Arc::clone(&options.clock)))),
            ("uname", Box::new(uname::Uname)),
            ("vmstat", Box::new(vmstat::Vmstat::new(procfs))),
        ];
        collectors.retain(|(name, _)| !options.without.iter().any(|without| without == name));
        Self { collectors }
    }

    /// Appends the exposition of all collectors to `out`.
    pub fn collect(&self, out: &mut Vec<u8>) {
        let mut families = Families::default();
        for (name, collector) in &self.collectors {
            let started = Instant::now();
            let mut own = Families::default();
            let result = collector.collect(&mut own);
            let seconds = started.elapsed().as_secs_f64();
            let success = match result {
                Ok(()) => {
                    families.merge(own);
                    1.0
                }
                Err(error @ CollectError::NoData(_)) => {
                    tracing::debug!(collector = name, %error, "collector has no data");
                    0.0
                }
                Err(error) => {
                    tracing::warn!(collector = name, %error, "collector failed");
                    0.0
                }
            };
            let labels = [("collector", *name)];
            families
                .gauge(
                    "node_scrape_collector_duration_seconds",
                    "node_exporter: Duration of a collector scrape.",
                )
                .add(&labels, seconds);
            families
                .gauge(
                    "node_scrape_collector_success",
                    "node_exporter: Whether a collector succeeded.",
                )
                .add(&labels, success);
        }
        families.write(out);
    }
}
