//! Stores what a scrape brought: samples, staleness markers and the report, in one batch.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use model::{Appended, Appender, Rejection, SeriesKey, SeriesRef, Timestamp};
use tracing::{debug, warn};

use crate::ScrapeError;
use crate::cache::SeriesCache;
use crate::metadata::Metadata;
use crate::metrics::Metrics;
use crate::pass::{self, Counts, Scratch};
use crate::report::{ExtraReport, PendingReports, Report, ReportSeries};
use crate::series_labels::SampleRules;
use crate::status::TargetStatus;

/// A scrape that is over, as far as the network is concerned.
#[derive(Debug)]
pub(crate) struct Scrape<'a> {
    /// For messages.
    pub(crate) url: &'a str,
    /// When it began, on the clock.
    pub(crate) t: Timestamp,
    /// When it began.
    pub(crate) started: Instant,
    /// What the target answered; empty if it did not.
    pub(crate) body: &'a [u8],
    /// Why it did not.
    pub(crate) failure: Option<ScrapeError>,
    pub(crate) rules: &'a SampleRules,
    /// The configured timeout, if extra series are reported.
    pub(crate) extra_timeout: Option<Duration>,
}

/// What is remembered of a target between scrapes.
#[derive(Debug, Default)]
pub(crate) struct Intake {
    cache: SeriesCache,
    reports: ReportSeries,
    /// How the cached lines were read.
    rules: Option<SampleRules>,
}

/// Where samples go, and who counts them.
#[derive(Clone, Copy)]
pub(crate) struct Sink<'a> {
    pub(crate) appender: &'a dyn Appender,
    pub(crate) metrics: &'a Metrics,
}

/// The parts of a batch, by the positions where they end.
#[derive(Clone, Copy)]
struct Parts {
    samples_end: usize,
    stale_end: usize,
}

impl Intake {
    /// Reads the answer and stores everything that follows from it. The status says how it went before
    /// the store does.
    pub(crate) fn store(
        &mut self,
        scrape: Scrape<'_>,
        status: &TargetStatus,
        sink: Sink<'_>,
        scratch: &mut Scratch,
    ) {
        scratch.clear();
        self.follow_rules(scrape.rules);
        let mut counts = Counts::default();
        let body_reached_limit = matches!(scrape.failure, Some(ScrapeError::BodySizeLimit));
        let error = self.read(&scrape, &status.metadata, scratch, &mut counts);
        let error = scrape.failure.or(error);
        if let Some(error) = &error {
            count_failure(error, sink.metrics);
        }
        let samples_end = scratch.batch.floats.len();
        self.cache.push_vanished(scrape.t, &mut scratch.batch);
        let parts = Parts { samples_end, stale_end: scratch.batch.floats.len() };
        let report = Report {
            up: error.is_none(),
            duration: scrape.started.elapsed(),
            samples_scraped: counts.scraped,
            samples_kept: counts.kept,
            series_added: counts.series_added,
            extra: scrape.extra_timeout.map(|timeout| ExtraReport {
                timeout,
                sample_limit: scrape.rules.limits.samples_max,
                body_bytes: (!body_reached_limit).then_some(scrape.body.len() as u64),
            }),
        };
        status.set(scrape.t, report.duration, error.as_ref());
        let labels = &scrape.rules.labels;
        let reports = self.reports.push(&report, labels, scrape.t, &mut scratch.batch);
        let mut tally = Tally { duplicates: counts.duplicates, ..Tally::default() };
        tally.out_of_bounds = counts.out_of_bounds;
        match sink.appender.append(&scratch.batch) {
            Ok(appended) => {
                let unknown = self.settle(&appended, &reports, parts, scratch, &mut tally);
                if !unknown.is_empty() {
                    let again = Again {
                        body: scrape.body,
                        t: scrape.t,
                        rules: scrape.rules,
                        report: &report,
                    };
                    self.store_again(&unknown, &again, sink, scratch, &mut tally);
                }
            }
            Err(e) => {
                sink.metrics.append_failures.inc();
                warn!(target = scrape.url, error = %e, "scrape not stored");
            }
        }
        tally.publish(scrape.url, sink.metrics);
    }

    /// The target is gone: marks everything that it had as stale.
    pub(crate) fn store_end(&mut self, t: Timestamp, sink: Sink<'_>, scratch: &mut Scratch) {
        scratch.clear();
        self.cache.fail();
        self.cache.push_vanished(t, &mut scratch.batch);
        self.reports.push_stale(t, &mut scratch.batch);
        if scratch.batch.is_empty() {
            return;
        }
        if let Err(e) = sink.appender.append(&scratch.batch) {
            sink.metrics.append_failures.inc();
            warn!(error = %e, "staleness markers of a removed target not stored");
        }
    }

