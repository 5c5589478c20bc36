//! Discovery of targets, scrape pools and loops.
//!
//! [`Scraper`] follows a [`config::Config`]: it determines the targets of each job, asks each one for its metrics at
//! its own place in the scrape interval, and hands what it reads to a [`model::Appender`] as one batch per scrape, with
//! staleness markers for what is gone and `up` and its companions. What repeats from scrape to scrape is recognised and
//! not parsed again. How samples are stored and asked for is not its business.

mod cache;
mod discovery;
mod error;
mod fetch;
mod intake;
mod metadata;
mod metrics;
mod pass;
mod pool;
#[doc(hidden)]
pub mod replay;
mod report;
mod schedule;
mod scraper;
mod series_labels;
mod status;
mod target;
mod task;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod url;

pub use error::{ScrapeError, TargetError};
pub use metadata::MetricMetadata;
pub use scraper::{
    ActiveTarget, DroppedTarget, Health, LocalSource, LocalTarget, Scraper, ScraperOptions,
    TargetMetadata, Targets,
};

/// A hash of a text that is the same in every process.
fn hash_text(text: &str) -> u64 {
    xxhash_rust::xxh64::xxh64(text.as_bytes(), 0)
}
