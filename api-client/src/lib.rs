//! Asks any Prometheus HTTP API.
//!
//! [`Client`] speaks the API over the network: bounded bodies, a time limit for each question, errors that name the URL
//! and repeat what the server said. [`Source`] is the part of it that answers from samples, so that a server in the same
//! process can stand in; [`Inventory`] is the part that tells where series come from.
//! Answers are typed and never repaired: a NaN stays a NaN, and an empty vector is an empty vector.

mod answer;
mod client;
mod error;
mod inventory;
mod source;

pub use answer::{Answer, Reading, Sample, Series, Value};
pub use client::{Client, Method, Options, OptionsError};
pub use error::AskError;
pub use inventory::{Inventory, MetricType, Target};
pub use source::{Asked, Source};
