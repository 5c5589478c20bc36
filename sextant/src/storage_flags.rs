//! Flags of the store: Prometheus's, and those for what Prometheus does not have.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};
use model::{Matcher, parse_duration};
use tsdb::{Fsync, Options};

use crate::flags::{BadSize, DurationOutOfRange, positive_duration, size};

/// What is kept unless a flag or the configuration file says otherwise.
const RETENTION_DEFAULT: Duration = Duration::from_secs(15 * 86_400);
/// Prometheus's bounds of `--storage.tsdb.wal-segment-size`.
const SEGMENT_BYTES: std::ops::RangeInclusive<u64> = 10 << 20..=256 << 20;

#[derive(Debug, Args)]
#[command(next_help_heading = "Storage")]
pub(crate) struct StorageFlags {
    /// Data directory; its formats are Prometheus's
    #[arg(
        long = "storage.tsdb.path",
        value_name = "DIR",
        default_value = "data",
        env = "SEXTANT_STORAGE_TSDB_PATH"
    )]
    pub(crate) path: PathBuf,
    /// How long samples are kept, counted back from the newest; 15d if no bound is given. A section
    /// storage.tsdb.retention in the configuration file takes the place of all retention flags
    #[arg(
        long = "storage.tsdb.retention.time",
        value_name = "DURATION",
        default_value = "0s",
        hide_default_value = true,
        value_parser = duration,
        env = "SEXTANT_STORAGE_TSDB_RETENTION_TIME"
    )]
    retention_time: Duration,
    /// Bytes that the store may take (512MB, 20GB; powers of 1024); the oldest blocks go first. 0 for no bound
    #[arg(
        long = "storage.tsdb.retention.size",
        value_name = "SIZE",
        default_value = "0B",
        value_parser = size,
        env = "SEXTANT_STORAGE_TSDB_RETENTION_SIZE"
    )]
    retention_bytes: u64,
    /// How often the write-ahead log is synced to the disk: the most that a power cut can lose.
    /// `always` syncs before each batch is acknowledged, `never` only complete segments. A killed process
    /// loses nothing
    #[arg(
        long = "storage.tsdb.wal-fsync-interval",
        value_name = "DURATION|always|never",
        default_value = "1s",
        value_parser = wal_fsync,
        env = "SEXTANT_STORAGE_TSDB_WAL_FSYNC_INTERVAL"
    )]
    wal_fsync: WalFsync,
    /// Whether write-ahead log records are compressed
    #[arg(
        long = "storage.tsdb.wal-compression",
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_value_t = true,
        default_missing_value = "true",
        action = ArgAction::Set,
        hide_short_help = true,
        env = "SEXTANT_STORAGE_TSDB_WAL_COMPRESSION"
    )]
    wal_compression: bool,
    /// How Prometheus spells `--storage.tsdb.wal-compression=false`
    #[arg(long = "no-storage.tsdb.wal-compression", hide = true)]
    no_wal_compression: bool,
    /// Compression of write-ahead log records
    #[arg(
        long = "storage.tsdb.wal-compression-type",
        value_name = "TYPE",
        value_enum,
        default_value_t = WalCompression::Snappy,
        env = "SEXTANT_STORAGE_TSDB_WAL_COMPRESSION_TYPE"
    )]
    wal_compression_type: WalCompression,
    /// Size of a write-ahead log segment, 10MB to 256MB; 128MB if it is 0
    #[arg(
        long = "storage.tsdb.wal-segment-size",
        value_name = "SIZE",
        default_value = "0B",
        value_parser = segment_size,
        hide_short_help = true,
        env = "SEXTANT_STORAGE_TSDB_WAL_SEGMENT_SIZE"
    )]
    wal_segment_bytes: u64,
    /// Span of a block as it is cut from the head
    #[arg(
        long = "storage.tsdb.min-block-duration",
        value_name = "DURATION",
        default_value = "2h",
        value_parser = positive_duration,
        hide_short_help = true,
        env = "SEXTANT_STORAGE_TSDB_MIN_BLOCK_DURATION"
    )]
    min_block_duration: Duration,
    /// Span that merged blocks reach at most; a tenth of the retention and no more than 31 days if not given
    #[arg(
        long = "storage.tsdb.max-block-duration",
        value_name = "DURATION",
        value_parser = positive_duration,
        hide_short_help = true,
        env = "SEXTANT_STORAGE_TSDB_MAX_BLOCK_DURATION"
    )]
    max_block_duration: Option<Duration>,
    /// Series that the head admits; further ones are refused, those that it has go on. 0 for no bound
    #[arg(
        long = "storage.tsdb.head-series-limit",
        value_name = "N",
        default_value_t = 0,
        env = "SEXTANT_STORAGE_TSDB_HEAD_SERIES_LIMIT"
    )]
    head_series_max: u64,
    /// Bytes of the head (4GB) beyond which further series are refused. 0 for no bound
    #[arg(
        long = "storage.tsdb.head-bytes-limit",
        value_name = "SIZE",
        default_value = "0B",
        value_parser = size,
        env = "SEXTANT_STORAGE_TSDB_HEAD_BYTES_LIMIT"
    )]
    head_bytes_max: u64,
    /// Series that find room in the last tenth of the head's bounds, as a selector like
    /// `{__name__=~"container_.*"}`; may be repeated. If not given: CPU and memory of containers and
    /// nodes, and up. In the environment variable, a selector a line
    #[arg(
        long = "storage.tsdb.head-admit-first",
        value_name = "SELECTOR",
        value_parser = selector,
        value_delimiter = '\n',
        env = "SEXTANT_STORAGE_TSDB_HEAD_ADMIT_FIRST"
    )]
    head_admit_first: Vec<Selector>,
    #[command(flatten)]
    ignored: IgnoredFlags,
}

