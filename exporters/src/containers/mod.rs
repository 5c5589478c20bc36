//! Containers: what cAdvisor shows of cgroups, as far as the kernel alone can tell.
//!
//! Samples carry no timestamps of their own, unlike cAdvisor's: a series with timestamps is not marked stale when its container ends, and
//! lives on in queries for five minutes. What a kernel does not count is left out; cAdvisor shows zeros that never change.

mod cpu;
mod hierarchy;
mod identity;
mod io;
mod memory;
mod pids;

use std::path::PathBuf;

use model::Timestamp;

use crate::families::{Families, Family};
use crate::procfs::pressure_seconds;
use hierarchy::{Cgroup, Hierarchies};
use identity::Identity;

/// Where cgroups are read from.
#[derive(Clone, Debug)]
pub struct ContainerOptions {
    /// Where cgroups are mounted: version 2 itself, or a folder per controller of version 1.
    pub cgroupfs: PathBuf,
    /// Where sysfs is mounted, for the names of devices.
    pub sysfs: PathBuf,
}

impl Default for ContainerOptions {
    fn default() -> Self {
        Self { cgroupfs: PathBuf::from("/sys/fs/cgroup"), sysfs: PathBuf::from("/sys") }
    }
}

/// The collectors of all cgroups.
#[derive(Debug)]
pub struct Containers {
    options: ContainerOptions,
}

impl Containers {
    /// Collectors that read where `options` says.
    #[must_use]
    pub fn new(options: ContainerOptions) -> Self {
        Self { options }
    }

    /// Appends the exposition of all cgroups to `out`; `now` is what `container_last_seen` says.
    pub fn collect(&self, now: Timestamp, out: &mut Vec<u8>) {
        // Looked for every time: controllers may be mounted after we started.
        let hierarchies = Hierarchies::find(&self.options.cgroupfs);
        let mut devices = io::Devices::new(&self.options.sysfs);
        let mut families = Families::default();
        for id in hierarchies.cgroups() {
            let cgroup = hierarchies.cgroup(&id);
            let identity = Identity::of(&id);
            let mut sink = Sink { families: &mut families, id: &id, name: identity.name };
            cpu::collect(&cgroup, &mut sink);
            memory::collect(&cgroup, &mut sink);
            pids::collect(&cgroup, &mut sink);
            io::collect(&cgroup, &mut devices, &mut sink);
            collect_times(&cgroup, now, &mut sink);
        }
        families.write(out);
    }
}

#[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are below 2^53")]
fn collect_times(cgroup: &Cgroup, now: Timestamp, sink: &mut Sink<'_>) {
    let (name, help) = ("container_last_seen", "Last time a container was seen by the exporter");
    sink.gauge(name, help, (now / 1000) as f64);
    if let Some(created) = cgroup.created_seconds() {
        sink.gauge(
            "container_start_time_seconds",
            "Start time of the container since unix epoch in seconds.",
            created as f64,
        );
    }
}

/// Takes the samples of one cgroup and adds the labels that say which it is.
struct Sink<'a> {
    families: &'a mut Families,
    id: &'a str,
    /// Empty where the path does not tell.
    name: &'a str,
}

impl Sink<'_> {
    /// A counter with no further labels.
    fn counter(&mut self, name: &'static str, help: &'static str, value: f64) {
        self.counter_with(name, help, &[], value);
    }

    /// A counter with further labels.
    fn counter_with(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
        value: f64,
    ) {
        let family = self.families.counter(name, help);
        add(family, self.id, self.name, labels, value);
    }

    /// Time lost to congestion, as a pressure file tells it: some tasks waiting, all tasks stalled.
    fn pressure(
        &mut self,
        text: &str,
        waiting: (&'static str, &'static str),
        stalled: (&'static str, &'static str),
    ) {
        for (line, (name, help)) in [("some", waiting), ("full", stalled)] {
            if let Some(seconds) = pressure_seconds(text, line) {
                self.counter(name, help, seconds);
            }
        }
    }

    /// A gauge with no further labels.
    fn gauge(&mut self, name: &'static str, help: &'static str, value: f64) {
        let family = self.families.gauge(name, help);
        add(family, self.id, self.name, &[], value);
    }
}

fn add(family: &mut Family, id: &str, name: &str, labels: &[(&'static str, &str)], value: f64) {
    let mut all = vec![("id", id)];
    if !name.is_empty() {
        all.push(("name", name));
    }
    all.extend_from_slice(labels);
    family.add(&all, value);
}

#[cfg(test)]
mod tests;
