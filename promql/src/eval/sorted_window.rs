//! The values of a moving window in order: what quantiles are read off.
//!
//! From one window to the next few samples leave and few enter, so the order is kept up instead of being made anew. Of equal values (zeros of
//! either sign are equal, and so are all that are not numbers) the older comes first, as a stable sort would have it.

use std::cmp::Ordering;
use std::ops::Range;

use super::quantile::nan_first;

/// With more samples than this that enter or leave, sorting is cheaper.
const CHANGES_MAX: usize = 16;

/// The values of rows of a column, in order.
#[derive(Debug)]
pub(super) struct SortedWindow<'c> {
    column: &'c [f64],
    rows: Range<usize>,
    sorted: Vec<f64>,
}

impl<'c> SortedWindow<'c> {
    /// No rows of `column`.
    pub(super) const fn new(column: &'c [f64]) -> Self {
        Self { column, rows: 0..0, sorted: Vec::new() }
    }

    /// The values of `rows`, of which neither end lies before that of the rows asked for last.
    pub(super) fn move_to(&mut self, rows: Range<usize>) -> &[f64] {
        let leaving = rows.start.min(self.rows.end) - self.rows.start;
        let entering = rows.end - self.rows.end.max(rows.start);
        if leaving + entering > CHANGES_MAX || rows.start >= self.rows.end {
            self.sorted.clear();
            self.sorted.extend_from_slice(&self.column[rows.clone()]);
            self.sorted.sort_by(nan_first);
        } else {
            for at in self.rows.start..rows.start {
                let value = self.column[at];
                let oldest = self.position(value, &[Ordering::Less]);
                self.sorted.remove(oldest);
            }
            for at in self.rows.end..rows.end {
                let value = self.column[at];
                let after_equals = self.position(value, &[Ordering::Less, Ordering::Equal]);
                self.sorted.insert(after_equals, value);
            }
        }
        self.rows = rows;
        &self.sorted
    }

    /// Number of values whose order relative to `value` is one of `orders`.
    #[inline]
    fn position(&self, value: f64, orders: &[Ordering]) -> usize {
        self.sorted.partition_point(|other| orders.contains(&nan_first(other, &value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bits, so that zeros of either sign differ; all NaN are one.
    fn bits(values: &[f64]) -> Vec<u64> {
        values.iter().map(|v| if v.is_nan() { u64::MAX } else { v.to_bits() }).collect()
    }

    #[test]
    fn moving_is_sorting_anew() {
        let mut state = 1_u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from((state >> 33) % below).unwrap()
        };
        let pool = [0.0, -0.0, 1.0, -1.5, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 2.0, 1e300];
        let column: Vec<f64> = (0..3_000).map(|_| pool[random(9)]).collect();
        let mut window = SortedWindow::new(&column);
        let (mut start, mut end) = (0, 1);
        while end < 2_900 {
            let mut expected = column[start..end].to_vec();
            expected.sort_by(nan_first);
            assert_eq!(bits(window.move_to(start..end)), bits(&expected), "{start}..{end}");
            let far = random(20) == 0;
            end += random(if far { 60 } else { 6 });
            start = (start + random(6)).min(end - 1);
            end = end.max(start + 1);
        }
    }
}
