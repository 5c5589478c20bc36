//! The algorithm of Kubernetes 1.36, pure: [`plan`] says what to ask, [`decide`] decides, [`conclude`] says what to write once the scale
//! was written.

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerStatus;
use serde::{Deserialize, Serialize};

use crate::decision::EventNote;
use crate::inputs::Memory;

/// What became of writing the scale.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Written {
    /// The decision did not ask for it.
    NotAsked,
    /// It was written.
    Done,
    /// It failed: the API's error.
    Failed(String),
}

/// The end of a reconciliation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Conclusion {
    /// The status to write if it differs from the one before.
    pub status: HorizontalPodAutoscalerStatus,
    /// All events in order.
    pub events: Vec<EventNote>,
    /// What later decisions are to know.
    pub memory: Memory,
    /// What happened to the replicas.
    pub action: Action,
    /// Text of the reconciliation's error.
    pub error: Option<String>,
}

/// What happened to the replicas; label `action` of the self-metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// More were asked for.
    ScaleUp,
    /// Fewer were asked for.
    ScaleDown,
    /// Nothing.
    None,
}
