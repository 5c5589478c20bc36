//! Functions of the samples in a window, for series that have native histograms or start timestamps, and for windows that are looked beyond.
//!
//! A window may hold floats, histograms, or both; what both together mean depends on the function: nothing (a warning), the floats alone (a
//! remark), or both.

use std::sync::Arc;

use model::{Columns, FloatHistogram};

use super::annotations::{Annotation, Operation};
use super::block::Series;
use super::evaluator::Worker;
use super::extended::{self, extended_frame};
use super::failure::QueryFailure;
use super::histogram_mean::HistogramMean;
use super::layout::Layouts;
use super::plan::{Window, WindowFunction};
use super::rate::Sampled;
use super::row::{Histograms, OwnedCell, put, weight};
use super::start_times::Counted;
use super::window::{self, Extent, Frame, Parameters, WindowSizes};
use super::{histogram_rate, rate, seconds};

/// The samples of a window.
pub(super) struct Samples<'c> {
    /// All samples of the series.
    pub(super) columns: &'c Columns,
    /// Which of them are in the window, and where it ends.
    pub(super) extent: Extent,
    /// The histograms in the window, with their rows.
    pub(super) histograms: &'c [(u32, Arc<FloatHistogram>)],
}

impl<'c> Samples<'c> {
    /// The samples of `columns` in a window.
    pub(super) fn new(columns: &'c Columns, extent: Extent) -> Self {
        let all = columns.histograms();
        let before = |row: usize| all.partition_point(|(at, _)| (*at as usize) < row);
        let histograms = &all[before(extent.rows.start)..before(extent.rows.end)];
        Self { columns, extent, histograms }
    }

    /// Number of floats.
    pub(super) fn floats(&self) -> usize {
        self.extent.rows.len() - self.histograms.len()
    }

    /// Time and start timestamp of the sample in row `row`.
    pub(super) fn counted(&self, row: usize) -> Counted {
        Counted { since: self.columns.start(row), t: self.columns.times()[row] }
    }

    /// The sample in row `row`.
    pub(super) fn cell(&self, row: usize) -> OwnedCell {
        match self.columns.histogram(row) {
            Some(histogram) => OwnedCell::Histogram(Arc::clone(histogram)),
            None => OwnedCell::Float(self.columns.floats()[row]),
        }
    }
}

/// Computes a window function of a series with histograms: floats into `out`, histograms into the result.
///
/// # Errors
/// [`QueryFailure`]
pub(super) fn apply(
    worker: &Worker<'_>,
    window: &Window<'_>,
    series: &Series,
    columns: &Columns,
    frame: Frame<'_>,
    parameters: &Parameters,
    out: &mut [f64],
) -> Result<(WindowSizes, Histograms), QueryFailure> {
    let metric = series.labels.metric_name();
    let starts = uses_starts(worker, window.function, columns);
    let context = Context { worker, window, metric, frame, starts };
    let extension = window.source.extension();
    let reached = match extension {
        Some(extension) => extended_frame(frame, extension, worker.lookback),
        None => frame,
    };
    let mut sizes = WindowSizes::default();
    let mut add_sizes = |samples: &Samples<'_>| {
        let extra: u64 = samples.histograms.iter().map(|(_, h)| weight(h) - 1).sum();
        let size = samples.extent.rows.len() as u64 + extra;
        sizes.total += size;
        sizes.largest = sizes.largest.max(size);
    };
    let mut histograms = Histograms::default();
    if is_of_floats(window.function) {
        let floats = floats_of(columns);
        let layouts = &mut Layouts::default();
        window::apply(worker, window.function, &floats, frame, layouts, parameters, out)?;
        frame.walk(columns.times(), |extent| {
            let samples = Samples::new(columns, extent);
            add_sizes(&samples);
            if samples.floats() > 0 && !samples.histograms.is_empty() {
                // As in Prometheus this is about the first argument, which of one function is not the range.
                let span = match window.function {
                    WindowFunction::Quantile => parameters.span(0),
                    _ => window.source.span(),
                };
                worker.annotate(&Annotation::IgnoredInRange(metric), span);
            }
        });
        return Ok((sizes, histograms));
    }
    out.fill(super::block::ABSENT);
    // Windows of histograms are so much work that a query must be able to end between two of them.
    let mut stopped = Ok(());
    reached.walk(columns.times(), |extent| {
        if stopped.is_ok() {
            stopped = worker.context.check();
        }
        if stopped.is_err() {
            return;
        }
        let step = extent.step;
        let samples = Samples::new(columns, extent);
        add_sizes(&samples);
        let cell = match (extension, window.function) {
            (Some(_), WindowFunction::Resets | WindowFunction::Changes) => {
                let rows = extended::anchored_rows(&context, &samples);
                rows.and_then(|rows| context.evaluate(&Samples::new(columns, rows)))
            }
            (Some(extension), function) => {
                extended::evaluate(&context, &samples, function, extension)
            }
            (None, _) => context.evaluate(&samples),
        };
        put(out, &mut histograms, step, cell);
    });
    stopped?;
    Ok((sizes, histograms))
}

