//! Collectors of this machine: the node and its cgroups, under the names that node_exporter and cAdvisor gave them.
//!
//! A collector reads what the kernel says when it is asked, and writes the text format. Families are sorted by name and series by label values, as
//! the exporters that are replaced print them. One collector that fails costs its own families and nothing else.

mod containers;
mod error;
mod families;
mod node;
mod procfs;

pub use containers::{ContainerOptions, Containers};
pub use error::CollectError;
pub use node::{Node, NodeOptions};
