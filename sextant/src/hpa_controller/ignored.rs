//! Flags of kube-controller-manager that have nothing to act on here.

use crate::ignored_flags::{self, Ignored, IgnoredTable};

/// Why a flag has no effect.
const SERVING: &str = "decisions, metrics and probes are served by --web.listen-address and --web.probe-address, over plain HTTP";
const NOBODY: &str = "callers are not authenticated: keep --web.listen-address on loopback";
const OTHERS: &str = "it is for another controller";
const MIGRATION: &str = "there is one controller and nothing to migrate";
const LOGS: &str = "log lines are not buffered, split or filtered by file";
const METRICS: &str = "metrics are neither hidden nor limited";
const PROFILES: &str = "there is no profiling endpoint";

/// Name, whether it is a boolean, and why it has no effect.
const IGNORED: &[Ignored] = &[
    ("allocate-node-cidrs", true, OTHERS),
    ("allow-metric-labels", false, METRICS),
    ("allow-metric-labels-manifest", false, METRICS),
    ("authentication-kubeconfig", false, NOBODY),
    ("authentication-skip-lookup", true, NOBODY),
    ("authentication-token-webhook-cache-ttl", false, NOBODY),
    ("authentication-tolerate-lookup-failure", true, NOBODY),
    ("authorization-always-allow-paths", false, NOBODY),
    ("authorization-kubeconfig", false, NOBODY),
    ("authorization-webhook-cache-authorized-ttl", false, NOBODY),
    ("authorization-webhook-cache-unauthorized-ttl", false, NOBODY),
    ("bind-address", false, SERVING),
    ("cert-dir", false, SERVING),
    ("client-ca-file", false, NOBODY),
    ("cloud-config", false, OTHERS),
    ("cloud-provider", false, OTHERS),
    ("cluster-cidr", false, OTHERS),
    ("cluster-name", false, OTHERS),
    ("cluster-signing-cert-file", false, OTHERS),
    ("cluster-signing-duration", false, OTHERS),
    ("cluster-signing-key-file", false, OTHERS),
    ("configure-cloud-routes", true, OTHERS),
    ("contention-profiling", true, PROFILES),
    ("controller-start-interval", false, "there is one controller"),
    ("controllers", false, "there is one controller"),
    ("disable-http2-serving", true, SERVING),
    ("disabled-metrics", false, METRICS),
    ("emulated-version", false, "decisions are those of 1.36"),
    ("enable-leader-migration", true, MIGRATION),
    ("flex-volume-plugin-dir", false, OTHERS),
    ("http2-max-streams-per-connection", false, SERVING),
    ("kube-api-content-type", false, "JSON is spoken with the API server"),
    ("leader-migration-config", false, MIGRATION),
    ("log-flush-frequency", false, LOGS),
    ("log-json-info-buffer-size", false, LOGS),
    ("log-json-split-stream", true, LOGS),
    ("log-text-info-buffer-size", false, LOGS),
    ("log-text-split-stream", true, LOGS),
    ("min-compatibility-version", false, "decisions are those of 1.36"),
    (
        "min-resync-period",
        false,
        "watches are not replayed; autoscalers are evaluated every sync period",
    ),
    ("node-cidr-mask-size", false, OTHERS),
    ("node-monitor-grace-period", false, OTHERS),
    ("node-monitor-period", false, OTHERS),
    ("permit-address-sharing", true, SERVING),
    ("permit-port-sharing", true, SERVING),
    ("profiling", true, PROFILES),
    ("requestheader-allowed-names", false, NOBODY),
    ("requestheader-client-ca-file", false, NOBODY),
    ("requestheader-extra-headers-prefix", false, NOBODY),
    ("requestheader-group-headers", false, NOBODY),
    ("requestheader-uid-headers", false, NOBODY),
    ("requestheader-username-headers", false, NOBODY),
    ("root-ca-file", false, OTHERS),
    ("route-reconciliation-period", false, OTHERS),
    ("secure-port", false, SERVING),
    ("service-account-private-key-file", false, OTHERS),
    ("service-cluster-ip-range", false, OTHERS),
    ("show-hidden-metrics-for-version", false, METRICS),
    ("terminated-pod-gc-threshold", false, OTHERS),
    ("tls-cert-file", false, SERVING),
    ("tls-cipher-suites", false, SERVING),
    ("tls-curve-preferences", false, SERVING),
    ("tls-min-version", false, SERVING),
    ("tls-private-key-file", false, SERVING),
    ("tls-sni-cert-key", false, SERVING),
    (
        "use-service-account-credentials",
        true,
        "there is one account, that of the kubeconfig or the pod",
    ),
    ("vmodule", false, LOGS),
];

/// Those of kube-controller-manager that its manifests set, and those that every daemon of Kubernetes has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Table;

impl IgnoredTable for Table {
    const FLAGS: &'static [Ignored] = IGNORED;
}

/// The flags that were given without effect.
pub(crate) type IgnoredFlags = ignored_flags::IgnoredFlags<Table>;
