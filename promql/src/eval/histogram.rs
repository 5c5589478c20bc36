//! Quantiles and fractions of histograms: classic ones, whose buckets are series, and native ones.

use foldhash::{HashMap, HashMapExt, HashSet, HashSetExt};
use model::{Charge, Labels, LabelsBuilder};

use super::annotations::{Annotation, MonotonicityFixes};
use super::block::{ABSENT, Block, Series, Sink, entry_bytes, is_present};
use super::evaluator::Evaluator;
use super::failure::QueryFailure;
use super::go_float;
use super::native_quantile;
use super::plan::{Histogram, HistogramFunction};
use super::row::{Cell, Row, RowRef, any_present};
use super::scalar::ScalarRow;
use super::steps::Steps;
use crate::ast::Span;

const BUCKET_LABEL: &str = "le";

/// Counts that differ by less, relatively, are equal but for rounding.
const TOLERANCE: f64 = 1e-12;

/// A bucket at one step.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Bucket {
    upper_bound: f64,
    /// Observations in it and all below.
    count: f64,
}

/// The buckets of one histogram.
struct Buckets {
    series: Series,
    /// Bound, and row of the block.
    rows: Vec<(f64, usize)>,
}

/// Evaluates a function of histograms.
///
/// # Errors
/// [`QueryFailure`]
pub(super) fn stream(
    evaluator: &Evaluator<'_>,
    plan: &Histogram<'_>,
    steps: Steps,
    sink: &mut Sink<'_>,
) -> Result<(), QueryFailure> {
    let function = prepare(evaluator, &plan.function, steps)?;
    let before = evaluator.samples.held();
    let block = evaluator.collect(&plan.input, steps)?;
    remark_quantiles(evaluator, &plan.function, &function, steps);
    let mut held = evaluator.context.budget.charge(0)?;
    let (histograms, natives) = gather(evaluator, &block, plan.span, &mut held)?;
    let conflicts = conflicts(evaluator, &block, &histograms, &natives, plan.span);
    let mut out = evaluator.empty_row(steps)?;
    let mut merger = evaluator.merger(steps)?;
    let context = Context { evaluator, function: &function, block: &block, steps, span: plan.span };
    let mut push = |part: usize, series: &Series, out: &mut [f64]| {
        if !any_present(out) {
            return Ok(());
        }
        let mut series = series.clone();
        series.drop_name(evaluator.delayed_names);
        let Prepared::Quantiles(label, quantiles) = &function else {
            return merger.push(series, Row::of(out)).map(|_| ());
        };
        let q = &quantiles[part];
        let at = |q| Series { labels: with_quantile(&series.labels, label, q), ..series.clone() };
        if let ScalarRow::Constant(q) = q {
            return merger.push(at(*q), Row::of(out)).map(|_| ());
        }
        // Each step has its own quantile in the label.
        for step in (0..steps.count).filter(|step| is_present(out[*step])) {
            let mut alone = evaluator.empty_row(steps)?;
            alone[step] = out[step];
            merger.push(at(q.at(step)), Row::of(&mut alone))?;
        }
        Ok(())
    };
    for part in 0..function.parts() {
        for &index in &natives {
            evaluator.context.check()?;
            context.fill_native(part, index, &conflicts, &mut out);
            push(part, block.series(index), &mut out)?;
        }
        for histogram in &histograms {
            evaluator.context.check()?;
            context.fill_classic(part, histogram, &conflicts, &mut out);
            push(part, &histogram.series, &mut out)?;
        }
    }
    drop(block);
    let results = merger.into_block();
    evaluator.samples.release_to(before, 0);
    evaluator.samples.hold(results.samples())?;
    results.stream(sink)
}

/// A function with its scalars evaluated.
enum Prepared<'q> {
    Quantile(ScalarRow),
    Quantiles(&'q str, Vec<ScalarRow>),
    Fraction(ScalarRow, ScalarRow),
}

impl Prepared<'_> {
    /// Results per histogram.
    fn parts(&self) -> usize {
        match self {
            Self::Quantile(_) | Self::Fraction(..) => 1,
            Self::Quantiles(_, quantiles) => quantiles.len(),
        }
    }
}

