//! Decisions about autoscalers of a cluster: made here from what the API server says, or asked of the controller that made one.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use hpa_controller::explain::Explanation;
use hpa_controller::{ApiMetrics, ApiServer, Collected, Constants, Memory, collect};
use kube::Client;
use serde::Deserialize;

use super::explain::Wanted;
use crate::kubeconfig;

/// Requests to the metrics APIs a second, and at once: those of a person who waits.
const QPS: f64 = 50.0;
const BURST: u32 = 100;
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

/// What a decision is made from right now. Only reads.
pub(super) async fn inputs(
    flags: &ClusterFlags,
    wanted: &Wanted,
    constants: &Constants,
) -> anyhow::Result<Collected> {
    let config =
        kubeconfig::for_person(flags.kubeconfig.as_deref(), flags.context.as_deref()).await?;
    let namespace = wanted.namespace().unwrap_or(&config.default_namespace).to_owned();
    let client = Client::try_from(config).context("cannot use this configuration")?;
    let metrics = ApiMetrics::new(ApiServer::new(client.clone(), QPS, BURST));
    let memory = Memory::default();
    Ok(collect(&client, &metrics, constants, &namespace, wanted.name(), memory).await?)
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
