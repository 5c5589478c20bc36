//! `prometheus.yml`: strict reading, defaults, validation.
//!
//! [`Config::parse`] turns text into a [`Config`] in which every default is filled in, so that nobody downstream asks
//! "or the global one?". Unknown fields are errors. Sections that Prometheus has and this version does not act on are
//! warnings; fields that would change *what* is scraped or stored are errors, since ignoring them would store the
//! wrong thing. Nothing here opens a connection, or any file but the one that is asked for.

mod duration;
mod error;
mod external_labels;
mod file;
mod resolve;
mod scrape;
mod size;
mod storage;
mod yaml;

pub use error::{ConfigError, Position, Problem};
pub use scrape::{GlobalConfig, HttpSdConfig, Limits, ScrapeConfig, ScrapeProtocol, TargetGroup};
pub use size::{format as format_size, parse as parse_size};
pub use storage::{RetentionConfig, StorageConfig};

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Largest configuration file.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// A configuration with all defaults filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// What applies to all scrapes and evaluations.
    pub global: GlobalConfig,
    /// Scrape jobs, in file order; names are unique.
    pub scrape_configs: Vec<ScrapeConfig>,
    /// What the store keeps.
    pub storage: StorageConfig,
    warnings: Vec<String>,
}

/// What holds where a configuration says nothing, as far as flags decide it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Defaults {
    /// `global.extra_scrape_metrics`
    pub extra_scrape_metrics: bool,
}

impl Config {
    /// Reads a configuration; `origin` names it in errors.
    ///
    /// # Errors
    /// [`ConfigError`] with line and column, and for values that make no sense the job and field.
    pub fn parse(yaml: &str, origin: &str) -> Result<Self, ConfigError> {
        Self::parse_with(yaml, origin, Defaults::default())
    }

    /// [`parse`](Self::parse) with other defaults.
    ///
    /// # Errors
    /// As those of `parse`.
    pub fn parse_with(yaml: &str, origin: &str, defaults: Defaults) -> Result<Self, ConfigError> {
        let file = file::read(yaml, origin)?;
        resolve::resolve(file, origin, defaults)
    }

    /// Reads the configuration in file `path`.
    ///
    /// # Errors
    /// [`ConfigError`], also when the file cannot be read or is unreasonably large.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::load_with(path, Defaults::default())
    }

    /// [`load`](Self::load) with other defaults.
    ///
    /// # Errors
    /// As those of `load`.
    pub fn load_with(path: &Path, defaults: Defaults) -> Result<Self, ConfigError> {
        let origin = path.display().to_string();
        let unreadable = |source| ConfigError::Read { path: origin.clone(), source };
        let mut yaml = String::new();
        let file = File::open(path).map_err(unreadable)?;
        file.take(FILE_BYTES_MAX + 1).read_to_string(&mut yaml).map_err(unreadable)?;
        if yaml.len() as u64 > FILE_BYTES_MAX {
            return Err(ConfigError::TooLarge { path: origin, bytes_max: FILE_BYTES_MAX });
        }
        Self::parse_with(&yaml, &origin, defaults)
    }

    /// What the file asks for that is not acted on, a line each.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The configuration as YAML, defaults included; what is not acted on is not part of it.
    ///
    /// # Panics
    /// Never: strings, numbers, lists and maps can be written.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        yaml::write(self)
    }
}

#[cfg(test)]
mod tests;
