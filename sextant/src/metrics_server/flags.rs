//! `sextant metrics-server`: upstream's flags and defaults, and a few of our own.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args};
use http::{CertificateSource, NamedCertificate, TlsVersion};

use super::adapter::AdapterFlags;
use super::ignored::IgnoredFlags;
use crate::go_values::{go_bool, go_duration, positive_go_duration};
use crate::klog::KlogFlags;

/// `sextant metrics-server`
#[derive(Debug, Args)]
pub(crate) struct MetricsServerFlags {
    /// Kubeconfig for the API server and, unless other flags say otherwise, for kubelets. The ServiceAccount of the pod, if not
    /// given
    #[arg(
        long,
        visible_alias = "lister-kubeconfig",
        value_name = "FILE",
        env = "SEXTANT_KUBECONFIG"
    )]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// How often each node is asked, at least 1s; less than 10s is of use where kubelets measure that often
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "1m0s",
        value_parser = positive_go_duration,
        env = "SEXTANT_METRIC_RESOLUTION"
    )]
    pub(crate) metric_resolution: Duration,
    /// Watch only the metadata of pods, as upstream, which is a fraction of the traffic: /top then does not know what pods ask for, and
    /// a pod belongs to the node whose kubelet measures it
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true",
        value_parser = go_bool,
        action = ArgAction::Set,
        env = "SEXTANT_POD_METADATA_ONLY"
    )]
    pub(crate) pod_metadata_only: bool,
    #[command(flatten)]
    pub(crate) kubelet: KubeletFlags,
    #[command(flatten)]
    pub(crate) adapter: AdapterFlags,
    #[command(flatten)]
    pub(crate) serving: ServingFlags,
    #[command(flatten)]
    pub(crate) authentication: AuthenticationFlags,
    #[command(flatten)]
    pub(crate) authorization: AuthorizationFlags,
    #[command(flatten)]
    pub(crate) log: KlogFlags,
    #[command(flatten)]
    pub(crate) ignored: IgnoredFlags,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Kubelets")]
pub(crate) struct KubeletFlags {
    /// Port of kubelets
    #[arg(
        long,
        value_name = "PORT",
        default_value_t = 10250,
        value_parser = clap::value_parser!(u16).range(1..),
        env = "SEXTANT_KUBELET_PORT"
    )]
    pub(crate) kubelet_port: u16,
    /// Prefer the port in the node's status to --kubelet-port
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true",
        value_parser = go_bool,
        action = ArgAction::Set,
        env = "SEXTANT_KUBELET_USE_NODE_STATUS_PORT"
    )]
    pub(crate) kubelet_use_node_status_port: bool,
    /// Types of node addresses by priority; the first that a node has is asked
    #[arg(
        long,
        value_name = "TYPES",
        value_delimiter = ',',
        default_value = "Hostname,InternalDNS,InternalIP,ExternalDNS,ExternalIP",
        env = "SEXTANT_KUBELET_PREFERRED_ADDRESS_TYPES"
    )]
    pub(crate) kubelet_preferred_address_types: Vec<String>,
    /// Time for a request to a kubelet, at most 90 % of --metric-resolution
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "10s",
        value_parser = positive_go_duration,
        env = "SEXTANT_KUBELET_REQUEST_TIMEOUT"
    )]
    pub(crate) kubelet_request_timeout: Duration,
    /// Authority of the kubelets' serving certificates; the API server's, if not given
    #[arg(long, value_name = "FILE", env = "SEXTANT_KUBELET_CERTIFICATE_AUTHORITY")]
    pub(crate) kubelet_certificate_authority: Option<PathBuf>,
    /// Client certificate to show to kubelets
    #[arg(long, value_name = "FILE", env = "SEXTANT_KUBELET_CLIENT_CERTIFICATE")]
    pub(crate) kubelet_client_certificate: Option<PathBuf>,
    /// Its private key
    #[arg(long, value_name = "FILE", env = "SEXTANT_KUBELET_CLIENT_KEY")]
    pub(crate) kubelet_client_key: Option<PathBuf>,
    /// Do not verify the kubelets' certificates: whoever can redirect traffic reads our credentials
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true",
        value_parser = go_bool,
        action = ArgAction::Set,
        env = "SEXTANT_KUBELET_INSECURE_TLS"
    )]
    pub(crate) kubelet_insecure_tls: bool,
    /// Ask kubelets by plain HTTP, without credentials
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true",
        value_parser = go_bool,
        action = ArgAction::Set,
        env = "SEXTANT_DEPRECATED_KUBELET_COMPLETELY_INSECURE"
    )]
    pub(crate) deprecated_kubelet_completely_insecure: bool,
    /// Nodes that count, by their labels: key1=value1,key2!=value2
    #[arg(
        long,
        short = 'l',
        value_name = "SELECTOR",
        default_value = "",
        env = "SEXTANT_NODE_SELECTOR"
    )]
    pub(crate) node_selector: String,
    /// Path that is asked on every node
    #[arg(
        long,
        value_name = "PATH",
        default_value = metrics_server::kubelet::RESOURCE_METRICS_PATH,
        env = "SEXTANT_KUBELET_PATH"
    )]
    pub(crate) kubelet_path: String,
    /// Let the annotation metrics.k8s.io/resource-metrics-path of a node say another path. Upstream always does; whoever may
    /// annotate nodes then chooses what our credentials are used for
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true",
        value_parser = go_bool,
        action = ArgAction::Set,
        env = "SEXTANT_KUBELET_ALLOW_PATH_ANNOTATION"
    )]
    pub(crate) kubelet_allow_path_annotation: bool,
    /// Ask nodes whose address is a loopback address. Refused otherwise, since such an address leads back here; link-local ones
    /// always are
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true",
        value_parser = go_bool,
        action = ArgAction::Set,
        env = "SEXTANT_KUBELET_ALLOW_LOOPBACK"
    )]
    pub(crate) kubelet_allow_loopback: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Serving")]
