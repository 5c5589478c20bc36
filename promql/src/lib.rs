//! PromQL: text to tree, tree to answer.

pub mod ast;
mod chain;
mod eval;
pub mod explain;
mod go_math;
pub mod parse;
mod print;
pub mod quote;
mod scope;
mod stack;
pub mod value;
mod walk;

pub use eval::{
    Engine, EngineOptions, ExecutionError, InvalidQuery, QueryFailure, QueryOptions, parse_float,
};
pub use parse::{ParseErrors, ParseOptions, parse};
pub use value::{MatrixSeries, QueryResult, Value, VectorSample};
