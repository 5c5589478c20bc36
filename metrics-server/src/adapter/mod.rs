//! Custom and external metrics, answered by PromQL.
//!
//! [`Adapter`] takes the place of prometheus-adapter: its configuration ([`DiscoveryConfig`]) says which series become
//! which metrics, [`router`] answers `custom.metrics.k8s.io` and `external.metrics.k8s.io`.
//!
//! A value carries the time at which it was computed, also when it is used again for a while. What is not a number, or
//! stale, or missing is an error, or left out where others are there, and never zero. An error says which rule failed
//! and what the server said. Who may ask is not decided here.

mod cache;
mod catalog;
mod config;
mod defaults;
mod engine;
mod expressions;
mod failure;
mod fallback;
mod handlers;
mod labels;
mod mapping;
mod metrics;
mod no_source;
mod objects;
mod query;
mod relist;
mod resource;
mod rule;
mod steering;
mod template;
mod value;
mod window;

pub use cache::QueryLimits;
pub use config::{
    ConfigError, DiscoveryConfig, DiscoveryRule, GroupResource, NameMapping, RegexFilter,
    ResourceMapping, ResourceRule, ResourceRules,
};
pub use engine::{Adapter, AdapterOptions};
pub use expressions::Expressions;
pub use fallback::{Caller, Fallback, FallbackOptions, FallbackUrlError};
pub use handlers::router;
pub use mapping::{ApiResource, ResourceMap, SharedResourceMap};
pub use metrics::AdapterMetrics;
pub use no_source::NoSource;
pub use objects::{ClusterObjects, ListError, ObjectLister, ResourceSource};
pub use relist::RelistTimes;
pub use resource::{FeedError, ResourceFeed};
pub use steering::{Steering, SteeringOptions, SteeringUrlError};

#[cfg(test)]
mod tests;
