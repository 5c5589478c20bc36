//! How fast native histograms change: `rate` and its relatives.

use model::{CounterReset, FloatHistogram};

use super::annotations::{Annotation, Operation};
use super::mixed_window::{Context, Samples};
use super::rate::Kind;
use super::row::OwnedCell;

/// `rate`, `increase` or `delta` of a window of histograms alone.
pub(super) fn extrapolated(
    context: &Context<'_>,
    samples: &Samples<'_>,
    kind: Kind,
) -> Option<OwnedCell> {
    let mut sampled = context.sampled(samples);
    if kind == Kind::Delta {
        sampled.zero_at = None;
    }
    let change = match samples.histograms {
        [(_, first), .., (_, last)] => {
            let mut remarks = Vec::new();
            let change = change(context, samples, first, last, kind, &mut remarks);
            remarks.iter().for_each(|remark| context.remark(remark));
            Some(change?)
        }
        _ => None,
    };
    let (_, first) = samples.histograms.first()?;
    let mut change = match (change, sampled.zero_at) {
        (Some(change), None) => change,
        (None, None) => return None,
        (None, Some(_)) => FloatHistogram::clone(first),
        (Some(mut change), Some(_)) => {
            match change.add(first) {
                Ok(combined) if combined.bounds_reconciled => {
                    context.remark(&Annotation::BoundsReconciled(Operation::Addition));
                }
                Ok(_) => {}
                Err(_) => {
                    context.remark(&Annotation::MixedSchemas(context.metric));
                    return None;
                }
            }
            change
        }
    };
    change.multiply(sampled.factor(change.count, first.count, kind));
    Some(change.into())
}

/// The change from the first to the last, with what was lost in counter resets.
fn change<'m>(
    context: &Context<'m>,
    samples: &Samples<'_>,
    first: &FloatHistogram,
    last: &FloatHistogram,
    kind: Kind,
    remarks: &mut Vec<Annotation<'m>>,
) -> Option<FloatHistogram> {
    let (metric, histograms) = (context.metric, samples.histograms);
    let rows = samples.extent.rows.clone();
    let is_counter = kind != Kind::Delta;
    let is_gauge = |histogram: &FloatHistogram| histogram.counter_reset == CounterReset::Gauge;
    if is_counter && (is_gauge(first) || is_gauge(last)) {
        remarks.push(Annotation::HistogramNotCounter(metric));
    }
    // If there is a reset right after the first, it does not matter what the first looks like.
    let second = &histograms[1].1;
    let empty = FloatHistogram {
        schema: second.schema,
        custom_bounds: second.custom_bounds.clone(),
        ..FloatHistogram::default()
    };
    let is_reset =
        || context.starts_anew(samples, rows.start, rows.start + 1) || second.is_reset_since(first);
    let first = if is_counter && is_reset() { &empty } else { first };
    let custom = first.uses_custom_buckets();
    if last.uses_custom_buckets() != custom {
        remarks.push(Annotation::MixedSchemas(metric));
        return None;
    }
    let mut schema = last.schema.min(first.schema);
    if is_counter {
        for (_, histogram) in &histograms[1..histograms.len() - 1] {
            if is_gauge(histogram) {
                remarks.push(Annotation::HistogramNotCounter(metric));
            }
            schema = schema.min(histogram.schema);
            if histogram.uses_custom_buckets() != custom {
                // As in Prometheus, this remark takes the place of others.
                *remarks = vec![Annotation::MixedSchemas(metric)];
                return None;
            }
        }
    }
    let mut change = last.clone();
    change.reduce_resolution(schema);
    combine(remarks, Operation::Subtraction, change.subtract(first));
    if is_counter {
        context.check_starts(samples);
        let mut before = first;
        for (row, (_, histogram)) in rows.skip(1).zip(&histograms[1..]) {
            if context.starts_anew(samples, row - 1, row) || histogram.is_reset_since(before) {
                combine(remarks, Operation::Addition, change.add(before));
            }
            before = histogram;
        }
    } else if !is_gauge(first) || !is_gauge(last) {
        remarks.push(Annotation::HistogramNotGauge(metric));
    }
    change.counter_reset = CounterReset::Gauge;
    change.compact(0);
    Some(change)
}

/// That resets collide is no news where resets are looked for.
fn combine<E>(
    remarks: &mut Vec<Annotation<'_>>,
    operation: Operation,
    combined: Result<model::Combined, E>,
) {
    if combined.is_ok_and(|combined| combined.bounds_reconciled) {
        remarks.push(Annotation::BoundsReconciled(operation));
    }
}

/// `irate` (`per_second`) or `idelta`: the change between the last two samples.
pub(super) fn instant(
    context: &Context<'_>,
    samples: &Samples<'_>,
    per_second: bool,
) -> Option<OwnedCell> {
    let rows = samples.extent.rows.clone();
    if rows.len() < 2 {
        return None;
    }
    let (columns, last) = (samples.columns, rows.end - 1);
    let interval = columns.times()[last] - columns.times()[last - 1];
    if interval == 0 {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "windows are shorter than 2^53 ms")]
    let interval = interval as f64 / 1000.0;
    let (before, after) = match (columns.histogram(last - 1), columns.histogram(last)) {
        (Some(before), Some(after)) => (before, after),
        (None, None) => {
            let (before, after) = (columns.floats()[last - 1], columns.floats()[last]);
            let reset = after < before || context.starts_anew(samples, last - 1, last);
            let change = if per_second && reset { after } else { after - before };
            return Some(OwnedCell::Float(if per_second { change / interval } else { change }));
        }
        _ => {
            context.remark(&Annotation::MixedSamples(context.metric));
            return None;
        }
    };
    let gauges = [before, after].map(|histogram| histogram.counter_reset == CounterReset::Gauge);
    if per_second && gauges.contains(&true) {
        context.remark(&Annotation::HistogramNotCounter(context.metric));
    }
    if !per_second && gauges.contains(&false) {
        context.remark(&Annotation::HistogramNotGauge(context.metric));
    }
    let mut change = FloatHistogram::clone(after);
    let is_reset = || context.starts_anew(samples, last - 1, last) || after.is_reset_since(before);
    if !per_second || !is_reset() {
        match change.subtract(before) {
            Ok(combined) if combined.bounds_reconciled => {
                context.remark(&Annotation::BoundsReconciled(Operation::Subtraction));
            }
            Ok(_) => {}
            Err(_) => {
                context.remark(&Annotation::MixedSchemas(context.metric));
                return None;
            }
        }
    }
    change.counter_reset = CounterReset::Gauge;
    change.compact(0);
    if per_second {
        change.divide(interval);
    }
    Some(change.into())
}
