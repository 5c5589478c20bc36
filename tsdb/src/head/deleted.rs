//! Spans of time that were deleted from series of the head.
//!
//! The samples stay in their chunks until these are cut into a block; whoever reads leaves them out.

use std::collections::HashMap;

use model::{Columns, TimeRange, Timestamp};

/// Deleted spans by series ref.
#[derive(Debug, Default)]
pub(crate) struct Deletions {
    spans: HashMap<u64, Vec<TimeRange>, foldhash::fast::RandomState>,
}

impl Deletions {
    /// Deletes `span` of a series; spans that touch are joined.
    pub(crate) fn add(&mut self, series: u64, span: TimeRange) {
        if span.min <= span.max {
            add_span(self.spans.entry(series).or_default(), span);
        }
    }

    /// The deleted spans of a series, ascending.
    pub(crate) fn of(&self, series: u64) -> &[TimeRange] {
        if self.spans.is_empty() {
            return &[];
        }
        self.spans.get(&series).map_or(&[], Vec::as_slice)
    }

    /// Forgets what ends before `t`, and series that `keeps` does not.
    pub(crate) fn truncate(&mut self, t: Timestamp, keeps: impl Fn(u64) -> bool) {
        self.spans.retain(|&series, spans| {
            spans.retain(|span| span.max >= t);
            !spans.is_empty() && keeps(series)
        });
    }

    /// All series with their spans.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &[TimeRange])> {
        self.spans.iter().map(|(series, spans)| (*series, spans.as_slice()))
    }
}

/// Adds `span` to spans that are ascending and apart, and keeps them so.
fn add_span(spans: &mut Vec<TimeRange>, mut span: TimeRange) {
    let touches = |other: &TimeRange, span: &TimeRange| {
        other.min <= span.max.saturating_add(1) && span.min <= other.max.saturating_add(1)
    };
    spans.retain(|other| {
        let joined = touches(other, &span);
        if joined {
            span = TimeRange::new(span.min.min(other.min), span.max.max(other.max));
        }
        !joined
    });
    let at = spans.partition_point(|other| other.min < span.min);
    spans.insert(at, span);
}

/// Removes deleted samples from the rows from `start` on.
pub(crate) fn remove_deleted(spans: &[TimeRange], start: usize, columns: &mut Columns) {
    let is_deleted = |t: Timestamp| spans.iter().any(|span| span.contains(t));
    if spans.is_empty() || !columns.times()[start..].iter().any(|&t| is_deleted(t)) {
        return;
    }
    let mut kept = Columns::new();
    for row in start..columns.len() {
        if !is_deleted(columns.times()[row]) {
            kept.push_row(columns, row);
        }
    }
    columns.truncate(start);
    for row in 0..kept.len() {
        columns.push_row(&kept, row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_joined_where_they_touch() {
        let mut deletions = Deletions::default();
        for (min, max) in [(10, 20), (30, 40), (60, 70), (41, 50), (5, 3), (19, 29)] {
            deletions.add(1, TimeRange::new(min, max));
        }
        assert_eq!(deletions.of(1), [TimeRange::new(10, 50), TimeRange::new(60, 70)]);
        deletions.truncate(51, |_| true);
        assert_eq!(deletions.of(1), [TimeRange::new(60, 70)]);
        deletions.truncate(0, |_| false);
        assert_eq!((deletions.of(1), deletions.iter().count()), (&[][..], 0));
    }

    #[test]
    fn deleted_rows_go_and_others_stay() {
        let mut columns = Columns::new();
        (0..6).for_each(|t| columns.push(t, t as f64));
        remove_deleted(&[TimeRange::new(0, 1), TimeRange::new(4, 4)], 1, &mut columns);
        assert_eq!(columns.times(), [0, 2, 3, 5]);
    }
}
