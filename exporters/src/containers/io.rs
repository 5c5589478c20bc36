//! I/O of a cgroup, by device.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::Sink;
use super::hierarchy::{Cgroup, Controller};
use crate::procfs::read_optional;

const WAITING: (&str, &str) = (
    "container_pressure_io_waiting_seconds_total",
    "Total time duration tasks in the container have waited due to IO congestion.",
);
const STALLED: (&str, &str) = (
    "container_pressure_io_stalled_seconds_total",
    "Total time duration no tasks in the container could make progress due to IO congestion.",
);

const READS: (&str, &str) = ("container_fs_reads_total", "Cumulative count of reads completed");
const WRITES: (&str, &str) = ("container_fs_writes_total", "Cumulative count of writes completed");
const READ_BYTES: (&str, &str) =
    ("container_fs_reads_bytes_total", "Cumulative count of bytes read");
const WRITTEN_BYTES: (&str, &str) =
    ("container_fs_writes_bytes_total", "Cumulative count of bytes written");

/// Names of block devices, looked up once per collection.
#[derive(Debug)]
pub(super) struct Devices {
    numbers: PathBuf,
    names: HashMap<String, String>,
}

impl Devices {
    pub(super) fn new(sysfs: &Path) -> Self {
        Self { numbers: sysfs.join("dev/block"), names: HashMap::new() }
    }

    /// `/dev/sda` of `8:0`; empty where the kernel does not say.
    fn name(&mut self, numbers: &str) -> &str {
        if !self.names.contains_key(numbers) {
            // What comes from a file is not a path until it looks like two numbers.
            let is_pair = numbers.split(':').count() == 2
                && numbers.bytes().all(|b| b.is_ascii_digit() || b == b':');
            let uevent = is_pair.then(|| self.numbers.join(numbers).join("uevent"));
            let text = uevent.and_then(|path| read_optional(&path)).unwrap_or_default();
            let name = text.lines().find_map(|line| line.strip_prefix("DEVNAME="));
            let name = name.map(|name| format!("/dev/{name}")).unwrap_or_default();
            self.names.insert(String::from(numbers), name);
        }
        &self.names[numbers]
    }
}

pub(super) fn collect(cgroup: &Cgroup, devices: &mut Devices, sink: &mut Sink<'_>) {
    match (cgroup.v1(Controller::Blkio), cgroup.v2()) {
        (Some(folder), _) => collect_v1(folder, devices, sink),
        (None, Some(folder)) => collect_v2(folder, devices, sink),
        (None, None) => {}
    }
    let folder = cgroup.v2();
    if let Some(text) = folder.and_then(|folder| read_optional(&folder.join("io.pressure"))) {
        sink.pressure(&text, WAITING, STALLED);
    }
}

/// Lines such as `8:0 Read 4096`, of this cgroup and all below it where the kernel counts so.
fn collect_v1(folder: &Path, devices: &mut Devices, sink: &mut Sink<'_>) {
    let file = |name: &str| {
        read_optional(&folder.join(format!("blkio.throttle.{name}_recursive")))
            .or_else(|| read_optional(&folder.join(format!("blkio.throttle.{name}"))))
            .unwrap_or_default()
    };
    let bytes = file("io_service_bytes");
    for (numbers, operation, value) in operations(&bytes) {
        let name = devices.name(numbers);
        usage(sink, numbers, name, operation, value);
        match operation {
            "Read" => by_device(sink, READ_BYTES, name, value),
            "Write" => by_device(sink, WRITTEN_BYTES, name, value),
            _ => {}
        }
    }
    let count = file("io_serviced");
    for (numbers, operation, value) in operations(&count) {
        let name = devices.name(numbers);
        match operation {
            "Read" => by_device(sink, READS, name, value),
            "Write" => by_device(sink, WRITES, name, value),
            _ => {}
        }
    }
}

fn operations(text: &str) -> impl Iterator<Item = (&str, &str, f64)> {
    text.lines().filter_map(|line| {
        let mut columns = line.split_ascii_whitespace();
        let (numbers, operation) = (columns.next()?, columns.next()?);
        Some((numbers, operation, columns.next()?.parse().ok()?))
    })
}

/// Lines such as `8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0`.
fn collect_v2(folder: &Path, devices: &mut Devices, sink: &mut Sink<'_>) {
    let stat = read_optional(&folder.join("io.stat")).unwrap_or_default();
    for line in stat.lines() {
        let Some((numbers, fields)) = line.split_once(' ') else { continue };
        let name = devices.name(numbers);
        for (key, value) in fields.split(' ').filter_map(|field| field.split_once('=')) {
            let Ok(value) = value.parse::<f64>() else { continue };
            match key {
                "rbytes" => {
                    by_device(sink, READ_BYTES, name, value);
                    usage(sink, numbers, name, "Read", value);
                }
                "wbytes" => {
                    by_device(sink, WRITTEN_BYTES, name, value);
                    usage(sink, numbers, name, "Write", value);
                }
                "rios" => by_device(sink, READS, name, value),
                "wios" => by_device(sink, WRITES, name, value),
                _ => {}
            }
        }
    }
}

fn by_device(
    sink: &mut Sink<'_>,
    (family, help): (&'static str, &'static str),
    device: &str,
    value: f64,
) {
    sink.counter_with(family, help, &[("device", device)], value);
}

fn usage(sink: &mut Sink<'_>, numbers: &str, device: &str, operation: &str, value: f64) {
    let (major, minor) = numbers.split_once(':').unwrap_or_default();
    let labels = [("device", device), ("major", major), ("minor", minor), ("operation", operation)];
    let help = "Blkio Device bytes usage";
    sink.counter_with("container_blkio_device_usage_total", help, &labels, value);
}
