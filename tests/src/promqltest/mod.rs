//! Runs scripts in Prometheus's PromQL test language (`promql/promqltest`).
//!
//! [`Script::parse`] reads a script; [`run()`] executes it against a store and the engine and
//! says for each `eval` whether it held. The language is Prometheus's of 3.14. Where a store keeps no start
//! timestamps, evaluations that depend on them fail, and the reason says what was left out.

mod at_modifier;
mod compare;
mod histogram;
mod nhcb;
mod run;
mod script;
mod series;

pub use histogram::HistogramPoint;
pub use run::{Failure, Outcome, SetStart, Store, engine, run};
pub use script::{Annotations, Command, Eval, Expected, Grid, Load, Script, TextPattern, When};
pub use series::{Point, SeriesLine};