    /// Starts afresh when lines that are known would now become other series, or would not be allowed.
    fn follow_rules(&mut self, rules: &SampleRules) {
        let same = |known: &SampleRules| {
            let mut rules = rules.clone();
            rules.limits.samples_max = known.limits.samples_max;
            rules.limits.body_bytes_max = known.limits.body_bytes_max;
            rules.limits.targets_max = known.limits.targets_max;
            rules == *known
        };
        match &self.rules {
            Some(known) if known == rules => return,
            Some(known) if !same(known) => self.cache.reset(),
            _ => {}
        }
        self.rules = Some(rules.clone());
    }

    fn read(
        &mut self,
        scrape: &Scrape<'_>,
        metadata: &Metadata,
        scratch: &mut Scratch,
        counts: &mut Counts,
    ) -> Option<ScrapeError> {
        let (cache, rules, body) = (&mut self.cache, scrape.rules, scrape.body);
        if body.is_empty() {
            cache.fail();
            return None;
        }
        let error = pass::read(body, scrape.t, rules, cache, metadata, scratch, counts).err();
        if error.is_some() {
            scratch.clear();
            cache.fail();
        }
        error
    }

    /// Takes note of what became of the batch; returns the refs that the store does not know.
    fn settle(
        &mut self,
        appended: &Appended,
        reports: &PendingReports,
        parts: Parts,
        scratch: &Scratch,
        tally: &mut Tally,
    ) -> HashSet<SeriesRef> {
        self.cache.resolve(&scratch.pending, appended);
        self.reports.resolve(reports, appended);
        self.cache.forget_vanished();
        let mut unknown = HashSet::new();
        for rejected in &appended.rejected {
            // Markers are refused when the target was restarted elsewhere and its series live on.
            if (parts.samples_end..parts.stale_end).contains(&rejected.index) {
                continue;
            }
            if rejected.reason == Rejection::UnknownSeries {
                let float = scratch.batch.floats.get(rejected.index);
                if let Some(SeriesKey::Known(series)) = float.map(|float| float.series) {
                    unknown.insert(series);
                }
            } else if rejected.index < parts.samples_end {
                tally.count(rejected.reason);
            }
        }
        unknown
    }

    /// Appends with labels what was refused because its ref was unknown.
    fn store_again(
        &mut self,
        unknown: &HashSet<SeriesRef>,
        again: &Again<'_>,
        sink: Sink<'_>,
        scratch: &mut Scratch,
        tally: &mut Tally,
    ) {
        scratch.clear();
        let lines = self.cache.forget_refs(unknown);
        if let Err(e) = pass::read_again(again.body, again.t, again.rules, &lines, scratch) {
            debug!(error = %e, "a body was read differently the second time");
            scratch.clear();
        }
        let samples_end = scratch.batch.floats.len();
        let mut reports = PendingReports::new();
        if self.reports.forget_refs(|series| unknown.contains(&series)) {
            let labels = &again.rules.labels;
            let batch = &mut scratch.batch;
            reports = self.reports.push_unresolved(again.report, labels, again.t, batch);
        }
        match sink.appender.append(&scratch.batch) {
            Ok(appended) => {
                let parts = Parts { samples_end, stale_end: samples_end };
                self.settle(&appended, &reports, parts, scratch, tally);
            }
            Err(e) => {
                sink.metrics.append_failures.inc();
                warn!(error = %e, "part of a scrape not stored");
            }
        }
    }
}

/// What is needed to append part of a scrape a second time.
struct Again<'a> {
    body: &'a [u8],
    t: Timestamp,
    rules: &'a SampleRules,
    report: &'a Report,
}

fn count_failure(error: &ScrapeError, metrics: &Metrics) {
    match error {
        ScrapeError::BodySizeLimit => metrics.exceeded_body_size_limit.inc(),
        ScrapeError::SampleLimit => metrics.exceeded_sample_limit.inc(),
        ScrapeError::LabelLimit { .. }
        | ScrapeError::LabelNameLimit { .. }
        | ScrapeError::LabelValueLimit { .. } => metrics.exceeded_label_limits.inc(),
        _ => {}
    }
}

/// Samples of one scrape that were not stored.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    duplicates: u64,
    out_of_order: u64,
    out_of_bounds: u64,
    refused: u64,
}

impl Tally {
    fn count(&mut self, reason: Rejection) {
        match reason {
            Rejection::DuplicateTimestamp => self.duplicates += 1,
            Rejection::OutOfOrder => self.out_of_order += 1,
            Rejection::OutOfBounds => self.out_of_bounds += 1,
            _ => self.refused += 1,
        }
    }

    fn publish(&self, url: &str, metrics: &Metrics) {
        for (n, counter, message) in [
            (
                self.duplicates,
                &metrics.sample_duplicate_timestamp,
                "samples with different value but same timestamp dropped",
            ),
            (self.out_of_order, &metrics.sample_out_of_order, "out-of-order samples dropped"),
            (
                self.out_of_bounds,
                &metrics.sample_out_of_bounds,
                "samples too old or too far in the future dropped",
            ),
            (self.refused, &metrics.sample_refused, "samples of series not admitted dropped"),
        ] {
            if n > 0 {
                counter.inc_by(n);
                warn!(target = url, count = n, "{message}");
            }
        }
    }
}

#[cfg(test)]
mod tests;