pub(crate) struct ServingFlags {
    /// Address to listen on
    #[arg(long, value_name = "IP", default_value = "0.0.0.0", env = "SEXTANT_BIND_ADDRESS")]
    pub(crate) bind_address: IpAddr,
    /// Port to listen on, with TLS, authentication and authorization
    #[arg(long, value_name = "PORT", default_value_t = 443, env = "SEXTANT_SECURE_PORT")]
    pub(crate) secure_port: u16,
    /// Folder of a certificate that is made here when none is given. A pair apiserver.crt and apiserver.key that was put there is
    /// served instead
    #[arg(
        long,
        value_name = "DIR",
        default_value = "apiserver.local.config/certificates",
        env = "SEXTANT_CERT_DIR"
    )]
    pub(crate) cert_dir: PathBuf,
    /// Serving certificate, with the authority's after it if there is one; read again when it changes
    #[arg(
        long,
        value_name = "FILE",
        requires = "tls_private_key_file",
        env = "SEXTANT_TLS_CERT_FILE"
    )]
    pub(crate) tls_cert_file: Option<PathBuf>,
    /// Its private key
    #[arg(
        long,
        value_name = "FILE",
        requires = "tls_cert_file",
        env = "SEXTANT_TLS_PRIVATE_KEY_FILE"
    )]
    pub(crate) tls_private_key_file: Option<PathBuf>,
    /// A certificate and its key for clients that ask for certain names: CERT,KEY or CERT,KEY:NAME,*.NAME; the names that the
    /// certificate bears, if none are given. May be given several times; read again when it changes
    #[arg(
        long = "tls-sni-cert-key",
        value_name = "FILES",
        value_parser = named_certificate,
        env = "SEXTANT_TLS_SNI_CERT_KEY"
    )]
    pub(crate) tls_sni_cert_keys: Vec<NamedCertificate>,
    /// Oldest version of TLS: VersionTLS12 or VersionTLS13. Older ones than 1.2 are never spoken
    #[arg(
        long,
        value_name = "VERSION",
        default_value = "VersionTLS12",
        env = "SEXTANT_TLS_MIN_VERSION"
    )]
    pub(crate) tls_min_version: TlsVersion,
    /// Cipher suites of TLS 1.2 by their IANA names; all good ones, if none are given. Those of TLS 1.3 cannot be chosen
    #[arg(long, value_name = "SUITES", value_delimiter = ',', env = "SEXTANT_TLS_CIPHER_SUITES")]
    pub(crate) tls_cipher_suites: Vec<String>,
    /// Write the authority of a certificate that is made here into the APIService, so that the aggregator verifies it. Needs
    /// permission to get and update apiservices
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true",
        value_parser = go_bool,
        action = ArgAction::Set,
        env = "SEXTANT_INJECT_CA_BUNDLE"
    )]
    pub(crate) inject_ca_bundle: bool,
    /// Requests that are answered at a time
    #[arg(long, value_name = "N", default_value_t = 400, env = "SEXTANT_MAX_REQUESTS_INFLIGHT")]
    pub(crate) max_requests_inflight: usize,
    /// Time until the answer to a request other than a watch begins. After it a client that does not read its answer no longer
    /// counts among the requests that are answered at a time
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "1m0s",
        value_parser = positive_go_duration,
        env = "SEXTANT_REQUEST_TIMEOUT"
    )]
    pub(crate) request_timeout: Duration,
    /// How long requests are answered after SIGTERM while /readyz says no
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "0s",
        value_parser = go_duration,
        env = "SEXTANT_SHUTDOWN_DELAY_DURATION"
    )]
    pub(crate) shutdown_delay_duration: Duration,
}

