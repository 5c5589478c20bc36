//! The `storage` section of the configuration on its way to the store.
//!
//! As in Prometheus, the retention flags are what holds where the file has no `storage.tsdb.retention`; a section that
//! is there takes their place as a whole, also for the bounds that it does not mention.

use std::time::Duration;

use config::{RetentionConfig, StorageConfig};
use model::format_duration;
use tsdb::{Db, Options, Retention};

/// Prometheus's bound of the span of merged blocks.
const BLOCK_DURATION_MAX: Duration = Duration::from_secs(31 * 86_400);

/// What the flags keep.
pub(crate) fn retention_of(options: &Options) -> RetentionConfig {
    RetentionConfig {
        time: options.retention,
        bytes_max: options.retention_bytes,
        percentage_max: options.retention_percentage,
    }
}

/// The options to open the store with.
pub(crate) fn options(flags: Options, config: &StorageConfig) -> Options {
    let retention = retention(config);
    Options {
        retention: retention.time,
        retention_bytes: retention.bytes,
        retention_percentage: retention.percentage,
        out_of_order_time_window: config.out_of_order_time_window,
        exemplars_max: exemplars_max(config),
        stale_series_compaction_threshold: config.stale_series_compaction_threshold,
        ..flags
    }
}

/// Makes `store` do what `config` says from now on.
pub(crate) fn apply(store: &Db, config: &StorageConfig) {
    store.set_retention(retention(config));
    store.set_out_of_order_time_window(config.out_of_order_time_window);
    store.set_exemplars_max(exemplars_max(config));
    store.set_stale_series_compaction_threshold(config.stale_series_compaction_threshold);
}

/// Says so if a bound in bytes gives way to one in hundredths.
pub(crate) fn warn_of_size(config: &StorageConfig) {
    let retention = config.retention.unwrap_or_default();
    if retention.percentage_max > 0.0 && retention.bytes_max > 0 {
        tracing::warn!(
            "storage.tsdb.retention.size is ignored, because storage.tsdb.retention.percentage is specified"
        );
    }
}

fn retention(config: &StorageConfig) -> Retention {
    let RetentionConfig { time, bytes_max, percentage_max } = config.retention.unwrap_or_default();
    let bytes = if percentage_max > 0.0 { 0 } else { bytes_max };
    Retention { time, bytes, percentage: percentage_max }
}

fn exemplars_max(config: &StorageConfig) -> usize {
    usize::try_from(config.exemplars_max).unwrap_or(usize::MAX)
}

/// What is kept, as Prometheus's status page says it: `15d or 512MiB or 80%`; empty for everything.
pub(crate) fn retention_text(config: &StorageConfig) -> String {
    let RetentionConfig { time, bytes_max, percentage_max } = config.retention.unwrap_or_default();
    let mut bounds = Vec::new();
    if !time.is_zero() {
        bounds.push(format_duration(time));
    }
    if bytes_max > 0 {
        bounds.push(config::format_size(bytes_max));
    }
    if percentage_max > 0.0 {
        bounds.push(format!("{percentage_max}%"));
    }
    bounds.join(" or ")
}

/// Puts into `flags` what holds instead of what was given, as Prometheus's `status/flags` does: others read there how
/// large blocks get.
pub(crate) fn set_effective(
    flags: &mut [(String, String)],
    config: &StorageConfig,
    max_block_duration: Option<Duration>,
) {
    let RetentionConfig { time, bytes_max, .. } = config.retention.unwrap_or_default();
    let longest = match time {
        Duration::ZERO => BLOCK_DURATION_MAX,
        time => (time / 10).min(BLOCK_DURATION_MAX),
    };
    for (name, effective) in [
        ("storage.tsdb.retention.time", format_duration(time)),
        ("storage.tsdb.retention.size", config::format_size(bytes_max)),
        ("storage.tsdb.max-block-duration", format_duration(max_block_duration.unwrap_or(longest))),
    ] {
        if let Some((_, value)) = flags.iter_mut().find(|(flag, _)| flag == name) {
            *value = effective;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn kept(time: Duration, bytes_max: u64, percentage_max: f64) -> StorageConfig {
        let retention = Some(RetentionConfig { time, bytes_max, percentage_max });
        StorageConfig { retention, ..StorageConfig::default() }
    }

    #[test]
    fn what_is_kept_in_words() {
        for (config, text) in [
            (kept(15 * DAY, 0, 0.0), "15d"),
            (kept(Duration::ZERO, 512 << 20, 0.0), "512MiB"),
            (kept(DAY, 1 << 30, 0.5), "1d or 1GiB or 0.5%"),
            (kept(Duration::ZERO, 0, 0.0), ""),
        ] {
            assert_eq!(retention_text(&config), text);
        }
    }

    #[test]
    fn a_percentage_takes_the_place_of_bytes() {
        let options = options(Options::default(), &kept(DAY, 1 << 30, 80.0));
        assert_eq!((options.retention_bytes, options.retention_percentage), (0, 80.0));
    }

    #[test]
    fn flags_show_what_holds() {
        let flags = |names: &[&str]| -> Vec<(String, String)> {
            names.iter().map(|name| (format!("storage.tsdb.{name}"), String::new())).collect()
        };
        for (retention, bytes, given, expected) in [
            (15 * DAY, 0, None, ["15d", "0B", "1d12h"]),
            (Duration::ZERO, 1 << 30, None, ["0s", "1GiB", "31d"]),
            (3650 * DAY, 0, None, ["10y", "0B", "31d"]),
            (15 * DAY, 0, Some(Duration::from_secs(7200)), ["15d", "0B", "2h"]),
        ] {
            let mut shown =
                flags(&["retention.time", "retention.size", "max-block-duration", "path"]);
            set_effective(&mut shown, &kept(retention, bytes, 0.0), given);
            let values: Vec<&str> = shown.iter().map(|(_, value)| value.as_str()).collect();
            assert_eq!(values, [expected[0], expected[1], expected[2], ""]);
        }
    }
}
