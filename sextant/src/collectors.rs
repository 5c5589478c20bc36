//! This machine's collectors as in-process scrape targets and as HTTP endpoints.
//!
//! Both ways carry the same text: the scraper asks the collector directly, without a connection, whenever a target's
//! URL is one of ours; everybody else gets it over HTTP.

use std::sync::Arc;

use exporters::{ContainerOptions, Containers, Node, NodeOptions};
use model::{Clock, SystemClock};
use scrape::LocalSource;

/// Path of the node collectors.
pub(crate) const NODE_PATH: &str = "/metrics/node";
/// Path of the container collectors, named after what they replace.
pub(crate) const CONTAINERS_PATH: &str = "/metrics/cadvisor";

/// The node collectors.
struct NodeSource(Node);

impl LocalSource for NodeSource {
    fn collect(&self, out: &mut Vec<u8>) {
        self.0.collect(out);
    }
}

/// The container collectors.
struct ContainersSource(Containers);

impl LocalSource for ContainersSource {
    fn collect(&self, out: &mut Vec<u8>) {
        self.0.collect(SystemClock.now(), out);
    }
}

/// All collectors: the path under which each is served, what it is for, and the collector.
pub(crate) fn sources() -> Vec<(&'static str, &'static str, Arc<dyn LocalSource>)> {
    let node = NodeSource(Node::new(&NodeOptions::default()));
    let containers = ContainersSource(Containers::new(ContainerOptions::default()));
    vec![
        (NODE_PATH, "this machine, as node_exporter names it", Arc::new(node)),
        (CONTAINERS_PATH, "its cgroups, as cAdvisor names them", Arc::new(containers)),
    ]
}
