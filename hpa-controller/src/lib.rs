//! The autoscaler: metrics to replica counts, as the controller of Kubernetes 1.36 makes them, explained and replayable.
//!
//! [`decide`](decide::decide) is the whole algorithm, a pure function of [`Inputs`] and the time. Its [`Decision`] holds every number
//! on the way, so that the live controller, `explain`, a replay and the stored log all tell the same story. Metrics come
//! through two traits: [`MetricsSource`] for now, [`History`] for then.

pub mod api;
pub mod beyond;
mod controller;
pub mod decide;
mod decision;
pub mod explain;
#[cfg(test)]
mod fake_objects;
pub mod forecast;
pub mod history;
mod inputs;
pub mod leader;
mod metrics;
pub mod replay;
mod selector;
mod sources;
pub mod spec;
pub mod state;
pub mod steer;
mod words;

pub use controller::{
    ApiError, ApiMetrics, ApiServer, CollectError, CollectOptions, Collected, Config, ConfigError,
    React, RunError, StateMaps, StatePlaces, collect, run,
};
pub use decision::{
    BoundsCheck, ConditionChange, Decision, EventNote, EventType, Limit, LimitReason,
    MetricDecision, PodAccount, PodReason, PolicyLimit, Proposal, RateLimit, Ratio, Stabilization,
    TargetKind,
};
pub use inputs::{
    Constants, ContainerRequests, Gates, Inputs, Memory, MetricAnswer, PodFacts, PodPhase,
    PodReading, PodSet, Readiness, ReadyStatus, Recommendation, ScaleEvent, ScaleReading,
    ValueReading,
};
pub use metrics::ControllerMetrics;
pub use sources::{
    History, HistoryError, HistorySeries, MetricRequest, MetricsError, MetricsSource, ObjectRef,
    PodsRequest,
};
