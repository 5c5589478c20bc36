//! `absent` and `absent_over_time`: one series where there is none.

use model::{Columns, Labels};

use super::block::{ABSENT, Series, Sink, count_present, is_present};
use super::buffer::Buffer;
use super::evaluator::Evaluator;
use super::failure::QueryFailure;
use super::peak::Windows;
use super::plan::{Source, VectorPlan};
use super::row::Row;
use super::samples::{Tally, each_window, samples_of_last};
use super::steps::Steps;
use super::subquery::stream_source;
use super::window::{Frame, WindowSizes};

/// Hands a 1 to `sink` for each step at which `input` has no sample.
///
/// # Errors
/// [`QueryFailure`]
pub(super) fn stream(
    evaluator: &Evaluator<'_>,
    input: &VectorPlan<'_>,
    labels: &Labels,
    steps: Steps,
    sink: &mut Sink<'_>,
) -> Result<(), QueryFailure> {
    let mut row = evaluator.empty_row(steps)?;
    row.fill(1.0);
    let before = evaluator.samples.held();
    evaluator.stream(input, steps, &mut |_, present| {
        take_away(&mut row, present.values);
        Ok(())
    })?;
    evaluator.samples.release_to(before, 0);
    hand_on(evaluator, labels, row, sink)
}

/// Hands a 1 to `sink` for each step at which no window of `source` has a sample.
///
/// # Errors
/// [`QueryFailure`]
pub(super) fn stream_over_time(
    evaluator: &Evaluator<'_>,
    source: &Source<'_>,
    labels: &Labels,
    steps: Steps,
    sink: &mut Sink<'_>,
) -> Result<(), QueryFailure> {
    let frame =
        Frame { steps, look: source.look(), range: source.range(), context: evaluator.context };
    let mut row = evaluator.empty_row(steps)?;
    row.fill(1.0);
    let mut present = evaluator.empty_row(steps)?;
    let before = evaluator.samples.held();
    let mut windows = Windows::default();
    stream_source(evaluator, source, steps, &mut |_, columns| {
        let sizes = frame.fill(columns.times(), &mut present, |_| 1.0);
        // What was told to stop has not looked at all windows.
        evaluator.check_after(usize::try_from(sizes.total).unwrap_or(usize::MAX))?;
        let sizes = weighted(sizes, frame, columns);
        let by_step = evaluator.samples.counts_per_step();
        let tally = Tally::of_windows(frame, columns, sizes.total, source.is_stored(), by_step)?;
        evaluator.samples.count(&tally);
        if evaluator.peaks.is_some() {
            let last = samples_of_last(frame, columns);
            windows.add(sizes.largest, last, count_present(&present) as u64);
        }
        take_away(&mut row, &present);
        Ok(())
    })?;
    evaluator.samples.release_to(before, 0);
    if let Some(peaks) = &evaluator.peaks {
        peaks.push(windows.cost(evaluator.context));
    }
    hand_on(evaluator, labels, row, sink)
}

/// Sizes of windows where histograms count for several samples.
fn weighted(sizes: WindowSizes, frame: Frame<'_>, columns: &Columns) -> WindowSizes {
    if columns.histograms().is_empty() {
        return sizes;
    }
    let mut weighted = WindowSizes::default();
    each_window(frame, columns, |_, samples| {
        weighted.total += samples;
        weighted.largest = weighted.largest.max(samples);
    });
    weighted
}

fn take_away(row: &mut [f64], present: &[f64]) {
    for (value, present) in row.iter_mut().zip(present) {
        if is_present(*present) {
            *value = ABSENT;
        }
    }
}

fn hand_on(
    evaluator: &Evaluator<'_>,
    labels: &Labels,
    mut row: Buffer,
    sink: &mut Sink<'_>,
) -> Result<(), QueryFailure> {
    let row = Row::of(&mut row);
    if evaluator.hold_row(row.view())? == 0 {
        return Ok(());
    }
    sink(Series::new(labels.clone()), row)
}
