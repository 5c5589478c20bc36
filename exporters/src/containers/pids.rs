//! Processes and threads of a cgroup.

use super::Sink;
use super::hierarchy::{Cgroup, Controller};
use crate::procfs::{number, read_optional};

pub(super) fn collect(cgroup: &Cgroup, sink: &mut Sink<'_>) {
    if let Some(procs) = cgroup.any().and_then(|folder| read_optional(&folder.join("cgroup.procs")))
    {
        #[expect(clippy::cast_precision_loss, reason = "process ids are below 2^22")]
        let count = procs.lines().count() as f64;
        let help = "Number of processes running inside the container.";
        sink.gauge("container_processes", help, count);
    }
    let Some(folder) = cgroup.v1(Controller::Pids).or(cgroup.v2()) else { return };
    if let Some(count) = number(&folder.join("pids.current")) {
        let help = "Number of threads running inside the container";
        sink.gauge("container_threads", help, count);
    }
    if let Some(max) = read_optional(&folder.join("pids.max")) {
        sink.gauge(
            "container_threads_max",
            "Maximum number of threads allowed inside the container, infinity if value is zero",
            max.trim().parse().unwrap_or(0.0),
        );
    }
}
