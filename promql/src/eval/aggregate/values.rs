//! `count_values`: how many series have each value.

use foldhash::{HashMap, HashMapExt};
use model::{FloatFormat, Labels, LabelsBuilder, format_float};

use crate::eval::block::{Block, Series, Sink, entry_bytes, is_absent, is_present};
use crate::eval::evaluator::Evaluator;
use crate::eval::failure::QueryFailure;
use crate::eval::groups::group_labels;
use crate::eval::plan::{Aggregation, Parameter};
use crate::eval::row::Row;
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
    let mut held = evaluator.context.budget.charge(0)?;
    let mut absent = evaluator.empty_row(steps)?;
    let before = evaluator.samples.held();
    evaluator.stream(&aggregation.input, steps, &mut |series, row| {
        // Values repeat from step to step more often than not.
        let mut latest: Option<(u64, usize)> = None;
        for (step, &v) in row.values.iter().enumerate().filter(|(_, v)| is_present(**v)) {
            let histogram = row.histograms.get(step);
            let at = match latest {
                Some((bits, at)) if bits == v.to_bits() && histogram.is_none() => at,
                _ => {
                    let mut builder = LabelsBuilder::from_labels(&series.labels);
                    let plain = || format_float(v, FloatFormat::Plain);
                    builder.set(label, histogram.map_or_else(plain, ToString::to_string));
                    let labels = group_labels(&builder.build(), &aggregation.grouping);
                    let next = counts.len();
                    let at = *rows.entry(labels.clone()).or_insert(next);
                    if at == next {
                        held.grow(entry_bytes(&labels))?;
                        counts.push(Series::new(labels), Row::of(&mut absent))?;
                    }
                    at
                }
            };
            latest = histogram.is_none().then_some((v.to_bits(), at));
            let count = &mut counts.values_mut(at)[step];
            *count = if is_absent(*count) { 1.0 } else { *count + 1.0 };
        }
        Ok(())
    })?;
    evaluator.samples.release_to(before, 0);
    evaluator.samples.hold(counts.samples())?;
    counts.stream(sink)
}
