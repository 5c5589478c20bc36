//! Which blocks to merge next. Chosen as Prometheus chooses, so that block boundaries are those that its users and tools expect.

use ulid::Ulid;

use super::meta::{HINTS_PARTIAL, Meta};

/// Spans of blocks that are aimed for, each this many times the one before.
const STEP: i64 = 3;
const STEPS: usize = 10;

/// No block is made to span more, whatever the retention.
const SPAN_MAX_MS: i64 = 31 * 86_400_000;

/// More spans deleted for each series than this, and a large block is rewritten.
const TOMBSTONES_PER_SERIES_MAX: f64 = 0.05;

/// The spans that blocks are merged to: from that of the head's blocks on, up to a tenth of the retention (0: none).
pub(crate) fn block_spans(min: i64, retention: i64) -> Vec<i64> {
    let max = if retention > 0 { SPAN_MAX_MS.min(retention / 10) } else { SPAN_MAX_MS };
    let spans = std::iter::successors(Some(min.max(1)), |span| span.checked_mul(STEP));
    spans
        .take(STEPS)
        .enumerate()
        .take_while(|(i, span)| *i == 0 || *span <= max)
        .map(|(_, s)| s)
        .collect()
}

/// The blocks to be merged into one, or the one to be rewritten without what is deleted; none if all is well.
///
/// Blocks that overlap come first. The newest block is left alone, so that there is time to copy it. Blocks of late samples are merged with
/// those that they overlap, blocks with some of the head's series only among themselves.
pub(crate) fn plan(blocks: &[&Meta], spans: &[i64]) -> Vec<Ulid> {
    let class = |meta: &Meta| HINTS_PARTIAL.iter().position(|hint| meta.has_hint(hint));
    for wanted in [None, Some(0), Some(1)] {
        let of_class: Vec<&Meta> =
            blocks.iter().copied().filter(|meta| class(meta) == wanted).collect();
        let chosen = plan_class(of_class, spans);
        if !chosen.is_empty() {
            return chosen;
        }
    }
    Vec::new()
}

fn plan_class(mut blocks: Vec<&Meta>, spans: &[i64]) -> Vec<Ulid> {
    blocks.sort_by_key(|meta| meta.min_time);
    let overlapping = overlapping(&blocks);
    if !overlapping.is_empty() {
        return overlapping;
    }
    blocks.pop();
    if let Some(part) = full_part(&blocks, spans) {
        return part.iter().map(|meta| meta.ulid).collect();
    }
    to_be_cleaned(&blocks, spans).into_iter().collect()
}

/// The first run of blocks of which each overlaps one before.
fn overlapping(blocks: &[&Meta]) -> Vec<Ulid> {
    let mut run: Vec<Ulid> = Vec::new();
    let Some(first) = blocks.first() else { return run };
    let mut end = first.max_time;
    for pair in blocks.windows(2) {
        let [before, block] = pair else { continue };
        if block.min_time < end {
            if run.is_empty() {
                run.push(before.ulid);
            }
            run.push(block.ulid);
        } else if !run.is_empty() {
            break;
        }
        end = end.max(block.max_time);
    }
    run
}

/// Blocks that fill a span, or lie in one that no further block will come to.
fn full_part<'b, 'm>(blocks: &'b [&'m Meta], spans: &[i64]) -> Option<&'b [&'m Meta]> {
    let newest = blocks.last()?.min_time;
    let larger = spans.get(1..).unwrap_or_default().iter();
    let mut parts = larger.flat_map(|&span| parts(blocks, span).map(move |part| (span, part)));
    let full = parts.find(|(span, part)| {
        let (min, max) = (part[0].min_time, part[part.len() - 1].max_time);
        let is_full = max.saturating_sub(min) == *span || max <= newest;
        is_full && part.len() > 1 && !part.iter().any(|meta| meta.compaction.failed)
    });
    full.map(|(_, part)| part)
}

