//! Label and field selectors, with the grammar and the messages of `k8s.io/apimachinery`.

mod fields;
mod labels;
mod lexer;
mod validate;

pub use fields::{FieldSelector, FieldSelectorError};
pub use labels::{LabelSelector, Operator, Requirement, SelectorError};
