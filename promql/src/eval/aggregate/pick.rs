//! Aggregations that choose series: `topk`, `bottomk`, `limitk`, `limit_ratio`.
//!
//! Rows stream past; what is held is the choice of each group at each step. The choice is kept in a heap that
//! moves its elements as Go's `container/heap` does, because that decides which of several equal values stay
//! and in which order an instant query's answer has them.

use std::sync::Arc;

use foldhash::{HashMap, HashMapExt};
use model::{Charge, Labels};
use xxhash_rust::xxh64::xxh64;

use super::{SeriesGroups, extremes, parameter};
use crate::ast::AggregateOp;
use crate::eval::annotations::Annotation;
use crate::eval::block::{Block, Series, Sink, is_present};
use crate::eval::evaluator::Evaluator;
use crate::eval::failure::{ExecutionError, QueryFailure};
use crate::eval::go_sort;
use crate::eval::plan::Aggregation;
use crate::eval::row::{Histograms, Row};
use crate::eval::scalar::ScalarRow;
use crate::eval::steps::Steps;

/// Bounds within which a float is a 64-bit integer.
const INTEGER_MIN: f64 = -9_223_372_036_854_775_808.0;
const INTEGER_MAX: f64 = 9_223_372_036_854_775_808.0;

/// Hands on those samples of the input that are chosen.
///
/// # Errors
/// [`QueryFailure`]
pub(super) fn stream(
    evaluator: &Evaluator<'_>,
    aggregation: &Aggregation<'_>,
    steps: Steps,
    sink: &mut Sink<'_>,
) -> Result<(), QueryFailure> {
    let limit = parameter(evaluator, aggregation, steps)?;
    let before = evaluator.samples.held();
    let mut choice = Choice::new(evaluator, aggregation, steps)?;
    evaluator
        .stream(&aggregation.input, steps, &mut |series, row| choice.offer(series, row, &limit))?;
    evaluator.samples.release_to(before, 0);
    if !check_limit(evaluator, aggregation, &limit, steps)? {
        return Ok(());
    }
    let mut chosen = choice.into_block(evaluator, steps)?;
    for index in 0..chosen.len() {
        let series = chosen.series(index).clone();
        evaluator.hold_row(chosen.row(index))?;
        sink(series, chosen.take_row(index))?;
    }
    Ok(())
}

/// Whether anything can be chosen at all.
fn check_limit(
    evaluator: &Evaluator<'_>,
    aggregation: &Aggregation<'_>,
    limit: &ScalarRow,
    steps: Steps,
) -> Result<bool, QueryFailure> {
    let (min, max, nan) = extremes(limit, steps);
    if aggregation.op == AggregateOp::LimitRatio {
        if !nan && min == 0.0 && max == 0.0 {
            return Ok(false);
        }
        if nan {
            return Err(ExecutionError::RatioNan.into());
        }
        let remark = |ratio, to| {
            evaluator.annotate(&Annotation::InvalidRatio(ratio, to), aggregation.parameter_span);
        };
        if max > 1.0 {
            remark(max, 1.0);
        }
        if min < -1.0 {
            remark(min, -1.0);
        }
        return Ok(true);
    }
    if !nan && max < 1.0 {
        return Ok(false);
    }
    if nan {
        return Err(ExecutionError::ParameterNan.into());
    }
    if min <= INTEGER_MIN {
        return Err(ExecutionError::ParameterUnderflow(min).into());
    }
    if max >= INTEGER_MAX {
        return Err(ExecutionError::ParameterOverflow(max).into());
    }
    Ok(true)
}

/// A sample that may be chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Candidate {
    value: f64,
    /// Number of its series, in the order in which they came.
    series: usize,
}