/// Flags of Prometheus for what does not exist here. They are accepted so that a command line can stay as it is.
#[derive(Debug, Args)]
struct IgnoredFlags {
    /// The data directory is always locked
    #[arg(long = "storage.tsdb.no-lockfile", hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", env = "SEXTANT_STORAGE_TSDB_NO_LOCKFILE")]
    no_lockfile: Option<bool>,
    /// Overlapping blocks are always allowed
    #[arg(long = "storage.tsdb.allow-overlapping-blocks", hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", env = "SEXTANT_STORAGE_TSDB_ALLOW_OVERLAPPING_BLOCKS")]
    allow_overlapping_blocks: Option<bool>,
    /// Head chunks are written without a queue
    #[arg(
        long = "storage.tsdb.head-chunks-write-queue-size",
        hide = true,
        env = "SEXTANT_STORAGE_TSDB_HEAD_CHUNKS_WRITE_QUEUE_SIZE"
    )]
    head_chunks_write_queue_size: Option<u64>,
}

/// When the write-ahead log is synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WalFsync {
    Every(Duration),
    Always,
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum WalCompression {
    /// Cheap, about half the size
    Snappy,
    /// Smaller, for more CPU time
    Zstd,
    /// Records as they are
    None,
}

/// Matchers of one series selector.
#[derive(Clone, Debug)]
struct Selector(Vec<Matcher>);

/// A value that is not of the form that the flag takes.
#[derive(Debug, thiserror::Error)]
enum BadValue {
    #[error(transparent)]
    Size(#[from] BadSize),
    #[error("must be 0 or between 10MB and 256MB")]
    SegmentSize,
}

impl StorageFlags {
    /// The options of the store, before the configuration file is read.
    pub(crate) fn options(&self) -> Options {
        let unbounded = self.retention_time.is_zero() && self.retention_bytes == 0;
        let bound = |max: u64| (max > 0).then_some(max);
        let defaults = Options::default();
        Options {
            retention: if unbounded { RETENTION_DEFAULT } else { self.retention_time },
            retention_bytes: self.retention_bytes,
            min_block_duration: self.min_block_duration,
            max_block_duration: self.max_block_duration,
            wal_segment_bytes: bound(self.wal_segment_bytes).unwrap_or(defaults.wal_segment_bytes),
            wal_compression: match self.wal_compression_type {
                _ if !self.wal_compression || self.no_wal_compression => tsdb::WalCompression::None,
                WalCompression::Snappy => tsdb::WalCompression::Snappy,
                WalCompression::Zstd => tsdb::WalCompression::Zstd,
                WalCompression::None => tsdb::WalCompression::None,
            },
            wal_fsync: match self.wal_fsync {
                WalFsync::Every(_) => Fsync::Grouped,
                WalFsync::Always => Fsync::Always,
                WalFsync::Never => Fsync::Never,
            },
            head_series_max: bound(self.head_series_max),
            head_bytes_max: bound(self.head_bytes_max),
            admitted_first: match self.head_admit_first.as_slice() {
                [] => Options::default_admitted_first(),
                selectors => selectors.iter().map(|selector| selector.0.clone()).collect(),
            },
            ..defaults
        }
    }

    /// How often the log is to be synced, if that is by time.
    pub(crate) fn wal_fsync_interval(&self) -> Option<Duration> {
        match self.wal_fsync {
            WalFsync::Every(interval) => Some(interval),
            WalFsync::Always | WalFsync::Never => None,
        }
    }

    /// Says which flags have no effect.
    pub(crate) fn warn(&self) {
        let IgnoredFlags { no_lockfile, allow_overlapping_blocks, head_chunks_write_queue_size } =
            self.ignored;
        for (given, flag, why) in [
            (no_lockfile == Some(true), "no-lockfile", "the data directory is always locked"),
            (
                allow_overlapping_blocks.is_some(),
                "allow-overlapping-blocks",
                "overlapping blocks are always read and merged",
            ),
            (
                head_chunks_write_queue_size.is_some_and(|size| size > 0),
                "head-chunks-write-queue-size",
                "chunks of the head are written without a queue",
            ),
        ] {
            if given {
                tracing::warn!("--storage.tsdb.{flag} has no effect: {why}");
            }
        }
    }
}

fn duration(text: &str) -> Result<Duration, DurationOutOfRange> {
    Ok(parse_duration(text)?)
}

fn segment_size(text: &str) -> Result<u64, BadValue> {
    match size(text)? {
        bytes if bytes == 0 || SEGMENT_BYTES.contains(&bytes) => Ok(bytes),
        _ => Err(BadValue::SegmentSize),
    }
}

fn wal_fsync(text: &str) -> Result<WalFsync, DurationOutOfRange> {
    match text {
        "always" => Ok(WalFsync::Always),
        "never" => Ok(WalFsync::Never),
        text => positive_duration(text).map(WalFsync::Every),
    }
}

fn selector(text: &str) -> Result<Selector, promql::ParseErrors> {
    promql::parse::parse_selector(text).map(Selector)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        storage: StorageFlags,
    }

