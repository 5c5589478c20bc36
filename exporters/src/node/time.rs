//! `time`: the clock, the zone, the clock source.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::tz::TimeZone;
use model::Clock;

use super::Collector;
use crate::CollectError;
use crate::families::Families;
use crate::procfs::read_optional;

/// Reads the clock and `clocksource`.
pub(super) struct Time {
    sources: PathBuf,
    clock: Arc<dyn Clock>,
}

impl Time {
    pub(super) fn new(sysfs: &Path, clock: Arc<dyn Clock>) -> Self {
        Self { sources: sysfs.join("devices/system/clocksource"), clock }
    }

    fn collect_sources(&self, families: &mut Families) {
        let folders = fs::read_dir(&self.sources).into_iter().flatten().flatten();
        for folder in folders.map(|entry| entry.path()) {
            let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let Some(device) = name.strip_prefix("clocksource") else { continue };
            let available =
                read_optional(&folder.join("available_clocksource")).unwrap_or_default();
            let family = families.gauge(
                "node_time_clocksource_available_info",
                "Available clocksources read from '/sys/devices/system/clocksource'.",
            );
            for source in available.split_ascii_whitespace() {
                family.add(&[("device", device), ("clocksource", source)], 1.0);
            }
            if let Some(current) = read_optional(&folder.join("current_clocksource")) {
                families
                    .gauge(
                        "node_time_clocksource_current_info",
                        "Current clocksource read from '/sys/devices/system/clocksource'.",
                    )
                    .add(&[("device", device), ("clocksource", current.trim())], 1.0);
            }
        }
    }
}

impl Collector for Time {
    fn collect(&self, families: &mut Families) -> Result<(), CollectError> {
        let now = self.clock.now();
        #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 are below 2^53")]
        families
            .gauge("node_time_seconds", "System time in seconds since epoch (1970).")
            .set(now as f64 / 1e3);
        if let Ok(now) = jiff::Timestamp::from_millisecond(now) {
            let zone = TimeZone::system();
            let info = zone.to_offset_info(now);
            families
                .gauge("node_time_zone_offset_seconds", "System time zone offset in seconds.")
                .add(&[("time_zone", info.abbreviation())], f64::from(info.offset().seconds()));
        }
        self.collect_sources(families);
        Ok(())
    }
}
