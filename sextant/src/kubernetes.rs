//! What `sextant --kubernetes` runs beside the server, in the same process: the metrics APIs and the autoscaler, over the server's own store.
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
use hpa_controller::StatePlaces;
use hpa_controller::history::ApiHistory;
use hpa_controller::leader::ElectionOptions;
use hpa_controller::state::Mode;
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
use crate::hpa_controller::identity;
use crate::{descriptors, kubeconfig};

/// How long answers of reviews are remembered, upstream's default.
const REVIEW_TTL: Duration = Duration::from_secs(10);
/// How often the store is asked which series there are. prometheus-adapter asks every ten minutes; here it costs little, and what has
/// just begun to be collected is soon known.
const RELIST_INTERVAL: Duration = Duration::from_secs(15);
/// Series without a sample for longer do not exist.
const SERIES_AGE_MAX: Duration = Duration::from_secs(300);

/// Namespace and name of the Lease and of the state, those of `sextant hpa-controller`: of the two only one acts.
const LEASE: (&str, &str) = ("kube-system", "sextant-hpa-controller");

/// Flags of `sextant --kubernetes`
#[derive(Debug, Args)]
#[command(next_help_heading = "Kubernetes")]
pub(crate) struct KubernetesFlags {
    /// Also serve the metrics APIs of the cluster that the file names, and decide for its autoscalers; without a file of that in $KUBECONFIG, ~/.kube/config or
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
    /// Whether the autoscaler's decisions are carried out: 'active' elects a leader and writes replicas, status and events; 'shadow'
    /// decides and records, and writes nothing to the cluster. Needs --kubernetes [default: shadow]
    // Without `requires`: the variable is that of `sextant hpa-controller`, which must not be refused for it.
    #[arg(long = "hpa.mode", value_name = "active|shadow", env = "SEXTANT_HPA_MODE")]
    pub(crate) hpa_mode: Option<Mode>,
    /// Address for the autoscaler's decisions, metrics and probes. Loopback, because nothing authenticates callers
    #[arg(
        long = "kubernetes.hpa-listen-address",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:9099",
        requires = "kubernetes",
        env = "SEXTANT_KUBERNETES_HPA_LISTEN_ADDRESS"
    )]
    hpa_address: String,
}

/// Runs all of it until `shutdown`. `routes` are the server's, whose URL is `server_url`; `cluster` is a kubeconfig, or empty.
///
/// # Errors
/// There is no such cluster, the metrics APIs or the autoscaler's own API cannot be served, or leadership was lost.
pub(crate) async fn run(
    cluster: &Path,
    flags: &KubernetesFlags,
    routes: Router,
    server_url: String,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    descriptors::raise_limit();
    let api_server = if cluster.as_os_str().is_empty() {
        kube::Config::infer().await.context("--kubernetes: no cluster is configured")?
    } else {
        kubeconfig::from_file(cluster).await.context("--kubernetes")?
    };
    let http = http::Client::in_process(routes);
    let prometheus = api_client::Client::new(http, api_client::Options::new(server_url))?;
    let apis = metrics_apis(flags, api_server.clone(), prometheus.clone())?;
    let autoscaler = autoscaler(flags, api_server, prometheus)?;
    // Neither goes on without the other.
    let stop = shutdown.child_token();
    let apis = async {
        let _other = stop.clone().drop_guard();
        let announce = |address| tracing::info!(%address, "serving the metrics APIs of Kubernetes");
        metrics_server::run(apis, announce, stop.clone()).await.context("metrics APIs")
    };
    let autoscaler = async {
        let _other = stop.clone().drop_guard();
        let mode = autoscaler.mode;
        let announce = move |address| {
            tracing::info!(%address, %mode, "the autoscaler decides; see /api/v1/hpa");
        };
        hpa_controller::run(autoscaler, announce, stop.clone()).await.context("autoscaler")
    };
    let (apis, autoscaler) = tokio::join!(apis, autoscaler);
    apis.and(autoscaler)
}

/// The autoscaler asks the cluster for metrics, as the in-tree one does, and our own store for the past.
fn autoscaler(
    flags: &KubernetesFlags,
    api_server: kube::Config,
    prometheus: api_client::Client,
) -> anyhow::Result<hpa_controller::Config> {
    let mode = flags.hpa_mode.unwrap_or_default();
    let active = mode == Mode::Active;
    let (namespace, name) = LEASE;
    let config = hpa_controller::Config {
        mode,
        election: active.then(|| ElectionOptions::new(namespace, name, &identity())),
        state: StatePlaces {
            config_maps: active.then(|| (String::from(namespace), String::from(name))),
            directory: None,
        },
        listen: flags.hpa_address.clone(),
        history: Some(Arc::new(ApiHistory::new(prometheus))),
        ..hpa_controller::Config::new(api_server, Arc::new(SystemClock), telemetry::new_registry())
    };
    config.check()?;
    Ok(config)
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
                expressions: false,
                steering: None,
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::flags::Cli;

    fn configured(args: &[&str]) -> hpa_controller::Config {
        let args = ["sextant", "--kubernetes=config"].iter().chain(args);
        let flags = Cli::try_parse_from(args).unwrap().here.kubernetes;
        let api_server = kube::Config::new("https://127.0.0.1:6443".parse().unwrap());
        let http = http::Client::in_process(Router::new());
        let options = api_client::Options::new("http://127.0.0.1:9090");
        let prometheus = api_client::Client::new(http, options).unwrap();
        autoscaler(&flags, api_server, prometheus).unwrap()
    }

    #[test]
    fn the_autoscaler_writes_nothing_unless_told_to() {
        let shadow = configured(&[]);
        assert_eq!(shadow.mode, Mode::Shadow);
        assert_eq!((shadow.election, shadow.state), (None, StatePlaces::default()));
        assert_eq!(shadow.listen, "127.0.0.1:9099");
        assert!(shadow.history.is_some());

        let active = configured(&["--hpa.mode=active", "--kubernetes.hpa-listen-address=[::1]:1"]);
        assert_eq!((active.mode, active.listen.as_str()), (Mode::Active, "[::1]:1"));
        let election = active.election.unwrap();
        assert_eq!((&*election.namespace, &*election.name), LEASE);
        let (namespace, name) = active.state.config_maps.unwrap();
        assert_eq!((&*namespace, &*name), LEASE);
    }
}
