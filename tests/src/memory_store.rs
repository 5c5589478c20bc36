//! A store in memory that is right because it is simple: the oracle for other stores.
//!
//! A vector of series in the order of their creation, each with a sorted vector of samples, floats or native histograms. Every
//! selection scans all of it. It refuses the samples that a head refuses for their own sake (out of order,
//! second value for a timestamp); it has no bounds of time, series or bytes.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::{
    AppendError, Appended, Appender, Batch, Columns, CounterReset, FloatAppend, FloatHistogram,
    Labels, Matcher, Querier, QueryContext, QueryError, Queryable, Rejected, Rejection, Sample,
    Selection, SeriesKey, SeriesOrder, SeriesRef, SeriesSet, Strings, TimeRange, Timestamp,
};
use parking_lot::RwLock;

/// Series and their samples, all in memory.
///
/// Views share the contents: an append while a view is open works on a copy.
#[derive(Debug, Default)]
pub struct MemoryStore {
    contents: RwLock<Arc<Contents>>,
}

#[derive(Clone, Debug, Default)]
struct Contents {
    /// In order of creation.
    series: Vec<Series>,
}

#[derive(Clone, Debug)]
struct Series {
    labels: Labels,
    samples: Vec<Stored>,
}

/// A sample as it is kept.
#[derive(Clone, Debug)]
struct Stored {
    t: Timestamp,
    /// Of a histogram, its sum.
    v: f64,
    histogram: Option<Arc<FloatHistogram>>,
    /// The start timestamp; 0 if it is unknown.
    start: Timestamp,
}

impl Stored {
    fn same_value(&self, other: &Self) -> bool {
        match (&self.histogram, &other.histogram) {
            (None, None) => self.v.to_bits() == other.v.to_bits(),
            (Some(a), Some(b)) => a.equals(b),
            _ => false,
        }
    }
}

impl MemoryStore {
    /// A store without series.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives a sample a start timestamp; says whether there is such a sample.
    #[must_use]
    pub fn set_start(&self, labels: &Labels, t: Timestamp, start: Timestamp) -> bool {
        let mut contents = self.contents.write();
        let all = &mut Arc::make_mut(&mut contents).series;
        let series = all.iter_mut().find(|series| series.labels == *labels);
        let sample = series.and_then(|series| series.samples.iter_mut().find(|s| s.t == t));
        sample.map(|sample| sample.start = start).is_some()
    }
}

impl Appender for MemoryStore {
    fn append(&self, batch: &Batch) -> Result<Appended, AppendError> {
        let mut contents = self.contents.write();
        let all = &mut Arc::make_mut(&mut contents).series;
        let mut appended = Appended::default();
        for labels in &batch.new_series {
            let (series, created) = find_or_create(all, labels);
            appended.new_refs.push(series);
            appended.series_created += usize::from(created);
        }
        let refs = std::mem::take(&mut appended.new_refs);
        let mut store = |series: SeriesKey, sample: Stored| {
            let (series, unknown) = match series {
                SeriesKey::Known(series) => (Some(series), Rejection::UnknownSeries),
                SeriesKey::New(at) => (refs.get(at as usize).copied(), Rejection::InvalidLabels),
            };
            let series = series.and_then(position).and_then(|at| all.get_mut(at));
            series.map_or(Err(unknown), |series| push(&mut series.samples, sample))
        };
        for (index, &FloatAppend { series, t, v }) in batch.floats.iter().enumerate() {
            if let Err(reason) = store(series, Stored { t, v, histogram: None, start: 0 }) {
                appended.rejected.push(Rejected { index, reason });
            }
        }
        for (index, sample) in batch.histograms.iter().enumerate() {
            let histogram = sample.histogram.to_float();
            let (t, v) = (sample.t, histogram.sum);
            let histogram = Some(histogram);
            if let Err(reason) = store(sample.series, Stored { t, v, histogram, start: 0 }) {
                appended.rejected_histograms.push(Rejected { index, reason });
            }
        }
        appended.new_refs = refs;
        Ok(appended)
    }
}

/// The ref of the series with these labels, and whether it is new; ref 0 for the empty label set.
fn find_or_create(all: &mut Vec<Series>, labels: &Labels) -> (SeriesRef, bool) {
    if labels.is_empty() {
        return (SeriesRef(0), false);
    }
    let found = all.iter().position(|series| series.labels == *labels);
    let at = found.unwrap_or_else(|| {
        all.push(Series { labels: labels.clone(), samples: Vec::new() });
        all.len() - 1
    });
    (reference(at), found.is_none())
}

/// Refs count from 1, since 0 names no series.
fn reference(position: usize) -> SeriesRef {
    SeriesRef(position as u64 + 1)
}

fn position(series: SeriesRef) -> Option<usize> {
    usize::try_from(series.0.checked_sub(1)?).ok()
}

