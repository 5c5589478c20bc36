//! Start timestamps of samples in the head: those that a Prometheus logged (records 11 to 13).
//!
//! What is appended here has none, so few heads have any, and a series has them until they are cut into a block. They are beside the samples, by
//! series ref, in runs: a counter begins once and is sampled many times since.

use std::collections::HashMap;

use model::{TimeRange, Timestamp};

/// Samples of a series that follow each other and have one start timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// Time of the first sample, and of the last.
    first: Timestamp,
    last: Timestamp,
    /// 0 if it is unknown.
    start: Timestamp,
}

/// Runs by series ref, ascending and apart.
#[derive(Debug, Default)]
pub(crate) struct Starts {
    runs: HashMap<u64, Vec<Run>, foldhash::fast::RandomState>,
}

impl Starts {
    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Notes the start timestamp of a sample that came in order, at `t`; 0 is unknown.
    pub(crate) fn note(&mut self, series: u64, t: Timestamp, start: Timestamp) {
        let Some(runs) = self.runs_for(series, start) else { return };
        match runs.last_mut() {
            Some(newest) if t > newest.last && newest.start == start => newest.last = t,
            Some(newest) if t <= newest.last => {}
            _ => runs.push(Run { first: t, last: t, start }),
        }
    }

    /// As [`note`](Self::note), of a sample that came late: nothing is said of those beside it.
    pub(crate) fn note_late(&mut self, series: u64, t: Timestamp, start: Timestamp) {
        if let Some(runs) = self.runs_for(series, start) {
            note_alone(runs, Run { first: t, last: t, start });
        }
    }

    /// The runs in which a start timestamp is noted; an unknown one only where the series has others.
    fn runs_for(&mut self, series: u64, start: Timestamp) -> Option<&mut Vec<Run>> {
        match start {
            0 if self.is_empty() => None,
            0 => self.runs.get_mut(&series),
            _ => Some(self.runs.entry(series).or_default()),
        }
    }

    /// The runs of a series that may have samples in `range`.
    pub(crate) fn of(&self, series: u64, range: TimeRange) -> &[Run] {
        if self.is_empty() {
            return &[];
        }
        let runs = self.runs.get(&series).map_or(&[][..], Vec::as_slice);
        let runs = &runs[runs.partition_point(|run| run.last < range.min)..];
        &runs[..runs.partition_point(|run| run.first <= range.max)]
    }

    /// Forgets what ends before the time that `before` gives for a series, or the whole series if it gives none or no start timestamp is left.
    pub(crate) fn truncate(&mut self, before: impl Fn(u64) -> Option<Timestamp>) {
        self.runs.retain(|&series, runs| {
            let Some(before) = before(series) else { return false };
            runs.retain(|run| run.last >= before);
            runs.iter().any(|run| run.start != 0)
        });
        if self.is_empty() {
            self.runs = HashMap::default();
        }
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> usize {
        let runs: usize = self.runs.values().map(Vec::capacity).sum();
        runs * size_of::<Run>() + self.runs.capacity() * size_of::<(u64, Vec<Run>)>()
    }
}

/// Notes a run of one sample. Within a run of another start it divides the run.
fn note_alone(runs: &mut Vec<Run>, alone: Run) {
    let at = runs.partition_point(|run| run.last < alone.first);
    match runs.get(at).copied() {
        Some(run) if run.first <= alone.first => {
            let before = Run { last: alone.first.saturating_sub(1), ..run };
            let after = Run { first: alone.last.saturating_add(1), ..run };
            let parts = [before, alone, after].into_iter().filter(|part| part.first <= part.last);
            if run.start != alone.start {
                runs.splice(at..=at, parts);
            }
        }
        _ => runs.insert(at, alone),
    }
}

/// Whether a sample in `range` may have a start timestamp.
pub(crate) fn may_start(runs: &[Run], range: TimeRange) -> bool {
    let overlaps = |run: &Run| run.first <= range.max && range.min <= run.last;
    runs.iter().any(|run| run.start != 0 && overlaps(run))
}

/// The start timestamp of the sample at `t`; 0 if it is unknown.
pub(crate) fn start_of(runs: &[Run], t: Timestamp) -> Timestamp {
    let run = runs.get(runs.partition_point(|run| run.last < t));
    run.filter(|run| run.first <= t).map_or(0, |run| run.start)
}

#[cfg(test)]
mod tests {
    use std::collections::btree_map::Entry;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn samples_of_one_start_are_one_run() {
        let mut starts = Starts::default();
        starts.note(1, 10, 0);
        assert!(starts.is_empty());
        for (t, start) in [(20, 5), (30, 5), (40, 0), (50, 5), (60, 45)] {
            starts.note(1, t, start);
        }
        let run = |first, last, start| Run { first, last, start };
        let all = [run(20, 30, 5), run(40, 40, 0), run(50, 50, 5), run(60, 60, 45)];
        assert_eq!(starts.of(1, TimeRange::ALL), all);
        assert_eq!(starts.of(1, TimeRange::new(30, 49)), &all[..2]);
        assert_eq!(starts.of(2, TimeRange::ALL), []);
        assert!(
            may_start(&all, TimeRange::new(25, 26)) && !may_start(&all, TimeRange::new(31, 49))
        );
        assert!(starts.bytes() > 4 * size_of::<Run>());
        starts.truncate(|_| Some(50));
        assert_eq!(starts.of(1, TimeRange::ALL), &all[2..]);
        // What is left has none.
        starts.note(1, 70, 0);
        starts.truncate(|_| Some(61));
        assert!(starts.is_empty() && starts.bytes() == 0);
        starts.note(1, 80, 5);
        starts.truncate(|_| None);
        assert!(starts.is_empty());
    }

    proptest! {
        #[test]
        fn each_sample_has_its_start(
            in_order in prop::collection::btree_map(0_i64..40, 0_i64..4, 0..30),
            late in prop::collection::vec((0_i64..60, 0_i64..4), 0..30),
        ) {
            let mut starts = Starts::default();
            in_order.iter().for_each(|(t, start)| starts.note(7, *t, *start));
            let mut expected = in_order;
            for (t, start) in late {
                if let Entry::Vacant(vacant) = expected.entry(t) {
                    vacant.insert(start);
                    starts.note_late(7, t, start);
                }
            }
            let runs = starts.of(7, TimeRange::ALL);
            prop_assert!(runs.windows(2).all(|pair| pair[0].last < pair[1].first));
            for (t, start) in expected {
                prop_assert_eq!(start_of(runs, t), start, "at {}", t);
            }
        }
    }
}
