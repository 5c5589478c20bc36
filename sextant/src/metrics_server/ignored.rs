//! Upstream's flags that have nothing to act on here: accepted, so that existing manifests start, and warned about when given.

use crate::ignored_flags::{self, Ignored, IgnoredTable};

/// Why a flag has no effect.
const AUDIT: &str = "audit logs are not written";
const VERSIONS: &str = "no version but the own is emulated";
const LOGS: &str = "log lines are not buffered, split or filtered by file";
const READ_ONLY: &str = "nothing here changes anything";
const PROFILES: &str = "there is no profiling endpoint";
const SHUTDOWN: &str = "open requests are drained for a fixed time";
const FAIRNESS: &str = "requests are bounded by --max-requests-inflight alone";

/// Name, whether it is a boolean, and why it has no effect.
const IGNORED: &[Ignored] = &[
    ("advertise-address", false, "nothing advertises an address"),
    ("cors-allowed-origins", false, "no other site's pages may read the API"),
    (
        "discovery-interval",
        false,
        "kinds are discovered with the series, by --metrics-relist-interval",
    ),
    ("emulated-version", false, VERSIONS),
    ("emulation-forward-compatible", true, VERSIONS),
    ("external-hostname", false, "no URL of this server is generated"),
    ("feature-gates", false, "there are no feature gates"),
    ("goaway-chance", false, "connections are not rebalanced"),
    ("livez-grace-period", false, "it is alive from the start"),
    ("max-mutating-requests-inflight", false, READ_ONLY),
    ("min-compatibility-version", false, VERSIONS),
    ("runtime-config-emulation-forward-compatible", true, VERSIONS),
    ("shutdown-send-retry-after", true, SHUTDOWN),
    ("shutdown-watch-termination-grace-period", false, SHUTDOWN),
    ("storage-initialization-timeout", false, "there is no storage to wait for"),
    ("strict-transport-security-directives", false, "the header is not sent"),
    ("min-request-timeout", false, "watches end after a time of their own"),
    (
        "disable-http2-serving",
        true,
        "HTTP/2 is served to clients that offer it, with bounded streams",
    ),
    ("http2-max-streams-per-connection", false, "HTTP/2 streams are bounded already"),
    ("permit-address-sharing", true, "the socket is not shared"),
    ("permit-port-sharing", true, "the socket is not shared"),
    ("tls-curve-preferences", false, "the library's curves are used"),
    ("audit-log-batch-buffer-size", false, AUDIT),
    ("audit-log-batch-max-size", false, AUDIT),
    ("audit-log-batch-max-wait", false, AUDIT),
    ("audit-log-batch-throttle-burst", false, AUDIT),
    ("audit-log-batch-throttle-enable", true, AUDIT),
    ("audit-log-batch-throttle-qps", false, AUDIT),
    ("audit-log-compress", true, AUDIT),
    ("audit-log-format", false, AUDIT),
    ("audit-log-maxage", false, AUDIT),
    ("audit-log-maxbackup", false, AUDIT),
    ("audit-log-maxsize", false, AUDIT),
    ("audit-log-mode", false, AUDIT),
    ("audit-log-path", false, AUDIT),
    ("audit-log-truncate-enabled", true, AUDIT),
    ("audit-log-truncate-max-batch-size", false, AUDIT),
    ("audit-log-truncate-max-event-size", false, AUDIT),
    ("audit-log-version", false, AUDIT),
    ("audit-policy-file", false, AUDIT),
    ("audit-webhook-batch-buffer-size", false, AUDIT),
    ("audit-webhook-batch-max-size", false, AUDIT),
    ("audit-webhook-batch-max-wait", false, AUDIT),
    ("audit-webhook-batch-throttle-burst", false, AUDIT),
    ("audit-webhook-batch-throttle-enable", true, AUDIT),
    ("audit-webhook-batch-throttle-qps", false, AUDIT),
    ("audit-webhook-config-file", false, AUDIT),
    ("audit-webhook-initial-backoff", false, AUDIT),
    ("audit-webhook-mode", false, AUDIT),
    ("audit-webhook-truncate-enabled", true, AUDIT),
    ("audit-webhook-truncate-max-batch-size", false, AUDIT),
    ("audit-webhook-truncate-max-event-size", false, AUDIT),
    ("audit-webhook-version", false, AUDIT),
    ("contention-profiling", true, PROFILES),
    ("debug-socket-path", false, PROFILES),
    ("profiling", true, PROFILES),
    ("enable-priority-and-fairness", true, FAIRNESS),
    ("log-flush-frequency", false, LOGS),
    ("log-json-info-buffer-size", false, LOGS),
    ("log-json-split-stream", true, LOGS),
    ("log-text-info-buffer-size", false, LOGS),
    ("log-text-split-stream", true, LOGS),
    ("vmodule", false, LOGS),
];

/// Upstream's flags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Table;

impl IgnoredTable for Table {
    const FLAGS: &'static [Ignored] = IGNORED;
}

/// The flags that were given without effect.
pub(crate) type IgnoredFlags = ignored_flags::IgnoredFlags<Table>;
