//! The account of a load: what a store must hold, may hold, and must not.
//!
//! A batch that was acknowledged must be there; one that was refused must not come back; one that was on its way when the
//! process ended may be there as a whole or not at all (its late samples, which have a log of their own, for themselves), and stays what it was
//! found to be. Only retention takes samples away.

use std::collections::{BTreeMap, HashMap};

use model::{Columns, QueryContext, Queryable, Selection, TimeRange, Timestamp};

use super::{Line, STEP_MS, Settings, Workload, fingerprint};

/// A batch: thread and step.
type BatchId = (u32, i64);

/// What of a batch is written at once: late samples go to a log of their own.
type Part = (BatchId, bool);

/// See the module.
#[derive(Clone, Debug)]
pub struct Ledger {
    workload: Workload,
    settings: Settings,
    series: HashMap<String, BTreeMap<Timestamp, Entry>>,
    /// The step from which the next run must begin, so that it goes on after all that was ever sent.
    next_step: i64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    bits: u64,
    standing: Standing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Acknowledged,
    Refused,
    /// Of this part of a batch, which may have been stored.
    InDoubt(Part),
}

/// What a check found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Samples in the store.
    pub found: usize,
    /// Acknowledged samples that are there.
    pub acknowledged: usize,
    /// Acknowledged samples that retention has taken since the check before.
    pub expired: usize,
    /// Batches in doubt that are there.
    pub kept: usize,
    /// Batches in doubt that are not.
    pub dropped: usize,
}

impl Ledger {
    /// The account of a store that is empty.
    #[must_use]
    pub fn new(workload: Workload, settings: Settings) -> Self {
        Self { workload, settings, series: HashMap::new(), next_step: 0 }
    }

    /// The step from which the next run has to begin.
    #[must_use]
    pub const fn next_step(&self) -> i64 {
        self.next_step
    }

    /// Enters what a run of `threads` threads reported before it ended, from step [`next_step`](Self::next_step) on.
    ///
    /// # Errors
    /// When the lines do not follow each other as they must.
    pub fn enter(&mut self, threads: u32, lines: &[Line]) -> Result<(), String> {
        let mut next: Vec<i64> = (0..threads).map(|_| self.next_step).collect();
        for line in lines {
            let (thread, step, standing) = match line {
                Line::Acknowledged { thread, step } => (*thread, *step, Standing::Acknowledged),
                Line::Refused { thread, step, .. } => (*thread, *step, Standing::Refused),
                Line::Open | Line::Failed(_) | Line::Done => continue,
            };
            let expected = next.get_mut(thread as usize).ok_or("a thread too many")?;
            if *expected != step {
                return Err(format!("step {step} of thread {thread} follows {}", *expected - 1));
            }
            *expected += 1;
            self.add((thread, step), standing);
        }
        let is_done = lines.last() == Some(&Line::Done);
        for (thread, &step) in (0..).zip(&next).filter(|_| !is_done) {
            self.add((thread, step), Standing::InDoubt(((thread, step), false)));
        }
        self.next_step = next.into_iter().max().unwrap_or(self.next_step) + 1;
        Ok(())
    }

    fn add(&mut self, (thread, step): BatchId, standing: Standing) {
        for point in self.workload.batch(thread, step) {
            let standing = match standing {
                Standing::InDoubt((batch, _)) => Standing::InDoubt((batch, point.is_late)),
                settled => settled,
            };
            let entry = Entry { bits: point.value.fingerprint(), standing };
            self.series.entry(point.labels.to_string()).or_default().insert(point.t, entry);
        }
    }

    /// Compares with all that `store` holds, and settles what was in doubt.
    ///
    /// # Errors
    /// The first sample that is lost, or is there and must not be, or differs.
    pub fn check(&mut self, store: &dyn Queryable) -> Result<Account, String> {
        let found = content(store)?;
        let newest = found.values().filter_map(|samples| samples.last()).map(|s| s.0).max();
        let kept_from = self.kept_from(newest);
        let mut account = Account::default();
        let mut doubts: HashMap<Part, [usize; 2]> = HashMap::new();
        for (series, samples) in &found {
            self.check_found(series, samples, &mut doubts)?;
            account.found += samples.len();
        }
        let settled = |((_, step), _): Part, [missing, there]: [usize; 2]| match (missing, there) {
            (_, 0) => Ok(false),
            (0, _) => Ok(true),
            _ => Err(format!("step {step} is there in part: {there} samples, {missing} are not")),
        };
        for (series, entries) in &self.series {
            let samples = found.get(series).map_or(&[][..], Vec::as_slice);
            for (&t, entry) in entries {
                let is_there = samples.binary_search_by_key(&t, |sample| sample.0).is_ok();
                match entry.standing {
                    Standing::Acknowledged if is_there => account.acknowledged += 1,
                    Standing::Acknowledged if t < kept_from => account.expired += 1,
                    Standing::Acknowledged => {
                        return Err(format!("{series} lost its sample at {t}"));
                    }
                    Standing::InDoubt(batch) if !is_there => {
                        doubts.entry(batch).or_default()[0] += 1;
                    }
                    _ => {}
                }
            }
        }
        let mut verdicts = HashMap::new();
        for (batch, counts) in doubts {
            let is_kept = settled(batch, counts)?;
            *(if is_kept { &mut account.kept } else { &mut account.dropped }) += 1;
            verdicts.insert(batch, is_kept);
        }
        self.settle(&verdicts, &found, kept_from);
        Ok(account)
    }

