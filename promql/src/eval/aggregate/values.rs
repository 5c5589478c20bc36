//! `count_values`: how many series have each value.

use std::collections::HashMap;

use model::{FloatFormat, Labels, LabelsBuilder, format_float};

use super::group_labels;
use crate::eval::block::{Block, Series, Sink, is_absent, is_present};
use crate::eval::evaluator::Evaluator;
use crate::eval::failure::QueryFailure;
use crate::eval::plan::{Aggregation, Parameter};
use crate::eval::steps::Steps;

/// Counts the values of each group at each step.
///
/// # Errors
/// [`QueryFailure`]
pub(super) fn stream(
    evaluator: &Evaluator<'_>,
    aggregation: &Aggregation<'_>,
    steps: Steps,
    sink: &mut Sink<'_>,
) -> Result<(), QueryFailure> {
    let Parameter::Label(label) = &aggregation.parameter else { return Ok(()) };
    let mut counts = Block::new(steps.count, evaluator.context)?;
    let mut rows: HashMap<Labels, usize> = HashMap::new();
    let absent = evaluator.empty_row(steps)?;
    let before = evaluator.samples.held();
    evaluator.stream(&aggregation.input, steps, &mut |series, row| {
        // Values repeat from step to step more often than not.
        let mut latest: Option<(u64, usize)> = None;
        for (step, &v) in row.iter().enumerate().filter(|(_, v)| is_present(**v)) {
            let at = match latest {
                Some((bits, at)) if bits == v.to_bits() => at,
                _ => {
                    let mut builder = LabelsBuilder::from_labels(&series.labels);
                    builder.set(label, format_float(v, FloatFormat::Plain));
                    let labels = group_labels(&builder.build(), &aggregation.grouping);
                    let next = counts.len();
                    let at = *rows.entry(labels.clone()).or_insert(next);
                    if at == next {
                        counts.push(Series::new(labels), &absent)?;
                    }
                    at
                }
            };
            latest = Some((v.to_bits(), at));
            let count = &mut counts.row_mut(at)[step];
            *count = if is_absent(*count) { 1.0 } else { *count + 1.0 };
        }
        Ok(())
    })?;
    evaluator.samples.release_to(before, 0);
    evaluator.samples.hold(counts.samples())?;
    counts.stream(sink)
}
