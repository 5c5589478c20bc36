//! What `sextant --kubernetes` runs beside the server, in the same process: the metrics APIs, over the server's own store.
//!
//! Each of these is a daemon of its own in a cluster, under a ServiceAccount of its own. Here they share one kubeconfig and one
//! server, which they ask within the process: through its routes, so that its bounds hold for them as for anybody.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use clap::{ArgAction, Args};
use metrics_server::adapter::{DiscoveryConfig, QueryLimits, RelistTimes};
use metrics_server::auth::AllowedPaths;
use metrics_server::cluster::PodWatch;
use metrics_server::kubelet::{EndpointOptions, KubeletTls};
use metrics_server::serving::ServingCertificate;
use metrics_server::{
    AdapterConfig, AuthenticationConfig, AuthorizationConfig, Config, KubeletConfig, ServingConfig,
};
use model::SystemClock;
use tokio_util::sync::CancellationToken;

use crate::go_values::{go_bool, positive_go_duration};
use crate::metrics_server::{kubeconfig, raise_descriptor_limit};

/// How long answers of reviews are remembered, upstream's default.
const REVIEW_TTL: Duration = Duration::from_secs(10);
/// How often the store is asked which series there are. prometheus-adapter asks every ten minutes; here it costs little, and what has
/// just begun to be collected is soon known.
const RELIST_INTERVAL: Duration = Duration::from_secs(15);
/// Series without a sample for longer do not exist.
const SERIES_AGE_MAX: Duration = Duration::from_secs(300);

/// Flags of `sextant --kubernetes`
#[derive(Debug, Args)]
#[command(next_help_heading = "Kubernetes")]
pub(crate) struct KubernetesFlags {
    /// Also serve the metrics APIs of the cluster that the file names; without a file of that in $KUBECONFIG, ~/.kube/config or
    /// the pod's ServiceAccount
    #[arg(
        long = "kubernetes",
        value_name = "KUBECONFIG",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "",
        env = "SEXTANT_KUBERNETES"
    )]
    pub(crate) kubernetes: Option<PathBuf>,
    /// Address for the metrics APIs, with TLS, authentication and authorization by the API server, which must reach it
    #[arg(
        long = "kubernetes.listen-address",
        value_name = "IP:PORT",
        default_value = "127.0.0.1:4443",
        requires = "kubernetes",
        env = "SEXTANT_KUBERNETES_LISTEN_ADDRESS"
    )]
    apis_address: SocketAddr,
    /// Folder of the serving certificate, which is made when there is none
    #[arg(
        long = "kubernetes.cert-dir",
        value_name = "DIR",
        default_value = "apiserver.local.config/certificates",
        requires = "kubernetes",
        env = "SEXTANT_KUBERNETES_CERT_DIR"
    )]
    cert_dir: PathBuf,
    /// How often each node is asked, at least 10s
    #[arg(
        long = "kubernetes.metric-resolution",
        value_name = "DURATION",
        default_value = "15s",
        value_parser = positive_go_duration,
        requires = "kubernetes",
        env = "SEXTANT_KUBERNETES_METRIC_RESOLUTION"
    )]
    metric_resolution: Duration,
    /// Types of node addresses by priority; the first that a node has is asked
    #[arg(
        long = "kubernetes.kubelet-preferred-address-types",
        value_name = "TYPES",
        value_delimiter = ',',
        default_value = "InternalIP,ExternalIP,Hostname",
        requires = "kubernetes",
        env = "SEXTANT_KUBERNETES_KUBELET_PREFERRED_ADDRESS_TYPES"
    )]
    kubelet_preferred_address_types: Vec<String>,
    /// Authority of the kubelets' serving certificates; the API server's, if not given
    #[arg(
        long = "kubernetes.kubelet-certificate-authority",
        value_name = "FILE",
        requires = "kubernetes",
        env = "SEXTANT_KUBERNETES_KUBELET_CERTIFICATE_AUTHORITY"
    )]
    kubelet_certificate_authority: Option<PathBuf>,
    /// Do not verify the kubelets' certificates, as clusters on one machine often need: whoever can redirect traffic reads our
    /// credentials
    #[arg(
        long = "kubernetes.kubelet-insecure-tls",
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true",
        value_parser = go_bool,
        action = ArgAction::Set,
        requires = "kubernetes",
        env = "SEXTANT_KUBERNETES_KUBELET_INSECURE_TLS"
    )]
    kubelet_insecure_tls: bool,
    /// Ask nodes whose address is a loopback address, as in a cluster on this machine
    #[arg(
        long = "kubernetes.kubelet-allow-loopback",
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true",
        value_parser = go_bool,
        action = ArgAction::Set,
        requires = "kubernetes",
        env = "SEXTANT_KUBERNETES_KUBELET_ALLOW_LOOPBACK"
    )]
    kubelet_allow_loopback: bool,
    /// prometheus-adapter's configuration file: which series of our own store are which custom and external metrics
    #[arg(
        long = "kubernetes.adapter-config",
        value_name = "FILE",
        requires = "kubernetes",
        env = "SEXTANT_KUBERNETES_ADAPTER_CONFIG"
    )]
    adapter_config: Option<PathBuf>,
    /// Serve series with the labels namespace and pod as metrics of pods without any rule, where both labels verifiably come from
    /// service discovery
    #[arg(
        long = "kubernetes.default-rules",
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true",
        value_parser = go_bool,
        action = ArgAction::Set,
        requires = "kubernetes",
        env = "SEXTANT_KUBERNETES_DEFAULT_RULES"
    )]
    default_rules: bool,
}

