//! `prometheus.yml`: strict reading, defaults, validation.
//!
//! [`Config::parse`] turns text into a [`Config`] in which every default is filled in, so that nobody downstream asks
//! "or the global one?". Unknown fields are errors. Sections that Prometheus has and this version does not act on are
//! warnings; fields that would change *what* is scraped or stored are errors, since ignoring them would store the wrong thing.

mod duration;
mod error;
mod file;
mod scrape;
mod size;
#[cfg(test)]
mod tests;
mod yaml;

pub use error::ConfigError;
pub use scrape::{GlobalConfig, HttpSdConfig, Limits, ScrapeConfig, TargetGroup};

use std::path::Path;

/// Largest configuration file.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// A configuration with all defaults filled in.
#[derive(Clone, Debug)]
pub struct Config {
    /// What applies to all scrapes and evaluations.
    pub global: GlobalConfig,
    /// Scrape jobs, in file order; names are unique.
    pub scrape_configs: Vec<ScrapeConfig>,
    warnings: Vec<String>,
}

impl Config {
    /// Reads a configuration; `origin` names it in errors.
    ///
    /// # Errors
    /// [`ConfigError`] with line and column, or job and field.
    pub fn parse(yaml: &str, origin: &str) -> Result<Self, ConfigError> {
        let file = file::read(yaml, origin)?;
        let warnings = file.warnings(origin);
        let (global, scrape_configs) = scrape::resolve(file, origin)?;
        Ok(Self { global, scrape_configs, warnings })
    }

    /// Reads the configuration in file `path`.
    ///
    /// # Errors
    /// [`ConfigError`]
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let origin = path.display().to_string();
        let unreadable = |source| ConfigError::Read { path: origin.clone(), source };
        let size = std::fs::metadata(path).map_err(unreadable)?.len();
        if size > FILE_BYTES_MAX {
            return Err(ConfigError::TooLarge { path: origin, bytes_max: FILE_BYTES_MAX });
        }
        let yaml = std::fs::read_to_string(path).map_err(unreadable)?;
        Self::parse(&yaml, &origin)
    }

    /// What the file asks for that is not acted on, a line each.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The configuration as YAML, defaults included.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        yaml::write(self)
    }
}
