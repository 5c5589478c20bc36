//! Sparse buckets: which indices spans name, and what two sets of them have in common.
//!
//! A chunk has one set of buckets for all its histograms. When a histogram has buckets that the chunk lacks, the chunk is recoded with empty
//! ones in their place; when it lacks buckets that are empty in the chunk, it gets empty ones itself.

use std::cmp::Ordering;

use model::Span;

/// The indices of populated buckets, ascending in a valid histogram.
pub(crate) fn indices(spans: &[Span]) -> impl Iterator<Item = i64> + '_ {
    let mut next = 0_i64;
    spans.iter().flat_map(move |span| {
        let first = next + i64::from(span.offset);
        next = first + i64::from(span.length);
        first..next
    })
}

/// Number of populated buckets.
pub(crate) fn count(spans: &[Span]) -> u64 {
    spans.iter().map(|span| u64::from(span.length)).sum()
}

/// Collects ascending indices into as few spans as they need.
#[derive(Debug, Default)]
pub(crate) struct SpanBuilder {
    spans: Vec<Span>,
    next: i64,
}

impl SpanBuilder {
    pub(crate) fn push(&mut self, index: i64) {
        match self.spans.last_mut() {
            Some(span) if index == self.next => span.length += 1,
            _ => {
                // Indices are sums of offsets that fit and of lengths that are bounded, so this loses nothing in a valid histogram.
                let gap = index - self.next;
                let offset =
                    i32::try_from(gap).unwrap_or(if gap < 0 { i32::MIN } else { i32::MAX });
                self.spans.push(Span { offset, length: 1 });
            }
        }
        self.next = index + 1;
    }

    pub(crate) fn finish(self) -> Vec<Span> {
        self.spans
    }
}

/// One index of either of two sets of buckets, with what each set has there.
enum Side<T> {
    Both(T, T),
    Left(T),
    Right,
}

/// Walks two sets of buckets by index. Ends when `visit` answers `false`, with that answer.
fn walk<T>(
    left: impl Iterator<Item = (i64, T)>,
    right: impl Iterator<Item = (i64, T)>,
    mut visit: impl FnMut(i64, Side<T>) -> bool,
) -> bool {
    let (mut left, mut right) = (left.peekable(), right.peekable());
    loop {
        let order = match (left.peek(), right.peek()) {
            (Some((l, _)), Some((r, _))) => l.cmp(r),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return true,
        };
        let at_left = if order.is_le() { left.next() } else { None };
        let at_right = if order.is_ge() { right.next() } else { None };
        let going_on = match (at_left, at_right) {
            (Some((index, l)), Some((_, r))) => visit(index, Side::Both(l, r)),
            (Some((index, l)), None) => visit(index, Side::Left(l)),
            (None, Some((index, _))) => visit(index, Side::Right),
            (None, None) => return true,
        };
        if !going_on {
            return false;
        }
    }
}

/// Which of two sets of buckets lacks some of the other's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lacking {
    /// The chunk lacks buckets of the histogram.
    pub(crate) chunk: bool,
    /// The histogram lacks buckets of the chunk.
    pub(crate) histogram: bool,
}

/// Compares the buckets that a counter histogram had in a chunk with those of the next one: `None` if a bucket has fewer observations or
/// one with observations is gone, which is a counter reset.
pub(crate) fn compare<T: PartialOrd + Default>(
    chunk: &[Span],
    chunk_counts: impl Iterator<Item = T>,
    histogram: &[Span],
    histogram_counts: impl Iterator<Item = T>,
) -> Option<Lacking> {
    let mut lacking = Lacking::default();
    let no_reset = walk(
        indices(chunk).zip(chunk_counts),
        indices(histogram).zip(histogram_counts),
        |_, side| match side {
            // A NaN compares as no reset, as in Prometheus.
            Side::Both(before, now) => !matches!(before.partial_cmp(&now), Some(Ordering::Greater)),
            Side::Left(before) => {
                lacking.histogram = true;
                before == T::default()
            }
            Side::Right => {
                lacking.chunk = true;
                true
            }
        },
    );
    no_reset.then_some(lacking)
}

