//! What others may know about a target while it is scraped.

use std::time::Duration;

use model::Timestamp;
use parking_lot::Mutex;

use crate::ScrapeError;
use crate::metadata::Metadata;
use crate::scraper::Health;

/// What others may know about a target.
#[derive(Debug)]
pub(crate) struct TargetStatus {
    pub(crate) last: Mutex<LastScrape>,
    pub(crate) metadata: Metadata,
}

/// How the last scrape of a target went.
#[derive(Clone, Debug)]
pub(crate) struct LastScrape {
    pub(crate) health: Health,
    pub(crate) error: String,
    pub(crate) t: Timestamp,
    pub(crate) duration: Duration,
}

impl TargetStatus {
    pub(crate) fn new(metadata: Metadata) -> Self {
        let last = LastScrape {
            health: Health::Unknown,
            error: String::new(),
            t: 0,
            duration: Duration::ZERO,
        };
        Self { last: Mutex::new(last), metadata }
    }

    /// Takes note of a scrape at `t`.
    pub(crate) fn set(&self, t: Timestamp, duration: Duration, error: Option<&ScrapeError>) {
        *self.last.lock() = LastScrape {
            health: if error.is_none() { Health::Up } else { Health::Down },
            error: error.map(ToString::to_string).unwrap_or_default(),
            t,
            duration,
        };
    }
}
