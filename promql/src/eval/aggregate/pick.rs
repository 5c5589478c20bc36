//! Aggregations that choose series: `topk`, `bottomk`, `limitk`, `limit_ratio`.

use model::Labels;
use xxhash_rust::xxh64::xxh64;

use super::{Groups, extremes, parameter};
use crate::ast::AggregateOp;
use crate::eval::annotations::Annotation;
use crate::eval::block::{ABSENT, Block, Sink, is_present};
use crate::eval::evaluator::Evaluator;
use crate::eval::failure::{ExecutionError, QueryFailure};
use crate::eval::plan::Aggregation;
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
    let block = evaluator.collect(&aggregation.input, steps)?;
    if !check_limit(evaluator, aggregation, &limit, steps)? {
        evaluator.samples.release_to(before, 0);
        return Ok(());
    }
    let mut groups = Groups::default();
    let group_of: Vec<usize> =
        block.rows().map(|(series, _)| groups.of(series, &aggregation.grouping)).collect();
    let mut members = vec![Vec::new(); groups.series.len()];
    for (row, group) in group_of.iter().enumerate() {
        members[*group].push(row);
    }
    let mut chosen = Chosen { kept: vec![false; block.len() * steps.count], order: Vec::new() };
    for step in 0..steps.count {
        evaluator.context.check()?;
        for rows in &members {
            choose(aggregation.op, limit.at(step), &block, rows, step, &mut chosen);
        }
    }
    evaluator.samples.release_to(before, 0);
    hand_on(evaluator, block, &chosen, steps, sink)
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

/// The samples that were chosen.
struct Chosen {
    /// By row and step.
    kept: Vec<bool>,
    /// Rows in the order of being chosen, which is that of an instant query's answer.
    order: Vec<usize>,
}

/// Chooses among the samples of one group at one step.
fn choose(
    op: AggregateOp,
    limit: f64,
    block: &Block,
    rows: &[usize],
    step: usize,
    chosen: &mut Chosen,
) {
    let mut candidates: Vec<usize> =
        rows.iter().copied().filter(|row| is_present(block.row(*row)[step])).collect();
    let value = |row: usize| block.row(row)[step];
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "not NaN, and a float above the number of rows stands for all"
    )]
    let count = limit.max(0.0) as usize;
    match op {
        AggregateOp::LimitRatio => {
            let ratio = limit.clamp(-1.0, 1.0);
            candidates.retain(|row| is_sampled(&block.series(*row).labels, ratio));
        }
        AggregateOp::Limitk => candidates.truncate(count),
        AggregateOp::Bottomk => {
            candidates =
                best(&candidates, count, |a, b| value(a) < value(b), |a| value(a).is_nan());
        }
        _ => {
            candidates =
                best(&candidates, count, |a, b| value(a) > value(b), |a| value(a).is_nan());
        }
    }
    let width = block.width();
    for row in candidates {
        chosen.kept[row * width + step] = true;
        chosen.order.push(row);
    }
}

/// The `count` best of `rows`, best first. NaN is worse than any number; of equals the earlier ones stay.
fn best(
    rows: &[usize],
    count: usize,
    is_better: impl Fn(usize, usize) -> bool,
    is_nan: impl Fn(usize) -> bool,
) -> Vec<usize> {
    let mut sorted = rows.to_vec();
    sorted.sort_by(|&a, &b| match (is_nan(a), is_nan(b)) {
        (false, true) => std::cmp::Ordering::Less,
        (true, false) => std::cmp::Ordering::Greater,
        _ if is_better(a, b) => std::cmp::Ordering::Less,
        _ if is_better(b, a) => std::cmp::Ordering::Greater,
        _ => std::cmp::Ordering::Equal,
    });
    sorted.truncate(count);
    sorted
}

/// Whether a series is in the sample of `ratio`; of a negative one, in what the positive one leaves out.
fn is_sampled(labels: &Labels, ratio: f64) -> bool {
    #[expect(clippy::cast_precision_loss, reason = "Prometheus divides as floats too")]
    let offset = hash(labels) as f64 / u64::MAX as f64;
    if ratio >= 0.0 { offset < ratio } else { offset >= 1.0 + ratio }
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

fn hand_on(
    evaluator: &Evaluator<'_>,
    mut block: Block,
    chosen: &Chosen,
    steps: Steps,
    sink: &mut Sink<'_>,
) -> Result<(), QueryFailure> {
    let mut done = vec![false; block.len()];
    for &row in &chosen.order {
        if std::mem::replace(&mut done[row], true) {
            continue;
        }
        let kept = &chosen.kept[row * steps.count..][..steps.count];
        let series = block.series(row).clone();
        let values = block.row_mut(row);
        for (value, kept) in values.iter_mut().zip(kept) {
            if !kept {
                *value = ABSENT;
            }
        }
        evaluator.hold_row(values)?;
        sink(series, values)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_come_first_and_nan_last() {
        let values = [3.0, f64::NAN, 5.0, 5.0, 1.0];
        let rows: Vec<usize> = (0..values.len()).collect();
        let nan = |row: usize| values[row].is_nan();
        let top = |count| best(&rows, count, |a, b| values[a] > values[b], nan);
        assert_eq!(top(3), [2, 3, 0]);
        assert_eq!(top(9), [2, 3, 0, 4, 1]);
        assert_eq!(best(&rows, 2, |a, b| values[a] < values[b], nan), [4, 0]);
    }

    #[test]
    fn a_ratio_and_its_complement_cover_all() {
        for i in 0..100 {
            let labels = Labels::from_pairs([("i", i.to_string())]).unwrap();
            assert_ne!(is_sampled(&labels, 0.3), is_sampled(&labels, -0.7), "{labels}");
            assert!(is_sampled(&labels, 1.0));
        }
    }
}
