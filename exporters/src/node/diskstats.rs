//! `diskstats`: I/O of block devices, and what udev knows about them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use exposition::MetricKind::{self, Counter, Gauge};
use regex::Regex;

use super::Collector;
use crate::CollectError;
use crate::families::Families;
use crate::procfs::{parse, read, read_optional};

/// Devices that are left out: RAM disks, loop and floppy devices, and partitions, whose I/O is in that of their disk.
static EXCLUDED: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$").expect("a valid expression")
});

/// Sectors of `diskstats`, whatever those of the device are.
const SECTOR_BYTES: f64 = 512.0;
const MS: f64 = 1e-3;

/// Columns after the name of the device: what each becomes, and its unit.
const COLUMNS: [(&str, &str, MetricKind, f64); 17] = [
    ("reads_completed_total", "The total number of reads completed successfully.", Counter, 1.0),
    ("reads_merged_total", "The total number of reads merged.", Counter, 1.0),
    ("read_bytes_total", "The total number of bytes read successfully.", Counter, SECTOR_BYTES),
    ("read_time_seconds_total", "The total number of seconds spent by all reads.", Counter, MS),
    ("writes_completed_total", "The total number of writes completed successfully.", Counter, 1.0),
    ("writes_merged_total", "The number of writes merged.", Counter, 1.0),
    (
        "written_bytes_total",
        "The total number of bytes written successfully.",
        Counter,
        SECTOR_BYTES,
    ),
    (
        "write_time_seconds_total",
        "This is the total number of seconds spent by all writes.",
        Counter,
        MS,
    ),
    ("io_now", "The number of I/Os currently in progress.", Gauge, 1.0),
    ("io_time_seconds_total", "Total seconds spent doing I/Os.", Counter, MS),
    ("io_time_weighted_seconds_total", "The weighted # of seconds spent doing I/Os.", Counter, MS),
    (
        "discards_completed_total",
        "The total number of discards completed successfully.",
        Counter,
        1.0,
    ),
    ("discards_merged_total", "The total number of discards merged.", Counter, 1.0),
    (
        "discarded_sectors_total",
        "The total number of sectors discarded successfully.",
        Counter,
        1.0,
    ),
    (
        "discard_time_seconds_total",
        "This is the total number of seconds spent by all discards.",
        Counter,
        MS,
    ),
    (
        "flush_requests_total",
        "The total number of flush requests completed successfully",
        Counter,
        1.0,
    ),
    (
        "flush_requests_time_seconds_total",
        "This is the total number of seconds spent by all flush requests.",
        Counter,
        MS,
    ),
];

/// Properties of udev that become gauges of ATA disks.
const ATA: [(&str, &str, &str); 3] = [
    ("ID_ATA_WRITE_CACHE", "node_disk_ata_write_cache", "ATA disk has a write cache."),
    (
        "ID_ATA_WRITE_CACHE_ENABLED",
        "node_disk_ata_write_cache_enabled",
        "ATA disk has its write cache enabled.",
    ),
    (
        "ID_ATA_ROTATION_RATE_RPM",
        "node_disk_ata_rotation_rate_rpm",
        "ATA disk rotation rate in RPMs (0 for SSDs).",
    ),
];

/// Reads `diskstats`, and for each device udev's data and whether it rotates.
pub(super) struct Diskstats {
    diskstats: PathBuf,
    block: PathBuf,
    udev: PathBuf,
}

impl Diskstats {
    pub(super) fn new(procfs: &Path, sysfs: &Path, udev: &Path) -> Self {
        Self {
            diskstats: procfs.join("diskstats"),
            block: sysfs.join("block"),
            udev: udev.to_path_buf(),
        }
    }

    fn collect_info(&self, families: &mut Families, device: &str, major: &str, minor: &str) {
        let udev = self.udev_properties(major, minor);
        let property = |name: &str| udev.get(name).map_or("", String::as_str);
        let rotational = read_optional(&self.block.join(device).join("queue/rotational"));
        let serials = ["SCSI_IDENT_SERIAL", "ID_SERIAL_SHORT", "ID_SERIAL"].map(property);
        let serial = serials.into_iter().find(|serial| !serial.is_empty()).unwrap_or_default();
        families.gauge("node_disk_info", "Info of /sys/block/<block_device>.").add(
            &[
                ("device", device),
                ("major", major),
                ("minor", minor),
                ("path", property("ID_PATH")),
                ("wwn", property("ID_WWN")),
                ("model", property("ID_MODEL")),
                ("serial", serial),
                ("revision", property("ID_REVISION")),
                ("rotational", rotational.as_deref().map_or("0", str::trim)),
            ],
            1.0,
        );
        if !property("DM_NAME").is_empty() {
            families.gauge("node_disk_device_mapper_info", "Info about disk device mapper.").add(
                &[
                    ("device", device),
                    ("name", property("DM_NAME")),
                    ("uuid", property("DM_UUID")),
                    ("vg_name", property("DM_VG_NAME")),
                    ("lv_name", property("DM_LV_NAME")),
                    ("lv_layer", property("DM_LV_LAYER")),
                ],
                1.0,
            );
        }
        if !property("ID_FS_TYPE").is_empty() {
            families.gauge("node_disk_filesystem_info", "Info about disk filesystem.").add(
                &[
                    ("device", device),
                    ("type", property("ID_FS_TYPE")),
                    ("usage", property("ID_FS_USAGE")),
                    ("uuid", property("ID_FS_UUID")),
                    ("version", property("ID_FS_VERSION")),
                ],
                1.0,
            );
        }
        for (name, family, help) in ATA {
            if let Ok(value) = property(name).parse() {
                families.gauge(family, help).add(&[("device", device)], value);
            }
        }
    }

    /// What udev noted about a device; nothing where there is no udev, as in containers.
    fn udev_properties(&self, major: &str, minor: &str) -> HashMap<String, String> {
        let text = read_optional(&self.udev.join(format!("b{major}:{minor}"))).unwrap_or_default();
        let properties = text.lines().filter_map(|line| line.strip_prefix("E:")?.split_once('='));
        properties.map(|(name, value)| (String::from(name), String::from(value))).collect()
    }
}

impl Collector for Diskstats {
    fn collect(&self, families: &mut Families) -> Result<(), CollectError> {
        for line in read(&self.diskstats)?.lines() {
            let mut columns = line.split_ascii_whitespace();
            let (Some(major), Some(minor), Some(device)) =
                (columns.next(), columns.next(), columns.next())
            else {
                return Err(CollectError::malformed(&self.diskstats, "too few columns", line));
            };
            if EXCLUDED.is_match(device) {
                continue;
            }
            self.collect_info(families, device, major, minor);
            // Older kernels have fewer columns; newer ones may append further.
            for ((name, help, kind, unit), column) in COLUMNS.into_iter().zip(columns) {
                let value = parse(column, &self.diskstats, line)? * unit;
                let family = families.family(format!("node_disk_{name}"), help, kind);
                family.add(&[("device", device)], value);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::EXCLUDED;

    #[test]
    fn partitions_are_left_out_and_disks_are_not() {
        for device in ["sda1", "nvme0n1p2", "loop7", "ram0", "zram1", "vdb3", "xvda1"] {
            assert!(EXCLUDED.is_match(device), "{device}");
        }
        for device in ["sda", "nvme0n1", "dm-0", "md127", "sr0", "mmcblk0p1", "vda"] {
            assert!(!EXCLUDED.is_match(device), "{device}");
        }
    }
}
