//! What exists in the cluster: nodes and running pods, with their labels and what they ask for.

mod informers;
mod interner;
mod objects;
mod resources;

pub use informers::{Informers, PodWatch};
pub use objects::{Labels, NodeAddress, NodeObject, NodeView, Objects, Pairs, PodFacts, PodView};
pub use resources::{Amounts, ContainerResources, PodResources};
