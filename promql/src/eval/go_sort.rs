//! Sorting as Go's standard library does.
//!
//! Where an order leaves elements equal, or is no order at all, the sequence that comes out is up to the algorithm. Go's is a
//! pattern-defeating quicksort without any true randomness, so that it can be foretold: short runs are sorted by insertion, pivots are
//! medians of three or of nine, and after an unbalanced partition three elements change places with ones drawn from a generator that
//! is seeded with the length.

use std::ops::Range;

/// Up to this many elements are sorted by insertion.
const INSERTION_MAX: usize = 12;
/// From this many elements on the pivot is the median of three medians, and elements are shifted where few are out of place.
const LONG: usize = 50;
/// Pairs out of order that are put right in what seems sorted.
const SHIFTS_MAX: usize = 5;
/// Swaps that finding a median of nine takes when all of them descend.
const SWAPS_MAX: usize = 12;

/// Sorts `items` by `less`, which need not be an order.
pub(super) fn sort_by<T>(items: &mut [T], less: impl Fn(&T, &T) -> bool) {
    let all = 0..items.len();
    let depth = bits(all.len());
    Sorter { items, less }.sort(all, depth);
}

/// The number of bits that it takes to write `n`.
const fn bits(n: usize) -> u32 {
    usize::BITS - n.leading_zeros()
}

/// What a sample of elements says of the whole.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pattern {
    Ascending,
    Descending,
    Unknown,
}

struct Sorter<'t, T, L> {
    items: &'t mut [T],
    less: L,
}

