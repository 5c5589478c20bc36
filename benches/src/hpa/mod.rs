//! `load hpa` and `load hpa-latency`: what the autoscaler costs, and how long it takes.

pub(crate) mod latency;
pub(crate) mod rounds;

use std::path::Path;

use crate::cluster::Cluster;
use crate::process::Server;

/// Starts our autoscaler in a cluster: it acts and asks nobody whether it may.
fn controller(
    ours: &str,
    cluster: &Cluster,
    folder: &Path,
    flags: &[String],
) -> anyhow::Result<Server> {
    let folder = folder.join("hpa-controller");
    std::fs::create_dir_all(&folder)?;
    Server::start_with(&folder, |port| {
        let own = [
            String::from(ours),
            String::from("hpa-controller"),
            format!("--kubeconfig={}", cluster.file("hpa-controller.kubeconfig")),
            format!("--web.listen-address=127.0.0.1:{port}"),
            String::from("--hpa.mode=active"),
            String::from("--leader-elect=false"),
            String::from("--leader-elect-resource-namespace=sextant"),
        ];
        own.into_iter().chain(flags.iter().cloned()).collect()
    })
}
