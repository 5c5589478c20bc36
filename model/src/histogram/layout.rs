//! Which buckets are listed: spans and counts taken apart into buckets with indices, and put together again.

use super::Span;
use super::bounds::exponential_bound;
use super::buckets::indexed;

/// A bucket of one side of a histogram, with what rounding lost of its count so far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) index: i32,
    pub(super) count: f64,
    pub(super) lost: f64,
}

/// The buckets that spans and counts describe. `lost` is empty or has one number for each count.
pub(super) fn entries(spans: &[Span], counts: &[f64], lost: &[f64]) -> Vec<Entry> {
    let lost = lost.iter().copied().chain(std::iter::repeat(0.0));
    indexed(spans, counts)
        .zip(lost)
        .map(|((index, count), lost)| Entry { index, count, lost })
        .collect()
}

/// Spans for ascending indices.
pub(super) fn spans_of(indices: impl Iterator<Item = i32>) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    let mut next = 0_i32;
    for index in indices {
        match spans.last_mut() {
            Some(last) if index == next => last.length += 1,
            _ => spans.push(Span { offset: index.wrapping_sub(next), length: 1 }),
        }
        next = index.wrapping_add(1);
    }
    spans
}

/// The index of the bucket of the coarser schema `to` that bucket `index` of schema `from` is part of.
pub(super) const fn coarser_index(index: i32, from: i32, to: i32) -> i32 {
    let shift = from - to;
    let shift = if shift > 31 { 31 } else { shift };
    (index.wrapping_sub(1) >> shift).wrapping_add(1)
}

/// Merges buckets into those of a coarser schema. `add` adds the second to the first.
pub(super) fn coarsen(
    entries: &[Entry],
    from: i32,
    to: i32,
    add: impl Fn(&mut Entry, Entry),
) -> Vec<Entry> {
    let mut coarse: Vec<Entry> = Vec::new();
    for entry in entries {
        let index = coarser_index(entry.index, from, to);
        match coarse.last_mut() {
            Some(last) if last.index == index => add(last, *entry),
            _ => coarse.push(Entry { index, ..*entry }),
        }
    }
    coarse
}

/// Without the first buckets, as far as they end within a zero bucket of this threshold.
pub(super) fn outside_zero_bucket(entries: &[Entry], schema: i32, threshold: f64) -> &[Entry] {
    let inside = |entry: &&Entry| exponential_bound(entry.index, schema) <= threshold;
    &entries[entries.iter().take_while(inside).count()..]
}

/// The buckets of both lists. `add` adds the second to the first where both have one.
pub(super) fn union(a: &[Entry], b: &[Entry], add: impl Fn(&mut Entry, Entry)) -> Vec<Entry> {
    let mut all = Vec::with_capacity(a.len().max(b.len()));
    let (mut a, mut b) = (a.iter().copied().peekable(), b.iter().copied().peekable());
    loop {
        match (a.peek().copied(), b.peek().copied()) {
            (None, None) => return all,
            (Some(mut left), Some(right)) if left.index == right.index => {
                add(&mut left, right);
                all.push(left);
                a.next();
                b.next();
            }
            (Some(left), Some(right)) if left.index < right.index => all.extend(a.next()),
            (Some(_), None) => all.extend(a.next()),
            (_, Some(_)) => all.extend(b.next()),
        }
    }
}

/// Populated buckets, and the empty ones of gaps of at most `max_empty` between them.
pub(super) fn compact(entries: &[Entry], max_empty: usize) -> Vec<Entry> {
    let mut kept: Vec<Entry> = Vec::with_capacity(entries.len());
    for entry in entries.iter().filter(|entry| entry.count != 0.0 || entry.lost != 0.0) {
        if let Some(last) = kept.last().map(|last| last.index) {
            let gap = i64::from(entry.index) - i64::from(last) - 1;
            if usize::try_from(gap).is_ok_and(|gap| gap <= max_empty) {
                let empty = |index| Entry { index, count: 0.0, lost: 0.0 };
                kept.extend((last + 1..entry.index).map(empty));
            }
        }
        kept.push(*entry);
    }
    kept
}

