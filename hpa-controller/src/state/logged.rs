//! One decision with all that it was made from.

use model::Timestamp;
use serde::{Deserialize, Serialize};

use crate::decide::{Written, decide};
use crate::decision::Decision;
use crate::inputs::Inputs;
use crate::state::{HpaKey, Mode};

/// A decision that was made, with all that it was made from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Logged {
    /// About which autoscaler.
    pub key: HpaKey,
    /// The autoscaler's uid: another one may have the same name later.
    pub uid: String,
    /// Whether it was carried out.
    pub mode: Mode,
    /// When it was made, in milliseconds since the epoch.
    pub at: Timestamp,
    /// What it was made from.
    pub inputs: Inputs,
    /// What it was.
    pub decision: Decision,
    /// What became of writing the scale.
    pub written: Written,
}

impl Logged {
    /// The decision made again, from the same inputs and at the same time.
    #[must_use]
    pub fn again(&self) -> Decision {
        decide(&self.inputs, self.at)
    }
}
