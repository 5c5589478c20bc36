//! A small valid store whose files fuzz targets replace, and reading all of it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use model::{
    Appender, Batch, Columns, FloatHistogram, Histogram, HistogramValue, Labels, ManualClock,
    MatchOp, Matcher, QueryContext, Queryable, Selection, Span, TimeRange,
};
use tsdb::{Db, Disk, MemDisk, OpenError, Options, ReplayProgress, WalCompression, tools};

/// Where the store is.
pub const DATA: &str = "/data";

const MINUTE: i64 = 60_000;

/// A store with a block, deletions, late samples, a log, full chunks and a snapshot of the head.
pub static STORE: LazyLock<MemDisk> = LazyLock::new(|| {
    let disk = MemDisk::new();
    let db = open(&disk).expect("the disk is empty and well");
    for step in 0..280 {
        append(&db, step * MINUTE);
    }
    db.maintain().expect("the disk is well");
    let late = Labels::from_pairs([("__name__", "late")]).expect("valid");
    let mut batch = Batch::new();
    batch.push_new(late, 270 * MINUTE, 1.0);
    db.append(&batch).expect("the disk is well");
    for (t, v) in [(265, 2.0), (260, 3.0)] {
        let mut batch = Batch::new();
        let late = Labels::from_pairs([("__name__", "late")]).expect("valid");
        batch.push_new(late, t * MINUTE, v);
        db.append(&batch).expect("the disk is well");
    }
    let matcher = Matcher::new("i", MatchOp::Equal, "1").expect("it is no pattern");
    let range = TimeRange::new(10 * MINUTE, 20 * MINUTE);
    db.delete_series(&[vec![matcher]], range).expect("the disk is well");
    db.close().expect("the disk is well");
    drop(db);
    disk
});

/// The folder of the block of [`STORE`].
pub static BLOCK: LazyLock<PathBuf> = LazyLock::new(|| {
    let entries = STORE.list(Path::new(DATA)).expect("it is a folder");
    let name = entries.into_iter().map(|entry| entry.name).find(|name| name.len() == 26);
    Path::new(DATA).join(name.expect("four hours are more than a block"))
});

/// [`STORE`] with nothing but its block, and that without the checksums of our own, which other programs' blocks lack.
pub static BLOCK_ALONE: LazyLock<MemDisk> = LazyLock::new(|| {
    let disk = STORE.fork();
    for dir in ["wal", "wbl", "chunks_head"] {
        let _ = disk.remove_dir_all(&Path::new(DATA).join(dir));
    }
    let _ = disk.remove_file(&Path::new(DATA).join("head_snapshot"));
    let _ = disk.remove_file(&BLOCK.join("sextant-checksums"));
    disk
});

fn append(db: &Db, t: i64) {
    let mut batch = Batch::new();
    for i in ["0", "1", "2"] {
        let labels = Labels::from_pairs([("__name__", "m"), ("i", i)]).expect("valid");
        batch.push_new(labels, t, if i == "2" { 7.0 } else { (t % 1013) as f64 / 3.0 });
    }
    let n = (t / MINUTE % 100).unsigned_abs();
    let integer = Histogram {
        count: 3 * n + 1,
        zero_count: 1,
        sum: n as f64,
        positive_spans: vec![Span { offset: 0, length: 2 }],
        positive_deltas: vec![n as i64, n as i64],
        ..Histogram::default()
    };
    let float: FloatHistogram = integer.to_float();
    let histograms: [(&str, HistogramValue); 2] =
        [("integer", integer.into()), ("float", float.into())];
    for (name, histogram) in histograms {
        let labels = Labels::from_pairs([("__name__", name)]).expect("valid");
        let series = batch.introduce(labels);
        batch.push_histogram(series, t, histogram);
    }
    db.append(&batch).expect("the disk is well");
}

fn options() -> Options {
    Options {
        out_of_order_time_window: std::time::Duration::from_secs(3600),
        wal_compression: WalCompression::None,
        ..Options::default()
    }
}

/// Opens the store on `disk`.
pub fn open(disk: &MemDisk) -> Result<Db, OpenError> {
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let registry = telemetry::Registry::new();
    Db::open(Path::new(DATA), shared, Arc::new(ManualClock::new(0)), options(), &registry)
}

