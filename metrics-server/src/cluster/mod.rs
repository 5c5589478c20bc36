//! What exists in the cluster: nodes and running pods, with their labels.

mod informers;
mod objects;

pub use informers::Informers;
pub use objects::{Labels, NodeAddress, NodeObject, NodeView, Objects, Pairs, PodView};
