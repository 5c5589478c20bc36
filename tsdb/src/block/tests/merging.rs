//! Merged blocks have what their parents had.

use std::collections::BTreeSet;

use model::{MatchOp, Matcher, Selection};
use proptest::prelude::*;

use super::*;
use crate::block::merge::merge;

fn never() -> bool {
    false
}

fn merged(disk: &MemDisk, number: u128, inputs: &[&Block]) -> Option<Block> {
    let metas: Vec<&Meta> = inputs.iter().map(|block| &block.meta).collect();
    let meta = Meta::of_parents(Ulid::from(number), &metas);
    let written = merge(&shared(disk), Path::new(DIR), meta, inputs, &never).unwrap();
    written.map(|(dir, meta)| {
        assert_whole(disk, &dir);
        assert_eq!(Meta::read(disk, &dir).unwrap(), meta);
        Block::open(disk, &dir, meta, Access::ReadWrite).unwrap()
    })
}

fn is_series(i: u32) -> Vec<Matcher> {
    vec![Matcher::equal("i", i.to_string())]
}

fn anything() -> Vec<Matcher> {
    vec![Matcher::new("i", MatchOp::Regex, ".+").unwrap()]
}

fn delete(disk: &MemDisk, block: &Block, matchers: Vec<Matcher>, min: i64, max: i64) -> Block {
    let range = TimeRange::new(min, max);
    let deleted = block.delete(disk, &[matchers], range, &QueryContext::unbounded()).unwrap();
    deleted.expect("something is deleted")
}

/// The chunks of all series, as they are in the files.
fn chunks(block: &Block) -> Vec<(TimeRange, Vec<u8>)> {
    let context = QueryContext::unbounded();
    let mut found = vec![];
    let mut cursor = block.chunks.cursor(1024);
    let selection =
        block.select(&Selection::new(&[], TimeRange::ALL), &mut charge(), &context).unwrap();
    for series in &selection.series {
        for chunk in selection.chunks_of(series) {
            found.push((chunk.range, cursor.read(chunk.reference).unwrap().bytes.to_vec()));
        }
    }
    found
}

#[test]
fn chunks_that_do_not_overlap_are_copied() {
    let disk = new_disk();
    let first = write(&disk, 1, (0, 100), &model(0..3, 0..100), 7);
    let second = write(&disk, 2, (100, 200), &model(1..5, 100..200), 120);
    let both = merged(&disk, 3, &[&first, &second]).unwrap();
    let mut expected = content(&first).unwrap();
    for (labels, samples) in content(&second).unwrap() {
        expected.entry(labels).or_default().extend(samples);
    }
    assert_eq!(content(&both).unwrap(), expected);
    let sorted = |blocks: &[&Block]| {
        let mut all: Vec<_> = blocks.iter().flat_map(|block| chunks(block)).collect();
        all.sort_by_key(|(range, bytes)| (range.min, bytes.clone()));
        all
    };
    assert_eq!(sorted(&[&both]), sorted(&[&first, &second]), "byte by byte");
    let Meta { stats, compaction, min_time, max_time, .. } = &both.meta;
    assert_eq!((*min_time, *max_time), (0, 200));
    assert_eq!((stats.num_series, stats.num_samples, stats.num_float_samples), (5, 700, 700));
    assert_eq!((stats.num_chunks, stats.num_histogram_samples), (3 * 15 + 4, 0));
    assert_eq!(compaction.level, 2);
    assert_eq!(compaction.sources, [1, 2].map(|n| Ulid::from(n as u128).to_string()));
    let parents: Vec<u128> = compaction.parents.iter().map(|p| u128::from(p.ulid)).collect();
    assert_eq!(parents, [1, 2]);
}

#[test]
fn equal_blocks_are_merged_to_an_equal_one() {
    let disk = new_disk();
    let first = write(&disk, 1, (0, 100), &model(0..3, 0..100), 9);
    let second = write(&disk, 2, (0, 100), &model(0..3, 0..100), 9);
    let both = merged(&disk, 3, &[&first, &second]).unwrap();
    assert_eq!(chunks(&both), chunks(&first));
}

