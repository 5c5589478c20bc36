//! Decisions about autoscalers of a cluster: made here from what the API server says, or asked of the controller that made one.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use hpa_controller::explain::Explanation;
use hpa_controller::history::ApiHistory;
use hpa_controller::state::HpaKey;
use hpa_controller::{
    ApiMetrics, ApiServer, CollectOptions, Collected, Constants, History, StateMaps, collect,
};
use kube::Client;
use model::SystemClock;
use serde::Deserialize;

use super::explain::Wanted;
use super::prometheus::ServerFlags;
use crate::hpa_controller::LEASE_NAME;
use crate::kubeconfig;

/// Requests to the metrics APIs a second, and at once: those of a person who waits.
const QPS: f64 = 50.0;
const BURST: u32 = 100;
/// How often a controller decides unless told otherwise: what it remembers counts for a few times that.
const SYNC_PERIOD: Duration = Duration::from_secs(15);
/// Time for the controller's answer.
const CONTROLLER_TIMEOUT: Duration = Duration::from_secs(30);
/// An explanation about very many pods is large.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Which cluster.
#[derive(Debug, Args)]
#[command(next_help_heading = "Cluster")]
pub(super) struct ClusterFlags {
    /// Kubeconfig; $KUBECONFIG, ~/.kube/config or the pod's ServiceAccount, if not given
    #[arg(long, value_name = "FILE", env = "SEXTANT_KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig; its current one, if not given
    #[arg(long, value_name = "NAME", conflicts_with = "files")]
    context: Option<String>,
}

/// What a controller knows besides the cluster, and where it is.
#[derive(Debug, Args)]
#[command(next_help_heading = "History")]
pub(super) struct KnownFlags {
    /// Server with a Prometheus API that forecasts are made from, as the controller's --hpa.prometheus-url
    #[arg(long, value_name = "URL", conflicts_with_all = ["files", "controller"])]
    prometheus_url: Option<String>,
    #[command(flatten)]
    server: ServerFlags,
    /// Config maps in which a controller keeps earlier recommendations and rescales: the name of its Lease, which is looked for in all
    /// namespaces unless one is given
    #[arg(
        long,
        value_name = "[NAMESPACE/]NAME",
        default_value = LEASE_NAME,
        conflicts_with_all = ["files", "controller"]
    )]
    state_config_maps: Wanted,
}

impl KnownFlags {
    fn history(&self) -> anyhow::Result<Option<ApiHistory>> {
        let Some(url) = &self.prometheus_url else {
            return match self.server.given() {
                Some(flag) => bail!("{flag}: it needs --prometheus-url"),
                None => Ok(None),
            };
        };
        Ok(Some(ApiHistory::new(self.server.client(url).context("--prometheus-url")?)))
    }
}

/// What a decision is made from right now. Only reads.
pub(super) async fn collected(
    cluster: &ClusterFlags,
    known: &KnownFlags,
    wanted: &Wanted,
    constants: &Constants,
) -> anyhow::Result<Collected> {
    let history = known.history()?;
    let config =
        kubeconfig::for_person(cluster.kubeconfig.as_deref(), cluster.context.as_deref()).await?;
    let namespace = wanted.namespace().unwrap_or(&config.default_namespace);
    let key = HpaKey::new(namespace, wanted.name());
    let client = Client::try_from(config).context("cannot use this configuration")?;
    let metrics = ApiMetrics::new(ApiServer::new(client.clone(), QPS, BURST));
    let maps = &known.state_config_maps;
    let options = CollectOptions {
        constants,
        source: &metrics,
        history: history.as_ref().map(|history| history as &dyn History),
        state: StateMaps {
            namespace: maps.namespace().map(String::from),
            prefix: String::from(maps.name()),
        },
        sync_period: SYNC_PERIOD,
        clock: &SystemClock,
    };
    let mut collected = collect(&client, &key, &options).await?;
    if collected.inputs.beyond.policy.forecast.is_some() && history.is_none() {
        collected.notes.push(String::from(
            "no forecast is made; --prometheus-url names the server that the controller makes it from",
        ));
    }
    Ok(collected)
}

/// The last decision of a running controller.
pub(super) async fn of_controller(url: &str, wanted: &Wanted) -> anyhow::Result<Explanation> {
    #[derive(Deserialize)]
    struct Failure {
        error: String,
    }

    let (namespace, name) = (wanted.namespace().unwrap_or("default"), wanted.name());
    let url = format!("{}/api/v1/hpa/{namespace}/{name}/explain", url.trim_end_matches('/'));
    let request = http::GetRequest {
        url: &url,
        headers: &[("accept", "application/json")],
        timeout: CONTROLLER_TIMEOUT,
        body_bytes_max: ANSWER_BYTES_MAX,
    };
    let answer = http::Client::default().get(request).await?;
    if !answer.status.is_success() {
        match serde_json::from_slice(&answer.body) {
            Ok(Failure { error }) => bail!("{url}: {error}"),
            Err(_) => bail!("{url}: status {}", answer.status),
        }
    }
    serde_json::from_slice(&answer.body)
        .with_context(|| format!("{url}: the answer is not an explanation"))
}