fn prepare<'q>(
    evaluator: &Evaluator<'_>,
    function: &HistogramFunction<'q>,
    steps: Steps,
) -> Result<Prepared<'q>, QueryFailure> {
    Ok(match function {
        HistogramFunction::Quantile(plan, _) => Prepared::Quantile(evaluator.scalar(plan, steps)?),
        HistogramFunction::Quantiles(label, plans) => {
            let rows = plans.iter().map(|(plan, _)| evaluator.scalar(plan, steps));
            Prepared::Quantiles(label, rows.collect::<Result<_, _>>()?)
        }
        HistogramFunction::Fraction(lower, upper) => {
            Prepared::Fraction(evaluator.scalar(lower, steps)?, evaluator.scalar(upper, steps)?)
        }
    })
}

/// Remarks on quantiles outside [0, 1]. Of equal remarks the last one counts, so these follow those about the input.
fn remark_quantiles(
    evaluator: &Evaluator<'_>,
    function: &HistogramFunction<'_>,
    prepared: &Prepared<'_>,
    steps: Steps,
) {
    let rows: Vec<(&ScalarRow, Span)> = match (function, prepared) {
        (HistogramFunction::Quantile(_, span), Prepared::Quantile(row)) => vec![(row, *span)],
        (HistogramFunction::Quantiles(_, plans), Prepared::Quantiles(_, rows)) => {
            rows.iter().zip(plans.iter().map(|(_, span)| *span)).collect()
        }
        _ => return,
    };
    for step in 0..steps.count {
        for (row, span) in &rows {
            let q = row.at(step);
            if !(0.0..=1.0).contains(&q) {
                evaluator.annotate(&Annotation::InvalidQuantile(q), *span);
            }
        }
    }
}

/// Puts the rows of each classic histogram together, and lists those that have native ones. Floats without a usable bound are remarked on
/// and left out.
fn gather(
    evaluator: &Evaluator<'_>,
    block: &Block,
    span: Span,
    held: &mut Charge,
) -> Result<(Vec<Buckets>, Vec<usize>), QueryFailure> {
    // A place in a list for each row, and as much that is spare.
    held.grow(2 * block.len() * size_of::<(f64, usize)>())?;
    let mut histograms: Vec<Buckets> = Vec::new();
    let mut natives = Vec::new();
    let mut by_labels: HashMap<Labels, usize> = HashMap::new();
    for (index, (series, row)) in block.rows().enumerate() {
        if !row.histograms.is_empty() {
            natives.push(index);
            let is_native =
                |(step, v): (usize, &f64)| !is_present(*v) || row.histograms.get(step).is_some();
            if row.values.iter().enumerate().all(is_native) {
                continue;
            }
        }
        let label = series.labels.get(BUCKET_LABEL).unwrap_or_default();
        let Some(upper_bound) = go_float::parse(label) else {
            let metric = if evaluator.delayed_names { series.labels.metric_name() } else { "" };
            evaluator.annotate(&Annotation::BadBucketLabel { metric, label }, span);
            continue;
        };
        let labels = series.labels.without(&[BUCKET_LABEL]);
        let next = histograms.len();
        let at = *by_labels.entry(labels.clone()).or_insert(next);
        if at == next {
            held.grow(entry_bytes(&labels) + size_of::<Buckets>())?;
            histograms.push(Buckets { series: Series::new(labels), rows: Vec::new() });
        }
        histograms[at].rows.push((upper_bound, index));
    }
    for histogram in &mut histograms {
        histogram.rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    Ok((histograms, natives))
}

/// Labels and step at which there is both a classic and a native histogram. Neither has a result then.
fn conflicts(
    evaluator: &Evaluator<'_>,
    block: &Block,
    histograms: &[Buckets],
    natives: &[usize],
    span: Span,
) -> HashSet<(Labels, usize)> {
    let mut conflicts = HashSet::new();
    for &native in natives {
        let labels = &block.series(native).labels;
        let Some(classic) = histograms.iter().find(|classic| classic.series.labels == *labels)
        else {
            continue;
        };
        for (step, _) in block.row(native).histograms.iter() {
            let is_float = |row: usize| matches!(block.row(row).at(step), Some(Cell::Float(_)));
            if classic.rows.iter().any(|(_, row)| is_float(*row)) {
                let metric = if evaluator.delayed_names { labels.metric_name() } else { "" };
                evaluator.annotate(&Annotation::MixedClassicNative(metric), span);
                conflicts.insert((labels.clone(), step));
            }
        }
    }
    conflicts
}

/// What the evaluation of one function shares.
struct Context<'a> {
    evaluator: &'a Evaluator<'a>,
    function: &'a Prepared<'a>,
    block: &'a Block,
    steps: Steps,
    span: Span,
}