    /// Samples before this may have been deleted. As in Prometheus, the retention counts back from the end of the newest block; that of late samples
    /// may have the span that the newest sample is in.
    fn kept_from(&self, newest: Option<Timestamp>) -> Timestamp {
        let retention = i64::from(self.settings.retention_steps) * STEP_MS;
        let block = i64::from(self.settings.block_steps) * STEP_MS;
        match newest {
            Some(newest) if retention > 0 => (newest / block + 1) * block - retention,
            _ => Timestamp::MIN,
        }
    }

    /// Everything that is there was sent, with this value, and not refused.
    fn check_found(
        &self,
        series: &str,
        samples: &[(Timestamp, u64)],
        doubts: &mut HashMap<Part, [usize; 2]>,
    ) -> Result<(), String> {
        let entries = self.series.get(series);
        for (t, bits) in samples {
            let Some(entry) = entries.and_then(|entries| entries.get(t)) else {
                return Err(format!("{series} has a sample at {t} that was not sent"));
            };
            if entry.bits != *bits {
                let sent = entry.bits;
                return Err(format!("{series} has {bits:#x} at {t}, not {sent:#x}"));
            }
            match entry.standing {
                Standing::Acknowledged => {}
                Standing::Refused => {
                    return Err(format!("{series} has a sample at {t} that was refused"));
                }
                Standing::InDoubt(batch) => doubts.entry(batch).or_default()[1] += 1,
            }
        }
        Ok(())
    }

    /// From now on what was found is acknowledged, what was not is refused; what has expired must not come back.
    fn settle(
        &mut self,
        verdicts: &HashMap<Part, bool>,
        found: &BTreeMap<String, Vec<(Timestamp, u64)>>,
        kept_from: Timestamp,
    ) {
        self.series.retain(|series, entries| {
            let samples = found.get(series).map_or(&[][..], Vec::as_slice);
            entries.retain(|t, entry| {
                if let Standing::InDoubt(batch) = entry.standing {
                    entry.standing = match verdicts.get(&batch) {
                        Some(true) => Standing::Acknowledged,
                        _ => Standing::Refused,
                    };
                }
                *t >= kept_from || samples.binary_search_by_key(t, |sample| sample.0).is_ok()
            });
            !entries.is_empty()
        });
    }
}

