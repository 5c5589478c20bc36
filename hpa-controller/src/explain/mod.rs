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

use crate::beyond::Policy;
use crate::words::{counted, span};

/// What is to be noted about a decision for an autoscaler that another controller is steered by.
pub(crate) const STEERED: &str = "the autoscaler is steered: decided from the specification in its annotation; the count is published, and the cluster's own controller writes it. A count that it has not taken over yet is not known here";

/// What is to be noted about a decision that was made without knowing what was decided before, given what the autoscaler asks for
/// beyond upstream: a sentence each.
#[must_use]
pub fn memory_unknown(policy: &Policy) -> Vec<String> {
    let mut notes = vec![String::from(
        "earlier recommendations and rescales are not known: this is what a controller decides that has just started, and whose first recommendation is what runs now",
    )];
    if let Some(fallback) = &policy.fallback {
        let begins = match fallback.after_ms {
            0 => String::from("a loss counts from now on"),
            after => {
                format!("a loss counts from now on, and the fallback comes {} later", span(after))
            }
        };
        notes.push(format!(
            "how long metrics have been lost is not known, nor what they proposed last: {begins}"
        ));
    }
    if let Some(budget) = &policy.flap_budget {
        notes.push(format!(
            "how often replicas have turned is not known: the flap budget ({} within {}) is taken to be unused",
            counted(budget.turns, "turn"),
            span(budget.window_ms)
        ));
    }
    notes
}

pub use document::{Explanation, MetricExplanation, PodsSeen, Target, document, logged};
