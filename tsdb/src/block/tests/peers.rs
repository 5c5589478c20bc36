//! What `promtool` says about merged blocks, and what becomes of a block that a Prometheus wrote.
//!
//! Without the program, or the block, the tests say so and pass, unless `SEXTANT_REQUIRE_PEERS` is 1.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::Command;

use model::{Matcher, Selection};

use super::*;
use crate::block::merge::merge;
use crate::disk::OsDisk;

const PROMTOOL: &str = "/usr/bin/promtool";

fn run(arguments: &[&str]) -> String {
    let output = Command::new(PROMTOOL).args(arguments).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

fn is_there(path: &Path) -> bool {
    if path.exists() {
        return true;
    }
    let required = std::env::var_os("SEXTANT_REQUIRE_PEERS").is_some_and(|value| value == "1");
    assert!(!required, "{} is missing, and SEXTANT_REQUIRE_PEERS=1", path.display());
    let _ = writeln!(std::io::stderr(), "skipped: {} is missing", path.display());
    false
}

/// Blocks that Prometheus wrote, copied to where they may be changed.
fn blocks_of_prometheus(folder: &Path) -> Vec<Block> {
    let given = std::env::var_os("SEXTANT_CONFORMANCE").filter(|path| !path.is_empty());
    let root = given.map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/conformance"),
        PathBuf::from,
    );
    let blocks = root.join("tsdb/block");
    if !is_there(&blocks) {
        return vec![];
    }
    let mut opened = vec![];
    for entry in std::fs::read_dir(blocks).unwrap() {
        let dir = entry.unwrap().path();
        let copy = folder.join(dir.file_name().unwrap());
        std::fs::create_dir_all(copy.join("chunks")).unwrap();
        for name in ["meta.json", "index", "tombstones"] {
            std::fs::copy(dir.join(name), copy.join(name)).unwrap();
        }
        for chunks in std::fs::read_dir(dir.join("chunks")).unwrap() {
            let name = Path::new("chunks").join(chunks.unwrap().file_name());
            std::fs::copy(dir.join(&name), copy.join(&name)).unwrap();
        }
        opened.push(open(&OsDisk, &copy).unwrap());
    }
    assert!(!opened.is_empty());
    opened
}

/// All samples of a block, histograms among them.
fn columns(block: &Block) -> BTreeMap<Pairs, Columns> {
    let context = QueryContext::unbounded();
    let mut found = BTreeMap::new();
    let selection =
        block.select(&Selection::new(&[], TimeRange::ALL), &mut charge(), &context).unwrap();
    for series in &selection.series {
        let mut columns = Columns::new();
        block.read(&selection, series, TimeRange::ALL, &mut columns, &context).unwrap();
        let labels = series.labels.iter().map(|l| (String::from(l.name), String::from(l.value)));
        if !columns.is_empty() {
            found.insert(labels.collect(), columns);
        }
    }
    found
}

/// As text: a NaN is equal to itself then, and a histogram's buckets are compared however they are laid out.
fn text(columns: &BTreeMap<Pairs, Columns>) -> Vec<String> {
    let row = |columns: &Columns, row: usize| {
        let buckets = columns.histogram(row).map(|histogram| {
            (histogram.count, histogram.zero_count, histogram.positive_counts.clone())
        });
        format!("{} {:x} {buckets:?}", columns.times()[row], columns.floats()[row].to_bits())
    };
    let series = columns.iter().map(|(labels, columns)| {
        let rows: Vec<String> = (0..columns.len()).map(|at| row(columns, at)).collect();
        format!("{labels:?}: {rows:?}")
    });
    series.collect()
}