    fn parse(flags: &[&str]) -> Result<StorageFlags, clap::Error> {
        let flags = flags.iter().map(|flag| format!("--storage.tsdb.{flag}"));
        let args = std::iter::once(String::from("sextant")).chain(flags);
        Cli::try_parse_from(args).map(|cli| cli.storage)
    }

    fn options(flags: &[&str]) -> Options {
        parse(flags).unwrap_or_else(|error| panic!("{flags:?}: {error}")).options()
    }

    #[test]
    fn a_bound_of_bytes_alone_keeps_samples_of_any_age() {
        let days = |days: u64| Duration::from_secs(days * 86_400);
        for (flags, time, bytes) in [
            (&[][..], days(15), 0),
            (&["retention.time=30d"], days(30), 0),
            (&["retention.size=512MB"], Duration::ZERO, 512 << 20),
            (&["retention.time=1d", "retention.size=1GB"], days(1), 1 << 30),
            (&["retention.time=0s", "retention.size=0"], days(15), 0),
        ] {
            let options = options(flags);
            assert_eq!((options.retention, options.retention_bytes), (time, bytes), "{flags:?}");
        }
    }

    #[test]
    fn compression_has_prometheus_s_two_flags() {
        use tsdb::WalCompression as Type;
        for (flags, expected) in [
            (&[][..], Type::Snappy),
            (&["wal-compression-type=zstd"], Type::Zstd),
            (&["wal-compression", "wal-compression-type=zstd"], Type::Zstd),
            (&["wal-compression=false", "wal-compression-type=zstd"], Type::None),
            (&["wal-compression-type=none"], Type::None),
        ] {
            assert_eq!(options(flags).wal_compression, expected, "{flags:?}");
        }
        let negated = Cli::try_parse_from(["sextant", "--no-storage.tsdb.wal-compression"]);
        assert_eq!(negated.unwrap().storage.options().wal_compression, Type::None);
    }

    #[test]
    fn the_log_is_synced_by_time_by_batch_or_by_segment() {
        for (flags, fsync, interval) in [
            (&[][..], Fsync::Grouped, Some(Duration::from_secs(1))),
            (&["wal-fsync-interval=50ms"], Fsync::Grouped, Some(Duration::from_millis(50))),
            (&["wal-fsync-interval=always"], Fsync::Always, None),
            (&["wal-fsync-interval=never"], Fsync::Never, None),
        ] {
            let flags = parse(flags).unwrap();
            assert_eq!((flags.options().wal_fsync, flags.wal_fsync_interval()), (fsync, interval));
        }
    }

    #[test]
    fn bounds_of_the_head() {
        let bounds = |options: &Options| (options.head_series_max, options.head_bytes_max);
        assert_eq!(bounds(&options(&[])), (None, None));
        let given = options(&[
            "head-series-limit=7",
            "head-bytes-limit=4GB",
            "head-admit-first=up{job=\"a,b\"}",
            "head-admit-first={__name__=~\"x.*\"}",
        ]);
        assert_eq!(bounds(&given), (Some(7), Some(4 << 30)));
        let texts = given.admitted_first.iter().map(|set| set.iter().map(ToString::to_string));
        let texts: Vec<Vec<_>> = texts.map(Iterator::collect).collect();
        assert_eq!(texts, [vec!["job=\"a,b\"", "__name__=\"up\""], vec!["__name__=~\"x.*\""]]);
        assert_eq!(options(&[]).admitted_first.len(), 1);
    }

    #[test]
    fn what_has_no_effect_is_accepted_and_what_makes_no_sense_is_refused() {
        assert!(
            parse(&["no-lockfile", "allow-overlapping-blocks", "head-chunks-write-queue-size=1"])
                .is_ok()
        );
        assert_eq!(options(&["wal-segment-size=16MB"]).wal_segment_bytes, 16 << 20);
        assert_eq!(options(&["wal-segment-size=0"]).wal_segment_bytes, 128 << 20);
        assert_eq!(
            options(&["max-block-duration=2h"]).max_block_duration,
            Some(Duration::from_secs(7200))
        );
        for flag in [
            "retention.time=5",
            "retention.size=5",
            "wal-segment-size=9MB",
            "wal-segment-size=257MB",
            "wal-compression-type=gzip",
            "wal-fsync-interval=0s",
            "wal-fsync-interval=sometimes",
            "min-block-duration=0s",
            "head-series-limit=-1",
            "head-admit-first={}",
        ] {
            assert!(parse(&[flag]).is_err(), "{flag}");
        }
    }
}
