//! Samples that are not floats, and what is not a sample.

use model::{
    CounterReset, Exemplar, ExemplarAppend, FloatHistogram, Histogram, HistogramValue, Metadata,
    MetadataAppend, Span, stale_marker,
};

use super::*;

/// A histogram of `count` observations, in more buckets the more there are.
fn histogram(count: u64) -> Histogram {
    let buckets = u32::try_from(count % 5 + 1).unwrap();
    let each = count / u64::from(buckets);
    let first = count - each * u64::from(buckets - 1);
    let mut deltas = vec![first.cast_signed()];
    if buckets > 1 {
        deltas.push(each.cast_signed() - first.cast_signed());
        deltas.resize(buckets as usize, 0);
    }
    Histogram {
        schema: 2,
        count,
        sum: 1.5,
        positive_spans: vec![Span { offset: 3, length: buckets }],
        positive_deltas: deltas,
        ..Histogram::default()
    }
}

fn value_at(t: i64, is_float: bool) -> HistogramValue {
    let histogram = histogram((t / MINUTE).unsigned_abs() + 1);
    if is_float { histogram.to_float().into() } else { histogram.into() }
}

fn append_histograms(db: &Db, t: i64) {
    let mut batch = Batch::new();
    for (name, is_float) in [("integer", false), ("float", true)] {
        let key = batch.introduce(Labels::from_pairs([("__name__", name)]).unwrap());
        batch.push_histogram(key, t, value_at(t, is_float));
    }
    let appended = db.append(&batch).unwrap();
    assert_eq!(appended.rejected_histograms, []);
}

/// Times and counts of the histograms of all series, whose buckets are checked.
fn counts(db: &Db) -> BTreeMap<String, Vec<(i64, u64)>> {
    let context = QueryContext::unbounded();
    let querier = db.querier(TimeRange::ALL).unwrap();
    let set = querier.select(&Selection::new(&[], TimeRange::ALL), &context).unwrap();
    let mut all = BTreeMap::new();
    for index in 0..set.len() {
        let mut columns = Columns::new();
        set.read(index, TimeRange::ALL, &mut columns, &context).unwrap();
        let mut of_series = vec![];
        for (row, histogram) in columns.histograms() {
            let t = columns.times()[*row as usize];
            let sum: f64 = histogram.positive_counts.iter().sum();
            assert_eq!(sum.to_bits(), histogram.count.to_bits(), "{t}");
            of_series.push((t, histogram.count.to_bits()));
        }
        assert_eq!(of_series.len(), columns.len());
        all.insert(set.labels(index).to_string(), of_series);
    }
    all
}

fn expected_counts(until: i64) -> BTreeMap<String, Vec<(i64, u64)>> {
    let count = |t: i64| value_at(t, false).to_float().count.to_bits();
    let of_series: Vec<(i64, u64)> = times(MINUTE, until).map(|t| (t, count(t))).collect();
    let name = |name| Labels::from_pairs([("__name__", name)]).unwrap().to_string();
    [(name("integer"), of_series.clone()), (name("float"), of_series)].into()
}

#[test]
fn histograms_are_kept_through_chunks_blocks_and_restarts() {
    let disk = MemDisk::new();
    let db = open(&disk);
    times(MINUTE, HOUR).for_each(|t| append_histograms(&db, t));
    assert_eq!(counts(&db), expected_counts(HOUR));
    drop(db);
    disk.kill();
    let db = open(&disk);
    assert_eq!(counts(&db), expected_counts(HOUR));
    for t in times(MINUTE, 9 * HOUR).filter(|t| *t > HOUR) {
        append_histograms(&db, t);
        if t % HOUR == 0 {
            db.maintain().unwrap();
        }
    }
    assert!(db.blocks.read().loaded.iter().all(|block| block.meta.stats.num_histogram_samples > 0));
    assert_eq!(counts(&db), expected_counts(9 * HOUR));
    // With a snapshot, which has open chunks of histograms.
    db.close().unwrap();
    drop(db);
    let db = open(&disk);
    assert_eq!(counts(&db), expected_counts(9 * HOUR));
    append_histograms(&db, 9 * HOUR + MINUTE);
    assert_eq!(counts(&db), expected_counts(9 * HOUR + MINUTE));
}