impl Context<'_> {
    /// The name that remarks give the metric: none if names are dropped on the spot.
    fn metric<'s>(&self, series: &'s Series) -> &'s str {
        if self.evaluator.delayed_names { series.labels.metric_name() } else { "" }
    }

    fn fill_native(
        &self,
        part: usize,
        index: usize,
        conflicts: &HashSet<(Labels, usize)>,
        out: &mut [f64],
    ) {
        out.fill(ABSENT);
        let series = self.block.series(index);
        let metric = self.metric(series);
        for (step, histogram) in self.block.row(index).histograms.iter() {
            if !conflicts.is_empty() && conflicts.contains(&(series.labels.clone(), step)) {
                continue;
            }
            let (value, remark) = match self.function {
                Prepared::Quantile(row) => {
                    native_quantile::quantile(row.at(step), histogram, metric)
                }
                Prepared::Quantiles(_, rows) => {
                    native_quantile::quantile(rows[part].at(step), histogram, metric)
                }
                Prepared::Fraction(lower, upper) => {
                    native_quantile::fraction(lower.at(step), upper.at(step), histogram, metric)
                }
            };
            out[step] = value;
            if let Some(remark) = remark {
                self.evaluator.annotate(&remark, self.span);
            }
        }
    }

    fn fill_classic(
        &self,
        part: usize,
        histogram: &Buckets,
        conflicts: &HashSet<(Labels, usize)>,
        out: &mut [f64],
    ) {
        let metric = self.metric(&histogram.series);
        let rows = histogram.rows.iter().map(|&(bound, row)| (bound, self.block.row(row)));
        let rows: Vec<(f64, RowRef<'_>)> = rows.collect();
        let mut buckets = Vec::with_capacity(rows.len());
        for (step, out) in out.iter_mut().enumerate() {
            *out = ABSENT;
            buckets.clear();
            buckets.extend(rows.iter().filter_map(|&(upper_bound, row)| match row.at(step) {
                Some(Cell::Float(count)) => Some(Bucket { upper_bound, count }),
                Some(Cell::Histogram(_)) | None => None,
            }));
            let conflicting = !conflicts.is_empty()
                && conflicts.contains(&(histogram.series.labels.clone(), step));
            if buckets.is_empty() || conflicting {
                continue;
            }
            let q = match self.function {
                Prepared::Quantile(row) => row.at(step),
                Prepared::Quantiles(_, rows) => rows[part].at(step),
                Prepared::Fraction(lower, upper) => {
                    *out = fraction(lower.at(step), upper.at(step), &mut buckets);
                    continue;
                }
            };
            let (value, fixes) = quantile(q, &mut buckets);
            *out = value;
            if let Some(fixes) = fixes {
                let t = self.steps.at(step);
                let fixes = MonotonicityFixes { times: (t, t), ..fixes };
                let remark = Annotation::ForcedMonotonicity { metric, fixes };
                self.evaluator.annotate(&remark, self.span);
            }
        }
    }
}

/// The labels of a result among several quantiles: the quantile as OpenMetrics writes floats.
fn with_quantile(labels: &Labels, name: &str, q: f64) -> Labels {
    // Zero has no sign.
    let q = if q == 0.0 { 0.0 } else { q };
    let mut text = model::format_float(q, model::FloatFormat::General);
    if q.is_finite() && !text.contains(['.', 'e']) {
        text.push_str(".0");
    }
    let mut builder = LabelsBuilder::from_labels(labels);
    builder.set(name, text);
    builder.build()
}

