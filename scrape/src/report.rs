//! The series that a scrape reports about itself: `up` and its companions.

use std::time::Duration;

use model::{Appended, Batch, Labels, SeriesKey, SeriesRef, Timestamp, stale_marker};

use crate::cache::UNRESOLVED;
use crate::series_labels::report_series;

const NAMES: [&str; 8] = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
    "scrape_timeout_seconds",
    "scrape_sample_limit",
    "scrape_body_size_bytes",
];

/// How many of them every target has; the others are configured.
const ALWAYS: usize = 5;

/// What a scrape has to report.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Report {
    pub(crate) up: bool,
    pub(crate) duration: Duration,
    pub(crate) samples_scraped: u64,
    pub(crate) samples_kept: u64,
    pub(crate) series_added: u64,
    pub(crate) extra: Option<ExtraReport>,
}

/// What `extra_scrape_metrics` adds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExtraReport {
    pub(crate) timeout: Duration,
    /// 0 for no limit.
    pub(crate) sample_limit: u64,
    /// Bytes of the uncompressed body; `None` where it reached its limit.
    pub(crate) body_bytes: Option<u64>,
}

impl Report {
    fn values(&self) -> ([f64; NAMES.len()], usize) {
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
        let count = |n: u64| n as f64;
        let mut values = [0.0; NAMES.len()];
        values[..ALWAYS].copy_from_slice(&[
            f64::from(u8::from(self.up)),
            self.duration.as_secs_f64(),
            count(self.samples_scraped),
            count(self.samples_kept),
            count(self.series_added),
        ]);
        let Some(extra) = self.extra else { return (values, ALWAYS) };
        values[ALWAYS..].copy_from_slice(&[
            extra.timeout.as_secs_f64(),
            count(extra.sample_limit),
            extra.body_bytes.map_or(-1.0, count),
        ]);
        (values, NAMES.len())
    }
}

/// The refs of a target's report series.
#[derive(Debug)]
pub(crate) struct ReportSeries {
    refs: [SeriesRef; NAMES.len()],
}

impl Default for ReportSeries {
    fn default() -> Self {
        Self { refs: [UNRESOLVED; NAMES.len()] }
    }
}

/// Report series that a batch introduces: index into `NAMES`, and into [`Batch::new_series`].
pub(crate) type PendingReports = Vec<(usize, u32)>;

impl ReportSeries {
    /// Appends the report of a scrape at `t` of the target with `labels`.
    pub(crate) fn push(
        &self,
        report: &Report,
        labels: &Labels,
        t: Timestamp,
        batch: &mut Batch,
    ) -> PendingReports {
        let (values, count) = report.values();
        let mut pending = PendingReports::new();
        for (i, &v) in values[..count].iter().enumerate() {
            if self.refs[i] != UNRESOLVED {
                batch.push(self.refs[i], t, v);
            } else if let SeriesKey::New(new) =
                batch.push_new(report_series(NAMES[i], labels), t, v)
            {
                pending.push((i, new));
            }
        }
        pending
    }

    /// Appends staleness markers for all that were ever reported.
    pub(crate) fn push_stale(&self, t: Timestamp, batch: &mut Batch) {
        for &series in self.refs.iter().filter(|&&series| series != UNRESOLVED) {
            batch.push(series, t, stale_marker());
        }
    }

    /// Takes note of the refs that the store gave.
    pub(crate) fn resolve(&mut self, pending: &PendingReports, appended: &Appended) {
        for &(i, new) in pending {
            if let Some(&series) = appended.new_refs.get(new as usize) {
                self.refs[i] = series;
            }
        }
    }

    /// Forgets refs that the store does not know (any more); says whether there were any.
    pub(crate) fn forget_refs(&mut self, unknown: impl Fn(SeriesRef) -> bool) -> bool {
        let mut forgot = false;
        for series in self.refs.iter_mut().filter(|series| unknown(**series)) {
            *series = UNRESOLVED;
            forgot = true;
        }
        forgot
    }

    /// Appends the report again for those series that [`forget_refs`](Self::forget_refs) forgot.
    pub(crate) fn push_unresolved(
        &self,
        report: &Report,
        labels: &Labels,
        t: Timestamp,
        batch: &mut Batch,
    ) -> PendingReports {
        let (values, count) = report.values();
        let mut pending = PendingReports::new();
        for i in (0..count).filter(|&i| self.refs[i] == UNRESOLVED) {
            if let SeriesKey::New(new) =
                batch.push_new(report_series(NAMES[i], labels), t, values[i])
            {
                pending.push((i, new));
            }
        }
        pending
    }
}
