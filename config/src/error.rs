//! Why a configuration is refused.

use std::fmt;
use std::time::Duration;

use model::format_duration;

/// A place in a configuration file, lines and columns counted from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The file, or a name for text that comes from elsewhere.
    pub path: String,
    /// Line.
    pub line: u64,
    /// Column, in characters.
    pub column: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.path, self.line, self.column)
    }
}

/// A configuration that cannot be used. Every message names the file; all but the first two the position.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is larger than any sensible configuration.
    #[error("{path}: larger than {bytes_max} bytes")]
    TooLarge {
        /// The file.
        path: String,
        /// The bound.
        bytes_max: u64,
    },
    /// Not YAML, an unknown field, or a value of the wrong form.
    #[error("{position}: {message}")]
    Syntax {
        /// Where.
        position: Position,
        /// What is wrong.
        message: String,
    },
    /// A value that makes no sense where it stands.
    #[error("{position}: {section}: {field}: {problem}")]
    Invalid {
        /// Where.
        position: Position,
        /// `global`, `storage`, or the job.
        section: String,
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        problem: Problem,
    },
    /// Something that Prometheus does and this version does not, and without which other things would be scraped or
    /// stored than the file asks for.
    #[error("{position}: {section}: {field} is not supported by this version")]
    Unsupported {
        /// Where.
        position: Position,
        /// The job.
        section: String,
        /// The field, with the value if only that is the matter.
        field: String,
    },
}

/// What is wrong with a value.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// A scrape may not take longer than the time until the next.
    #[error("timeout {} is greater than scrape_interval {}", format_duration(*.timeout), format_duration(*.interval))]
    TimeoutGreaterThanInterval {
        /// The timeout.
        timeout: Duration,
        /// The interval.
        interval: Duration,
    },
    /// The value must be given.
    #[error("is missing or empty")]
    Missing,
    /// The job's name is taken.
    #[error("found multiple scrape configs with this job name, the first on line {first_line}")]
    DuplicateJob {
        /// Line of the first.
        first_line: u64,
    },
    /// A label's name is empty.
    #[error("{0:?} is not a valid label name")]
    LabelName(String),
    /// A target is written as a URL.
    #[error("{0:?} is not a valid hostname")]
    Hostname(String),
    /// Not an absolute URL of a scheme that is understood.
    #[error("{0:?} is not a valid URL: it must start with http:// or https:// and name a host")]
    Url(String),
    /// Zero where time must pass.
    #[error("must be greater than 0")]
    Zero,
    /// Not the name of a scrape protocol.
    #[error("unknown scrape protocol {0:?}")]
    Protocol(String),
    /// Not a number where one is needed.
    #[error("must be a number")]
    NotANumber,
    /// Not between 0 and 100.
    #[error("must be in the range [0, 100], got {0}")]
    Percentage(f64),
    /// Not one of the values that the field may have.
    #[error("unknown value {0:?}")]
    Choice(String),
}
