//! A cluster on loopback to point programs at: an API server, and kubelets that tell of pods.
//!
//! Prints where its files are and what to try, then runs until it is told to stop. A metrics server behind `--service`
//! is registered for `metrics.k8s.io/v1beta1`, as its manifests would do.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tests::harness::kube::{
    ApiServerOptions, Cluster, ClusterOptions, Credentials, METRICS_SERVER_TOKEN,
};

/// A Kubernetes cluster on loopback.
#[derive(Clone, Debug, Parser)]
struct Arguments {
    /// Nodes.
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// Pods of each node.
    #[arg(long, default_value_t = 30)]
    pods: usize,
    /// Containers of each pod.
    #[arg(long, default_value_t = 2)]
    containers: usize,
    /// Namespaces that the pods are in.
    #[arg(long, default_value_t = 10)]
    namespaces: usize,
    /// The API server's port; 0 is any.
    #[arg(long, default_value_t = 6443)]
    port: u16,
    /// The kubelets' port; 0 is any.
    #[arg(long, default_value_t = 10250)]
    kubelet_port: u16,
    /// Milliseconds between samples of a kubelet.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(i64).range(1..))]
    sample_interval_ms: i64,
    /// Where the service kube-system/metrics-server is; several are asked in turn.
    #[arg(long)]
    service: Vec<SocketAddr>,
    /// Groups and versions that the service is registered for.
    #[arg(long, default_value = "metrics.k8s.io/v1beta1")]
    api: Vec<String>,
    /// The folder for kubeconfigs and certificates; a temporary one if not given.
    #[arg(long)]
    folder: Option<PathBuf>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    raise_descriptor_limit()?;
    let temporary = tempfile::tempdir()?;
    let folder = arguments.folder.clone().unwrap_or_else(|| temporary.path().to_path_buf());
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let cluster = Cluster::start(&ClusterOptions {
        nodes: arguments.nodes,
        pods_per_node: arguments.pods,
        containers_per_pod: arguments.containers,
        namespaces: arguments.namespaces,
        sample_interval_ms: arguments.sample_interval_ms,
        kubelet_port: arguments.kubelet_port,
        api_server: ApiServerOptions {
            port: arguments.port,
            // What a cluster has, so that a benchmark measures what a cluster costs.
            bookmark_interval: Duration::from_secs(60),
            availability_interval: Duration::from_secs(30),
            ..ApiServerOptions::default()
        },
    });
    if !arguments.service.is_empty() {
        cluster.serve_metrics_at(arguments.service.clone());
        for api in &arguments.api {
            let (group, version) = api.split_once('/').context("--api is GROUP/VERSION")?;
            cluster.register(group, version, None);
        }
    }
    let admin = cluster.api.admin_kubeconfig(&folder);
    let token = Credentials::Token(String::from(METRICS_SERVER_TOKEN));
    let metrics_server = cluster.api.kubeconfig(&folder, "metrics-server", &token);
    let kubelet_ca = folder.join("kubelet-ca.crt");
    std::fs::write(&kubelet_ca, cluster.api.pki().kubelet.pem())?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "API server:                {}", cluster.api.url())?;
    writeln!(out, "kubelets' port:            {}", cluster.kubelets.port())?;
    writeln!(out, "kubelets' authority:       {}", kubelet_ca.display())?;
    writeln!(out, "kubeconfig of the admin:   {}", admin.display())?;
    writeln!(out, "kubeconfig of the service: {}", metrics_server.display())?;
    out.flush()?;
    drop(out);
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(stopped())
}

async fn stopped() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

/// A connection to each of thousands of kubelets takes as many descriptors.
fn raise_descriptor_limit() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).context("raising the limit of file descriptors")
}
