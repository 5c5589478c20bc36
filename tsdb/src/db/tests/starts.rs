//! Start timestamps that another logged.

use chunkenc::Xor2Chunk;
use model::{Histogram, HistogramValue};

use super::*;
use crate::head::chunk_store::{CHUNKS_HEAD_DIR, ChunkStore, HeadChunk};
use crate::wal::Wal;
use crate::wal::record::histograms::{self, RefHistogram};
use crate::wal::record::{self, RefSample};

/// Series of the log: a counter that begins anew, one without start timestamps, one that had none for a while, and native histograms.
const COUNTER: u64 = 1;
const PLAIN: u64 = 2;
const MIXED: u64 = 3;
const INTEGERS: u64 = 4;
const FLOATS: u64 = 5;
/// When a sample comes late, long after the log.
const LATE: i64 = 20 * MINUTE + 30_000;

/// Time and start timestamp of the samples of each series.
type Starts = BTreeMap<String, Vec<(i64, i64)>>;

fn name(series: u64) -> Labels {
    Labels::from_pairs([("__name__", format!("m{series}"))]).unwrap()
}

/// The start timestamp that is logged with the sample of a series at `t`.
fn start(series: u64, t: i64) -> i64 {
    let run = t / (50 * MINUTE) * (50 * MINUTE) - 7;
    match series {
        PLAIN => 0,
        MIXED if t / (10 * MINUTE) % 2 == 0 => 0,
        _ => run,
    }
}

fn value_of(series: u64, t: i64) -> HistogramValue {
    let count = t.unsigned_abs();
    let histogram = Histogram { count, zero_count: count, ..Histogram::default() };
    if series == FLOATS { histogram.to_float().into() } else { histogram.into() }
}