/// Whether start timestamps are known and say something about the function.
pub(super) fn uses_starts(
    worker: &Worker<'_>,
    function: WindowFunction,
    columns: &Columns,
) -> bool {
    worker.use_starts
        && !columns.starts().is_empty()
        && matches!(
            function,
            WindowFunction::Rate
                | WindowFunction::Irate
                | WindowFunction::Increase
                | WindowFunction::Resets
        )
}

/// Whether the function ignores histograms.
const fn is_of_floats(function: WindowFunction) -> bool {
    matches!(
        function,
        WindowFunction::Deriv
            | WindowFunction::PredictLinear
            | WindowFunction::DoubleExponentialSmoothing
            | WindowFunction::Min
            | WindowFunction::Max
            | WindowFunction::Stddev
            | WindowFunction::Stdvar
            | WindowFunction::Quantile
            | WindowFunction::Mad
            | WindowFunction::TimeOfMin
            | WindowFunction::TimeOfMax
    )
}

/// The floats alone.
fn floats_of(columns: &Columns) -> Columns {
    let mut floats = Columns::new();
    for row in (0..columns.len()).filter(|row| columns.histogram(*row).is_none()) {
        floats.push_row(columns, row);
    }
    floats
}

/// What the evaluation of one series shares.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    worker: &'a Worker<'a>,
    window: &'a Window<'a>,
    /// The name of the metric, perhaps empty.
    pub(super) metric: &'a str,
    /// The windows.
    pub(super) frame: Frame<'a>,
    /// Start timestamps count.
    pub(super) starts: bool,
}

