//! Histograms of schemas that are finer than queries know, made coarser.

use model::{CUSTOM_BUCKETS_SCHEMA, EXPONENTIAL_SCHEMA_MAX, FloatHistogram, Histogram, Span};

use crate::buckets::{SpanBuilder, indices};
use crate::kind::NativeHistogram;

/// `histogram` in the finest schema that is in use, if its own is finer: a chunk by a later version of Prometheus.
pub(crate) fn coarsened(mut histogram: FloatHistogram) -> FloatHistogram {
    let Some(shift) = shift(histogram.schema) else { return histogram };
    let FloatHistogram {
        schema,
        positive_spans,
        negative_spans,
        positive_counts,
        negative_counts,
        ..
    } = &mut histogram;
    *schema = EXPONENTIAL_SCHEMA_MAX;
    for (spans, counts) in [(positive_spans, positive_counts), (negative_spans, negative_counts)] {
        (*spans, *counts) = coarsened_buckets(spans, counts.iter().copied(), shift, |a, b| a + b);
    }
    histogram
}

/// As [`coarsened`], of integer counts.
pub(crate) fn coarsened_integer(mut histogram: Histogram) -> Histogram {
    let Some(shift) = shift(histogram.schema) else { return histogram };
    let Histogram {
        schema, positive_spans, negative_spans, positive_deltas, negative_deltas, ..
    } = &mut histogram;
    *schema = EXPONENTIAL_SCHEMA_MAX;
    for (spans, deltas) in [(positive_spans, positive_deltas), (negative_spans, negative_deltas)] {
        let fine = Histogram::counts(deltas.iter().copied());
        let (joined, counts) = coarsened_buckets(spans, fine, shift, i64::wrapping_add);
        (*spans, *deltas) = (joined, Histogram::from_counts(counts));
    }
    histogram
}

/// By how many powers of two a schema is too fine.
fn shift(schema: i32) -> Option<u32> {
    let finer = schema != CUSTOM_BUCKETS_SCHEMA && schema > EXPONENTIAL_SCHEMA_MAX;
    finer.then(|| schema.abs_diff(EXPONENTIAL_SCHEMA_MAX))
}

/// Joins 2^`shift` buckets into one each. Bucket `i` ends at a power that `i` counts, so 1 to 2^`shift` become 1.
fn coarsened_buckets<T: Copy>(
    spans: &[Span],
    counts: impl Iterator<Item = T>,
    shift: u32,
    add: impl Fn(T, T) -> T,
) -> (Vec<Span>, Vec<T>) {
    let mut joined = SpanBuilder::default();
    let mut sums: Vec<T> = Vec::new();
    let mut last_index = None;
    for (index, count) in indices(spans).zip(counts) {
        let index = ((index - 1) >> shift) + 1;
        match sums.last_mut() {
            Some(sum) if last_index == Some(index) => *sum = add(*sum, count),
            _ => {
                joined.push(index);
                sums.push(count);
            }
        }
        last_index = Some(index);
    }
    (joined.finish(), sums)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the definition of bounds: bucket i of schema 9 ends at 2^(i/512), of schema 8 at 2^(i/256).
    #[test]
    fn two_buckets_of_schema_9_are_one_of_schema_8() {
        let spans = vec![Span { offset: -2, length: 5 }, Span { offset: 3, length: 1 }];
        let histogram = FloatHistogram {
            schema: 9,
            count: 63.0,
            positive_spans: spans.clone(),
            positive_counts: vec![1.0, 2.0, 4.0, 8.0, 16.0, 32.0],
            ..FloatHistogram::default()
        };
        // Indices -2, -1, 0, 1, 2, 6 end within -1, 0, 0, 1, 1, 3.
        let expected = vec![Span { offset: -1, length: 3 }, Span { offset: 1, length: 1 }];
        let coarse = coarsened(histogram);
        assert_eq!(coarse.schema, 8);
        assert_eq!(coarse.positive_spans, expected);
        assert_eq!(coarse.positive_counts, [1.0, 6.0, 24.0, 32.0]);
        let coarse = coarsened_integer(Histogram {
            schema: 9,
            positive_spans: spans,
            positive_deltas: vec![1, 1, 2, 4, 8, 16],
            ..Histogram::default()
        });
        assert_eq!(coarse.positive_spans, expected);
        assert_eq!(coarse.positive_deltas, [1, 5, 18, 8]);
    }
}
