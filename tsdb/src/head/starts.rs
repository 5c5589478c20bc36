//! Start timestamps of samples in the head: those that a Prometheus logged (records 11 to 13).
//!
//! What is appended here has none, so few heads have any, and none has them for longer than until they are cut into a block. They are beside
//! the samples, by series ref, in runs: a counter begins once and is sampled many times since.

use std::collections::HashMap;

use model::Timestamp;

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

    /// Notes the start timestamp of the sample of a series at `t`; 0 is unknown, and noted only where the series has others.
    pub(crate) fn note(&mut self, series: u64, t: Timestamp, start: Timestamp) {
        if start != 0 {
            note(self.runs.entry(series).or_default(), t, start);
        } else if !self.is_empty()
            && let Some(runs) = self.runs.get_mut(&series)
        {
            note(runs, t, start);
        }
    }

    /// The runs of a series.
    pub(crate) fn of(&self, series: u64) -> &[Run] {
        if self.is_empty() {
            return &[];
        }
        self.runs.get(&series).map_or(&[], Vec::as_slice)
    }

    /// Forgets what ends before `t`, and series that `keeps` does not.
    pub(crate) fn truncate(&mut self, t: Timestamp, keeps: impl Fn(u64) -> bool) {
        self.runs.retain(|&series, runs| {
            runs.retain(|run| run.last >= t);
            !runs.is_empty() && keeps(series)
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

fn note(runs: &mut Vec<Run>, t: Timestamp, start: Timestamp) {
    let alone = Run { first: t, last: t, start };
    match runs.last_mut() {
        Some(newest) if t > newest.last && newest.start == start => newest.last = t,
        Some(newest) if t <= newest.last => note_late(runs, alone),
        _ => runs.push(alone),
    }
}

/// Notes a sample that is not the newest. Within a run of another start it divides the run.
fn note_late(runs: &mut Vec<Run>, late: Run) {
    let at = runs.partition_point(|run| run.last < late.first);
    let run = runs[at];
    if late.first < run.first {
        runs.insert(at, late);
    } else if run.start != late.start {
        let before = Run { last: late.first.saturating_sub(1), ..run };
        let after = Run { first: late.last.saturating_add(1), ..run };
        let parts = [before, late, after].into_iter().filter(|part| part.first <= part.last);
        runs.splice(at..=at, parts);
    }
}

/// The start timestamp of the sample at `t`; 0 if it is unknown. A sample that comes late, amid samples that count since one time, counts since
/// then as well.
pub(crate) fn start_of(runs: &[Run], t: Timestamp) -> Timestamp {
    let run = runs.get(runs.partition_point(|run| run.last < t));
    run.filter(|run| run.first <= t).map_or(0, |run| run.start)
}

#[cfg(test)]
mod tests {
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
        assert_eq!(starts.of(1), [run(20, 30, 5), run(40, 40, 0), run(50, 50, 5), run(60, 60, 45)]);
        assert_eq!(starts.of(2), []);
        assert!(starts.bytes() > 4 * size_of::<Run>());
        starts.truncate(50, |_| true);
        assert_eq!(starts.of(1), [run(50, 50, 5), run(60, 60, 45)]);
        starts.truncate(0, |_| false);
        assert!(starts.is_empty() && starts.bytes() == 0);
    }

    proptest! {
        #[test]
        fn each_sample_has_its_start(samples in prop::collection::vec((0_i64..40, 0_i64..4), 1..60)) {
            let mut starts = Starts::default();
            let mut expected = std::collections::BTreeMap::new();
            for (t, start) in samples {
                // The first is what makes the series one that has any.
                let start = if expected.is_empty() { start + 1 } else { start };
                if expected.contains_key(&t) {
                    continue;
                }
                expected.insert(t, start);
                starts.note(7, t, start);
            }
            let runs = starts.of(7);
            prop_assert!(runs.windows(2).all(|pair| pair[0].last < pair[1].first));
            for (t, start) in expected {
                prop_assert_eq!(start_of(runs, t), start, "at {}", t);
            }
        }
    }
}
