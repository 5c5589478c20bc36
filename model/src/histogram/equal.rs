//! Equality of histograms as PromQL's `==` sees it.

use super::FloatHistogram;
use super::layout::same_spans;

impl FloatHistogram {
    /// Whether layout, counts and sum are the same to the last bit, whatever is known about counter resets. Empty buckets count.
    #[must_use]
    pub fn equals(&self, other: &Self) -> bool {
        self.schema == other.schema
            && same_bits(self.count, other.count)
            && same_bits(self.sum, other.sum)
            && (!self.uses_custom_buckets() || self.custom_bounds == other.custom_bounds)
            && self.zero_threshold == other.zero_threshold
            && same_bits(self.zero_count, other.zero_count)
            && same_spans(&self.negative_spans, &other.negative_spans)
            && all_same_bits(&self.negative_counts, &other.negative_counts)
            && same_spans(&self.positive_spans, &other.positive_spans)
            && all_same_bits(&self.positive_counts, &other.positive_counts)
    }
}

fn same_bits(a: f64, b: f64) -> bool {
    a.to_bits() == b.to_bits()
}

fn all_same_bits(a: &[f64], b: &[f64]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_bits(*a, *b))
}