fn push(samples: &mut Vec<Stored>, mut new: Stored) -> Result<(), Rejection> {
    match samples.last() {
        Some(last) if new.t < last.t => Err(Rejection::OutOfOrder),
        Some(last) if new.t == last.t && !new.same_value(last) => {
            Err(Rejection::DuplicateTimestamp)
        }
        // The same sample again is neither stored nor refused.
        Some(last) if new.t == last.t => Ok(()),
        last => {
            let before = last.and_then(|last| last.histogram.as_deref());
            if let Some(histogram) = &mut new.histogram {
                let known = known_reset(histogram, before);
                Arc::make_mut(histogram).counter_reset = known;
            }
            samples.push(new);
            Ok(())
        }
    }
}

/// What a store knows about a counter reset when it reads the histogram back: gauges are chunks of their own, and within a chunk of
/// counters there is no reset. At the start of a chunk it knows nothing, since the chunk before may be gone.
fn known_reset(histogram: &FloatHistogram, before: Option<&FloatHistogram>) -> CounterReset {
    if histogram.counter_reset == CounterReset::Gauge {
        return CounterReset::Gauge;
    }
    let Some(before) = before else { return CounterReset::Unknown };
    let fresh = FloatHistogram {
        counter_reset: match histogram.counter_reset {
            CounterReset::Reset => CounterReset::Reset,
            _ => CounterReset::Unknown,
        },
        ..histogram.clone()
    };
    let continues = before.counter_reset != CounterReset::Gauge
        && histogram.schema == before.schema
        && histogram.zero_threshold == before.zero_threshold
        && histogram.custom_bounds == before.custom_bounds
        && !before.is_stale()
        && !fresh.is_reset_since(before);
    if continues { CounterReset::NotReset } else { CounterReset::Unknown }
}

impl Queryable for MemoryStore {
    fn querier(&self, range: TimeRange) -> Result<Box<dyn Querier + '_>, QueryError> {
        Ok(Box::new(View { contents: Arc::clone(&self.contents.read()), range }))
    }
}

/// What the store held when the view was opened.
struct View {
    contents: Arc<Contents>,
    range: TimeRange,
}

impl View {
    /// Positions of the series that satisfy the matchers and have a sample in `range`.
    fn matching(&self, matchers: &[Matcher], range: TimeRange) -> Vec<usize> {
        let range = intersection(self.range, range);
        let wanted = |series: &Series| {
            matchers.iter().all(|matcher| matcher.matches_labels(&series.labels))
                && series.samples.iter().any(|sample| range.contains(sample.t))
        };
        (0..self.contents.series.len()).filter(|&at| wanted(&self.contents.series[at])).collect()
    }

    /// Distinct strings that `of` takes from the matching series.
    fn strings<'s>(
        &'s self,
        matchers: &[Matcher],
        limit: usize,
        of: impl Fn(&'s Labels) -> Vec<&'s str>,
    ) -> Strings {
        let matching = self.matching(matchers, self.range);
        let all: BTreeSet<&str> =
            matching.into_iter().flat_map(|at| of(&self.contents.series[at].labels)).collect();
        let wanted = if limit == 0 { all.len() } else { limit };
        Strings {
            truncated: all.len() > wanted,
            values: all.into_iter().take(wanted).map(String::from).collect(),
        }
    }
}

impl Querier for View {
    fn select(
        &self,
        selection: &Selection<'_>,
        context: &QueryContext,
    ) -> Result<Box<dyn SeriesSet + '_>, QueryError> {
        context.check()?;
        let mut positions = self.matching(selection.matchers, selection.range);
        if selection.order == SeriesOrder::Labels {
            positions.sort_by(|&a, &b| {
                self.contents.series[a].labels.cmp(&self.contents.series[b].labels)
            });
        }
        if selection.limit != 0 {
            positions.truncate(selection.limit);
        }
        let range = intersection(self.range, selection.range);
        Ok(Box::new(Selected { view: self, positions, range, order: selection.order }))
    }

    fn label_names(
        &self,
        matchers: &[Matcher],
        limit: usize,
        context: &QueryContext,
    ) -> Result<Strings, QueryError> {
        context.check()?;
        Ok(self.strings(matchers, limit, |labels| labels.iter().map(|label| label.name).collect()))
    }

    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        limit: usize,
        context: &QueryContext,
    ) -> Result<Strings, QueryError> {
        context.check()?;
        Ok(self.strings(matchers, limit, |labels| labels.get(name).into_iter().collect()))
    }
}

/// The series of one selection.
struct Selected<'v> {
    view: &'v View,
    positions: Vec<usize>,
    range: TimeRange,
    order: SeriesOrder,
}

impl Selected<'_> {
    fn series(&self, index: usize) -> &Series {
        &self.view.contents.series[self.positions[index]]
    }
}

