//! Scrapes of given bodies, without network and schedule: what benchmarks measure.

use std::sync::Arc;
use std::time::Instant;

use config::Limits;
use model::{Appender, Labels, Timestamp};
use telemetry::Registry;

use crate::intake::{Intake, Scrape, Sink};
use crate::metadata::Metadata;
use crate::metrics::Metrics;
use crate::pass::Scratch;
use crate::series_labels::SampleRules;
use crate::status::TargetStatus;

/// One target, whose answers are handed in.
#[derive(Debug)]
pub struct Replay {
    intake: Intake,
    rules: SampleRules,
    status: TargetStatus,
    metrics: Metrics,
    scratch: Scratch,
}

impl Replay {
    /// A target with these labels that was never scraped.
    #[must_use]
    pub fn new(labels: Labels) -> Self {
        let metrics = Metrics::new(&Registry::new());
        Self {
            intake: Intake::default(),
            rules: SampleRules {
                labels,
                honor_labels: false,
                honor_timestamps: true,
                track_timestamps_staleness: false,
                type_labels: false,
                limits: Limits::default(),
            },
            status: TargetStatus::new(Metadata::new(Arc::default(), metrics.metadata_of("replay"))),
            metrics,
            scratch: Scratch::default(),
        }
    }

    /// Stores what a scrape at `t` that was answered with `body` brings.
    pub fn scrape(&mut self, body: &[u8], t: Timestamp, appender: &dyn Appender) {
        let scrape = Scrape {
            url: "replay",
            t,
            started: Instant::now(),
            body,
            failure: None,
            rules: &self.rules,
            extra_timeout: None,
        };
        let sink = Sink { appender, metrics: &self.metrics };
        self.intake.store(scrape, &self.status, sink, &mut self.scratch);
    }
}
