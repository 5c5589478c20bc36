//! Histograms as text: what `count_values` makes a label of.

use std::fmt;

use super::{Bucket, FloatHistogram};
use crate::{FloatFormat, format_float};

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = if self.lower_inclusive { '[' } else { '(' };
        let close = if self.upper_inclusive { ']' } else { ')' };
        let [lower, upper, count] = [self.lower, self.upper, self.count].map(number);
        write!(f, "{open}{lower},{upper}{close}:{count}")
    }
}

impl fmt::Display for FloatHistogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{count:{}, sum:{}", number(self.count), number(self.sum))?;
        let mut negative: Vec<Bucket> = self.negative_buckets().collect();
        negative.reverse();
        let zero = [self.zero_bucket()];
        let all = negative.into_iter().chain(zero).chain(self.positive_buckets());
        for bucket in all.filter(|bucket| bucket.count != 0.0) {
            write!(f, ", {bucket}")?;
        }
        f.write_str("}")
    }
}

fn number(v: f64) -> String {
    format_float(v, FloatFormat::General)
}

#[cfg(test)]
mod tests {
    use super::super::Span;
    use super::*;

    #[test]
    fn populated_buckets_are_listed_in_order() {
        let histogram = FloatHistogram {
            schema: 0,
            zero_threshold: 0.001,
            zero_count: 2.0,
            count: 1e6,
            sum: -2.5,
            positive_spans: vec![Span { offset: 0, length: 3 }],
            positive_counts: vec![1.0, 0.0, 0.5],
            negative_spans: vec![Span { offset: 0, length: 2 }],
            negative_counts: vec![3.0, 4.0],
            ..FloatHistogram::default()
        };
        assert_eq!(
            histogram.to_string(),
            "{count:1e+06, sum:-2.5, [-2,-1):4, [-1,-0.5):3, [-0.001,0.001]:2, (0.5,1]:1, (2,4]:0.5}"
        );
    }
}
