//! Selecting series of a block of 100,000, reading their samples, and merging blocks.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use model::{
    Appender, Batch, Columns, Labels, ManualClock, MatchOp, Matcher, QueryContext, Queryable,
    Selection, TimeRange,
};
use telemetry::Registry;
use tsdb::tools::BlockBuilder;
use tsdb::{Db, Disk, Options, OsDisk};
use ulid::Ulid;

const SERIES: u32 = 100_000;
const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

/// Labels as a container metric has them; `pod` and `id` have as many values as there are series.
fn labels(i: u32) -> Labels {
    let pairs = [
        ("__name__", format!("container_metric_{}", i % 20)),
        ("cluster", String::from("main")),
        ("container", format!("app-{}", i % 50)),
        ("id", format!("/kubepods/burstable/pod{:08x}", i.wrapping_mul(2_654_435_761))),
        ("image", format!("registry.example.com/team/app-{}:1.2.3", i % 50)),
        ("instance", format!("10.0.{}.{}:10250", i % 4, i % 250)),
        ("job", String::from("kubelet")),
        ("namespace", format!("ns-{}", i % 40)),
        ("node", format!("node-{}", i % 100)),
        ("pod", format!("app-{}-{i:06}", i % 50)),
    ];
    Labels::from_pairs(pairs).expect("distinct names")
}

/// A store whose first two hours are in a block.
fn open(dir: &Path) -> Db {
    let clock = Arc::new(ManualClock::new(0));
    let db = Db::open(dir, Arc::new(OsDisk), clock, Options::default(), &Registry::new());
    let db = db.expect("an empty folder");
    let mut batch = Batch::new();
    for i in 0..SERIES {
        batch.push_new(labels(i), 0, f64::from(i));
    }
    let refs = db.append(&batch).expect("there is room").new_refs;
    for t in (1..=40).map(|step| step * 5 * MINUTE) {
        batch.clear();
        for (i, &series) in (0_u32..).zip(&refs) {
            batch.push(series, t, f64::from(i) + t as f64);
        }
        db.append(&batch).expect("there is room");
    }
    assert_eq!(db.maintain().expect("there is room").blocks_cut, 1);
    db
}

fn block(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let db = open(folder.path());
    let context = QueryContext::unbounded();
    let range = TimeRange::new(0, 2 * HOUR - 1);
    let querier = db.querier(range).expect("nothing to read yet");
    let matcher = |name: &str, op, value: &str| Matcher::new(name, op, value).expect("valid");
    let mut group = c.benchmark_group("block");
    group.sample_size(10);
    let selections = [
        ("all", matcher("job", MatchOp::Equal, "kubelet"), SERIES),
        ("equal", matcher("__name__", MatchOp::Equal, "container_metric_7"), SERIES / 20),
        ("regex", matcher("namespace", MatchOp::Regex, "ns-1.*"), SERIES / 40 * 11),
        ("not_regex", matcher("node", MatchOp::NotRegex, "node-[1-9].*"), SERIES / 100),
        ("regex_of_many_values", matcher("pod", MatchOp::Regex, "app-.*[05]"), SERIES / 5),
    ];
    for (name, matcher, expected) in selections {
        group.throughput(Throughput::Elements(u64::from(expected)));
        group.bench_function(format!("select_{name}"), |b| {
            b.iter(|| {
                let selection = Selection::new(std::slice::from_ref(&matcher), range);
                let set = querier.select(&selection, &context).expect("the block is whole");
                assert_eq!(set.len(), expected as usize);
            });
        });
    }
    let matcher = matcher("__name__", MatchOp::Equal, "container_metric_7");
    let set = querier.select(&Selection::new(&[matcher], range), &context);
    let set = set.expect("the block is whole");
    group.throughput(Throughput::Elements(u64::from(SERIES / 20)));
    group.bench_function("read", |b| {
        let mut columns = Columns::new();
        b.iter(|| {
            for index in 0..set.len() {
                columns.clear();
                set.read(index, range, &mut columns, &context).expect("the block is whole");
                assert_eq!(columns.len(), 24);
            }
        });
    });
    group.throughput(Throughput::Elements(u64::from(SERIES)));
    group.bench_function("label_values", |b| {
        b.iter(|| querier.label_values("pod", &[], 0, &context).expect("the block is whole"));
    });
    group.finish();
}

/// Series of each block that is merged, and samples of each series in it.
const MERGED: (u32, i64) = (20_000, 120);

/// A folder with four blocks, of which the first three are to be merged.
fn write_blocks(dir: &Path) {
    let disk: Arc<dyn Disk> = Arc::new(OsDisk);
    let mut builder = BlockBuilder::new(2 * HOUR);
    for start in (0..4).map(|block| block * 2 * HOUR) {
        for i in 0..MERGED.0 {
            let labels = labels(i);
            for t in (0..MERGED.1).map(|step| start + step * MINUTE) {
                builder.add(&labels, t, f64::from(i) + t as f64);
            }
        }
        let name = |_| Ulid::from(u128::from(start.unsigned_abs()) + 1);
        builder.write(&disk, dir, name).expect("there is room");
    }
}

/// Gives all files in `from` second names in `to`.
fn link_all(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("there is room");
    for entry in std::fs::read_dir(from).expect("it is there") {
        let entry = entry.expect("it can be read");
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            link_all(&path, &target);
        } else {
            std::fs::hard_link(path, target).expect("there is room");
        }
    }
}

fn merge(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let blocks = folder.path().join("blocks");
    write_blocks(&blocks);
    let mut group = c.benchmark_group("merge");
    group.sample_size(10);
    group.throughput(Throughput::Elements(u64::from(MERGED.0) * 3 * MERGED.1.unsigned_abs()));
    let mut number = 0;
    group.bench_function("three_blocks", |b| {
        b.iter_batched(
            || {
                number += 1;
                let dir = folder.path().join(number.to_string());
                link_all(&blocks, &dir);
                let clock = Arc::new(ManualClock::new(0));
                let options = Options { retention: Duration::ZERO, ..Options::default() };
                Db::open(&dir, Arc::new(OsDisk), clock, options, &Registry::new())
                    .expect("the blocks are whole")
            },
            |db| {
                assert_eq!(db.maintain().expect("there is room").blocks_merged, 1);
                db
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, block, merge);
criterion_main!(benches);
