//! Durations in the file: `15s`, `1m30s`.

use std::time::Duration;

use model::parse_duration;
use serde::{Deserialize, Deserializer};

/// A duration in Prometheus's notation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DurationText(pub(crate) Duration);

impl<'de> Deserialize<'de> for DurationText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_duration(&text).map(Self).map_err(serde::de::Error::custom)
    }
}
