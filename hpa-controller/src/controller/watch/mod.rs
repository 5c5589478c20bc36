//! What is watched: autoscalers, pods, the workloads that are scaled.

mod follow;
mod hpas;
mod kinds;
mod lenient;
mod pods;
mod retry;
mod targets;
mod version;

pub(super) use follow::{Feed, follow, watch_options};
pub(super) use hpas::{Change, HpaFeed, Hpas};
pub(super) use kinds::{
    HPAS, HpaBody, HpaObject, Kind, POD_METRICS, PODS, PodMetricsObject, PodObject, WORKLOADS,
    Workload,
};
pub(super) use pods::{PodFeed, Pods};
pub(super) use targets::{AllTargets, TargetFeed, Targets};
