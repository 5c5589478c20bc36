//! What a metrics server is told, and what of that cannot be.

use std::sync::Arc;
use std::time::Duration;

use http::{NamedCertificate, TlsPolicy};
use metrics_api::{LabelSelector, SelectorError};
use model::Clock;
use telemetry::Registry;

use api_client::{Inventory, Source};

use crate::adapter::{
    self, DiscoveryConfig, FallbackOptions, FallbackUrlError, QueryLimits, RelistTimes,
    SteeringOptions, SteeringUrlError,
};
use crate::auth::{AllowedPaths, FrontProxyFlags};
use crate::cluster::PodWatch;
use crate::kubelet::{EndpointOptions, KubeletTls};
use crate::serving::ServingCertificate;

/// Upstream asks for 10 s, since kubelets measure no more often unless told to (`--housekeeping-interval`). Where they are, an
/// autoscaler that reacts within seconds needs to hear of it.
const RESOLUTION_MIN: Duration = Duration::from_secs(1);

/// How to run. [`Config::check`] says what is wrong with it.
pub struct Config {
    /// The API server, and what to show it.
    pub api_server: kube::Config,
    /// How often each node is asked.
    pub resolution: Duration,
    /// Label selector of the nodes that count; all if empty.
    pub node_selector: String,
    /// Which part of pods is watched.
    pub pod_watch: PodWatch,
    /// How kubelets are asked.
    pub kubelets: KubeletConfig,
    /// How custom and external metrics are answered; they are not, if not given.
    pub adapter: Option<AdapterConfig>,
    /// What is served, and where.
    pub serving: ServingConfig,
    /// Who is believed.
    pub authentication: AuthenticationConfig,
    /// Who may do what.
    pub authorization: AuthorizationConfig,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// Where the metrics of this process are registered.
    pub registry: Registry,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The API server's configuration holds secrets.
        f.debug_struct("Config")
            .field("resolution", &self.resolution)
            .field("node_selector", &self.node_selector)
            .field("kubelets", &self.kubelets)
            .field("serving", &self.serving)
            .finish_non_exhaustive()
    }
}

/// How kubelets are asked.
#[derive(Clone, Debug)]
pub struct KubeletConfig {
    /// Which address, port and path of a node.
    pub endpoints: EndpointOptions,
    /// How they are verified, and what they are shown.
    pub tls: KubeletTls,
    /// Time for one request.
    pub request_timeout: Duration,
}

/// How custom and external metrics are answered.
pub struct AdapterConfig {
    /// The rules. With `resourceRules` among them `metrics.k8s.io` is answered by queries too, and no kubelet is asked.
    pub discovery: DiscoveryConfig,
    /// Whom to ask.
    pub source: Arc<dyn Source>,
    /// What it is called in metrics: its URL, without credentials.
    pub source_name: String,
    /// Where series come from: gives pods metrics without rules.
    pub default_rules: Option<Arc<dyn Inventory>>,
    /// Another adapter, for metrics that are not known here.
    pub fallback: Option<FallbackOptions>,
    /// Whether namespaces may bring expressions along, in `ConfigMap`s with the label `autoscaling.sextant.dev/expressions: "true"`.
    pub expressions: bool,
    /// Who knows the counts of steered autoscalers.
    pub steering: Option<SteeringOptions>,
    /// Bounds of queries.
    pub queries: QueryLimits,
    /// When the source is asked which series there are.
    pub relist: RelistTimes,
}

impl std::fmt::Debug for AdapterConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AdapterConfig").field("discovery", &self.discovery).finish_non_exhaustive()
    }
}

/// What is served, and where.
#[derive(Clone, Debug)]
pub struct ServingConfig {
    /// The address to listen on.
    pub bind_address: std::net::IpAddr,
    /// The port to listen on; 0 for any.
    pub port: u16,
    /// The serving certificate.
    pub certificate: ServingCertificate,
    /// Certificates for clients that ask for certain names.
    pub named_certificates: Vec<NamedCertificate>,
    /// TLS versions and cipher suites.
    pub tls: TlsPolicy,
    /// Whether the authority of a certificate that is made here is written into the `APIService` objects of the served
    /// groups. That of `metrics.k8s.io` must exist; of the others those with the same service are written.
    pub inject_ca: bool,
    /// Requests that are answered at a time.
    pub requests_inflight_max: usize,
    /// Time until the answer to a request other than a watch begins, and after which it no longer counts among those that
    /// are answered.
    pub request_timeout: Duration,
    /// How long requests are answered after the shutdown begins, while `/readyz` says no.
    pub shutdown_delay: Duration,
}