/// The log has a record for each kind of histogram, but those of a series must stay in order.
#[test]
fn a_batch_may_have_histograms_of_all_kinds_in_turn() {
    let disk = MemDisk::new();
    let db = open(&disk);
    let mut batch = Batch::new();
    let (one, other) = (batch.introduce(labels(0)), batch.introduce(labels(1)));
    for t in 0..20_i64 {
        let integer = if t / 2 % 2 == 0 {
            histogram(7)
        } else {
            let (schema, custom_bounds) = (model::CUSTOM_BUCKETS_SCHEMA, vec![1.0, 2.0]);
            let positive_spans = vec![Span { offset: 0, length: 1 }];
            let positive_deltas = vec![7];
            Histogram { schema, custom_bounds, positive_spans, positive_deltas, ..histogram(7) }
        };
        let value: HistogramValue =
            if t % 2 == 0 { integer.to_float().into() } else { integer.into() };
        batch.push_histogram(one, t, value);
        batch.push_histogram(other, t, value_at(t, false));
    }
    assert_eq!(db.append(&batch).unwrap().rejected_histograms, []);
    let all = counts(&db);
    assert!(all.values().all(|samples| samples.len() == 20));
    drop(db);
    disk.kill();
    assert_eq!(counts(&open(&disk)), all);
}

#[test]
fn a_series_may_change_between_floats_and_histograms() {
    let disk = MemDisk::new();
    let db = open(&disk);
    let mut batch = Batch::new();
    let key = batch.introduce(labels(0));
    for i in 0..20_i64 {
        if i / 3 % 2 == 0 {
            batch.clear();
            batch.push_new(labels(0), i, 1.0);
        } else {
            batch.clear();
            batch.introduce(labels(0));
            batch.push_histogram(key, i, histogram(7));
        }
        let appended = db.append(&batch).unwrap();
        assert_eq!((appended.rejected, appended.rejected_histograms), (vec![], vec![]));
    }
    // The newest is a histogram: a float of its time is another sample, and so is another histogram; the same is no news.
    batch.clear();
    let key = batch.push_new(labels(0), 17, 1.5);
    let rejected = db.append(&batch).unwrap().rejected;
    assert_eq!(rejected[0].reason, Rejection::OutOfOrder);
    batch.clear();
    batch.introduce(labels(0));
    batch.push_histogram(key, 19, histogram(7));
    batch.push_histogram(key, 19, histogram(8));
    let last_is_float = 19 / 3 % 2 == 0;
    assert!(last_is_float);
    let rejected = db.append(&batch).unwrap().rejected_histograms;
    assert_eq!(rejected.len(), 2);
    let kinds = |db: &Db| -> Vec<bool> {
        let context = QueryContext::unbounded();
        let querier = db.querier(TimeRange::ALL).unwrap();
        let set = querier.select(&Selection::new(&[], TimeRange::ALL), &context).unwrap();
        let mut columns = Columns::new();
        set.read(0, TimeRange::ALL, &mut columns, &context).unwrap();
        (0..columns.len()).map(|row| columns.histogram(row).is_some()).collect()
    };
    let expected: Vec<bool> = (0..20).map(|i| i / 3 % 2 == 1).collect();
    assert_eq!(kinds(&db), expected);
    drop(db);
    disk.kill();
    assert_eq!(kinds(&open(&disk)), expected);
}