/// The blocks that lie within one multiple of `span` each, together.
fn parts<'b, 'm>(blocks: &'b [&'m Meta], span: i64) -> impl Iterator<Item = &'b [&'m Meta]> {
    let mut rest = blocks;
    std::iter::from_fn(move || {
        loop {
            let first = rest.first()?;
            let start = first.min_time.div_euclid(span).saturating_mul(span);
            let end = start.saturating_add(span);
            if first.max_time > end {
                rest = &rest[1..];
                continue;
            }
            let len = rest.iter().take_while(|meta| meta.max_time <= end).count();
            let (part, after) = rest.split_at(len);
            rest = after;
            return Some(part);
        }
    })
}

/// The newest block that has many tombstones: a large one for its series, or one where nothing is left.
#[expect(clippy::cast_precision_loss, reason = "as Prometheus: a ratio of counts")]
fn to_be_cleaned(blocks: &[&Meta], spans: &[i64]) -> Option<Ulid> {
    let large = *spans.get(spans.len() / 2)?;
    for meta in blocks.iter().rev() {
        let (tombstones, series) = (meta.stats.num_tombstones, meta.stats.num_series);
        if meta.max_time.saturating_sub(meta.min_time) < large {
            return (tombstones > 0 && tombstones >= series).then_some(meta.ulid);
        }
        if tombstones as f64 / (series + 1) as f64 > TOMBSTONES_PER_SERIES_MAX {
            return Some(meta.ulid);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A block by its number, from and to.
    fn block(number: u128, min: i64, max: i64) -> Meta {
        Meta::of_head(Ulid::from(number), min, max)
    }

    fn check(blocks: &[Meta], spans: &[i64], expected: &[u128]) {
        let metas: Vec<&Meta> = blocks.iter().collect();
        let found: Vec<u128> = plan(&metas, spans).into_iter().map(u128::from).collect();
        let times: Vec<_> = blocks.iter().map(|meta| (meta.min_time, meta.max_time)).collect();
        assert_eq!(found, expected, "{times:?}");
    }

    fn blocks(times: &[(i64, i64)]) -> Vec<Meta> {
        (1..).zip(times).map(|(number, &(min, max))| block(number, min, max)).collect()
    }

    const SPANS: [i64; 5] = [20, 60, 180, 540, 1620];

    #[test]
    fn spans_are_multiples_up_to_a_tenth_of_the_retention() {
        let hour = 3_600_000;
        let hours = |retention: i64| -> Vec<i64> {
            block_spans(2 * hour, retention * hour).into_iter().map(|span| span / hour).collect()
        };
        assert_eq!(hours(15 * 24), [2, 6, 18]);
        assert_eq!(hours(1), [2]);
        assert_eq!(hours(0), [2, 6, 18, 54, 162, 486]);
        assert_eq!(hours(10 * 365 * 24), [2, 6, 18, 54, 162, 486]);
    }

    /// The situations of Prometheus's test of its planning.
    #[test]
    fn the_same_blocks_are_chosen_as_by_prometheus() {
        check(&[], &SPANS, &[]);
        check(&blocks(&[(0, 20)]), &SPANS, &[]);
        check(&blocks(&[(0, 20), (20, 40), (40, 60)]), &SPANS, &[]);
        // The newest is left alone; the others fill or precede.
        check(&blocks(&[(0, 20), (20, 40), (40, 60), (60, 80)]), &SPANS, &[1, 2, 3]);
        // A gap: nothing will come into it any more.
        check(&blocks(&[(0, 20), (20, 40), (60, 80), (80, 100)]), &SPANS, &[1, 2]);
        check(&blocks(&[(0, 20), (60, 80), (80, 100), (120, 140)]), &SPANS, &[]);
        check(&blocks(&[(0, 20), (60, 80), (80, 100), (120, 140), (140, 160)]), &SPANS, &[2, 3]);
        // The larger spans once the smaller are done.
        let merged = [(0, 60), (60, 120), (120, 180), (180, 200)];
        check(&blocks(&merged), &SPANS, &[1, 2, 3]);
        let large = [(0, 180), (180, 360), (360, 540), (540, 560)];
        check(&blocks(&large), &SPANS, &[1, 2, 3]);
        check(&blocks(&[(0, 60), (60, 120), (120, 140), (140, 160)]), &SPANS, &[]);
        let mixed = [(0, 20), (20, 40), (40, 60), (60, 120), (120, 180)];
        check(&blocks(&mixed), &SPANS, &[1, 2, 3]);
        let with_gaps = [(20, 40), (60, 120), (960, 980), (120, 180), (720, 960)];
        check(&blocks(&with_gaps), &SPANS, &[1, 2, 4]);
        // The newest is the one that begins last, whatever its name.
        check(&blocks(&[(0, 360), (540, 560), (360, 420), (420, 540)]), &SPANS, &[3, 4]);
        // Across zero.
        check(&blocks(&[(-60, -40), (-40, -20), (-20, 0), (0, 20)]), &SPANS, &[1, 2, 3]);
        check(&blocks(&[(-20, 0), (0, 20), (20, 40)]), &SPANS, &[]);
        // With one span nothing is ever merged.
        check(&blocks(&[(0, 20), (20, 40), (40, 60), (60, 80)]), &SPANS[..1], &[]);
    }

    #[test]
    fn overlapping_blocks_come_first() {
        check(&blocks(&[(0, 20), (19, 40), (40, 60)]), &SPANS, &[1, 2]);
        check(&blocks(&[(0, 20), (20, 40), (30, 50)]), &SPANS, &[2, 3]);
        check(&blocks(&[(0, 20), (10, 40), (30, 60), (60, 80), (70, 90)]), &SPANS, &[1, 2, 3]);
        // The third lies within the first although not within the second.
        check(&blocks(&[(0, 100), (10, 20), (30, 40), (100, 120)]), &SPANS, &[1, 2, 3]);
        check(&blocks(&[(0, 20), (0, 20)]), &SPANS, &[1, 2]);
        check(&blocks(&[(0, 360), (340, 560), (360, 420), (420, 540)]), &SPANS, &[1, 2, 3, 4]);
        check(&blocks(&[(0, 10), (9, 20), (30, 40), (39, 50)]), &SPANS, &[1, 2]);
    }

    #[test]
    fn parts_with_a_failed_block_are_passed_over() {
        let times = [(0, 20), (20, 40), (40, 60), (60, 80), (80, 100), (100, 120), (120, 140)];
        let mut all = blocks(&times);
        check(&all, &SPANS, &[1, 2, 3]);
        all[1].compaction.failed = true;
        check(&all, &SPANS, &[4, 5, 6]);
    }

    #[test]
    fn blocks_with_many_tombstones_are_rewritten() {
        let with = |tombstones, max| {
            let mut all = vec![block(1, 0, max), block(2, 540, 560)];
            (all[0].stats.num_series, all[0].stats.num_tombstones) = (10, tombstones);
            all
        };
        check(&with(0, 540), &SPANS, &[]);
        check(&with(1, 540), &SPANS, &[1]);
        check(&with(3, 540), &SPANS, &[1]);
        check(&with(3, 60), &SPANS, &[]);
        let mut empty = with(0, 540);
        empty[0].stats.num_series = 0;
        check(&empty, &SPANS, &[]);
        let mut many = with(5, 540);
        many[0].stats.num_series = 100;
        check(&many, &SPANS, &[]);
        // A small block only when nothing can be left.
        check(&with(9, 60), &SPANS, &[]);
        check(&with(10, 60), &SPANS, &[1]);
        // The newest is left alone.
        check(&with(10, 540)[..1], &SPANS, &[]);
    }

    #[test]
    fn partial_blocks_are_merged_among_themselves() {
        let mut all = blocks(&[(0, 20), (0, 20), (20, 40), (20, 40), (40, 60), (60, 80)]);
        for i in [1, 3] {
            all[i].compaction.hints.push(String::from("from-stale-series"));
        }
        check(&all, &SPANS, &[1, 3, 5]);
        let only: Vec<Meta> = [1, 3, 5].map(|i| all[i].clone()).to_vec();
        check(&only, &SPANS, &[]);
        let mut overlapping = only;
        overlapping[1].min_time = 10;
        check(&overlapping, &SPANS, &[2, 4]);
    }
}