impl Context<'_> {
    /// Adds a remark about the range.
    pub(super) fn remark(&self, annotation: &Annotation<'_>) {
        self.worker.annotate(annotation, self.window.source.span());
    }

    #[expect(clippy::cast_precision_loss, reason = "windows are smaller than 2^53")]
    fn evaluate(&self, samples: &Samples<'_>) -> Option<OwnedCell> {
        let rows = samples.extent.rows.clone();
        let time = |row: usize| OwnedCell::Float(seconds(samples.columns.times()[row]));
        match self.window.function {
            WindowFunction::Count => Some(OwnedCell::Float(rows.len() as f64)),
            WindowFunction::Present => Some(OwnedCell::Float(1.0)),
            WindowFunction::First => Some(samples.cell(rows.start)),
            WindowFunction::Last => Some(samples.cell(rows.end - 1)),
            WindowFunction::TimeOfFirst => Some(time(rows.start)),
            WindowFunction::TimeOfLast => Some(time(rows.end - 1)),
            WindowFunction::Resets => Some(count_pairs(samples, |before, after| {
                is_reset(&samples.cell(before), &samples.cell(after))
                    || self.starts_anew(samples, before, after)
            })),
            WindowFunction::Changes => Some(count_pairs(samples, |before, after| {
                is_change(&samples.cell(before), &samples.cell(after))
            })),
            WindowFunction::Irate => histogram_rate::instant(self, samples, true),
            WindowFunction::Idelta => histogram_rate::instant(self, samples, false),
            WindowFunction::Rate => self.rate(samples, rate::Kind::Rate),
            WindowFunction::Increase => self.rate(samples, rate::Kind::Increase),
            WindowFunction::Delta => self.rate(samples, rate::Kind::Delta),
            WindowFunction::Sum => self.total(samples, false),
            WindowFunction::Avg => self.total(samples, true),
            // The others are of floats.
            _ => None,
        }
    }

    /// Whether the start timestamp of row `after` tells of a counter reset after row `before`.
    pub(super) fn starts_anew(&self, samples: &Samples<'_>, before: usize, after: usize) -> bool {
        self.starts && samples.counted(after).is_reset_since(samples.counted(before))
    }

    /// Remarks on a start timestamp that is before the sample before, once for each window.
    pub(super) fn check_starts(&self, samples: &Samples<'_>) {
        let rows = samples.extent.rows.clone();
        let overlaps = |row: usize| samples.counted(row).overlaps(samples.counted(row - 1));
        if self.starts && rows.skip(1).any(overlaps) {
            self.remark(&Annotation::StartTimeOverlap(self.metric));
        }
    }

    /// What the samples of the window cover; if a start timestamp is within the window, from there on.
    pub(super) fn sampled(&self, samples: &Samples<'_>) -> Sampled {
        let mut sampled = Sampled::new(samples.columns, self.frame, &samples.extent);
        if self.starts {
            let window_start = samples.extent.end - self.frame.range;
            sampled.zero_at = samples.counted(samples.extent.rows.start).zero_after(window_start);
        }
        sampled
    }

    /// Whether there are both floats and histograms, which is worth a warning.
    pub(super) fn is_mixed(&self, samples: &Samples<'_>) -> bool {
        let mixed = samples.floats() > 0 && !samples.histograms.is_empty();
        if mixed {
            self.remark(&Annotation::MixedSamples(self.metric));
        }
        mixed
    }

    fn rate(&self, samples: &Samples<'_>, kind: rate::Kind) -> Option<OwnedCell> {
        if self.is_mixed(samples) {
            return None;
        }
        if !samples.histograms.is_empty() {
            return histogram_rate::extrapolated(self, samples, kind);
        }
        let rows = samples.extent.rows.clone();
        let values = samples.columns.floats();
        let (first, last) = (values[rows.start], values[rows.end - 1]);
        let mut change = last - first;
        let mut sampled = self.sampled(samples);
        if kind == rate::Kind::Delta {
            sampled.zero_at = None;
        } else {
            self.check_starts(samples);
            for row in rows.clone().skip(1) {
                if values[row] < values[row - 1] || self.starts_anew(samples, row - 1, row) {
                    change += values[row - 1];
                }
            }
        }
        if sampled.zero_at.is_some() {
            change += first;
        } else if rows.len() < 2 {
            return None;
        }
        Some(OwnedCell::Float(change * sampled.factor(change, first, kind)))
    }

    /// `sum_over_time` or `avg_over_time`.
    fn total(&self, samples: &Samples<'_>, is_mean: bool) -> Option<OwnedCell> {
        use super::over_time;
        use model::CounterReset;
        if self.is_mixed(samples) {
            return None;
        }
        let Some(((_, first), others)) = samples.histograms.split_first() else {
            let values = &samples.columns.floats()[samples.extent.rows.clone()];
            let total = if is_mean { over_time::mean(values) } else { over_time::sum(values) };
            return Some(OwnedCell::Float(total));
        };
        let mut total = HistogramMean::new(FloatHistogram::clone(first), is_mean);
        let mut reconciled = false;
        for (_, histogram) in others {
            let Ok(combined) = total.add(histogram) else {
                self.remark(&Annotation::MixedSchemas(self.metric));
                return None;
            };
            reconciled |= combined.bounds_reconciled;
        }
        let saw = |reset| samples.histograms.iter().any(|(_, h)| h.counter_reset == reset);
        if saw(CounterReset::Reset) && saw(CounterReset::NotReset) {
            self.remark(&Annotation::ResetCollision(Operation::Aggregation));
        }
        if reconciled {
            self.remark(&Annotation::BoundsReconciled(Operation::Aggregation));
        }
        Some(total.finish().into())
    }
}

/// Counts the pairs of neighbouring rows that satisfy `counts`.
#[expect(clippy::cast_precision_loss, reason = "windows are smaller than 2^53")]
fn count_pairs(samples: &Samples<'_>, counts: impl Fn(usize, usize) -> bool) -> OwnedCell {
    let rows = samples.extent.rows.clone();
    let pairs = rows.clone().zip(rows.skip(1));
    OwnedCell::Float(pairs.filter(|&(before, after)| counts(before, after)).count() as f64)
}

fn is_reset(before: &OwnedCell, after: &OwnedCell) -> bool {
    match (before, after) {
        (OwnedCell::Float(before), OwnedCell::Float(after)) => after < before,
        (OwnedCell::Histogram(before), OwnedCell::Histogram(after)) => after.is_reset_since(before),
        _ => true,
    }
}

fn is_change(before: &OwnedCell, after: &OwnedCell) -> bool {
    match (before, after) {
        (OwnedCell::Float(before), OwnedCell::Float(after)) => {
            after != before && !(after.is_nan() && before.is_nan())
        }
        (OwnedCell::Histogram(before), OwnedCell::Histogram(after)) => !after.equals(before),
        _ => true,
    }
}