/// `cert.pem,key.pem` or `cert.pem,key.pem:*.example.com,example.com`
fn named_certificate(text: &str) -> Result<NamedCertificate, &'static str> {
    let (files, names) = text.split_once(':').unwrap_or((text, ""));
    let (certificate, key) =
        files.split_once(',').ok_or("expected a certificate and a key: CERT,KEY[:NAMES]")?;
    if certificate.is_empty() || key.is_empty() || key.contains(',') {
        return Err("expected one certificate and one key: CERT,KEY[:NAMES]");
    }
    Ok(NamedCertificate {
        source: CertificateSource::Files {
            certificate: PathBuf::from(certificate),
            key: PathBuf::from(key),
        },
        names: names.split(',').filter(|name| !name.is_empty()).map(String::from).collect(),
    })
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Authentication")]
pub(crate) struct AuthenticationFlags {
    /// Kubeconfig for TokenReviews and the authentication ConfigMap; that for the API server, if not given
    #[arg(long, value_name = "FILE", env = "SEXTANT_AUTHENTICATION_KUBECONFIG")]
    pub(crate) authentication_kubeconfig: Option<PathBuf>,
    /// Do not look authentication settings up in kube-system/extension-apiserver-authentication
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true",
        value_parser = go_bool,
        action = ArgAction::Set,
        env = "SEXTANT_AUTHENTICATION_SKIP_LOOKUP"
    )]
    pub(crate) authentication_skip_lookup: bool,
    /// How long the answer to a TokenReview is remembered
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "10s",
        value_parser = go_duration,
        env = "SEXTANT_AUTHENTICATION_TOKEN_WEBHOOK_CACHE_TTL"
    )]
    pub(crate) authentication_token_webhook_cache_ttl: Duration,
    /// Start although authentication settings cannot be looked up; callers may then count as anonymous
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true",
        value_parser = go_bool,
        action = ArgAction::Set,
        env = "SEXTANT_AUTHENTICATION_TOLERATE_LOOKUP_FAILURE"
    )]
    pub(crate) authentication_tolerate_lookup_failure: bool,
    /// Authority of client certificates: the common name is the user, organizations are groups
    #[arg(long, value_name = "FILE", env = "SEXTANT_CLIENT_CA_FILE")]
    pub(crate) client_ca_file: Option<PathBuf>,
    /// Authority of the aggregator's client certificate, whose headers are believed
    #[arg(long, value_name = "FILE", env = "SEXTANT_REQUESTHEADER_CLIENT_CA_FILE")]
    pub(crate) requestheader_client_ca_file: Option<PathBuf>,
    /// Common names that the aggregator's certificate may have; any if none are given
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        env = "SEXTANT_REQUESTHEADER_ALLOWED_NAMES"
    )]
    pub(crate) requestheader_allowed_names: Vec<String>,
    /// Prefixes of headers with further properties of the user
    #[arg(
        long,
        value_name = "PREFIXES",
        value_delimiter = ',',
        default_value = "x-remote-extra-",
        env = "SEXTANT_REQUESTHEADER_EXTRA_HEADERS_PREFIX"
    )]
    pub(crate) requestheader_extra_headers_prefix: Vec<String>,
    /// Headers with groups of the user
    #[arg(
        long,
        value_name = "HEADERS",
        value_delimiter = ',',
        default_value = "x-remote-group",
        env = "SEXTANT_REQUESTHEADER_GROUP_HEADERS"
    )]
    pub(crate) requestheader_group_headers: Vec<String>,
    /// Headers with the user's uid
    #[arg(
        long,
        value_name = "HEADERS",
        value_delimiter = ',',
        env = "SEXTANT_REQUESTHEADER_UID_HEADERS"
    )]
    pub(crate) requestheader_uid_headers: Vec<String>,
    /// Headers with the user's name
    #[arg(
        long,
        value_name = "HEADERS",
        value_delimiter = ',',
        default_value = "x-remote-user",
        env = "SEXTANT_REQUESTHEADER_USERNAME_HEADERS"
    )]
    pub(crate) requestheader_username_headers: Vec<String>,
}