impl<T, L: Fn(&T, &T) -> bool> Sorter<'_, T, L> {
    fn less(&self, a: usize, b: usize) -> bool {
        (self.less)(&self.items[a], &self.items[b])
    }

    /// Sorts `range`. After `patience` partitions that were unbalanced the rest is left to a heap.
    fn sort(&mut self, mut range: Range<usize>, mut patience: u32) {
        let (mut balanced, mut partitioned) = (true, true);
        while range.len() > INSERTION_MAX {
            if patience == 0 {
                return self.sort_by_heap(range);
            }
            if !balanced {
                self.scatter(&range);
                patience -= 1;
            }
            let (mut pivot, mut pattern) = self.choose_pivot(&range);
            if pattern == Pattern::Descending {
                self.items[range.clone()].reverse();
                pivot = range.end - 1 - (pivot - range.start);
                pattern = Pattern::Ascending;
            }
            let seems_sorted = balanced && partitioned && pattern == Pattern::Ascending;
            if seems_sorted && self.finish(&range) {
                return;
            }
            // What lies before is not greater than anything here: if the pivot is as small, so may be many others.
            if range.start > 0 && !self.less(range.start - 1, pivot) {
                range.start = self.skip_equal(&range, pivot);
                continue;
            }
            let middle;
            (middle, partitioned) = self.partition(&range, pivot);
            let (left, right) = (range.start..middle, middle + 1..range.end);
            let (left_len, right_len) = (left.len(), range.end - middle);
            let enough = range.len() / 8;
            // The shorter part first; the longer one goes on here.
            if left_len < right_len {
                balanced = left_len >= enough;
                self.sort(left, patience);
                range = right;
            } else {
                balanced = right_len >= enough;
                self.sort(right, patience);
                range = left;
            }
        }
        self.sort_by_insertion(range);
    }

    fn sort_by_insertion(&mut self, range: Range<usize>) {
        for end in range.start + 1..range.end {
            self.shift_down(end, range.start);
        }
    }

    /// Moves an element down to `bottom` at most, past all that it is less than.
    fn shift_down(&mut self, mut at: usize, bottom: usize) {
        while at > bottom && self.less(at, at - 1) {
            self.items.swap(at, at - 1);
            at -= 1;
        }
    }

    fn sort_by_heap(&mut self, range: Range<usize>) {
        let (first, len) = (range.start, range.len());
        for root in (0..len.div_ceil(2)).rev() {
            self.sink(first, root, len);
        }
        for last in (0..len).rev() {
            self.items.swap(first, first + last);
            self.sink(first, 0, last);
        }
    }

    /// Lets an element of the heap of `len` elements at `first` sink below greater ones.
    fn sink(&mut self, first: usize, mut root: usize, len: usize) {
        loop {
            let mut child = 2 * root + 1;
            if child >= len {
                return;
            }
            if child + 1 < len && self.less(first + child, first + child + 1) {
                child += 1;
            }
            if !self.less(first + root, first + child) {
                return;
            }
            self.items.swap(first + root, first + child);
            root = child;
        }
    }

    /// Breaks up a pattern that makes for bad pivots.
    fn scatter(&mut self, range: &Range<usize>) {
        let len = range.len();
        let mask = (1 << bits(len)) - 1;
        let mut random = len as u64;
        let middle = range.start + len / 4 * 2;
        for at in middle - 1..=middle + 1 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            #[expect(clippy::cast_possible_truncation, reason = "only low bits are looked at")]
            let drawn = random as usize & mask;
            let other = if drawn >= len { drawn - len } else { drawn };
            self.items.swap(at, range.start + other);
        }
    }

    fn choose_pivot(&self, range: &Range<usize>) -> (usize, Pattern) {
        let quarter = range.len() / 4;
        let mut swaps = 0;
        let mut of = [1, 2, 3].map(|i| range.start + i * quarter);
        if range.len() >= LONG {
            of = of.map(|at| self.median([at - 1, at, at + 1], &mut swaps));
        }
        let pivot = self.median(of, &mut swaps);
        let pattern = match swaps {
            0 => Pattern::Ascending,
            SWAPS_MAX => Pattern::Descending,
            _ => Pattern::Unknown,
        };
        (pivot, pattern)
    }

    /// Which of three elements is the median.
    fn median(&self, [mut a, mut b, mut c]: [usize; 3], swaps: &mut usize) -> usize {
        let mut order = |low: &mut usize, high: &mut usize| {
            if self.less(*high, *low) {
                *swaps += 1;
                std::mem::swap(low, high);
            }
        };
        order(&mut a, &mut b);
        order(&mut b, &mut c);
        order(&mut a, &mut b);
        b
    }

    /// Sorts what is all but sorted; `false` if too much would have to be moved.
    fn finish(&mut self, range: &Range<usize>) -> bool {
        let mut at = range.start + 1;
        for _ in 0..SHIFTS_MAX {
            while at < range.end && !self.less(at, at - 1) {
                at += 1;
            }
            if at == range.end {
                return true;
            }
            if range.len() < LONG {
                return false;
            }
            self.items.swap(at, at - 1);
            if at - range.start >= 2 {
                // Past the start of the range if need be, though with an order there is none.
                self.shift_down(at - 1, 0);
            }
            let mut up = at + 1;
            while up < range.end && self.less(up, up - 1) {
                self.items.swap(up, up - 1);
                up += 1;
            }
        }
        false
    }

    /// Moves what is not greater than the pivot to the start; returns where the others begin.
    fn skip_equal(&mut self, range: &Range<usize>, pivot: usize) -> usize {
        let first = range.start;
        self.items.swap(first, pivot);
        let (mut low, mut end) = (first + 1, range.end);
        loop {
            while low < end && !self.less(first, low) {
                low += 1;
            }
            while low < end && self.less(first, end - 1) {
                end -= 1;
            }
            if low >= end {
                return low;
            }
            self.items.swap(low, end - 1);
            (low, end) = (low + 1, end - 1);
        }
    }

    /// Puts the pivot where it belongs, what is less before it and the rest behind; returns where that is, and whether all was so before.
    fn partition(&mut self, range: &Range<usize>, pivot: usize) -> (usize, bool) {
        let first = range.start;
        self.items.swap(first, pivot);
        let (mut low, mut end) = (first + 1, range.end);
        let mut untouched = true;
        loop {
            while low < end && self.less(low, first) {
                low += 1;
            }
            while low < end && !self.less(end - 1, first) {
                end -= 1;
            }
            if low >= end {
                self.items.swap(first, end - 1);
                return (end - 1, untouched);
            }
            untouched = false;
            self.items.swap(low, end - 1);
            (low, end) = (low + 1, end - 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `expected` is what Prometheus's `sort` (`sort_desc` if `descending`), which calls Go's, makes of series with these values.
    fn check(count: u32, value: fn(u32) -> f64, descending: bool, expected: &[u32]) {
        let mut order: Vec<u32> = (0..count).collect();
        sort_by(&mut order, |a, b| {
            let (a, b) = (value(*a), value(*b));
            b.is_nan() || if descending { b < a } else { b > a }
        });
        assert_eq!(order, expected);
    }

    fn partly_nan(i: u32) -> f64 {
        if i % 2 == 1 { f64::NAN } else { f64::from(i * 11 % 13) }
    }

    fn nearly_sorted(i: u32) -> f64 {
        if i.is_multiple_of(17) { 5.0 } else { f64::from(i / 2) }
    }

    #[test]
    fn ties_come_out_as_with_go() {
        check(14, |i| f64::from(i * 5 % 4), false, &[8, 12, 4, 0, 1, 13, 5, 9, 6, 10, 2, 7, 11, 3]);
        check(14, |i| f64::from(i * 5 % 4), true, &[3, 11, 7, 6, 2, 10, 5, 9, 1, 13, 4, 0, 8, 12]);
        check(
            40,
            |i| f64::from(i * 7 % 5),
            false,
            &[
                20, 10, 35, 30, 0, 5, 25, 15, 28, 3, 8, 38, 33, 13, 18, 23, 26, 11, 1, 36, 6, 21,
                16, 31, 34, 14, 24, 39, 19, 29, 9, 4, 7, 12, 22, 2, 32, 37, 17, 27,
            ],
        );
        check(
            40,
            |i| f64::from(i * 7 % 5),
            true,
            &[
                22, 37, 2, 27, 32, 17, 12, 7, 4, 9, 24, 19, 34, 39, 14, 29, 16, 26, 31, 11, 36, 21,
                1, 6, 8, 23, 13, 3, 28, 38, 33, 18, 20, 30, 25, 35, 0, 15, 10, 5,
            ],
        );
        check(
            60,
            |i| f64::from(i * i % 7),
            false,
            &[
                35, 49, 28, 56, 0, 21, 14, 7, 42, 22, 6, 43, 1, 8, 27, 15, 41, 36, 48, 34, 20, 50,
                13, 55, 29, 57, 31, 11, 25, 24, 59, 3, 32, 4, 53, 18, 17, 52, 38, 39, 10, 46, 45,
                51, 37, 12, 16, 47, 40, 9, 5, 44, 19, 26, 54, 33, 23, 2, 58, 30,
            ],
        );
        check(
            60,
            |i| f64::from(i * i % 7),
            true,
            &[
                19, 58, 2, 54, 51, 5, 47, 44, 40, 9, 37, 33, 12, 30, 26, 23, 16, 45, 10, 17, 59, 3,
                53, 52, 24, 25, 4, 18, 46, 39, 38, 31, 32, 11, 48, 6, 36, 34, 13, 29, 8, 41, 20,
                43, 1, 57, 55, 22, 27, 15, 50, 14, 49, 35, 21, 28, 56, 0, 7, 42,
            ],
        );
        check(
            70,
            |i| f64::from(70 - i / 3),
            false,
            &[
                69, 66, 68, 67, 64, 65, 63, 62, 61, 60, 57, 59, 58, 54, 55, 56, 53, 52, 51, 48, 50,
                49, 46, 47, 45, 44, 43, 42, 41, 40, 39, 36, 38, 37, 34, 35, 33, 30, 32, 31, 29, 28,
                27, 26, 25, 24, 21, 23, 22, 19, 20, 18, 17, 16, 15, 12, 14, 13, 10, 11, 9, 8, 7, 6,
                5, 4, 3, 0, 2, 1,
            ],
        );
        check(
            70,
            |i| f64::from(70 - i / 3),
            true,
            &[
                0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22,
                23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43,
                44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63, 64,
                65, 66, 67, 68, 69,
            ],
        );
        check(
            70,
            partly_nan,
            false,
            &[
                26, 0, 52, 58, 6, 32, 38, 64, 12, 18, 44, 50, 24, 30, 56, 4, 10, 36, 62, 16, 68,
                42, 22, 48, 2, 54, 28, 34, 8, 60, 14, 40, 66, 46, 20, 17, 7, 43, 25, 29, 23, 11,
                65, 67, 61, 51, 49, 45, 37, 53, 27, 47, 19, 57, 69, 59, 39, 21, 1, 63, 13, 33, 15,
                41, 35, 55, 31, 3, 5, 9,
            ],
        );
        check(
            80,
            nearly_sorted,
            false,
            &[
                1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 10, 11, 17, 34, 51, 68, 12, 13, 14, 15, 16, 18, 19,
                20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 35, 36, 37, 38, 39, 40, 41,
                42, 43, 44, 45, 46, 47, 48, 49, 50, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63,
                64, 65, 66, 67, 69, 70, 71, 72, 73, 74, 75, 76, 77, 78, 79,
            ],
        );
        check(
            70,
            partly_nan,
            true,
            &[
                20, 46, 40, 14, 66, 60, 8, 34, 28, 2, 54, 22, 48, 16, 68, 42, 36, 10, 62, 56, 30,
                4, 50, 24, 18, 44, 64, 38, 12, 6, 58, 32, 52, 0, 26, 17, 43, 55, 47, 41, 53, 5, 57,
                45, 59, 3, 65, 21, 29, 37, 9, 31, 13, 23, 11, 27, 7, 69, 35, 39, 63, 61, 15, 25,
                67, 49, 19, 1, 33, 51,
            ],
        );
        check(
            80,
            nearly_sorted,
            true,
            &[
                79, 78, 77, 76, 74, 75, 72, 73, 71, 70, 69, 67, 66, 65, 64, 62, 63, 61, 60, 59, 58,
                57, 56, 54, 55, 53, 52, 50, 49, 48, 47, 46, 45, 44, 42, 43, 41, 40, 38, 39, 37, 36,
                35, 33, 32, 31, 30, 29, 28, 26, 27, 24, 25, 22, 23, 21, 20, 19, 18, 16, 14, 15, 13,
                12, 17, 0, 34, 51, 68, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1,
            ],
        );
    }

    #[test]
    fn what_is_in_order_stays_so() {
        for count in [0, 1, 12, 13, 49, 50, 5000] {
            let sorted: Vec<u32> = (0..count).collect();
            for step in [1, 7, 4999] {
                let mut items: Vec<u32> = (0..count).map(|i| i * step % count.max(1)).collect();
                let mut expected = items.clone();
                expected.sort_unstable();
                sort_by(&mut items, |a, b| a < b);
                assert_eq!(items, expected);
            }
            let mut items = sorted.clone();
            items.reverse();
            sort_by(&mut items, |a, b| a < b);
            assert_eq!(items, sorted);
        }
    }
}
