//! `sextant top`: what nodes and pods use, asked of the API server and printed as `kubectl top` prints it.

mod print;
mod usage;

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, anyhow, bail};
use clap::{Args, Subcommand, ValueEnum};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::{Api, Client};
use model::{Clock, SystemClock};
use serde::de::DeserializeOwned;

use print::{NodeTable, PodTable};
use usage::{Capacity, NodeUsage, PodUsage};

use crate::kubeconfig;

const GROUP: &str = "metrics.k8s.io";
const VERSION: &str = "v1beta1";
/// A pod without metrics is new for this long, and strange afterwards.
const NEW_FOR: jiff::SignedDuration = jiff::SignedDuration::from_mins(2);

/// `sextant top`
#[derive(Debug, Args)]
pub(crate) struct TopFlags {
    #[command(subcommand)]
    command: TopCommand,
}

#[derive(Debug, Subcommand)]
enum TopCommand {
    /// CPU and memory of nodes, and how much of what they have that is
    #[command(aliases = ["node", "no"])]
    Nodes(TopNodes),
    /// CPU and memory of pods
    #[command(aliases = ["pod", "po"])]
    Pods(TopPods),
}

#[derive(Debug, Args)]
struct ClusterFlags {
    /// Kubeconfig; $KUBECONFIG, ~/.kube/config or the pod's ServiceAccount, if not given
    #[arg(long, value_name = "FILE", env = "SEXTANT_KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig; its current one, if not given
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
}

#[derive(Debug, Args)]
struct TableFlags {
    /// Only what has these labels: key1=value1,key2 in (a,b),!key3
    #[arg(long, short = 'l', value_name = "SELECTOR", conflicts_with = "name")]
    selector: Option<String>,
    /// What uses most first
    #[arg(long, value_enum, value_name = "RESOURCE")]
    sort_by: Option<SortBy>,
    /// Leave the line with the names of columns out
    #[arg(long)]
    no_headers: bool,
    /// Print swap too
    #[arg(long)]
    show_swap: bool,
}

#[derive(Debug, Args)]
struct TopNodes {
    /// One node; all, if not given
    name: Option<String>,
    /// Percentages of the node's capacity instead of what pods may use of it
    #[arg(long)]
    show_capacity: bool,
    #[command(flatten)]
    table: TableFlags,
    #[command(flatten)]
    cluster: ClusterFlags,
}

#[derive(Debug, Args)]
struct TopPods {
    /// One pod; all of the namespace, if not given
    name: Option<String>,
    /// The context's namespace, if not given
    #[arg(long, short = 'n', value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// All namespaces
    #[arg(long, short = 'A', conflicts_with = "name")]
    all_namespaces: bool,
    /// Only what has these fields: metadata.name=x
    #[arg(long, value_name = "SELECTOR", conflicts_with = "name")]
    field_selector: Option<String>,
    /// A line for each container
    #[arg(long)]
    containers: bool,
    /// Print the sum too
    #[arg(long)]
    sum: bool,
    #[command(flatten)]
    table: TableFlags,
    #[command(flatten)]
    cluster: ClusterFlags,
}

/// What lines are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SortBy {
    Cpu,
    Memory,
}

/// Asks and prints.
pub(crate) fn run(flags: &TopFlags) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let text = runtime.block_on(async {
        match &flags.command {
            TopCommand::Nodes(flags) => nodes(flags).await,
            TopCommand::Pods(flags) => pods(flags).await,
        }
    })?;
    std::io::stdout().write_all(text.as_bytes()).context("cannot write to stdout")
}

/// A client of the cluster that the flags name, and the namespace of its context.
async fn connect(flags: &ClusterFlags) -> anyhow::Result<(Client, String)> {
    let config =
        kubeconfig::for_person(flags.kubeconfig.as_deref(), flags.context.as_deref()).await?;
    let namespace = config.default_namespace.clone();
    let client = Client::try_from(config).context("cannot use this configuration")?;
    let groups = client.list_api_groups().await.map_err(from_server)?;
    let served = groups.groups.iter().any(|group| {
        group.name == GROUP && group.versions.iter().any(|version| version.version == VERSION)
    });
    if !served {
        bail!("Metrics API not available");
    }
    Ok((client, namespace))
}