/// The log of a server that stored start timestamps until `until`, with a late sample.
fn logged(until: i64) -> MemDisk {
    let disk = MemDisk::new();
    let log = |name: &str| {
        let dir = Path::new("/data").join(name);
        disk.create_dir_all(&dir).unwrap();
        let compression = crate::WalCompression::Snappy;
        Wal::new(Arc::new(disk.clone()), dir, 0, 1 << 15, compression)
    };
    let mut wal = log("wal");
    let mut introduction = vec![];
    (COUNTER..=FLOATS).for_each(|s| record::put_series(&mut introduction, s, &name(s)));
    wal.append(&[&introduction]).unwrap();
    for t in times(MINUTE, until).filter(|t| *t != 30 * MINUTE) {
        let sample = |series| RefSample { series, t, v: value(0, t) };
        let with_start = |series| (sample(series), start(series, t));
        let mut floats = vec![];
        record::put_samples_with_starts(
            &mut floats,
            [COUNTER, PLAIN, MIXED].map(with_start).into_iter(),
        );
        let mut records = vec![floats];
        for series in [INTEGERS, FLOATS] {
            let (start, histogram) = (start(series, t), value_of(series, t));
            let mut of_kind = vec![];
            let one = RefHistogram { series, t, start, histogram };
            histograms::put_with_starts(&mut of_kind, [one].iter());
            records.push(of_kind);
        }
        wal.append(&records.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
        if t % (20 * MINUTE) == 0 {
            wal.close_segment();
        }
    }
    let mut late = vec![];
    let t = 30 * MINUTE;
    let sample = RefSample { series: COUNTER, t, v: value(0, t) };
    record::put_samples_with_starts(&mut late, [(sample, t - 5)].into_iter());
    log("wbl").append(&[&late]).unwrap();
    disk
}

fn expected_starts(until: i64, logged_until: i64) -> Starts {
    let of = |series| {
        let start = |t| match (series, t) {
            (COUNTER, t) if t == 30 * MINUTE => t - 5,
            (_, t) if t > logged_until => 0,
            _ => start(series, t),
        };
        let times = times(MINUTE, until).filter(|t| series == COUNTER || *t != 30 * MINUTE);
        (name(series).to_string(), times.map(|t| (t, start(t))).collect())
    };
    (COUNTER..=FLOATS).map(of).collect()
}

/// The start timestamps of all samples, whose values are checked.
fn starts(db: &Db) -> Starts {
    let context = QueryContext::unbounded();
    let querier = db.querier(TimeRange::ALL).unwrap();
    let set = querier.select(&Selection::new(&[], TimeRange::ALL), &context).unwrap();
    let of = |index| {
        let mut columns = Columns::new();
        set.read(index, TimeRange::ALL, &mut columns, &context).unwrap();
        for (row, sample) in columns.iter().enumerate() {
            match columns.histogram(row) {
                Some(histogram) => {
                    let expected = value_of(FLOATS, sample.t).to_float();
                    assert_eq!(histogram.count.to_bits(), expected.count.to_bits());
                }
                None => assert_eq!(sample.v.to_bits(), value(0, sample.t).to_bits()),
            }
        }
        let rows = 0..columns.len();
        let samples = rows.map(|row| (columns.times()[row], columns.start(row))).collect();
        (set.labels(index).to_string(), samples)
    };
    (0..set.len()).map(of).collect()
}

#[test]
fn start_timestamps_of_a_log_are_kept() {
    let until = 100 * MINUTE;
    let disk = logged(until);
    let options = Options {
        out_of_order_time_window: std::time::Duration::from_secs(24 * 3600),
        ..small_segments()
    };
    let db = open_with(&disk, options.clone());
    assert_eq!(starts(&db), expected_starts(until, until));
    // What comes late has none, also amid samples that have.
    let mut batch = Batch::new();
    batch.push_new(name(COUNTER), LATE, value(0, LATE));
    assert_eq!(db.append(&batch).unwrap().rejected, []);
    let with_late = |until| {
        let mut expected = expected_starts(until, 100 * MINUTE);
        let counter = expected.get_mut(&name(COUNTER).to_string()).unwrap();
        counter.push((LATE, 0));
        counter.sort_unstable();
        expected
    };
    assert_eq!(starts(&db), with_late(until));
    // A snapshot of the head would lose them.
    db.close().unwrap();
    drop(db);
    assert_eq!(starts(&open_with(&disk, options.clone())), with_late(until));

    let db = open_with(&disk, options.clone());
    let (mut cut, mut checkpointed) = (0, false);
    for t in times(MINUTE, 9 * HOUR).filter(|t| *t > until) {
        let mut batch = Batch::new();
        for series in COUNTER..=FLOATS {
            match series {
                INTEGERS | FLOATS => {
                    let key = batch.introduce(name(series));
                    batch.push_histogram(key, t, value_of(series, t));
                }
                _ => {
                    batch.push_new(name(series), t, value(0, t));
                }
            }
        }
        assert_eq!(db.append(&batch).unwrap().rejected, []);
        if t % HOUR == 0 {
            let done = db.maintain().unwrap();
            (cut, checkpointed) = (cut + done.blocks_cut, checkpointed | done.checkpointed);
        }
        if t == 3 * HOUR || t == 5 * HOUR {
            assert_eq!(starts(&db), with_late(t));
        }
    }
    assert!(cut > 2 && checkpointed);
    assert!(db.head.read().starts.is_empty());
    assert_eq!(starts(&db), with_late(9 * HOUR));
    db.close().unwrap();
    drop(db);
    assert!(disk.list(Path::new("/data")).unwrap().iter().any(|e| e.name == "head_snapshot"));
    assert_eq!(starts(&open_with(&disk, options)), with_late(9 * HOUR));
}

/// Samples that are still needed are carried over with their start timestamps when the log is shortened.
#[test]
fn a_checkpoint_keeps_start_timestamps() {
    let until = 5 * HOUR;
    let disk = logged(until);
    let db = open(&disk);
    let done = db.maintain().unwrap();
    assert!(done.checkpointed && !db.head.read().starts.is_empty());
    drop(db);
    let dir = segments::list(&disk, Path::new("/data/wal")).unwrap().checkpoints[0].1.clone();
    let records = crate::testing::wal_records_in(&disk, &dir);
    let numbers: std::collections::BTreeSet<u8> = records.iter().map(|(_, r)| r[0]).collect();
    assert_eq!(numbers, [1, 11, 12, 13].into());
    assert_eq!(starts(&open(&disk)), expected_starts(until, until));
}

/// What a damaged log lost is taken from full chunks, which a Prometheus writes with start timestamps, and logged again with these.
#[test]
fn chunks_of_the_head_have_start_timestamps_that_a_damaged_log_lost() {
    let until = 40 * MINUTE;
    let disk = logged(until);
    let mut chunk = Xor2Chunk::new();
    let in_chunk: Vec<i64> = times(MINUTE, until).filter(|t| *t != 30 * MINUTE).collect();
    in_chunk.iter().for_each(|&t| chunk.push(t, start(COUNTER, t), value(0, t)));
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let place = Path::new("/data").join(CHUNKS_HEAD_DIR);
    disk.create_dir_all(&place).unwrap();
    let mut store = ChunkStore::new(Some((shared, place)), 1);
    let chunk = HeadChunk {
        series: COUNTER,
        range: TimeRange::new(0, until),
        encoding: chunkenc::Encoding::Xor2.number(),
        is_out_of_order: false,
        bytes: chunk.as_bytes(),
    };
    store.push(2 * HOUR, &chunk, &[]);
    store.flush();
    drop(store);

    // The segment with the first twenty minutes, but for its beginning, which has the labels.
    let listing = segments::list(&disk, Path::new("/data/wal")).unwrap();
    let (_, segment) = &listing.segments[1];
    let mut bytes = disk.read(segment).unwrap();
    (50..bytes.len()).step_by(50).for_each(|at| bytes[at] ^= 0x01);
    disk.overwrite(segment, &bytes).unwrap();
    let of_counter = |db: &Db| starts(db).remove(&name(COUNTER).to_string()).unwrap();
    let expected = expected_starts(until, until).remove(&name(COUNTER).to_string()).unwrap();
    let db = open(&disk);
    assert!(starts(&db)[&name(PLAIN).to_string()].len() < expected.len() - 2, "it is damaged");
    assert_eq!(of_counter(&db), expected);
    drop(db);
    disk.kill();
    assert_eq!(of_counter(&open(&disk)), expected, "from the log alone");
}
