//! PromQL: text to tree, tree to answer.

pub mod ast;
pub mod value;
