//! PromQL: text to tree, tree to answer.

pub mod ast;
pub mod parse;
mod print;
pub mod quote;
pub mod value;
mod walk;