/// The quantile `q` of buckets sorted by bound, interpolated linearly within a bucket; and what had to be fixed.
fn quantile(q: f64, buckets: &mut Vec<Bucket>) -> (f64, Option<MonotonicityFixes>) {
    if q.is_nan() {
        return (f64::NAN, None);
    }
    if q < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if q > 1.0 {
        return (f64::INFINITY, None);
    }
    if !ends_with_infinity(buckets) {
        return (f64::NAN, None);
    }
    coalesce(buckets);
    let fixes = force_monotonicity(buckets);
    let last = buckets.len() - 1;
    let observations = buckets[last].count;
    if last == 0 || observations == 0.0 {
        return (f64::NAN, fixes);
    }
    let mut rank = q * observations;
    let at = first_where(last, |at| buckets[at].count >= rank);
    if at == last {
        return (buckets[last - 1].upper_bound, fixes);
    }
    let end = buckets[at].upper_bound;
    if at == 0 && end <= 0.0 {
        return (end, fixes);
    }
    let mut start = 0.0;
    let mut count = buckets[at].count;
    if at > 0 {
        start = buckets[at - 1].upper_bound;
        count -= buckets[at - 1].count;
        rank -= buckets[at - 1].count;
    }
    (start + (end - start) * (rank / count), fixes)
}

/// The least index below `count` at which `holds`, or `count`, by bisection. Where a count is NaN the answer is up to which ones are looked at;
/// these are those that Prometheus looks at.
fn first_where(count: usize, holds: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low.midpoint(high);
        if holds(middle) { high = middle } else { low = middle + 1 }
    }
    low
}

fn ends_with_infinity(buckets: &[Bucket]) -> bool {
    buckets.last().is_some_and(|bucket| bucket.upper_bound == f64::INFINITY)
}

/// Adds up buckets of equal bounds (`le="1"` and `le="1.0"`).
fn coalesce(buckets: &mut Vec<Bucket>) {
    buckets.dedup_by(|next, kept| {
        let equal = next.upper_bound == kept.upper_bound;
        if equal {
            kept.count += next.count;
        }
        equal
    });
}

/// Makes counts grow with the bound. Differences within the tolerance are rounding and fixed without a remark.
fn force_monotonicity(buckets: &mut [Bucket]) -> Option<MonotonicityFixes> {
    let mut fixes: Option<MonotonicityFixes> = None;
    let mut previous = buckets[0].count;
    for bucket in &mut buckets[1..] {
        let count = bucket.count;
        if count == previous {
            continue;
        }
        if almost_equal(previous, count) {
            bucket.count = previous;
        } else if count < previous {
            bucket.count = previous;
            let bound = bucket.upper_bound;
            let known = fixes.unwrap_or(MonotonicityFixes {
                times: (0, 0),
                buckets: (f64::INFINITY, f64::NEG_INFINITY),
                max_diff: 0.0,
                count: 1,
            });
            fixes = Some(MonotonicityFixes {
                buckets: (known.buckets.0.min(bound), known.buckets.1.max(bound)),
                max_diff: known.max_diff.max(previous - count),
                ..known
            });
        } else {
            previous = count;
        }
    }
    fixes
}

