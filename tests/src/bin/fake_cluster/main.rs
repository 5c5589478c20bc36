//! A cluster on loopback to point programs at: an API server, and kubelets that tell of pods.
//!
//! Prints where its files are and what to try, then runs until it is told to stop. A metrics server behind `--service`
//! is registered for `metrics.k8s.io/v1beta1`, as its manifests would do. There can be autoscalers too: thousands whose usage the
//! API server tells of itself (`--autoscalers`), or some whose pods start, stop and share a demand (`--workloads`).
//! [`commands`] is what it can be told meanwhile.

mod commands;

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tests::harness::kube::{
    ApiServerOptions, Cluster, ClusterOptions, Credentials, Fleet, FleetOptions,
    HPA_CONTROLLER_TOKEN, Load, METRICS_SERVER_TOKEN, Workload, Workloads, cpu_autoscaler,
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
    /// Autoscalers whose pods stand still, each with a Deployment of its own; `metrics.k8s.io` is then served by the API server
    #[arg(long, default_value_t = 0, conflicts_with = "service")]
    autoscalers: usize,
    /// Pods of each of them
    #[arg(long, default_value_t = 1)]
    pods_per_autoscaler: usize,
    /// How many of them are in one namespace
    #[arg(long, default_value_t = 20)]
    autoscalers_per_namespace: usize,
    /// Seconds between measurements of their pods
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..))]
    measure_seconds: u64,
    /// Workloads that run, `load/web-0` and so on: two pods that request half a core and share a demand of half a core
    /// at first, and an autoscaler that aims at 50 %
    #[arg(long, default_value_t = 0)]
    workloads: usize,
    /// Milliseconds that the API server waits before it looks at a request
    #[arg(long, default_value_t = 0)]
    latency_ms: u64,
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
    let cluster = Arc::new(Cluster::start(&ClusterOptions {
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
            latency: Duration::from_millis(arguments.latency_ms),
            ..ApiServerOptions::default()
        },
    }));
    if !arguments.service.is_empty() {
        cluster.serve_metrics_at(arguments.service.clone());
        for api in &arguments.api {
            let (group, version) = api.split_once('/').context("--api is GROUP/VERSION")?;
            cluster.register(group, version, None);
        }
    }
    let workloads = (arguments.nodes > 0).then(|| Workloads::start(&cluster));
    if let Some(workloads) = &workloads {
        for index in 0..arguments.workloads {
            let name = format!("web-{index}");
            workloads.add(Workload::new("load", &name, 2, Load::constant(500)));
            cluster.api.put(cpu_autoscaler("load", &name, (2, 100), 50));
        }
    }
    if arguments.autoscalers > 0 {
        measure_fleet(&cluster, &arguments)?;
    }
    let admin = cluster.api.admin_kubeconfig(&folder);
    let token = Credentials::Token(String::from(METRICS_SERVER_TOKEN));
    let metrics_server = cluster.api.kubeconfig(&folder, "metrics-server", &token);
    let token = Credentials::Token(String::from(HPA_CONTROLLER_TOKEN));
    let autoscaler = cluster.api.kubeconfig(&folder, "hpa-controller", &token);
    let kubelet_ca = folder.join("kubelet-ca.crt");
    std::fs::write(&kubelet_ca, cluster.api.pki().kubelet.pem())?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "API server:                {}", cluster.api.url())?;
    writeln!(out, "kubelets' port:            {}", cluster.kubelets.port())?;
    writeln!(out, "kubelets' authority:       {}", kubelet_ca.display())?;
    writeln!(out, "kubeconfig of the admin:   {}", admin.display())?;
    writeln!(out, "kubeconfig of autoscaling: {}", autoscaler.display())?;
    writeln!(out, "kubeconfig of the service: {}", metrics_server.display())?;
    out.flush()?;
    drop(out);
    let (of_commands, running) = (cluster, workloads);
    thread::Builder::new().name(String::from("commands")).spawn(move || {
        let answered = commands::answer_lines(&of_commands, running.as_ref());
        if let Err(error) = answered {
            // Nothing else can be told on stdout now: whoever waits for an answer there sees its end.
            let _ = writeln!(std::io::stderr(), "fake_cluster: {error:#}");
            std::process::abort();
        }
        // The workloads go on when there is nobody left to tell them what to do.
        loop {
            thread::park();
        }
    })?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(stopped())
}

/// Puts a fleet into the API, and measures its pods anew from time to time.
fn measure_fleet(cluster: &Arc<Cluster>, arguments: &Arguments) -> Result<()> {
    let fleet = Fleet::put(
        &cluster.api,
        FleetOptions {
            autoscalers: arguments.autoscalers,
            pods_per: arguments.pods_per_autoscaler,
            per_namespace: arguments.autoscalers_per_namespace,
        },
    );
    let (cluster, pause) = (cluster.clone(), Duration::from_secs(arguments.measure_seconds));
    thread::Builder::new().name(String::from("measure")).spawn(move || {
        for number in 1.. {
            thread::sleep(pause);
            fleet.measure(&cluster.api, number);
        }
    })?;
    Ok(())
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
