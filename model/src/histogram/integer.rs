//! Integer histograms in fewer or coarser buckets.

use super::layout::{coarser_index, spans_of};
use super::{Histogram, Span};

/// The buckets of one side: indices and counts.
fn absolute(spans: &[Span], deltas: &[i64]) -> Vec<(i32, i64)> {
    let mut count = 0_i64;
    super::buckets::indexed(spans, deltas)
        .map(|(index, delta)| {
            count = count.wrapping_add(delta);
            (index, count)
        })
        .collect()
}

fn apart(buckets: &[(i32, i64)]) -> (Vec<Span>, Vec<i64>) {
    let mut previous = 0_i64;
    let deltas = buckets.iter().map(|&(_, count)| {
        let delta = count.wrapping_sub(previous);
        previous = count;
        delta
    });
    (spans_of(buckets.iter().map(|(index, _)| *index)), deltas.collect())
}

impl Histogram {
    /// Whether the bounds are listed.
    #[must_use]
    pub const fn uses_custom_buckets(&self) -> bool {
        self.schema == super::CUSTOM_BUCKETS_SCHEMA
    }

    /// Leaves out empty buckets but for those in gaps of at most `max_empty` between populated ones.
    pub fn compact(&mut self, max_empty: usize) {
        self.each_side(|buckets| {
            let mut kept: Vec<(i32, i64)> = Vec::with_capacity(buckets.len());
            for bucket in buckets.into_iter().filter(|(_, count)| *count != 0) {
                if let Some((last, _)) = kept.last().copied() {
                    let gap = i64::from(bucket.0) - i64::from(last) - 1;
                    if usize::try_from(gap).is_ok_and(|gap| gap <= max_empty) {
                        kept.extend((last + 1..bucket.0).map(|index| (index, 0)));
                    }
                }
                kept.push(bucket);
            }
            kept
        });
    }

    /// Merges buckets into those of exponential schema `schema`. Without effect if it is not coarser, or if the buckets are custom ones.
    pub fn reduce_resolution(&mut self, schema: i32) {
        let from = self.schema;
        if self.uses_custom_buckets() || schema >= from {
            return;
        }
        self.each_side(|buckets| {
            let mut coarse: Vec<(i32, i64)> = Vec::new();
            for (index, count) in buckets {
                let index = coarser_index(index, from, schema);
                match coarse.last_mut() {
                    Some(last) if last.0 == index => last.1 = last.1.wrapping_add(count),
                    _ => coarse.push((index, count)),
                }
            }
            coarse
        });
        self.schema = schema;
    }

    fn each_side(&mut self, change: impl Fn(Vec<(i32, i64)>) -> Vec<(i32, i64)>) {
        let sides = [
            (&mut self.positive_spans, &mut self.positive_deltas),
            (&mut self.negative_spans, &mut self.negative_deltas),
        ];
        for (spans, deltas) in sides {
            (*spans, *deltas) = apart(&change(absolute(spans, deltas)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram() -> Histogram {
        Histogram {
            schema: 1,
            positive_spans: vec![Span { offset: 0, length: 5 }],
            // 1, 2, 0, 4, 0
            positive_deltas: vec![1, 1, -2, 4, -4],
            ..Histogram::default()
        }
    }

    #[test]
    fn empty_buckets_are_left_out() {
        let mut compact = histogram();
        compact.compact(0);
        let spans = [Span { offset: 0, length: 2 }, Span { offset: 1, length: 1 }];
        assert_eq!(
            (&*compact.positive_spans, &*compact.positive_deltas),
            (&spans[..], &[1, 1, 2][..])
        );
        let mut kept = histogram();
        kept.compact(1);
        let spans = [Span { offset: 0, length: 4 }];
        assert_eq!(
            (&*kept.positive_spans, &*kept.positive_deltas),
            (&spans[..], &[1, 1, -2, 4][..])
        );
    }

    #[test]
    fn coarser_buckets_add_up() {
        let mut coarse = histogram();
        coarse.reduce_resolution(0);
        // Bucket 0 becomes 0; 1 and 2 become 1; 3 and 4 become 2.
        assert_eq!(coarse.schema, 0);
        assert_eq!(coarse.positive_spans, [Span { offset: 0, length: 3 }]);
        assert_eq!(coarse.to_float().positive_counts, [1.0, 2.0, 4.0]);
        let same = coarse.clone();
        coarse.reduce_resolution(3);
        assert_eq!(coarse, same);
    }
}