#[test]
fn only_the_chunk_that_a_deletion_cuts_is_written_anew() {
    let disk = new_disk();
    let block = write(&disk, 1, (0, 100), &model(0..2, 0..100), 10);
    let block = delete(&disk, &block, is_series(1), 35, 64);
    assert_eq!(block.meta.stats.num_tombstones, 1);
    let meta = Meta::of_cleaned(Ulid::from(2), &block.meta);
    let (dir, meta) =
        merge(&shared(&disk), Path::new(DIR), meta, &[&block], &never).unwrap().unwrap();
    assert_eq!((meta.compaction.level, meta.compaction.parents.len()), (1, 1));
    let cleaned = Block::open(&disk, &dir, meta, Access::ReadOnly).unwrap();
    assert_eq!(content(&cleaned).unwrap(), content(&block).unwrap());
    assert!(!cleaned.needs_cleaning());
    let expected: Vec<_> = chunks(&block).into_iter().map(|(range, _)| range).collect();
    let found: Vec<_> = chunks(&cleaned).into_iter().map(|(range, _)| range).collect();
    assert_eq!(found[..13], expected[..13]);
    assert_eq!(found[13], TimeRange::new(30, 34));
    assert_eq!(found[14], TimeRange::new(65, 69));
    assert_eq!(found[15..], expected[17..]);
}

#[test]
fn nothing_is_left_of_a_block_that_is_deleted() {
    let disk = new_disk();
    let block = write(&disk, 1, (0, 100), &model(0..2, 0..100), 10);
    let block = delete(&disk, &block, anything(), i64::MIN, i64::MAX);
    assert_eq!(block.meta.stats.num_tombstones, 2);
    assert_eq!(content(&block).unwrap(), Model::new());
    assert!(merged(&disk, 2, &[&block]).is_none());
    let names: Vec<String> =
        disk.list(Path::new(DIR)).unwrap().into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, [Ulid::from(1).to_string()]);
}

#[test]
fn deletions_are_clamped_joined_and_kept() {
    let disk = new_disk();
    let block = write(&disk, 1, (0, 100), &model(0..2, 0..100), 10);
    let context = QueryContext::unbounded();
    let delete = |block: &Block, sets: &[Vec<Matcher>], min, max| {
        block.delete(&disk, sets, TimeRange::new(min, max), &context).unwrap()
    };
    assert!(delete(&block, &[is_series(7)], 0, 100).is_none());
    assert!(delete(&block, &[is_series(0)], 100, 200).is_none());
    let block = delete(&block, &[is_series(0), is_series(1)], -50, 9).unwrap();
    let block = delete(&block, &[is_series(0)], 10, 20).unwrap();
    assert!(delete(&block, &[is_series(0)], 5, 20).is_none(), "it is deleted already");
    let block = delete(&block, &[is_series(0)], 90, i64::MAX).unwrap();
    let spans: Vec<_> = block.tombstones.iter().map(|(_, span)| (span.min, span.max)).collect();
    assert_eq!(spans, [(0, 20), (90, 99), (0, 9)]);
    let again = open(&disk, &block.dir).unwrap();
    assert_eq!(again.tombstones, block.tombstones);
    assert_eq!(again.meta, block.meta);
    assert_eq!(again.meta.stats.num_tombstones, 3);
    assert_whole(&disk, &block.dir);
}

#[test]
fn a_merge_stops_when_it_is_told_to() {
    let disk = new_disk();
    let block = write(&disk, 1, (0, 100), &model(0..50, 0..100), 10);
    for calls in [0, 1, 20, 51] {
        let left = std::cell::Cell::new(calls);
        let cancelled = || {
            left.set(left.get() - 1);
            left.get() < 0
        };
        let meta = Meta::of_parents(Ulid::from(2), &[&block.meta]);
        let result = merge(&shared(&disk), Path::new(DIR), meta, &[&block], &cancelled);
        assert!(matches!(result, Err(BlockError::Cancelled)), "{calls} calls");
        assert_eq!(disk.list(Path::new(DIR)).unwrap().len(), 1);
    }
}

