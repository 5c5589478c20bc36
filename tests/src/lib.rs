//! What the tests of the whole workspace share.
//!
//! [`memory_store`] is the store that is right because it is simple; others are compared with it.
//! [`promqltest`] runs scripts in Prometheus's test language against a store and the engine.
//! [`hpa`] runs cases of the autoscaler that were recorded with upstream.
//! [`grammar`] draws queries, and the series that they ask for.
//! [`tidy`] holds the workspace to its own rules. [`harness`] starts the binary and talks to it. [`load`] appends samples that can be computed
//! again, [`faults`] kills who does that.
//! The tests themselves are the targets under `tests/`; nothing here is shipped.

pub mod conformance;
pub mod faults;
pub mod grammar;
pub mod harness;
pub mod hpa;
pub mod load;
pub mod memory_store;
pub mod promqltest;
pub mod tidy;
