//! What outlives a decision, and a process: the memory that later decisions need, and the decisions themselves.
//!
//! [`StateStore`] keeps the memory of every autoscaler where the next leader finds it. [`DecisionLog`] keeps the last decisions of
//! each with all that they were made from, so that each can be explained, and made again.

mod compact;
mod config_maps;
mod directory;
mod key;
mod log;
mod logged;
mod segments;
mod store;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use config_maps::ConfigMapOptions;
pub(crate) use config_maps::{DATA_KEY, MANAGED_BY};
pub use key::HpaKey;
pub use log::{DecisionLog, LogOptions, Summary};
pub use logged::Logged;
pub use segments::{ReadSegments, SegmentOptions, read_segments};
pub(crate) use store::saved_in;
pub use store::{StateOptions, StateStore};

/// Whether decisions are carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Replicas, status and events are written.
    Active,
    /// Decisions are made and recorded; nothing is written to the cluster.
    #[default]
    Shadow,
}

impl Mode {
    /// The word for it in flags, labels and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Shadow => "shadow",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Neither `active` nor `shadow`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be active or shadow")]
pub struct BadMode;

impl FromStr for Mode {
    type Err = BadMode;

    fn from_str(text: &str) -> Result<Self, BadMode> {
        match text {
            "active" => Ok(Self::Active),
            "shadow" => Ok(Self::Shadow),
            _ => Err(BadMode),
        }
    }
}

/// Why state cannot be read or kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The API server does not let us.
    #[error("config map {name}: {source}")]
    ConfigMap {
        /// `namespace/name`, or what was listed.
        name: String,
        /// What it said.
        source: Box<kube::Error>,
    },
    /// The API server does not answer.
    #[error("config map {name}: no answer within {limit:?}")]
    Timeout {
        /// `namespace/name`, or what was listed.
        name: String,
        /// How long it was waited for.
        limit: std::time::Duration,
    },
    /// A file or folder cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl StateError {
    fn file(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::File { path, source }
    }
}
