//! `sextant hpa-controller`: the flags of kube-controller-manager that concern autoscaling, under its names, and ours.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};
use hpa_controller::state::Mode;

use super::ignored::IgnoredFlags;
use crate::flags::size;
use crate::go_values::{go_bool, positive_go_duration};
use crate::hpa::SettingsFlags;
use crate::klog::KlogFlags;

/// `sextant hpa-controller`
#[derive(Debug, Args)]
pub(crate) struct HpaControllerFlags {
    /// Kubeconfig for the API server. The ServiceAccount of the pod, if not given
    #[arg(long, value_name = "FILE", env = "SEXTANT_KUBECONFIG")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// URL of the API server, in place of the kubeconfig's or the pod's
    #[arg(long, value_name = "URL", env = "SEXTANT_MASTER")]
    pub(crate) master: Option<String>,
    /// Time from one evaluation of an autoscaler to the next, 1s to 1h
    #[arg(
        long = "horizontal-pod-autoscaler-sync-period",
        value_name = "DURATION",
        default_value = "15s",
        value_parser = positive_go_duration,
        env = "SEXTANT_HORIZONTAL_POD_AUTOSCALER_SYNC_PERIOD"
    )]
    pub(crate) sync_period: Duration,
    /// Autoscalers that are evaluated at a time. Upstream's default is 5, each of which has a thread; here they wait for answers
    #[arg(
        long = "concurrent-horizontal-pod-autoscaler-syncs",
        value_name = "N",
        default_value_t = 50,
        env = "SEXTANT_CONCURRENT_HORIZONTAL_POD_AUTOSCALER_SYNCS"
    )]
    pub(crate) concurrent_syncs: usize,
    /// Requests a second to the API server, watches aside. Upstream's default is 20 for each of five clients, with which 300
    /// autoscalers are evaluated in time
    #[arg(
        long = "kube-api-qps",
        value_name = "N",
        default_value_t = 1500.0,
        env = "SEXTANT_KUBE_API_QPS"
    )]
    pub(crate) qps: f64,
    /// Requests to the API server at once after a quiet time. Upstream's default is 30
    #[arg(
        long = "kube-api-burst",
        value_name = "N",
        default_value_t = 3000,
        env = "SEXTANT_KUBE_API_BURST"
    )]
    pub(crate) burst: u32,
    #[command(flatten)]
    pub(crate) settings: SettingsFlags,
    #[command(flatten)]
    pub(crate) hpa: OwnFlags,
    #[command(flatten)]
    pub(crate) election: ElectionFlags,
    #[command(flatten)]
    pub(crate) web: ListenFlags,
    #[command(flatten)]
    pub(crate) log: KlogFlags,
    #[command(flatten)]
    pub(crate) ignored: IgnoredFlags,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Beyond upstream")]