/// Opens the store to look at it, reads all of it, and verifies it: errors are answers, panics are not.
pub fn look(disk: &MemDisk) {
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let _ = tools::verify(&shared, Path::new(DATA), &mut |_, _, _| true);
    let (clock, progress) = (Arc::new(ManualClock::new(0)), ReplayProgress::new());
    if let Ok(db) = Db::open_read_only(Path::new(DATA), shared, clock, options(), &progress) {
        read(&db);
    }
}

/// Opens the store, reads all of it, appends, and does so again: what was there once is there again.
pub fn use_twice(disk: &MemDisk) {
    let Ok(db) = open(disk) else { return };
    let first = read(&db);
    drop(db);
    disk.kill();
    let db = open(disk).expect("what opened once opens again");
    let second = read(&db);
    if let (Some(first), Some(second)) = (first, second) {
        assert_eq!(first, second, "samples of a first and of a second start");
    }
    append(&db, 300 * MINUTE);
    read(&db);
    let _ = db.maintain();
    read(&db);
}

/// Reads everything; the number of samples, unless something cannot be read.
pub fn read(db: &Db) -> Option<usize> {
    let context = QueryContext::unbounded();
    let querier = db.querier(TimeRange::ALL).ok()?;
    if let Ok(names) = querier.label_names(&[], 0, &context) {
        for name in names.values {
            let _ = querier.label_values(&name, &[], 0, &context);
        }
    }
    for (op, value) in [(MatchOp::Equal, "m"), (MatchOp::Regex, "m|integer|.*oa.*")] {
        let matchers = [Matcher::new("__name__", op, value).expect("it is small")];
        let selection = Selection::new(&matchers, TimeRange::ALL);
        let _ = querier.select(&selection, &context).map(|set| set.len());
    }
    let set = querier.select(&Selection::new(&[], TimeRange::ALL), &context).ok()?;
    let mut samples = Some(0);
    for index in 0..set.len() {
        let mut columns = Columns::new();
        match set.read(index, TimeRange::ALL, &mut columns, &context) {
            Ok(()) => samples = samples.map(|samples| samples + columns.len()),
            Err(_) => samples = None,
        }
        let _ = (set.labels(index), set.latest(index));
    }
    samples
}

/// `original` with bytes changed as `input` has it: each three bytes are a place and what is put there.
pub fn mutated(original: &[u8], input: &[u8]) -> Vec<u8> {
    let mut bytes = original.to_vec();
    for change in input.chunks_exact(3) {
        let at = usize::from(u16::from_be_bytes([change[0], change[1]])) % bytes.len().max(1);
        if let Some(byte) = bytes.get_mut(at) {
            *byte = change[2];
        }
    }
    bytes
}

/// Puts the checksum of the bytes from `start` to `end` behind them.
pub fn fix_checksum(bytes: &mut [u8], start: usize, end: usize) {
    let Some(content) = bytes.get(start..end) else { return };
    let checksum = crc32c::crc32c(content).to_be_bytes();
    if let Some(place) = bytes.get_mut(end..end + 4) {
        place.copy_from_slice(&checksum);
    }
}

/// Splits `input` into pieces, each after its length in a byte, or two from 0x80 on.
pub fn pieces(mut input: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (&first, rest) = input.split_first()?;
        let (len, rest) = if first < 0x80 {
            (usize::from(first), rest)
        } else {
            let (&second, rest) = rest.split_first()?;
            (usize::from(first & 0x7f) << 8 | usize::from(second), rest)
        };
        let (piece, rest) = rest.split_at(len.min(rest.len()));
        input = rest;
        Some(piece)
    })
}

/// The records in the first page of a log, each as one fragment without compression.
pub fn page(records: impl Iterator<Item = impl AsRef<[u8]>>) -> Vec<u8> {
    let mut page = Vec::new();
    for record in records {
        let record = record.as_ref();
        if record.is_empty() || page.len() + 7 + record.len() > 1 << 15 {
            continue;
        }
        page.push(1);
        page.extend_from_slice(&u16::try_from(record.len()).unwrap_or(0).to_be_bytes());
        page.extend_from_slice(&crc32c::crc32c(record).to_be_bytes());
        page.extend_from_slice(record);
    }
    page
}