/// What the API server said, in kubectl's words.
fn from_server(error: kube::Error) -> anyhow::Error {
    match error {
        kube::Error::Api(status) => {
            anyhow!("error from server ({}): {}", status.reason, status.message)
        }
        other => other.into(),
    }
}

fn resource(kind: &str, plural: &str) -> ApiResource {
    ApiResource {
        group: String::from(GROUP),
        version: String::from(VERSION),
        api_version: format!("{GROUP}/{VERSION}"),
        kind: String::from(kind),
        plural: String::from(plural),
    }
}

/// One object or all that are selected.
async fn fetch<T: DeserializeOwned>(
    api: Api<DynamicObject>,
    name: Option<&str>,
    params: &ListParams,
) -> anyhow::Result<Vec<T>> {
    let objects = match name {
        Some(name) => vec![api.get(name).await.map_err(from_server)?],
        None => api.list(params).await.map_err(from_server)?.items,
    };
    let read = |object: DynamicObject| {
        let value = serde_json::to_value(object)?;
        serde_json::from_value(value).context("unexpected answer of the metrics API")
    };
    objects.into_iter().map(read).collect()
}

fn list_params(labels: Option<&String>, fields: Option<&String>) -> ListParams {
    let mut params = ListParams::default();
    if let Some(labels) = labels {
        params = params.labels(labels);
    }
    if let Some(fields) = fields {
        params = params.fields(fields);
    }
    params
}

async fn nodes(flags: &TopNodes) -> anyhow::Result<String> {
    let (client, _) = connect(&flags.cluster).await?;
    let params = list_params(flags.table.selector.as_ref(), None);
    let api = Api::all_with(client.clone(), &resource("NodeMetrics", "nodes"));
    let name = flags.name.as_deref();
    let usages: Vec<NodeUsage> = fetch(api, name, &params).await?;
    if usages.is_empty() {
        bail!("metrics not available yet");
    }
    let api: Api<Node> = Api::all(client);
    let nodes = match name {
        Some(name) => vec![api.get(name).await.map_err(from_server)?],
        None => api.list(&params).await.map_err(from_server)?.items,
    };
    let capacities =
        nodes.into_iter().filter_map(|node| Capacity::of(node, flags.show_capacity)).collect();
    Ok(NodeTable { usages, capacities, flags: &flags.table }.print())
}

async fn pods(flags: &TopPods) -> anyhow::Result<String> {
    let (client, default_namespace) = connect(&flags.cluster).await?;
    let namespace = flags.namespace.as_ref().unwrap_or(&default_namespace);
    let params = list_params(flags.table.selector.as_ref(), flags.field_selector.as_ref());
    let resource = resource("PodMetrics", "pods");
    let api = if flags.all_namespaces {
        Api::all_with(client.clone(), &resource)
    } else {
        Api::namespaced_with(client.clone(), namespace, &resource)
    };
    let usages: Vec<PodUsage> = fetch(api, flags.name.as_deref(), &params).await?;
    if usages.is_empty() {
        explain_none(&client, (!flags.all_namespaces).then_some(namespace), &params).await?;
        return Ok(String::new());
    }
    let table = PodTable {
        usages,
        with_namespace: flags.all_namespaces,
        containers: flags.containers,
        sum: flags.sum,
        flags: &flags.table,
    };
    Ok(table.print())
}

/// Why no pod has metrics: there are none, or they are new, or something is wrong.
async fn explain_none(
    client: &Client,
    namespace: Option<&String>,
    params: &ListParams,
) -> anyhow::Result<()> {
    let api: Api<Pod> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let pods = api.list(params).await.map_err(from_server)?.items;
    let now_ms = SystemClock.now();
    for pod in &pods {
        let Some(created) = &pod.metadata.creation_timestamp else { continue };
        let age_ms = now_ms.saturating_sub(created.0.as_millisecond());
        let age = jiff::SignedDuration::from_secs(age_ms / 1000);
        if age > NEW_FOR {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            bail!("Metrics not available for pod {namespace}/{name}, age: {age:#}");
        }
    }
    if !pods.is_empty() {
        bail!("metrics not available yet");
    }
    let none = match namespace {
        Some(namespace) => format!("No resources found in {namespace} namespace.\n"),
        None => String::from("No resources found\n"),
    };
    std::io::stderr().write_all(none.as_bytes()).context("cannot write to stderr")
}
