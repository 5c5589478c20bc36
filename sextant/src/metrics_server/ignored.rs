//! Upstream's flags that have nothing to act on here: accepted, so that existing manifests start, and warned about when given.

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

/// Why a flag has no effect.
const AUDIT: &str = "audit logs are not written";
const VERSIONS: &str = "no version but the own is emulated";
const LOGS: &str = "log lines are not buffered, split or filtered by file";
const READ_ONLY: &str = "nothing here changes anything";
const PROFILES: &str = "there is no profiling endpoint";
const SHUTDOWN: &str = "open requests are drained for a fixed time";
const FAIRNESS: &str = "requests are bounded by --max-requests-inflight alone";

/// Name, whether it is a boolean, and why it has no effect.
pub(super) const IGNORED: &[(&str, bool, &str)] = &[
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

/// The flags that were given without effect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct IgnoredFlags(Vec<usize>);

impl IgnoredFlags {
    #[cfg(test)]
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|at| IGNORED[*at].0)
    }

    /// One warning per flag that was given.
    pub(crate) fn warn(&self) {
        for (name, _, reason) in self.0.iter().map(|at| IGNORED[*at]) {
            tracing::warn!(flag = format!("--{name}"), reason, "flag has no effect");
        }
    }
}

impl Args for IgnoredFlags {
    fn augment_args(command: Command) -> Command {
        command.args(IGNORED.iter().map(|(name, boolean, reason)| {
            let arg =
                Arg::new(*name).long(*name).hide(true).help(*reason).action(ArgAction::Append);
            // As in Go, the value of a boolean follows an equals sign or is left out.
            if *boolean { arg.num_args(0..=1).require_equals(true) } else { arg }
        }))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for IgnoredFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |(at, (name, _, _)): (usize, &(&str, bool, &str))| {
            matches.value_source(name).is_some().then_some(at)
        };
        Ok(Self(IGNORED.iter().enumerate().filter_map(given).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
