//! Runs scripts in Prometheus's PromQL test language (`promql/promqltest`).
//!
//! [`Script::parse`] reads a script; [`run()`] executes it against a store and the engine and
//! says for each `eval` whether it held. The language is Prometheus's of 3.14. Native histograms and start timestamps are
//! read but not loaded, since the model has neither: evaluations that depend on them fail, and the
//! reason says what was left out.

mod at_modifier;
mod compare;
mod run;
mod script;
mod series;

pub use run::{Failure, Outcome, Store, engine, run};
pub use script::{Annotations, Command, Eval, Expected, Grid, Load, Script, TextPattern, When};
pub use series::{Point, SeriesLine};