/// Who is believed.
#[derive(Clone, Debug)]
pub struct AuthenticationConfig {
    /// Reviews tokens and holds the authentication `ConfigMap`; the API server itself if not given.
    pub api_server: Option<Box<kube::Config>>,
    /// Whether the `ConfigMap` is left out.
    pub skip_lookup: bool,
    /// Whether to start although the `ConfigMap` cannot be read.
    pub tolerate_lookup_failure: bool,
    /// How long a review of a token is remembered.
    pub token_ttl: Duration,
    /// Authority of client certificates.
    pub client_ca_file: Option<std::path::PathBuf>,
    /// The aggregator's certificate and headers, in place of what the `ConfigMap` says.
    pub front_proxy: Option<FrontProxyFlags>,
}

/// Who may do what.
#[derive(Clone, Debug)]
pub struct AuthorizationConfig {
    /// Reviews access; the API server itself if not given.
    pub api_server: Option<Box<kube::Config>>,
    /// Paths that anyone may read.
    pub always_allow_paths: AllowedPaths,
    /// How long a permission is remembered.
    pub allowed_ttl: Duration,
    /// How long a refusal is remembered.
    pub denied_ttl: Duration,
}

/// What cannot be.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The resolution is shorter than kubelets can be told to measure in.
    #[error("--metric-resolution must be at least {RESOLUTION_MIN:?}, not {0:?}")]
    Resolution(Duration),
    /// A request may take longer than until the next.
    #[error(
        "--kubelet-request-timeout {timeout:?} must be at most 90 % of --metric-resolution \
         {resolution:?}"
    )]
    RequestTimeout {
        /// The time for a request.
        timeout: Duration,
        /// The resolution.
        resolution: Duration,
    },
    /// Two flags contradict each other.
    #[error("cannot use both {0} and {1}")]
    Contradiction(&'static str, &'static str),
    /// The node selector is none.
    #[error("--node-selector: {0}")]
    NodeSelector(SelectorError),
    /// A rule for custom or external metrics cannot be.
    #[error("configuration of custom metrics: {0}")]
    Rules(#[source] Arc<adapter::ConfigError>),
    /// The other adapter has no URL.
    #[error("--fallback-api: {0}")]
    Fallback(FallbackUrlError),
    /// The controller has no URL.
    #[error("--hpa-controller-url: {0}")]
    Steering(SteeringUrlError),
}

impl Config {
    /// The node selector, if nothing is wrong with any of it.
    ///
    /// # Errors
    /// [`ConfigError`], the first that there is.
    pub fn check(&self) -> Result<LabelSelector, ConfigError> {
        let (resolution, timeout) = (self.resolution, self.kubelets.request_timeout);
        if resolution < RESOLUTION_MIN {
            return Err(ConfigError::Resolution(resolution));
        }
        if resolution * 9 / 10 < timeout {
            return Err(ConfigError::RequestTimeout { timeout, resolution });
        }
        self.kubelets.tls.check()?;
        self.node_selector.trim().parse().map_err(ConfigError::NodeSelector)
    }
}

impl KubeletTls {
    fn check(&self) -> Result<(), ConfigError> {
        const INSECURE: &str = "--kubelet-insecure-tls";
        const COMPLETELY: &str = "--deprecated-kubelet-completely-insecure";
        const AUTHORITY: &str = "--kubelet-certificate-authority";
        const CERTIFICATE: &str = "--kubelet-client-certificate";
        let authority = self.certificate_authority.is_some();
        for (both, one, other) in [
            (authority && self.insecure, AUTHORITY, INSECURE),
            (
                self.client_certificate.is_some() && self.completely_insecure,
                CERTIFICATE,
                COMPLETELY,
            ),
            (self.insecure && self.completely_insecure, INSECURE, COMPLETELY),
            (authority && self.completely_insecure, AUTHORITY, COMPLETELY),
        ] {
            if both {
                return Err(ConfigError::Contradiction(one, other));
            }
        }
        Ok(())
    }
}
