//! Series in memory, for tests and benchmarks of the engine: nothing is decoded, nothing is missing.

use model::{
    Cancellation, Columns, Labels, Matcher, Querier, QueryContext, QueryError, Queryable, Sample,
    Selection, SeriesOrder, SeriesRef, SeriesSet, Strings, TimeRange,
};

/// Series in the order in which they were added.
#[derive(Debug, Default)]
pub(crate) struct Store {
    series: Vec<(Labels, Columns)>,
    /// What is told to stop as soon as a series has been read.
    pub(crate) stops: Option<Cancellation>,
}

impl Store {
    /// Adds a series, samples in time order.
    pub(crate) fn add(&mut self, labels: Labels, samples: Columns) {
        self.series.push((labels, samples));
    }
}

impl Queryable for Store {
    fn querier(&self, _: TimeRange) -> Result<Box<dyn Querier + '_>, QueryError> {
        Ok(Box::new(View(self)))
    }
}

struct View<'s>(&'s Store);

impl Querier for View<'_> {
    fn select(
        &self,
        selection: &Selection<'_>,
        context: &QueryContext,
    ) -> Result<Box<dyn SeriesSet + '_>, QueryError> {
        context.check()?;
        let wanted =
            |labels: &Labels| selection.matchers.iter().all(|m: &Matcher| m.matches_labels(labels));
        let series = self.0.series.iter().filter(|(labels, _)| wanted(labels)).collect();
        Ok(Box::new(Selected { series, stops: self.0.stops.as_ref() }))
    }

    fn label_names(
        &self,
        _: &[Matcher],
        _: usize,
        _: &QueryContext,
    ) -> Result<Strings, QueryError> {
        Ok(Strings::default())
    }

    fn label_values(
        &self,
        _: &str,
        _: &[Matcher],
        _: usize,
        _: &QueryContext,
    ) -> Result<Strings, QueryError> {
        Ok(Strings::default())
    }
}

struct Selected<'s> {
    series: Vec<&'s (Labels, Columns)>,
    stops: Option<&'s Cancellation>,
}

impl SeriesSet for Selected<'_> {
    fn len(&self) -> usize {
        self.series.len()
    }

    fn order(&self) -> SeriesOrder {
        SeriesOrder::Storage
    }

    fn labels(&self, index: usize) -> Labels {
        self.series[index].0.clone()
    }

    fn series_ref(&self, _: usize) -> Option<SeriesRef> {
        None
    }

    fn read(
        &self,
        index: usize,
        range: TimeRange,
        into: &mut Columns,
        context: &QueryContext,
    ) -> Result<(), QueryError> {
        context.check()?;
        let columns = &self.series[index].1;
        let from = columns.times().partition_point(|t| *t < range.min);
        let to = columns.times().partition_point(|t| *t <= range.max);
        if columns.histograms().is_empty() {
            into.extend_from_slices(&columns.times()[from..to], &columns.floats()[from..to]);
        } else {
            (from..to).for_each(|row| into.push_row(columns, row));
        }
        self.stops.iter().for_each(|stops| stops.cancel());
        Ok(())
    }

    fn latest(&self, _: usize) -> Option<Sample> {
        None
    }
}