/// Whether spans describe the same layout. Spans of no length make no difference, adjacent ones do.
pub(super) fn same_spans(a: &[Span], b: &[Span]) -> bool {
    a == b || without_empty(a).eq(without_empty(b))
}

fn without_empty(spans: &[Span]) -> impl Iterator<Item = Span> + '_ {
    let mut skipped = 0_i32;
    spans.iter().filter_map(move |span| {
        let offset = skipped.wrapping_add(span.offset);
        if span.length == 0 {
            skipped = offset;
            return None;
        }
        skipped = 0;
        Some(Span { offset, length: span.length })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(offset: i32, length: u32) -> Span {
        Span { offset, length }
    }

    fn of(pairs: &[(i32, f64)]) -> Vec<Entry> {
        pairs.iter().map(|&(index, count)| Entry { index, count, lost: 0.0 }).collect()
    }

    fn plus(a: &mut Entry, b: Entry) {
        a.count += b.count;
    }

    #[test]
    fn spans_come_apart_and_together() {
        let spans = [span(-2, 2), span(3, 1), span(1, 2)];
        let all = entries(&spans, &[1.0, 2.0, 3.0, 4.0, 5.0], &[]);
        assert_eq!(all, of(&[(-2, 1.0), (-1, 2.0), (3, 3.0), (5, 4.0), (6, 5.0)]));
        assert_eq!(spans_of(all.iter().map(|entry| entry.index)), spans);
        // A span that promises more than there are counts gives what there is.
        assert_eq!(entries(&[span(0, u32::MAX)], &[1.0], &[]), of(&[(0, 1.0)]));
    }

    #[test]
    fn coarser_buckets_hold_those_that_end_in_them() {
        // Of schema 1 to 0: (2^0, 2^0.5] and (2^0.5, 2^1] become (1, 2], which is bucket 1.
        let fine = of(&[(-1, 1.0), (0, 2.0), (1, 4.0), (2, 8.0), (3, 16.0)]);
        assert_eq!(coarsen(&fine, 1, 0, plus), of(&[(0, 3.0), (1, 12.0), (2, 16.0)]));
        assert_eq!(coarsen(&fine, 2, -4, plus), of(&[(0, 3.0), (1, 28.0)]));
    }

    #[test]
    fn unions_keep_the_order() {
        let a = of(&[(1, 1.0), (3, 2.0)]);
        let b = of(&[(0, 8.0), (3, 16.0), (9, 32.0)]);
        assert_eq!(union(&a, &b, plus), of(&[(0, 8.0), (1, 1.0), (3, 18.0), (9, 32.0)]));
        assert_eq!(union(&a, &[], plus), a);
    }

    #[test]
    fn compaction_leaves_out_long_gaps() {
        let all = of(&[(0, 0.0), (1, 1.0), (2, 0.0), (3, 0.0), (4, 1.0), (9, 1.0), (10, 0.0)]);
        assert_eq!(compact(&all, 0), of(&[(1, 1.0), (4, 1.0), (9, 1.0)]));
        let closed = of(&[(1, 1.0), (2, 0.0), (3, 0.0), (4, 1.0), (9, 1.0)]);
        assert_eq!(compact(&all, 2), closed);
        assert_eq!(compact(&all, 4).len(), 9);
        assert_eq!(compact(&of(&[(0, 0.0)]), 3), of(&[]));
    }

    #[test]
    fn layouts_compare() {
        assert!(same_spans(&[span(1, 2), span(2, 1)], &[span(1, 2), span(1, 0), span(1, 1)]));
        assert!(same_spans(&[], &[span(4, 0)]));
        assert!(!same_spans(&[span(1, 3)], &[span(1, 2), span(0, 1)]));
        assert!(!same_spans(&[span(1, 3)], &[span(2, 3)]));
    }
}
