//! Decisions for people and for programs: [`Explanation`] is the documented JSON (`docs/hpa.md`), and its [`Display`] the story.
//!
//! The story is told from the explanation alone, so that whoever has the JSON, from a file or from a controller far away, reads the
//! same text. Objects that were saved to files become [`Inputs`](crate::Inputs) in [`objects`].
//!
//! [`Display`]: std::fmt::Display

mod amount;
mod document;
pub mod objects;
mod story;

/// What is to be noted about a decision that was made without knowing what was decided before.
pub const MEMORY_UNKNOWN: &str = "earlier recommendations and rescales are not known: this is what a controller decides that has just started, and whose first recommendation is what runs now";

pub use document::{Explanation, MetricExplanation, PodsSeen, Target, document, logged};