impl SeriesSet for Selected<'_> {
    fn len(&self) -> usize {
        self.positions.len()
    }

    fn order(&self) -> SeriesOrder {
        self.order
    }

    fn labels(&self, index: usize) -> Labels {
        self.series(index).labels.clone()
    }

    fn series_ref(&self, index: usize) -> Option<SeriesRef> {
        Some(reference(self.positions[index]))
    }

    fn read(
        &self,
        index: usize,
        range: TimeRange,
        into: &mut Columns,
        context: &QueryContext,
    ) -> Result<(), QueryError> {
        context.check()?;
        let range = intersection(self.range, range);
        for sample in self.series(index).samples.iter().filter(|sample| range.contains(sample.t)) {
            match &sample.histogram {
                Some(histogram) => into.push_histogram(sample.t, Arc::clone(histogram)),
                None => into.push(sample.t, sample.v),
            }
            into.set_last_start(sample.start);
        }
        Ok(())
    }

    fn latest(&self, index: usize) -> Option<Sample> {
        let last = self.series(index).samples.last()?;
        let known = last.histogram.is_none() && self.range.contains(last.t);
        known.then_some(Sample { t: last.t, v: last.v })
    }
}

fn intersection(a: TimeRange, b: TimeRange) -> TimeRange {
    TimeRange::new(a.min.max(b.min), a.max.min(b.max))
}

#[cfg(test)]
mod tests {
    use model::MatchOp;

    use super::*;

    fn series(name: &str) -> Labels {
        Labels::from_pairs([(model::METRIC_NAME, name), ("job", "test")]).unwrap()
    }

    /// Appends to series `b`, then `a`, then to `b` by ref.
    fn filled() -> MemoryStore {
        let store = MemoryStore::new();
        let mut batch = Batch::new();
        batch.push_new(series("b"), 10, 1.0);
        batch.push_new(series("a"), 10, 2.0);
        let appended = store.append(&batch).unwrap();
        assert_eq!((appended.new_refs.len(), appended.series_created), (2, 2));
        batch.clear();
        batch.push(appended.new_refs[0], 20, 3.0);
        assert!(store.append(&batch).unwrap().rejected.is_empty());
        store
    }

    fn check_select(matchers: &[Matcher], range: (i64, i64), order: SeriesOrder, expected: &str) {
        let store = filled();
        let context = QueryContext::unbounded();
        let range = TimeRange::new(range.0, range.1);
        let querier = store.querier(range).unwrap();
        let selection = Selection { order, ..Selection::new(matchers, range) };
        let set = querier.select(&selection, &context).unwrap();
        let mut text = String::new();
        for index in 0..set.len() {
            let mut columns = Columns::new();
            set.read(index, range, &mut columns, &context).unwrap();
            text += set.labels(index).metric_name();
            for sample in columns.iter() {
                text += &format!(" {}@{}", sample.v, sample.t);
            }
            text += ";";
        }
        assert_eq!(text, expected);
    }

    #[test]
    fn selections_are_in_the_order_asked_for_and_within_the_range() {
        let job = [Matcher::equal("job", "test")];
        check_select(&job, (0, 100), SeriesOrder::Storage, "b 1@10 3@20;a 2@10;");
        check_select(&job, (0, 100), SeriesOrder::Labels, "a 2@10;b 1@10 3@20;");
        check_select(&job, (11, 20), SeriesOrder::Storage, "b 3@20;");
        check_select(&job, (21, 100), SeriesOrder::Storage, "");
        let name = Matcher::new(model::METRIC_NAME, MatchOp::NotEqual, "b").unwrap();
        check_select(&[name], (0, 100), SeriesOrder::Storage, "a 2@10;");
    }

    #[test]
    fn samples_are_refused_as_a_head_refuses_them() {
        let store = filled();
        let mut batch = Batch::new();
        batch.push(SeriesRef(1), 19, 1.0);
        batch.push(SeriesRef(1), 20, 3.0);
        batch.push(SeriesRef(1), 20, 4.0);
        batch.push(SeriesRef(9), 30, 1.0);
        batch.push(SeriesRef(1), 30, 1.0);
        batch.push_new(Labels::empty(), 30, 1.0);
        let rejected = store.append(&batch).unwrap().rejected;
        let reasons: Vec<_> = rejected.iter().map(|r| (r.index, r.reason)).collect();
        let expected = [
            (0, Rejection::OutOfOrder),
            (2, Rejection::DuplicateTimestamp),
            (3, Rejection::UnknownSeries),
            (5, Rejection::InvalidLabels),
        ];
        assert_eq!(reasons, expected);
    }

    #[test]
    fn a_view_does_not_change() {
        let store = filled();
        let context = QueryContext::unbounded();
        let querier = store.querier(TimeRange::ALL).unwrap();
        let mut batch = Batch::new();
        batch.push_new(series("c"), 30, 1.0);
        store.append(&batch).unwrap();
        let names = querier.label_values(model::METRIC_NAME, &[], 0, &context).unwrap();
        assert_eq!(names.values, ["a", "b"]);
        let later = store.querier(TimeRange::ALL).unwrap();
        let names = later.label_values(model::METRIC_NAME, &[], 2, &context).unwrap();
        assert_eq!(names, Strings { values: vec!["a".into(), "b".into()], truncated: true });
        assert_eq!(later.label_names(&[], 0, &context).unwrap().values, ["__name__", "job"]);
    }
}