/// Runs all of it until `shutdown`. `routes` are the server's, whose URL is `server_url`; `cluster` is a kubeconfig, or empty.
///
/// The autoscaler, too, belongs here: it asks `prometheus` for the past and for expressions, and is in shadow mode unless told
/// otherwise.
///
/// # Errors
/// The cluster cannot be reached or the metrics APIs not be served.
pub(crate) async fn run(
    cluster: &Path,
    flags: &KubernetesFlags,
    routes: Router,
    server_url: String,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    raise_descriptor_limit();
    let api_server = if cluster.as_os_str().is_empty() {
        kube::Config::infer().await.context("--kubernetes: no cluster is configured")?
    } else {
        kubeconfig(cluster).await.context("--kubernetes")?
    };
    let http = http::Client::in_process(routes);
    let prometheus = api_client::Client::new(http, api_client::Options::new(server_url))?;
    let config = metrics_apis(flags, api_server, prometheus)?;
    let announce = |address| tracing::info!(%address, "serving the metrics APIs of Kubernetes");
    metrics_server::run(config, announce, shutdown).await.context("metrics APIs")
}

fn metrics_apis(
    flags: &KubernetesFlags,
    api_server: kube::Config,
    prometheus: api_client::Client,
) -> anyhow::Result<Config> {
    let adapter = match (&flags.adapter_config, flags.default_rules) {
        (None, false) => None,
        (rules, default_rules) => {
            let prometheus = Arc::new(prometheus);
            Some(AdapterConfig {
                discovery: match rules {
                    Some(path) => DiscoveryConfig::load(path)?,
                    None => DiscoveryConfig::default(),
                },
                source: Arc::clone(&prometheus) as _,
                source_name: String::from(prometheus.url()),
                default_rules: default_rules.then_some(prometheus as _),
                fallback: None,
                queries: QueryLimits::default(),
                relist: RelistTimes { interval: RELIST_INTERVAL, max_age: SERIES_AGE_MAX },
            })
        }
    };
    Ok(Config {
        api_server,
        resolution: flags.metric_resolution,
        node_selector: String::new(),
        pod_watch: PodWatch::Full,
        kubelets: KubeletConfig {
            endpoints: EndpointOptions {
                address_types: flags.kubelet_preferred_address_types.clone(),
                use_node_status_port: true,
                allow_loopback: flags.kubelet_allow_loopback,
                ..EndpointOptions::default()
            },
            tls: KubeletTls {
                certificate_authority: flags.kubelet_certificate_authority.clone(),
                insecure: flags.kubelet_insecure_tls,
                ..KubeletTls::default()
            },
            request_timeout: (flags.metric_resolution / 2).min(Duration::from_secs(10)),
        },
        adapter,
        serving: ServingConfig {
            bind_address: flags.apis_address.ip(),
            port: flags.apis_address.port(),
            certificate: ServingCertificate::SelfMade {
                directory: Some(flags.cert_dir.clone()),
                names: Vec::new(),
            },
            named_certificates: Vec::new(),
            tls: http::TlsPolicy::default(),
            inject_ca: false,
            requests_inflight_max: 400,
            request_timeout: Duration::from_secs(60),
            shutdown_delay: Duration::ZERO,
        },
        authentication: AuthenticationConfig {
            api_server: None,
            skip_lookup: false,
            // Whoever tries this out may read fewer things in kube-system than the metrics server's account.
            tolerate_lookup_failure: true,
            token_ttl: REVIEW_TTL,
            client_ca_file: None,
            front_proxy: None,
        },
        authorization: AuthorizationConfig {
            api_server: None,
            always_allow_paths: AllowedPaths::new(
                &["/healthz", "/readyz", "/livez"].map(String::from),
            )?,
            allowed_ttl: REVIEW_TTL,
            denied_ttl: REVIEW_TTL,
        },
        clock: Arc::new(SystemClock),
        registry: telemetry::new_registry(),
    })
}
