//! The server: scrapes into the store and answers the Prometheus HTTP API from it.
//!
//! [`run()`] owns the life of the process: what is opened in which order, and how it stops. Only this crate writes the JSON
//! of the Prometheus API.

mod api;
mod cors;
mod front_page;
mod memory;
mod metrics;
mod origin;
mod queries;
mod routes;
mod run;
mod state;
mod storage;

pub use run::{Config, ConfigSource, Error, run};

#[cfg(test)]
mod tests;