#[test]
fn a_block_of_prometheus_is_whole_and_survives_merges() {
    let folder = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(OsDisk);
    for block in blocks_of_prometheus(&folder.path().join("data")) {
        assert_whole(disk.as_ref(), &block.dir);
        let before = columns(&block);
        assert!(before.values().any(|columns| !columns.histograms().is_empty()));
        let merged = |number, inputs: &[&Block]| {
            let metas: Vec<&Meta> = inputs.iter().map(|block| &block.meta).collect();
            let meta = Meta::of_parents(Ulid::from(number), &metas);
            let (dir, meta) =
                merge(&disk, folder.path(), meta, inputs, &|| false).unwrap().unwrap();
            assert_whole(disk.as_ref(), &dir);
            Block::open(disk.as_ref(), &dir, meta, Access::ReadWrite).unwrap()
        };
        // With itself: every chunk is there twice.
        let twice = merged(1, &[&block, &block]);
        assert_eq!(text(&columns(&twice)), text(&before));
        assert_eq!(twice.meta.stats, block.meta.stats);
        // A hole in the middle cuts through chunks of all kinds, and the other block fills it again.
        let middle = i64::midpoint(block.meta.min_time, block.meta.max_time);
        let range = TimeRange::new(middle - 60_000, block.meta.max_time - 90_000);
        let context = QueryContext::unbounded();
        let cut = block.delete(disk.as_ref(), &[vec![]], range, &context).unwrap().unwrap();
        let cut_columns = columns(&cut);
        assert_ne!(text(&cut_columns), text(&before));
        let cleaned = merged(2, &[&cut]);
        assert_eq!(text(&columns(&cleaned)), text(&cut_columns));
        assert!(cleaned.meta.stats.num_histogram_samples < block.meta.stats.num_histogram_samples);
        let whole = merged(3, &[&cleaned, &twice]);
        assert_eq!(text(&columns(&whole)), text(&before));
        assert_eq!(whole.meta.stats.num_samples, block.meta.stats.num_samples);
    }
}

#[test]
fn promtool_reads_a_merged_block() {
    if !is_there(Path::new(PROMTOOL)) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(OsDisk);
    let (parts, data) = (folder.path().join("parts"), folder.path().join("data"));
    // Without a log promtool takes the folder for none of a store.
    for dir in [&parts, &data, &data.join("wal")] {
        std::fs::create_dir(dir).unwrap();
    }
    let hour = 3_600_000;
    // The second overlaps the first, the third follows.
    let models = [
        ((0, 2 * hour), model(0..40, (0..240).map(|i| i * 30_000))),
        ((hour, 3 * hour), model(20..60, (0..240).map(|i| hour + i * 30_000 + 7))),
        ((3 * hour, 4 * hour), model(0..60, (0..120).map(|i| 3 * hour + i * 30_000))),
    ];
    let mut blocks = vec![];
    for (number, (span, model)) in (1..).zip(&models) {
        let (dir, meta) = try_write(&disk, &parts, number, *span, model, 120).unwrap().unwrap();
        blocks.push(Block::open(disk.as_ref(), &dir, meta, Access::ReadWrite).unwrap());
    }
    let (matchers, range) = (vec![Matcher::equal("i", "25")], TimeRange::new(hour, hour + 100_000));
    let context = QueryContext::unbounded();
    blocks[0] = blocks[0].delete(disk.as_ref(), &[matchers], range, &context).unwrap().unwrap();

    let mut expected = BTreeSet::new();
    for block in &blocks {
        for (labels, samples) in content(block).unwrap() {
            let labels: Vec<String> = labels.iter().map(|(n, v)| format!("{n}={v:?}")).collect();
            let labels = labels.join(", ");
            expected.extend(samples.iter().map(|(t, v)| (labels.clone(), *t, *v)));
        }
    }
    let metas: Vec<&Meta> = blocks.iter().map(|block| &block.meta).collect();
    let meta = Meta::of_parents(Ulid::from(9), &metas);
    let inputs: Vec<&Block> = blocks.iter().collect();
    let (dir, meta) = merge(&disk, &data, meta, &inputs, &|| false).unwrap().unwrap();
    assert_whole(disk.as_ref(), &dir);

    let data = data.to_str().unwrap();
    let list = run(&["tsdb", "list", data]);
    let row = list.lines().find(|line| line.contains(&meta.ulid.to_string())).unwrap();
    let columns: Vec<&str> = row.split_whitespace().collect();
    let counted = [meta.min_time, meta.max_time].map(|t| t.to_string());
    assert_eq!(columns[1..3], counted);
    let stats = [meta.stats.num_samples, meta.stats.num_chunks, meta.stats.num_series];
    assert_eq!(meta.stats.num_samples, expected.len() as u64);
    for count in stats {
        assert!(columns[3..].contains(&count.to_string().as_str()), "{count} in {row}");
    }
    let analysis = run(&["tsdb", "analyze", data]);
    assert!(analysis.contains("Series: 60\n"), "{analysis}");
    let dump = run(&["tsdb", "dump", data]);
    let dumped = dump.lines().map(|line| {
        let (labels, rest) = line.strip_prefix('{').unwrap().rsplit_once("} ").unwrap();
        let (v, t) = rest.split_once(' ').unwrap();
        (String::from(labels), t.parse().unwrap(), v.parse::<f64>().unwrap().to_bits())
    });
    assert_eq!(dumped.collect::<BTreeSet<_>>(), expected);
}