/// All samples of a store by series.
fn content(store: &dyn Queryable) -> Result<BTreeMap<String, Vec<(Timestamp, u64)>>, String> {
    let text = |error: model::QueryError| error.to_string();
    let context = QueryContext::unbounded();
    let querier = store.querier(TimeRange::ALL).map_err(text)?;
    let set = querier.select(&Selection::new(&[], TimeRange::ALL), &context).map_err(text)?;
    if let Some(warning) = set.warnings().first() {
        return Err(format!("a query warns: {warning}"));
    }
    let mut content = BTreeMap::new();
    let mut columns = Columns::new();
    for index in 0..set.len() {
        columns.clear();
        set.read(index, TimeRange::ALL, &mut columns, &context).map_err(text)?;
        if columns.is_empty() {
            continue;
        }
        let samples: Vec<_> = (0..)
            .zip(columns.iter())
            .map(|(row, sample)| match columns.histogram(row) {
                Some(histogram) => (sample.t, fingerprint(histogram)),
                None => (sample.t, sample.v.to_bits()),
            })
            .collect();
        let series = set.labels(index).to_string();
        if !samples.is_sorted_by(|a, b| a.0 < b.0) {
            return Err(format!("{series} has samples out of order"));
        }
        if content.insert(series.clone(), samples).is_some() {
            return Err(format!("{series} is there twice"));
        }
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::{Appender, Batch, ManualClock};
    use tsdb::{Db, MemDisk};

    use super::*;
    use crate::load::Value;

    const WORKLOAD: Workload = Workload { seed: 1, burst_series: 3 };

    fn store() -> Db {
        let (disk, clock) = (Arc::new(MemDisk::new()), Arc::new(ManualClock::new(0)));
        let registry = telemetry::Registry::new();
        Db::open("/data".as_ref(), disk, clock, Settings::SMALL.options(), &registry).unwrap()
    }

    fn append(db: &Db, step: i64, samples_max: usize, flip: u64) {
        let mut batch = Batch::new();
        for point in WORKLOAD.batch(0, step).into_iter().take(samples_max) {
            match point.value {
                // By its bits: adding even zero would make a signalling NaN another.
                Value::Float(v) => {
                    batch.push_new(point.labels, point.t, f64::from_bits(v.to_bits() ^ flip));
                }
                Value::Histogram(histogram) => {
                    let series = batch.introduce(point.labels);
                    batch.push_histogram(series, point.t, histogram);
                }
            }
        }
        let appended = db.append(&batch).unwrap();
        assert_eq!((appended.rejected, appended.rejected_histograms), (vec![], vec![]));
    }

    /// Checks a store with the steps `stored` against an account of `lines`.
    fn check(stored: &[i64], lines: &[Line]) -> Result<Account, String> {
        let db = store();
        stored.iter().for_each(|step| append(&db, *step, usize::MAX, 0));
        let mut ledger = Ledger::new(WORKLOAD, Settings::SMALL);
        ledger.enter(1, lines)?;
        ledger.check(&db)
    }

    fn ack(step: i64) -> Line {
        Line::Acknowledged { thread: 0, step }
    }

    #[test]
    fn what_was_acknowledged_must_be_there() {
        let account = check(&[0, 1], &[ack(0), ack(1), Line::Done]).unwrap();
        assert_eq!((account.kept, account.dropped), (0, 0));
        assert_eq!(account.found, account.acknowledged);
        assert!(account.found > 16, "{account:?}");
        let lost = check(&[0], &[ack(0), ack(1)]).unwrap_err();
        assert!(lost.contains("lost its sample"), "{lost}");
        let skipped = check(&[0], &[ack(0), ack(2)]).unwrap_err();
        assert!(skipped.contains("step 2 of thread 0 follows 0"), "{skipped}");
    }

    #[test]
    fn what_was_not_sent_or_refused_must_not_be_there() {
        let unsent = check(&[0, 1, 2], &[ack(0), Line::Done]).unwrap_err();
        assert!(unsent.contains("that was not sent"), "{unsent}");
        let line = Line::Refused { thread: 0, step: 1, reason: String::new() };
        let refused = check(&[0, 1], &[ack(0), line, Line::Done]).unwrap_err();
        assert!(refused.contains("that was refused"), "{refused}");
    }

    #[test]
    fn what_was_on_its_way_is_there_whole_or_not_and_stays_so() {
        assert_eq!(check(&[0, 1], &[ack(0)]).unwrap().kept, 1);
        assert_eq!(check(&[0], &[ack(0)]).unwrap().dropped, 1);
        let db = store();
        let mut ledger = Ledger::new(WORKLOAD, Settings::SMALL);
        ledger.enter(1, &[]).unwrap();
        ledger.check(&db).unwrap();
        assert_eq!(ledger.next_step(), 1);
        append(&db, 0, usize::MAX, 0);
        let back = ledger.check(&db).unwrap_err();
        assert!(back.contains("that was refused"), "{back}");
        let db = store();
        append(&db, 0, 2, 0);
        let mut ledger = Ledger::new(WORKLOAD, Settings::SMALL);
        ledger.enter(1, &[]).unwrap();
        let part = ledger.check(&db).unwrap_err();
        assert!(part.contains("there in part"), "{part}");
    }

    #[test]
    fn values_are_compared_by_their_bits() {
        let db = store();
        append(&db, 0, usize::MAX, 1);
        let mut ledger = Ledger::new(WORKLOAD, Settings::SMALL);
        ledger.enter(1, &[ack(0)]).unwrap();
        let wrong = ledger.check(&db).unwrap_err();
        assert!(wrong.contains(", not 0x"), "{wrong}");
    }

    #[test]
    fn retention_alone_excuses_what_is_missing() {
        let db = store();
        let mut ledger = Ledger::new(WORKLOAD, Settings::SMALL);
        let steps: Vec<_> = (0..900).map(ack).collect();
        ledger.enter(1, &steps).unwrap();
        for step in 0..900 {
            append(&db, step, usize::MAX, 0);
            if step % 10 == 0 {
                db.maintain().unwrap();
            }
        }
        let account = ledger.clone().check(&db).unwrap();
        assert!(account.expired > 1000, "{account:?}");
        ledger.settings.retention_steps = 0;
        let lost = ledger.check(&db).unwrap_err();
        assert!(lost.contains("lost its sample"), "{lost}");
    }
}