/// What has been chosen so far.
struct Choice<'p> {
    evaluator: &'p Evaluator<'p>,
    aggregation: &'p Aggregation<'p>,
    groups: SeriesGroups,
    series: Vec<Series>,
    /// By group and step.
    heaps: Vec<Vec<Candidate>>,
    /// Of those series that have any and may be chosen for them.
    histograms: HashMap<usize, Histograms>,
    width: usize,
    charge: Charge,
}

impl<'p> Choice<'p> {
    fn new(
        evaluator: &'p Evaluator<'p>,
        aggregation: &'p Aggregation<'p>,
        steps: Steps,
    ) -> Result<Self, QueryFailure> {
        let charge = evaluator.context.budget.charge(0)?;
        Ok(Self {
            evaluator,
            aggregation,
            groups: SeriesGroups::default(),
            series: Vec::new(),
            heaps: Vec::new(),
            histograms: HashMap::new(),
            width: steps.count,
            charge,
        })
    }

    /// Considers the samples of a series.
    fn offer(
        &mut self,
        series: Series,
        mut row: Row<'_>,
        limit: &ScalarRow,
    ) -> Result<(), QueryFailure> {
        let group = self.groups.of(&series, &self.aggregation.grouping, &mut self.charge)?;
        let start = group * self.width;
        if start == self.heaps.len() {
            self.charge.grow(self.width * size_of::<Vec<Candidate>>())?;
            self.heaps.resize_with(start + self.width, Vec::new);
        }
        let op = self.aggregation.op;
        if matches!(op, AggregateOp::Topk | AggregateOp::Bottomk) && !row.histograms.is_empty() {
            let asked_for = row.histograms.iter().any(|(step, _)| count(limit.at(step)) > 0);
            if asked_for {
                let name = Annotation::IgnoredInAggregation(op.as_str());
                self.evaluator.annotate(&name, self.aggregation.span);
            }
            row.remove_histograms();
        }
        // Prometheus's heap sees a zero where there is a histogram.
        for (step, _) in row.histograms.iter() {
            row.values[step] = 0.0;
        }
        let offset = if op == AggregateOp::LimitRatio { hash_ratio(&series.labels) } else { 0.0 };
        let mut added = 0;
        let heaps = &mut self.heaps[start..][..self.width];
        for (step, (heap, &value)) in heaps.iter_mut().zip(&*row.values).enumerate() {
            if !is_present(value) {
                continue;
            }
            let candidate = Candidate { value, series: self.series.len() };
            let before = heap.len();
            match op {
                AggregateOp::LimitRatio => {
                    if is_sampled(offset, limit.at(step).clamp(-1.0, 1.0)) {
                        push(heap, candidate, is_less);
                    }
                }
                AggregateOp::Limitk => {
                    if before < count(limit.at(step)) {
                        push(heap, candidate, is_less);
                    }
                }
                AggregateOp::Bottomk => keep_best(heap, candidate, count(limit.at(step)), is_more),
                _ => keep_best(heap, candidate, count(limit.at(step)), is_less),
            }
            added += heap.len() - before;
        }
        let mut series_bytes = size_of::<Series>() + series.labels.packed_bytes();
        if added > 0 && !row.histograms.is_empty() {
            series_bytes += row.histograms.bytes();
            self.histograms.insert(self.series.len(), row.histograms);
        }
        self.charge.grow(added * size_of::<Candidate>() + series_bytes)?;
        self.series.push(series);
        Ok(())
    }

