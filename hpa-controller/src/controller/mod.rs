//! The live controller: watches autoscalers and what they scale, evaluates each once a period, writes what was decided.
//!
//! [`run()`] wires it together. What is written is guarded three times: by the leadership, asked right before each write; by the
//! version of what the decision was made from; and by looking whether another controller writes the same autoscaler's status.

mod api_metrics;
mod api_server;
mod collect;
mod config;
mod evaluate;
mod events;
mod fresh;
mod mapping;
mod pace;
mod queue;
mod rate;
mod reconcile;
mod rivals;
mod run;
mod scale;
mod status;
mod status_turns;
#[cfg(test)]
mod tests;
mod watch;

pub use api_metrics::ApiMetrics;
pub use api_server::{ApiError, ApiServer};
pub use collect::{CollectError, CollectOptions, Collected, StateMaps, collect};
pub use config::{Config, ConfigError, React, StatePlaces};
pub use run::{RunError, run};