#[test]
fn hints_are_inherited() {
    let hinted = |hints: &[&str]| {
        let mut meta = Meta::of_head(Ulid::from(1), 0, 1);
        meta.compaction.hints = hints.iter().map(|hint| String::from(*hint)).collect();
        meta
    };
    let check = |a: &[&str], b: &[&str], expected: &[&str]| {
        let merged = Meta::of_parents(Ulid::from(2), &[&hinted(a), &hinted(b)]);
        assert_eq!(merged.compaction.hints, expected, "{a:?} and {b:?}");
    };
    let (late, stale, selected) =
        ("from-out-of-order", "from-stale-series", "from-selected-series");
    check(&[], &[], &[]);
    check(&[late], &[], &[]);
    check(&[late], &[late], &[late]);
    check(&[stale], &[], &[stale]);
    check(&[late, stale], &[late, selected], &[late, selected, stale]);
}

/// Times by series, and the start of the block.
type Input = (i64, Vec<(u32, BTreeSet<i64>)>);

fn inputs() -> impl Strategy<Value = Vec<Input>> {
    let times = prop::collection::btree_set(0_i64..60, 1..40);
    let series = prop::collection::vec((0_u32..5, times), 1..5);
    prop::collection::vec((0_i64..12, series), 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn merged_blocks_have_what_a_map_has(
        inputs in inputs(),
        per_chunk in 1_usize..15,
        deletions in prop::collection::vec((0_usize..4, 0_u32..6, 0_i64..180, 0_i64..60), 0..5),
        conflicts: bool,
    ) {
        let disk = new_disk();
        let mut blocks = vec![];
        // By series and time, every value that a block has.
        let mut expected: BTreeMap<Pairs, BTreeMap<i64, BTreeSet<u64>>> = BTreeMap::new();
        for (number, (start, series)) in (1_u32..).zip(&inputs) {
            let start = start * 10;
            let mut of_block = Model::new();
            for (i, times) in series {
                let i_text = i.to_string();
                let labels = pairs(&[("__name__", "m"), ("i", &i_text), (&format!("only{i}"), "x")]);
                let own = if conflicts { f64::from(number) } else { 0.0 };
                let value = (f64::from(*i) + own).to_bits();
                let samples = times.iter().map(|t| (start + t, value + t.unsigned_abs()));
                of_block.entry(labels).or_default().extend(
                    samples.map(|(t, v)| (t, if conflicts { v } else { value + t.unsigned_abs() })),
                );
            }
            let mut block = write(&disk, u128::from(number), (start, start + 60), &of_block, per_chunk);
            let of_this = deletions.iter().filter(|(of, ..)| *of + 1 == number as usize);
            for &(_, i, min, len) in of_this {
                let (matchers, all) = if i == 5 { (anything(), true) } else { (is_series(i), false) };
                let range = TimeRange::new(min, min + len);
                let context = QueryContext::unbounded();
                if let Some(after) = block.delete(&disk, &[matchers], range, &context).unwrap() {
                    block = after;
                }
                for (labels, samples) in &mut of_block {
                    if all || labels[1].1 == i.to_string() {
                        samples.retain(|&t, _| !range.contains(t));
                    }
                }
            }
            of_block.retain(|_, samples| !samples.is_empty());
            prop_assert_eq!(&content(&block).unwrap(), &of_block);
            for (labels, samples) in of_block {
                for (t, v) in samples {
                    expected.entry(labels.clone()).or_default().entry(t).or_default().insert(v);
                }
            }
            blocks.push(block);
        }
        blocks.sort_by_key(|block| block.meta.min_time);
        let found = merged(&disk, 99, &blocks.iter().collect::<Vec<_>>());
        let Some(found) = found else {
            prop_assert!(expected.is_empty());
            return Ok(());
        };
        let samples: usize = expected.values().map(BTreeMap::len).sum();
        prop_assert_eq!(found.meta.stats.num_samples, samples as u64);
        let found = content(&found).unwrap();
        prop_assert!(found.keys().eq(expected.keys()));
        for (labels, samples) in &found {
            let expected = &expected[labels];
            prop_assert!(samples.keys().eq(expected.keys()), "{:?}", labels);
            prop_assert!(samples.iter().all(|(t, v)| expected[t].contains(v)), "{:?}", labels);
        }
    }
}