    /// The chosen samples as rows, in the order of being chosen: by step, then group, then rank.
    fn into_block(
        mut self,
        evaluator: &Evaluator<'_>,
        steps: Steps,
    ) -> Result<Block, QueryFailure> {
        let mut chosen = Block::new(steps.count, evaluator.context)?;
        let mut absent = evaluator.empty_row(steps)?;
        let mut rows: Vec<Option<usize>> = vec![None; self.series.len()];
        for step in 0..self.width {
            evaluator.context.check()?;
            for group in 0..self.groups.len() {
                let heap = &mut self.heaps[group * self.width + step];
                match self.aggregation.op {
                    AggregateOp::Topk => sort_best_first(heap, is_less),
                    AggregateOp::Bottomk => sort_best_first(heap, is_more),
                    _ => {}
                }
                for candidate in &*heap {
                    let row = match rows[candidate.series] {
                        Some(row) => row,
                        None => {
                            let series = self.series[candidate.series].clone();
                            chosen.push(series, Row::of(&mut absent))?;
                            *rows[candidate.series].insert(chosen.len() - 1)
                        }
                    };
                    chosen.values_mut(row)[step] = candidate.value;
                    if let Some(all) = self.histograms.get(&candidate.series)
                        && let Some(histogram) = all.get(step)
                    {
                        chosen.set_histogram(row, step, Arc::clone(histogram));
                    }
                }
            }
        }
        Ok(chosen)
    }
}

/// How many samples a limit allows; the limits were or will be checked to be integers.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "negative limits allow none, huge ones allow all"
)]
fn count(limit: f64) -> usize {
    limit.max(0.0) as usize
}

/// The order of `topk`'s heap: NaN is below everything, even itself.
fn is_less(a: f64, b: f64) -> bool {
    a.is_nan() || a < b
}

/// The order of `bottomk`'s heap: NaN is below everything, even itself.
fn is_more(a: f64, b: f64) -> bool {
    a.is_nan() || a > b
}

type Order = fn(f64, f64) -> bool;

/// Keeps `candidate` if it is among the best `count`; the worst is at the root.
fn keep_best(heap: &mut Vec<Candidate>, candidate: Candidate, count: usize, less: Order) {
    if heap.len() < count {
        return push(heap, candidate, less);
    }
    // Nothing is less than itself but NaN, and NaN does not displace NaN.
    if let Some(worst) = heap.first_mut()
        && !candidate.value.is_nan()
        && less(worst.value, candidate.value)
    {
        *worst = candidate;
        sink_root(heap, less);
    }
}

fn push(heap: &mut Vec<Candidate>, candidate: Candidate, less: Order) {
    heap.push(candidate);
    let mut at = heap.len() - 1;
    while at > 0 {
        let parent = (at - 1) / 2;
        if !less(heap[at].value, heap[parent].value) {
            break;
        }
        heap.swap(parent, at);
        at = parent;
    }
}

fn sink_root(heap: &mut [Candidate], less: Order) {
    let mut at = 0;
    loop {
        let (left, right) = (2 * at + 1, 2 * at + 2);
        if left >= heap.len() {
            return;
        }
        let right_is_less = right < heap.len() && less(heap[right].value, heap[left].value);
        let child = if right_is_less { right } else { left };
        if !less(heap[child].value, heap[at].value) {
            return;
        }
        heap.swap(at, child);
        at = child;
    }
}

/// Sorts the worst to the end. The order of equal values and of NaN, which is below itself, is what Go makes of it.
fn sort_best_first(heap: &mut [Candidate], less: Order) {
    go_sort::sort_by(heap, |a, b| less(b.value, a.value));
}

/// Where the hash of a series lies between 0 and 1.
#[expect(clippy::cast_precision_loss, reason = "Prometheus divides as floats too")]
fn hash_ratio(labels: &Labels) -> f64 {
    hash(labels) as f64 / u64::MAX as f64
}

/// Whether a series whose hash lies at `offset` is in the sample of `ratio`; of a negative one, in what the
/// positive one leaves out.
fn is_sampled(offset: f64, ratio: f64) -> bool {
    if ratio == 0.0 {
        // Both signs of zero ask for nothing.
        false
    } else if ratio > 0.0 {
        offset < ratio
    } else {
        offset >= 1.0 + ratio
    }
}

