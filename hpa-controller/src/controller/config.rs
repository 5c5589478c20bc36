//! How to run, and what of that cannot be.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use model::Clock;
use telemetry::Registry;

use crate::inputs::Constants;
use crate::leader::{ElectionError, ElectionOptions};
use crate::sources::History;
use crate::state::{LogOptions, Mode};

/// Longer periods would make the autoscaler useless, shorter ones ask more often than anything is measured.
const SYNC_PERIOD: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(3600);
/// Evaluations at a time; each holds its inputs.
const CONCURRENT_SYNCS_MAX: usize = 1000;
/// More is as good as no limit.
const STATUS_WRITES_MAX: u32 = 100_000;
/// Each has its own watches.
const NAMESPACES_MAX: usize = 64;

/// When autoscalers are evaluated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum React {
    /// Once a sync period.
    #[default]
    Period,
    /// Once a sync period, and in between whenever pods have fresh samples: then only to scale up, and within a sync period to
    /// no more than upstream's one evaluation would.
    FreshSamples,
}

/// Where the memory of autoscalers is kept, so that another process can go on from it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatePlaces {
    /// `ConfigMap`s that all replicas see: the namespace, and what their names begin with.
    pub config_maps: Option<(String, String)>,
    /// A folder.
    pub directory: Option<PathBuf>,
}

/// How to run. [`Config::check`] says what is wrong with it.
pub struct Config {
    /// The API server, and what to show it.
    pub api_server: kube::Config,
    /// Settings that take part in decisions.
    pub constants: Constants,
    /// Time from one evaluation of an autoscaler to the next; 15 s.
    pub sync_period: Duration,
    /// Autoscalers that are evaluated at a time, most of which wait for an answer; 50.
    pub concurrent_syncs: usize,
    /// Whether decisions are carried out.
    pub mode: Mode,
    /// What besides the period makes an evaluation.
    pub react: React,
    /// How the one that acts is elected among several; `None` if there is only this one.
    pub election: Option<ElectionOptions>,
    /// Where memory is kept.
    pub state: StatePlaces,
    /// How many decisions are kept, and where.
    pub log: LogOptions,
    /// Requests a second to the API server, watches aside; 1500.
    pub qps: f64,
    /// Requests at once after a quiet time; 3000.
    pub burst: u32,
    /// Statuses a second, of all autoscalers together, that are written where neither replicas nor the status of a condition has
    /// changed; 50. As many may be written at once after a quiet time.
    pub status_writes: u32,
    /// The namespaces whose autoscalers count; all if empty.
    pub namespaces: Vec<String>,
    /// The address of the HTTP API, `host:port`.
    pub listen: String,
    /// An address of metrics, probes and the counts of steered autoscalers alone, `host:port`.
    pub listen_probes: Option<String>,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// Where the metrics of this process are registered.
    pub registry: Registry,
    /// What metrics said before, for forecasts; without it there are none.
    pub history: Option<Arc<dyn History>>,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The API server's configuration holds secrets.
        f.debug_struct("Config")
            .field("constants", &self.constants)
            .field("sync_period", &self.sync_period)
            .field("concurrent_syncs", &self.concurrent_syncs)
            .field("mode", &self.mode)
            .field("react", &self.react)
            .field("election", &self.election)
            .field("state", &self.state)
            .field("log", &self.log)
            .field("qps", &self.qps)
            .field("burst", &self.burst)
            .field("status_writes", &self.status_writes)
            .field("namespaces", &self.namespaces)
            .field("listen", &self.listen)
            .finish_non_exhaustive()
    }
}

/// What cannot be.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The sync period.
    #[error("sync period of {0:?}: must be from 1 s to 1 h")]
    SyncPeriod(Duration),
    /// Concurrent evaluations.
    #[error("{0} concurrent syncs: must be from 1 to {CONCURRENT_SYNCS_MAX}")]
    ConcurrentSyncs(usize),
    /// The rate of requests.
    #[error("{qps} requests a second with a burst of {burst}: both must be positive")]
    Rate {
        /// Requests a second.
        qps: f64,
        /// Requests at once.
        burst: u32,
    },
    /// The rate of statuses.
    #[error("{0} status writes a second: must be from 1 to {STATUS_WRITES_MAX}")]
    StatusWrites(u32),
    /// The namespaces.
    #[error("{0} namespaces: at most {NAMESPACES_MAX} can be named")]
    Namespaces(usize),
    /// The election.
    #[error(transparent)]
    Election(#[from] ElectionError),
    /// A factor or a tolerance.
    #[error("{name} of {value}: must be a number that is not negative")]
    Number {
        /// What it is.
        name: &'static str,
        /// Its value.
        value: f64,
    },
    /// A time.
    #[error("{name} of {ms} ms: must not be negative")]
    Negative {
        /// What it is.
        name: &'static str,
        /// Its value.
        ms: i64,
    },
}

impl Config {
    /// A configuration with upstream's settings, where there are any.
    #[must_use]
    pub fn new(api_server: kube::Config, clock: Arc<dyn Clock>, registry: Registry) -> Self {
        Self {
            api_server,
            constants: Constants::default(),
            sync_period: Duration::from_secs(15),
            concurrent_syncs: 50,
            mode: Mode::default(),
            react: React::default(),
            election: None,
            state: StatePlaces::default(),
            log: LogOptions::default(),
            qps: 1500.0,
            burst: 3000,
            status_writes: 50,
            namespaces: Vec::new(),
            listen: String::from("127.0.0.1:9099"),
            listen_probes: None,
            clock,
            registry,
            history: None,
        }
    }

    /// Looks for what cannot be.
    ///
    /// # Errors
    /// The first thing found.
    pub fn check(&self) -> Result<(), ConfigError> {
        if !SYNC_PERIOD.contains(&self.sync_period) {
            return Err(ConfigError::SyncPeriod(self.sync_period));
        }
        if !(1..=CONCURRENT_SYNCS_MAX).contains(&self.concurrent_syncs) {
            return Err(ConfigError::ConcurrentSyncs(self.concurrent_syncs));
        }
        if !(self.qps > 0.0 && self.qps.is_finite()) || self.burst == 0 {
            return Err(ConfigError::Rate { qps: self.qps, burst: self.burst });
        }
        if !(1..=STATUS_WRITES_MAX).contains(&self.status_writes) {
            return Err(ConfigError::StatusWrites(self.status_writes));
        }
        if self.namespaces.len() > NAMESPACES_MAX {
            return Err(ConfigError::Namespaces(self.namespaces.len()));
        }
        if let Some(election) = &self.election {
            election.check()?;
        }
        let constants = &self.constants;
        for (name, value) in [
            ("tolerance", constants.tolerance),
            ("scale-up limit factor", constants.scale_up_limit_factor),
            ("scale-up limit minimum", constants.scale_up_limit_minimum),
        ] {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(ConfigError::Number { name, value });
            }
        }
        for (name, ms) in [
            ("CPU initialization period", constants.cpu_initialization_period_ms),
            ("initial readiness delay", constants.initial_readiness_delay_ms),
            ("downscale stabilization window", constants.downscale_stabilization_ms),
        ] {
            if ms < 0 {
                return Err(ConfigError::Negative { name, ms });
            }
        }
        Ok(())
    }
}
