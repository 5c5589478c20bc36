//! What a store must hold, may hold and must not, told from what was asked of it and what it answered.

use std::collections::BTreeMap;

use model::{
    Columns, Labels, QueryContext, QueryError, Queryable, Selection, TimeRange, Timestamp,
};
use tests::load::{Point, Value, fingerprint};

/// Samples by series, each time with the fingerprint of its value.
pub(super) type Content = BTreeMap<String, Vec<(Timestamp, u64)>>;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Account {
    /// Span of a block, in milliseconds.
    block: i64,
    /// How long samples are kept, in milliseconds.
    retention: i64,
    series: BTreeMap<String, BTreeMap<Timestamp, Entry>>,
    /// Of all series, in the order in which they were first sent.
    labels: Vec<Labels>,
    /// Spans that were deleted: what comes late into one may be taken for deleted.
    deleted: Vec<(String, TimeRange)>,
    batch: u64,
    newest: Timestamp,
}

/// What of a batch is written at once: late samples go to a log of their own.
type Part = (u64, bool);

#[derive(Clone, Copy, Debug)]
struct Entry {
    bits: u64,
    part: Part,
    is_float: bool,
    standing: Standing,
    durable: bool,
    deletion: Deletion,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// The store has not answered yet, or with an error of the disk: after a restart it may be there.
    Doubtful,
    Acknowledged,
    /// It must never be there.
    Refused,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deletion {
    None,
    /// Asked for and not answered, or failed.
    Doubtful,
    Done,
}

/// What may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// Nothing: the store runs, or was closed or killed.
    Kill,
    /// What was not durable.
    PowerLoss,
}

/// One batch, as the store answered it.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchId(u64);

impl Account {
    /// The account of an empty store.
    pub(super) fn new(block: i64, retention: i64) -> Self {
        let newest = Timestamp::MIN;
        let (series, labels, deleted) = (BTreeMap::new(), Vec::new(), Vec::new());
        Self { block, retention, series, labels, deleted, batch: 0, newest }
    }

    /// A batch is about to be appended.
    pub(super) fn begin(&mut self, points: &[Point]) -> BatchId {
        self.batch += 1;
        for point in points {
            let series = point.labels.to_string();
            let is_in =
                |(of, range): &(String, TimeRange)| *of == series && range.contains(point.t);
            let deletion = if point.is_late && self.deleted.iter().any(is_in) {
                Deletion::Doubtful
            } else {
                Deletion::None
            };
            let entry = Entry {
                bits: point.value.fingerprint(),
                part: (self.batch, point.is_late),
                is_float: matches!(point.value, Value::Float(_)),
                standing: Standing::Doubtful,
                durable: false,
                deletion,
            };
            self.newest = self.newest.max(point.t);
            if !self.series.contains_key(&series) {
                self.labels.push(point.labels.clone());
            }
            let before = self.series.entry(series).or_default().insert(point.t, entry);
            assert!(before.is_none(), "the workload has two samples for one time");
        }
        BatchId(self.batch)
    }

    /// The store took the batch, except for what it refused; `durable` if it promises so at once.
    pub(super) fn acknowledge(
        &mut self,
        batch: BatchId,
        refused: &[(String, Timestamp)],
        durable: bool,
    ) {
        let parts = [(batch.0, false), (batch.0, true)];
        self.each(|series, t, entry| {
            if parts.contains(&entry.part) {
                let is_refused = refused.iter().any(|(of, at)| of == series && *at == t);
                entry.standing =
                    if is_refused { Standing::Refused } else { Standing::Acknowledged };
                entry.durable = durable && !is_refused;
            }
        });
    }

    /// What was acknowledged so far is durable.
    pub(super) fn synced(&mut self) {
        self.each(|_, _, entry| entry.durable |= entry.standing == Standing::Acknowledged);
    }

    /// The samples of `series` in `range` are about to be deleted.
    pub(super) fn begin_deletion(&mut self, series: &str, range: TimeRange) {
        self.deletion(series, range, Deletion::Doubtful);
        self.deleted.push((String::from(series), range));
    }

    /// They are deleted.
    pub(super) fn deleted(&mut self, series: &str, range: TimeRange) {
        self.deletion(series, range, Deletion::Done);
    }

    fn deletion(&mut self, series: &str, range: TimeRange, to: Deletion) {
        self.each(|of, t, entry| {
            if of == series && range.contains(t) && entry.deletion != Deletion::Done {
                entry.deletion = to;
            }
        });
    }

    fn each(&mut self, mut change: impl FnMut(&str, Timestamp, &mut Entry)) {
        for (series, entries) in &mut self.series {
            entries.iter_mut().for_each(|(&t, entry)| change(series, t, entry));
        }
    }

    /// All series that were ever sent.
    pub(super) fn labels(&self) -> &[Labels] {
        &self.labels
    }

    /// The newest time that was ever sent.
    pub(super) fn newest(&self) -> Timestamp {
        self.newest
    }

    /// Everything that was ever sent.
    pub(super) fn ever(&self) -> Content {
        let samples = |entries: &BTreeMap<Timestamp, Entry>| {
            entries.iter().map(|(t, entry)| (*t, entry.bits)).collect()
        };
        self.series.iter().map(|(series, entries)| (series.clone(), samples(entries))).collect()
    }