/// Which side lacks buckets, whatever they count; and all buckets of both, in as few spans as they need.
pub(crate) fn union(chunk: &[Span], histogram: &[Span]) -> (Lacking, Vec<Span>) {
    let mut lacking = Lacking::default();
    let mut spans = SpanBuilder::default();
    let pairs = |spans| indices(spans).map(|index| (index, ()));
    walk(pairs(chunk), pairs(histogram), |index, side| {
        match side {
            Side::Both((), ()) => {}
            Side::Left(()) => lacking.histogram = true,
            Side::Right => lacking.chunk = true,
        }
        spans.push(index);
        true
    });
    (lacking, spans.finish())
}

/// The counts of buckets `from` as counts of buckets `to`, of which those that `from` lacks are empty.
pub(crate) fn respan<T: Default>(
    from: &[Span],
    counts: impl Iterator<Item = T>,
    to: &[Span],
) -> Vec<T> {
    let mut counts = indices(from).zip(counts).peekable();
    indices(to)
        .map(|index| {
            while counts.next_if(|(before, _)| *before < index).is_some() {}
            counts.next_if(|(same, _)| *same == index).map_or_else(T::default, |(_, count)| count)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(pairs: &[(i32, u32)]) -> Vec<Span> {
        pairs.iter().map(|&(offset, length)| Span { offset, length }).collect()
    }

    #[test]
    fn spans_name_indices() {
        let list = |pairs: &[(i32, u32)]| indices(&spans(pairs)).collect::<Vec<_>>();
        assert_eq!(list(&[(-2, 2), (1, 1), (0, 0), (3, 2)]), [-2, -1, 1, 5, 6]);
        assert_eq!(list(&[(3, 0), (2, 1)]), [5]);
        assert_eq!(list(&[]), [0_i64; 0]);
    }

    /// A bucket more behind a span, spans that join, one more in the last gap.
    #[test]
    fn what_either_side_lacks() {
        let chunk = spans(&[(0, 2), (2, 1), (3, 2), (3, 1), (1, 1)]);
        let before = [6, 3, 3, 2, 4, 5, 1];
        let next = spans(&[(0, 3), (1, 1), (1, 4), (3, 3)]);
        let now = [6, 3, 0, 3, 0, 0, 2, 4, 5, 0, 1];
        let compare = |chunk: &[Span], before: &[i64], next: &[Span], now: &[i64]| {
            compare(chunk, before.iter().copied(), next, now.iter().copied())
        };
        assert_eq!(
            compare(&chunk, &before, &next, &now),
            Some(Lacking { chunk: true, histogram: false })
        );
        assert_eq!(
            compare(&next, &now, &chunk, &before),
            Some(Lacking { chunk: false, histogram: true })
        );
        // One observation fewer, and a bucket with observations gone.
        assert_eq!(compare(&chunk, &before, &chunk, &[6, 3, 3, 2, 4, 4, 1]), None);
        assert_eq!(compare(&chunk, &before, &spans(&[(0, 2)]), &[6, 3]), None);
        assert_eq!(union(&chunk, &next), (Lacking { chunk: true, histogram: false }, next.clone()));
        assert_eq!(respan(&chunk, before.into_iter(), &next), now);
    }

    #[test]
    fn both_may_lack_buckets() {
        let (lacking, all) = union(&spans(&[(-1, 1), (3, 2)]), &spans(&[(0, 2), (3, 1)]));
        assert_eq!(lacking, Lacking { chunk: true, histogram: true });
        assert_eq!(all, spans(&[(-1, 3), (1, 3)]));
        assert_eq!(
            respan(&spans(&[(0, 2), (3, 1)]), [7, 8, 9].into_iter(), &all),
            [0, 7, 8, 0, 0, 9]
        );
    }
}