#[test]
fn a_stale_marker_ends_a_series_of_histograms() {
    let disk = MemDisk::new();
    let db = open(&disk);
    append_histograms(&db, 0);
    let mut batch = Batch::new();
    let integer = batch.introduce(Labels::from_pairs([("__name__", "integer")]).unwrap());
    let float = batch.introduce(Labels::from_pairs([("__name__", "float")]).unwrap());
    let sum = stale_marker();
    batch.push_histogram(integer, MINUTE, Histogram { sum, ..Histogram::default() });
    batch.push_histogram(float, MINUTE, FloatHistogram { sum, ..FloatHistogram::default() });
    assert_eq!(db.append(&batch).unwrap().rejected_histograms, []);
    append_histograms(&db, 2 * MINUTE);
    let check = |db: &Db| {
        let context = QueryContext::unbounded();
        let querier = db.querier(TimeRange::ALL).unwrap();
        let set = querier.select(&Selection::new(&[], TimeRange::ALL), &context).unwrap();
        assert_eq!(set.len(), 2);
        for index in 0..2 {
            let mut columns = Columns::new();
            set.read(index, TimeRange::ALL, &mut columns, &context).unwrap();
            let stale: Vec<bool> =
                (0..3).map(|row| columns.histogram(row).unwrap().is_stale()).collect();
            assert_eq!(stale, [false, true, false]);
        }
    };
    check(&db);
    drop(db);
    disk.kill();
    check(&open(&disk));
}

#[test]
fn a_counter_reset_begins_a_chunk() {
    let disk = MemDisk::new();
    let db = open(&disk);
    let mut batch = Batch::new();
    let key = batch.introduce(labels(0));
    for (t, count) in [(0, 10), (1, 20), (2, 5), (3, 15)] {
        batch.push_histogram(key, t, histogram(count));
    }
    assert_eq!(db.append(&batch).unwrap().rejected_histograms, []);
    assert_eq!(db.statistics(0).head.chunks, 2);
    let context = QueryContext::unbounded();
    let querier = db.querier(TimeRange::ALL).unwrap();
    let set = querier.select(&Selection::new(&[], TimeRange::ALL), &context).unwrap();
    let mut columns = Columns::new();
    set.read(0, TimeRange::ALL, &mut columns, &context).unwrap();
    let resets: Vec<CounterReset> =
        columns.histograms().iter().map(|(_, histogram)| histogram.counter_reset).collect();
    let unknown = CounterReset::Unknown;
    assert_eq!(resets, [unknown, CounterReset::NotReset, unknown, CounterReset::NotReset]);
}

#[test]
fn exemplars_and_metadata_survive_a_restart() {
    let disk = MemDisk::new();
    let db = open(&disk);
    let mut batch = Batch::new();
    let key = batch.push_new(labels(0), 5, 1.0);
    let exemplar = |t, id| {
        let labels = Labels::from_pairs([("trace_id", id)]).unwrap();
        Exemplar { labels, t, v: 0.5 }
    };
    let add = |batch: &mut Batch, t, id| {
        batch.exemplars.push(ExemplarAppend { series: key, exemplar: exemplar(t, id) });
    };
    add(&mut batch, 1, "a");
    let metadata = Metadata { kind: "counter".into(), unit: "".into(), help: "H.".into() };
    batch.metadata.push(MetadataAppend { series: key, metadata: metadata.clone() });
    assert_eq!(db.append(&batch).unwrap().rejected_exemplars, []);
    batch.clear();
    batch.introduce(labels(0));
    add(&mut batch, 2, "b");
    add(&mut batch, 0, "c");
    let rejected = db.append(&batch).unwrap().rejected_exemplars;
    assert_eq!((rejected.len(), rejected[0].index), (1, 1));
    assert_eq!(rejected[0].reason, Rejection::OutOfOrderExemplar);
    let check = |db: &Db| {
        let all = vec![Matcher::equal("__name__", "m")];
        let found = db.exemplars(std::slice::from_ref(&all), TimeRange::ALL);
        assert_eq!(found, [(labels(0), vec![exemplar(1, "a"), exemplar(2, "b")])]);
        let found = db.exemplars(&[all], TimeRange::new(2, 9));
        assert_eq!(found[0].1, [exemplar(2, "b")]);
        assert_eq!(db.exemplars(&[vec![Matcher::equal("job", "x")]], TimeRange::ALL), []);
        let head = db.head.read();
        assert_eq!(head.metadata.values().collect::<Vec<_>>(), [&metadata]);
    };
    check(&db);
    drop(db);
    disk.kill();
    let db = open(&disk);
    check(&db);
    db.close().unwrap();
    drop(db);
    check(&open(&disk));
}