    /// Samples that were acknowledged.
    pub(super) fn acknowledged(&self) -> usize {
        let entries = self.series.values().flat_map(BTreeMap::values);
        entries.filter(|entry| entry.standing == Standing::Acknowledged).count()
    }

    /// Samples before this may have been deleted: the retention counts back from the end of the newest block, which may be the one that the
    /// newest sample is in.
    fn kept_from(&self) -> Timestamp {
        if self.newest == Timestamp::MIN {
            return self.newest;
        }
        (self.newest.div_euclid(self.block) + 1) * self.block - self.retention
    }

    /// Compares with all that is in a store.
    ///
    /// # Errors
    /// The first thing that is lost, or is there and must not be, or differs.
    pub(super) fn check(&self, content: &Content, after: After) -> Result<(), String> {
        for (series, samples) in content {
            self.check_found(series, samples)?;
        }
        let kept_from = self.kept_from();
        let mut parts: BTreeMap<Part, [Option<(String, Timestamp)>; 2]> = BTreeMap::new();
        for (series, entries) in &self.series {
            let found = content.get(series).map_or(&[][..], Vec::as_slice);
            let is_known = entries.values().any(|entry| entry.durable);
            for (&t, entry) in entries {
                if entry.deletion != Deletion::None || t < kept_from {
                    continue;
                }
                let is_there = found.binary_search_by_key(&t, |sample| sample.0).is_ok();
                let must_be = entry.standing == Standing::Acknowledged
                    && (entry.durable || after == After::Kill);
                if must_be && !is_there {
                    return Err(format!("{series} lost its sample at {t}, {entry:?}"));
                }
                // Of a series that is new, the record that introduces it may be lost and others not.
                if !must_be && entry.is_float && (is_known || is_there) {
                    let example = &mut parts.entry(entry.part).or_default()[usize::from(is_there)];
                    *example = Some((series.clone(), t));
                }
            }
        }
        for (part, examples) in parts {
            if let [Some(missing), Some(there)] = examples {
                let text = format!("batch {part:?} is there in part: {there:?}, not {missing:?}");
                return Err(text);
            }
        }
        Ok(())
    }

    /// Everything that is there was sent with this value, not refused and not deleted.
    ///
    /// # Errors
    /// The first that is not so.
    pub(super) fn check_found(
        &self,
        series: &str,
        samples: &[(Timestamp, u64)],
    ) -> Result<(), String> {
        let entries = self.series.get(series);
        for (t, bits) in samples {
            let Some(entry) = entries.and_then(|entries| entries.get(t)) else {
                return Err(format!("{series} has a sample at {t} that was not sent"));
            };
            if entry.bits != *bits {
                return Err(format!("{series} has {bits:#x} at {t}, not {:#x}", entry.bits));
            }
            if entry.standing == Standing::Refused {
                return Err(format!("{series} has a sample at {t} that was refused"));
            }
            if entry.deletion == Deletion::Done {
                return Err(format!("{series} has a sample at {t} that was deleted"));
            }
        }
        if !samples.is_sorted_by(|a, b| a.0 < b.0) {
            return Err(format!("{series} has samples out of order"));
        }
        Ok(())
    }

    /// After a restart: what was in doubt is what it was found to be.
    pub(super) fn settle(&mut self, content: &Content) {
        self.each(|series, t, entry| {
            let samples = content.get(series).map_or(&[][..], Vec::as_slice);
            let is_there = samples.binary_search_by_key(&t, |sample| sample.0).is_ok();
            if entry.standing == Standing::Doubtful {
                entry.standing = if is_there { Standing::Acknowledged } else { Standing::Refused };
            }
            if entry.deletion == Deletion::Doubtful {
                entry.deletion = if is_there { Deletion::None } else { Deletion::Done };
            }
        });
    }
}

/// All samples of a store, and the warnings of the query.
///
/// # Errors
/// What the query ends with.
pub(super) fn content(store: &dyn Queryable) -> Result<(Content, Vec<String>), QueryError> {
    let context = QueryContext::unbounded();
    let querier = store.querier(TimeRange::ALL)?;
    let set = querier.select(&Selection::new(&[], TimeRange::ALL), &context)?;
    let mut content = Content::new();
    let mut columns = Columns::new();
    for index in 0..set.len() {
        columns.clear();
        set.read(index, TimeRange::ALL, &mut columns, &context)?;
        if !columns.is_empty() {
            let name = set.labels(index).to_string();
            let before = content.insert(name, samples(&columns));
            assert!(before.is_none(), "two series have the labels {}", set.labels(index));
        }
    }
    Ok((content, set.warnings().to_vec()))
}

/// Times and fingerprints.
pub(super) fn samples(columns: &Columns) -> Vec<(Timestamp, u64)> {
    let fingerprint = |(row, sample): (usize, model::Sample)| match columns.histogram(row) {
        Some(histogram) => (sample.t, fingerprint(histogram)),
        None => (sample.t, sample.v.to_bits()),
    };
    columns.iter().enumerate().map(fingerprint).collect()
}