pub(crate) struct OwnFlags {
    /// Whether decisions are carried out: 'active' writes replicas, status and events; 'shadow' decides and records, and writes
    /// nothing to the cluster
    #[arg(
        long = "hpa.mode",
        value_name = "active|shadow",
        default_value_t = Mode::Shadow,
        env = "SEXTANT_HPA_MODE"
    )]
    pub(crate) mode: Mode,
    /// What besides the period makes an evaluation
    #[arg(
        long = "hpa.react",
        value_name = "WHEN",
        value_enum,
        default_value_t = ReactTo::Period,
        env = "SEXTANT_HPA_REACT"
    )]
    pub(crate) react: ReactTo,
    /// Statuses a second, of all autoscalers together, that are written where only values of metrics or the words of a condition
    /// have changed. What tells of a rescale or of a condition that turns is written at once
    #[arg(
        long = "hpa.status-writes",
        value_name = "N",
        default_value_t = 50,
        env = "SEXTANT_HPA_STATUS_WRITES"
    )]
    pub(crate) status_writes: u32,
    /// Namespaces whose autoscalers count; all, if not given
    #[arg(
        long = "hpa.namespaces",
        value_name = "NAMESPACES",
        value_delimiter = ',',
        env = "SEXTANT_HPA_NAMESPACES"
    )]
    pub(crate) namespaces: Vec<String>,
    /// Folder for recommendations and scale events, so that a restart neither holds back scaling down nor forgets rate limits, and
    /// for decisions with all that they were made from
    #[arg(long = "hpa.state-dir", value_name = "DIR", env = "SEXTANT_HPA_STATE_DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Keep recommendations and scale events in ConfigMaps beside the Lease, where the next leader finds them. Not in shadow mode,
    /// which writes nothing
    #[arg(
        long = "hpa.state-config-maps",
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_value = "true",
        default_missing_value = "true",
        value_parser = go_bool,
        action = ArgAction::Set,
        env = "SEXTANT_HPA_STATE_CONFIG_MAPS"
    )]
    pub(crate) state_config_maps: bool,
    /// Prometheus whose history forecasts are made from (annotation autoscaling.sextant.dev/forecast); without it there are none
    #[arg(long = "hpa.prometheus-url", value_name = "URL", env = "SEXTANT_HPA_PROMETHEUS_URL")]
    pub(crate) prometheus_url: Option<String>,
    /// Authority of its certificate; the system's, if not given
    #[arg(
        long = "hpa.prometheus-ca-file",
        value_name = "FILE",
        requires = "prometheus_url",
        env = "SEXTANT_HPA_PROMETHEUS_CA_FILE"
    )]
    pub(crate) prometheus_ca_file: Option<PathBuf>,
    /// File with a bearer token for it
    #[arg(
        long = "hpa.prometheus-token-file",
        value_name = "FILE",
        requires = "prometheus_url",
        env = "SEXTANT_HPA_PROMETHEUS_TOKEN_FILE"
    )]
    pub(crate) prometheus_token_file: Option<PathBuf>,
    /// Decisions of each autoscaler that are kept in memory
    #[arg(
        long = "hpa.decisions-kept",
        value_name = "N",
        default_value_t = 20,
        env = "SEXTANT_HPA_DECISIONS_KEPT"
    )]
    pub(crate) decisions_kept: usize,
    /// Bytes of memory for all of them (64MB, 1GB; powers of 1024); the oldest go first
    #[arg(
        long = "hpa.decisions-memory",
        value_name = "SIZE",
        default_value = "64MB",
        value_parser = size,
        env = "SEXTANT_HPA_DECISIONS_MEMORY"
    )]
    pub(crate) decisions_memory: u64,
    /// Bytes of decisions in --hpa.state-dir, 1MB at least; 0 for none
    #[arg(
        long = "hpa.decisions-disk",
        value_name = "SIZE",
        default_value = "256MB",
        value_parser = size,
        env = "SEXTANT_HPA_DECISIONS_DISK"
    )]
    pub(crate) decisions_disk: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReactTo {
    /// Nothing
    Period,
    /// Fresh samples of pods, to scale up only; needs metrics APIs that can be watched
    FreshSamples,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Leader election, in active mode")]
pub(crate) struct ElectionFlags {
    /// Elect the one that acts among several. Without it, this must be the only one
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_value = "true",
        default_missing_value = "true",
        value_parser = go_bool,
        action = ArgAction::Set,
        env = "SEXTANT_LEADER_ELECT"
    )]
    pub(crate) leader_elect: bool,
    /// How long others wait for a sign of life before they take over
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "15s",
        value_parser = positive_go_duration,
        env = "SEXTANT_LEADER_ELECT_LEASE_DURATION"
    )]
    pub(crate) leader_elect_lease_duration: Duration,
    /// For how long a leader writes after its last renewal
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "10s",
        value_parser = positive_go_duration,
        env = "SEXTANT_LEADER_ELECT_RENEW_DEADLINE"
    )]
    pub(crate) leader_elect_renew_deadline: Duration,
    /// Pause between two attempts to take or renew the Lease
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "2s",
        value_parser = positive_go_duration,
        env = "SEXTANT_LEADER_ELECT_RETRY_PERIOD"
    )]
    pub(crate) leader_elect_retry_period: Duration,
    /// Kind of the lock; there is one
    #[arg(
        long,
        value_name = "KIND",
        default_value = "leases",
        value_parser = ["leases"],
        env = "SEXTANT_LEADER_ELECT_RESOURCE_LOCK"
    )]
    pub(crate) leader_elect_resource_lock: String,
    /// Name of the Lease; what the names of ConfigMaps with state begin with. Upstream's default is kube-controller-manager
    #[arg(
        long,
        value_name = "NAME",
        default_value = super::LEASE_NAME,
        env = "SEXTANT_LEADER_ELECT_RESOURCE_NAME"
    )]
    pub(crate) leader_elect_resource_name: String,
    /// Namespace of the Lease and of ConfigMaps with state
    #[arg(
        long,
        value_name = "NAMESPACE",
        default_value = super::LEASE_NAMESPACE,
        env = "SEXTANT_LEADER_ELECT_RESOURCE_NAMESPACE"
    )]
    pub(crate) leader_elect_resource_namespace: String,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Web")]
pub(crate) struct ListenFlags {
    /// Address for decisions, metrics and probes. Loopback, because nothing authenticates callers
    #[arg(
        long = "web.listen-address",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:9099",
        env = "SEXTANT_WEB_LISTEN_ADDRESS"
    )]
    pub(crate) listen_address: String,
    /// A second address, for metrics, probes and the counts of steered autoscalers alone: what a kubelet, a scraper and the
    /// metrics server need
    #[arg(long = "web.probe-address", value_name = "HOST:PORT", env = "SEXTANT_WEB_PROBE_ADDRESS")]
    pub(crate) probe_address: Option<String>,
}