fn almost_equal(a: f64, b: f64) -> bool {
    if a == b || (a.is_nan() && b.is_nan()) {
        return true;
    }
    let (sum, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < TOLERANCE * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < TOLERANCE
}

/// The fraction of observations between `lower` and `upper`, of buckets sorted by bound.
fn fraction(lower: f64, upper: f64, buckets: &mut Vec<Bucket>) -> f64 {
    if !ends_with_infinity(buckets) {
        return f64::NAN;
    }
    coalesce(buckets);
    let count = buckets[buckets.len() - 1].count;
    if count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let rank = |value: f64| match rank_of(value, buckets) {
        // One that is NaN stays, which `min` would not allow.
        Some(rank) if rank <= count || rank.is_nan() || count.is_nan() => rank,
        _ => count,
    };
    (rank(upper) - rank(lower)) / count
}

/// Observations below `value`, interpolated linearly within its bucket; `None` if it lies above all.
fn rank_of(value: f64, buckets: &[Bucket]) -> Option<f64> {
    // Bounds that start above 0 are of values that are not negative.
    let mut lower_bound = if buckets[0].upper_bound <= 0.0 { f64::NEG_INFINITY } else { 0.0 };
    let mut rank = 0.0;
    for bucket in buckets {
        if lower_bound >= value {
            return Some(rank);
        }
        if bucket.upper_bound > value {
            // A bucket without a lower end cannot be divided; one without an upper end gives nothing by the formula.
            if lower_bound == f64::NEG_INFINITY {
                return Some(bucket.count);
            }
            let width = bucket.upper_bound - lower_bound;
            return Some(rank + (bucket.count - rank) * (value - lower_bound) / width);
        }
        (lower_bound, rank) = (bucket.upper_bound, bucket.count);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(pairs: &[(f64, f64)]) -> Vec<Bucket> {
        pairs.iter().map(|&(upper_bound, count)| Bucket { upper_bound, count }).collect()
    }

    const INF: f64 = f64::INFINITY;

    fn check(q: f64, pairs: &[(f64, f64)], expected: f64) {
        let (got, _) = quantile(q, &mut buckets(pairs));
        assert!(got == expected || (got.is_nan() && expected.is_nan()), "{q} of {pairs:?}: {got}");
    }

    #[test]
    fn quantiles_are_interpolated() {
        let usual = [(1.0, 10.0), (2.0, 30.0), (INF, 40.0)];
        check(0.25, &usual, 1.0);
        check(0.5, &usual, 1.5);
        check(0.125, &usual, 0.5);
        check(1.0, &usual, 2.0);
        check(-0.1, &usual, f64::NEG_INFINITY);
        check(1.1, &usual, INF);
        check(f64::NAN, &usual, f64::NAN);
        check(0.5, &[(1.0, 10.0)], f64::NAN);
        check(0.5, &[(INF, 10.0)], f64::NAN);
        check(0.5, &[(1.0, 0.0), (INF, 0.0)], f64::NAN);
        check(0.1, &[(-1.0, 5.0), (INF, 10.0)], -1.0);
        check(0.5, &[(1.0, 5.0), (1.0, 5.0), (INF, 10.0)], 0.5);
    }

    #[test]
    fn decreasing_counts_are_fixed_and_reported() {
        let mut decreasing = buckets(&[(1.0, 10.0), (2.0, 8.0), (INF, 12.0)]);
        let (value, fixes) = quantile(0.5, &mut decreasing);
        assert_eq!(value, 0.6);
        let fixes = fixes.unwrap();
        assert_eq!((fixes.buckets, fixes.max_diff), ((2.0, 2.0), 2.0));
        let (_, fixes) =
            quantile(0.5, &mut buckets(&[(1.0, 10.0), (2.0, 10.0 - 1e-13), (INF, 12.0)]));
        assert_eq!(fixes, None);
    }

    /// As `sort.Search` and the comparisons of Prometheus's `BucketFraction` have it.
    #[test]
    fn counts_that_are_nan() {
        let counts = [(1.0, 5.0), (2.0, f64::NAN), (3.0, 10.0), (INF, 20.0)];
        check(0.2, &counts, f64::NAN);
        assert!(fraction(0.0, 1.5, &mut buckets(&counts)).is_nan());
        assert!(fraction(1.5, 3.0, &mut buckets(&counts)).is_nan());
        assert_eq!(fraction(0.0, 1.0, &mut buckets(&counts)), 0.25);
    }

    #[test]
    fn quantiles_as_labels() {
        for (q, expected) in [(-0.0, "0.0"), (1.0, "1.0"), (0.25, "0.25"), (f64::NAN, "NaN")] {
            let labels = with_quantile(&Labels::empty(), "q", q);
            assert_eq!(labels.get("q"), Some(expected));
        }
    }

    #[test]
    fn fractions_are_interpolated() {
        let usual = [(1.0, 10.0), (2.0, 30.0), (INF, 40.0)];
        for (lower, upper, expected) in [
            (0.0, 1.0, 0.25),
            (0.5, 1.5, 0.375),
            (1.0, INF, 0.75),
            (3.0, 2.0, 0.0),
            (-INF, INF, 1.0),
        ] {
            assert_eq!(
                fraction(lower, upper, &mut buckets(&usual)),
                expected,
                "{lower} to {upper}"
            );
        }
    }
}