impl AuthenticationFlags {
    /// Flags that were given but say nothing, since the aggregator's authority is not that of a flag: the other settings of
    /// its headers then come from the cluster too.
    pub(crate) fn idle(&self) -> Vec<&'static str> {
        if self.requestheader_client_ca_file.is_some() {
            return Vec::new();
        }
        let flags: [(&'static str, &[String], &[&str]); 5] = [
            ("--requestheader-allowed-names", &self.requestheader_allowed_names, &[]),
            (
                "--requestheader-extra-headers-prefix",
                &self.requestheader_extra_headers_prefix,
                &["x-remote-extra-"],
            ),
            (
                "--requestheader-group-headers",
                &self.requestheader_group_headers,
                &["x-remote-group"],
            ),
            ("--requestheader-uid-headers", &self.requestheader_uid_headers, &[]),
            (
                "--requestheader-username-headers",
                &self.requestheader_username_headers,
                &["x-remote-user"],
            ),
        ];
        let given = flags.into_iter().filter(|(_, given, default)| given != default);
        given.map(|(name, ..)| name).collect()
    }
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Authorization")]
pub(crate) struct AuthorizationFlags {
    /// Paths that anyone may read
    #[arg(
        long,
        value_name = "PATHS",
        value_delimiter = ',',
        default_value = "/healthz,/readyz,/livez",
        env = "SEXTANT_AUTHORIZATION_ALWAYS_ALLOW_PATHS"
    )]
    pub(crate) authorization_always_allow_paths: Vec<String>,
    /// Kubeconfig for SubjectAccessReviews; that for the API server, if not given
    #[arg(long, value_name = "FILE", env = "SEXTANT_AUTHORIZATION_KUBECONFIG")]
    pub(crate) authorization_kubeconfig: Option<PathBuf>,
    /// How long a permission is remembered
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "10s",
        value_parser = go_duration,
        env = "SEXTANT_AUTHORIZATION_WEBHOOK_CACHE_AUTHORIZED_TTL"
    )]
    pub(crate) authorization_webhook_cache_authorized_ttl: Duration,
    /// How long a refusal is remembered
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "10s",
        value_parser = go_duration,
        env = "SEXTANT_AUTHORIZATION_WEBHOOK_CACHE_UNAUTHORIZED_TTL"
    )]
    pub(crate) authorization_webhook_cache_unauthorized_ttl: Duration,
}