/// Prometheus's hash of labels: XXH64 over names and values, each after its length in one byte, or in 0xff and three bytes
/// from 255 on.
fn hash(labels: &Labels) -> u64 {
    let mut bytes = Vec::with_capacity(labels.packed_bytes());
    let mut push = |text: &str| {
        match u8::try_from(text.len()) {
            Ok(len) if len < u8::MAX => bytes.push(len),
            _ => {
                bytes.push(u8::MAX);
                bytes.extend_from_slice(&text.len().to_le_bytes()[..3]);
            }
        }
        bytes.extend_from_slice(text.as_bytes());
    };
    for label in labels {
        push(label.name);
        push(label.value);
    }
    xxh64(&bytes, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The series that are chosen of those with `values`, in order.
    fn best(values: &[f64], count: usize, less: Order) -> Vec<usize> {
        let mut heap = Vec::new();
        for (series, &value) in values.iter().enumerate() {
            keep_best(&mut heap, Candidate { value, series }, count, less);
        }
        sort_best_first(&mut heap, less);
        heap.iter().map(|candidate| candidate.series).collect()
    }

    const NAN: f64 = f64::NAN;

    #[test]
    fn the_best_come_first_and_nan_last() {
        let values = [3.0, NAN, 5.0, 4.0, 1.0];
        assert_eq!(best(&values, 2, is_less), [2, 3]);
        assert_eq!(best(&values, 9, is_less), [2, 3, 0, 4, 1]);
        assert_eq!(best(&values, 2, is_more), [4, 0]);
        assert!(best(&values, 0, is_less).is_empty());
        assert_eq!(best(&[NAN, 1.0], 1, is_less), [1]);
        assert_eq!(best(&[NAN, NAN], 1, is_less), [0]);
    }

    #[test]
    fn of_equal_values_the_root_of_the_heap_goes() {
        // 6 takes the place of the root, which is the first 5, and sinks below the second.
        assert_eq!(best(&[5.0, 5.0, 6.0], 2, is_less), [2, 1]);
        assert_eq!(best(&[5.0, 5.0, 5.0], 2, is_less), [0, 1]);
        assert_eq!(best(&[NAN, NAN], 2, is_less), [0, 1]);
    }

    #[test]
    fn many_are_sorted_too() {
        let values: Vec<f64> = (0..40).map(|i| f64::from(i * 7 % 40)).collect();
        let chosen: Vec<f64> = best(&values, 20, is_less).iter().map(|i| values[*i]).collect();
        let expected: Vec<f64> = (20..40).rev().map(f64::from).collect();
        assert_eq!(chosen, expected);
    }

    #[test]
    fn ties_among_many_are_as_in_prometheus() {
        let squares: Vec<f64> = (0..60).map(|i| f64::from(i * i % 7)).collect();
        assert_eq!(
            best(&squares, 200, is_less),
            [
                30, 58, 2, 54, 26, 12, 51, 5, 23, 47, 44, 9, 40, 19, 37, 16, 33, 45, 3, 39, 59, 11,
                46, 24, 10, 52, 53, 4, 18, 25, 38, 31, 32, 17, 27, 50, 36, 13, 8, 41, 29, 48, 6,
                55, 20, 57, 22, 34, 1, 15, 43, 42, 49, 21, 35, 14, 28, 0, 7, 56
            ]
        );
        let thirds: Vec<f64> =
            (0..20).map(|i| if i % 3 == 0 { NAN } else { f64::from(i % 4) }).collect();
        assert_eq!(
            best(&thirds, 200, is_more),
            [4, 8, 16, 5, 17, 1, 13, 10, 2, 14, 19, 7, 11, 15, 9, 12, 0, 3, 18, 6]
        );
    }

    #[test]
    fn a_ratio_and_its_complement_cover_all() {
        for i in 0..100 {
            let labels = Labels::from_pairs([("i", i.to_string())]).unwrap();
            let offset = hash_ratio(&labels);
            assert_ne!(is_sampled(offset, 0.3), is_sampled(offset, -0.7), "{labels}");
            assert!(is_sampled(offset, 1.0));
            assert!(!is_sampled(offset, 0.0));
        }
    }
}
