//! Requests against a fake Prometheus on loopback.

mod custom;
mod defaults;
mod expressions;
mod external;
mod fake;
mod fallback;
mod resource;
mod steering;
