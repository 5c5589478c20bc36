//! From an address and its labels to something that can be scraped.
//!
//! Labels that start with `__` configure the scrape and are not stored; this is the stage at which
//! relabelling would choose and change targets.

use std::collections::BTreeMap;
use std::time::Duration;

use config::{ScrapeConfig, TargetGroup};
use model::{Labels, LabelsBuilder, format_duration, parse_duration};

use crate::TargetError;
use crate::url;

const ADDRESS: &str = "__address__";
const INSTANCE: &str = "instance";
const JOB: &str = "job";
const METRICS_PATH: &str = "__metrics_path__";
const PARAM_PREFIX: &str = "__param_";
const RESERVED_PREFIX: &str = "__";
const SCHEME: &str = "__scheme__";
const SCRAPE_INTERVAL: &str = "__scrape_interval__";
const SCRAPE_TIMEOUT: &str = "__scrape_timeout__";

/// What to scrape, how often, and which labels its series get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Everything that discovery and configuration said, before any processing.
    pub(crate) discovered: Labels,
    /// The labels that its series carry.
    pub(crate) labels: Labels,
    /// Where its metrics are.
    pub(crate) url: String,
    /// Time between scrapes; positive.
    pub(crate) interval: Duration,
    /// Most that a scrape may take; positive and at most the interval.
    pub(crate) timeout: Duration,
}

/// What makes a target the same target after a reload: its series and where they come from.
///
/// How it is scraped does not belong to it, so that a new interval or limit keeps the cache.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Identity {
    pub(crate) labels: Labels,
    pub(crate) url: String,
}

impl Target {
    /// The target at `address`, one of `group`, in the job `config`.
    pub(crate) fn new(
        address: &str,
        group: &TargetGroup,
        config: &ScrapeConfig,
    ) -> Result<Self, TargetError> {
        let discovered = discovered_labels(address, group, config);
        let of = |name| discovered.get(name).unwrap_or_default();
        let address = of(ADDRESS);
        if address.is_empty() {
            return Err(TargetError::NoAddress);
        }
        if address.contains('/') {
            return Err(TargetError::InvalidAddress(String::from(address)));
        }
        let interval = positive_duration("interval", of(SCRAPE_INTERVAL))?;
        let timeout = positive_duration("timeout", of(SCRAPE_TIMEOUT))?;
        if timeout > interval {
            return Err(TargetError::TimeoutExceedsInterval {
                timeout: String::from(of(SCRAPE_TIMEOUT)),
                interval: String::from(of(SCRAPE_INTERVAL)),
            });
        }
        let url = url::build(of(SCHEME), address, of(METRICS_PATH), &query(&discovered, config));
        Ok(Self { labels: public_labels(&discovered, address), url, interval, timeout, discovered })
    }

    pub(crate) fn identity(&self) -> Identity {
        Identity { labels: self.labels.clone(), url: self.url.clone() }
    }
}

/// Labels of the target win over those of its group, and both over the configuration.
fn discovered_labels(address: &str, group: &TargetGroup, config: &ScrapeConfig) -> Labels {
    let mut labels = LabelsBuilder::new();
    let interval = format_duration(config.scrape_interval);
    let timeout = format_duration(config.scrape_timeout);
    for (name, values) in &config.params {
        if let Some(first) = values.first() {
            labels.set(&format!("{PARAM_PREFIX}{name}"), first);
        }
    }
    labels
        .set(JOB, &config.job_name)
        .set(SCRAPE_INTERVAL, &interval)
        .set(SCRAPE_TIMEOUT, &timeout)
        .set(METRICS_PATH, &config.metrics_path)
        .set(SCHEME, &config.scheme);
    for (name, value) in group.labels.iter().filter(|(_, value)| !value.is_empty()) {
        labels.set(name, value);
    }
    labels.set(ADDRESS, address);
    labels.build()
}

fn public_labels(discovered: &Labels, address: &str) -> Labels {
    let mut labels = LabelsBuilder::new();
    labels.set(INSTANCE, address);
    for label in discovered.iter().filter(|label| !label.name.starts_with(RESERVED_PREFIX)) {
        labels.set(label.name, label.value);
    }
    labels.build()
}

/// The configured parameters, the first value of each replaced by its `__param_` label.
fn query(discovered: &Labels, config: &ScrapeConfig) -> BTreeMap<String, Vec<String>> {
    let mut params = config.params.clone();
    for label in discovered {
        let Some(name) = label.name.strip_prefix(PARAM_PREFIX) else { continue };
        let values = params.entry(String::from(name)).or_default();
        match values.first_mut() {
            Some(first) => *first = String::from(label.value),
            None => values.push(String::from(label.value)),
        }
    }
    params
}

fn positive_duration(what: &'static str, text: &str) -> Result<Duration, TargetError> {
    let duration = parse_duration(text).map_err(|source| TargetError::Duration { what, source })?;
    if duration.is_zero() { Err(TargetError::Zero(what)) } else { Ok(duration) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(yaml: &str) -> ScrapeConfig {
        let yaml = format!("scrape_configs:\n- job_name: j\n{yaml}");
        config::Config::parse(&yaml, "test").unwrap().scrape_configs.remove(0)
    }

    fn group(labels: &[(&str, &str)]) -> TargetGroup {
        let labels = labels.iter().map(|&(n, v)| (String::from(n), String::from(v))).collect();
        TargetGroup { targets: Vec::new(), labels, source: String::from("test") }
    }

    fn check(
        address: &str,
        labels: &[(&str, &str)],
        yaml: &str,
        expected: Result<(&str, &str), &str>,
    ) {
        let target = Target::new(address, &group(labels), &config(yaml));
        let target = target.map(|t| (t.labels.to_string(), t.url)).map_err(|e| e.to_string());
        let expected = expected
            .map(|(labels, url)| (String::from(labels), String::from(url)))
            .map_err(String::from);
        assert_eq!(target, expected);
    }

    #[test]
    fn targets_have_job_and_instance() {
        check(
            "a:9100",
            &[("env", "prod")],
            "",
            Ok((r#"{env="prod", instance="a:9100", job="j"}"#, "http://a:9100/metrics")),
        );
    }

    #[test]
    fn group_labels_override_the_configuration() {
        check(
            "a",
            &[
                ("job", "other"),
                ("instance", "me"),
                ("__metrics_path__", "/m"),
                ("__scheme__", "https"),
                ("__meta_x", "y"),
                ("__param_q", "x y"),
            ],
            "  params:\n    q: [one, two]\n    a: [b]\n",
            Ok((r#"{instance="me", job="other"}"#, "https://a/m?a=b&q=x+y&q=two")),
        );
    }

    #[test]
    fn intervals_can_be_set_by_labels() {
        let labels = group(&[("__scrape_interval__", "5s"), ("__scrape_timeout__", "1500ms")]);
        let target = Target::new("a", &labels, &config("")).unwrap();
        assert_eq!(target.interval, Duration::from_secs(5));
        assert_eq!(target.timeout, Duration::from_millis(1500));
        assert_eq!(target.discovered.get("__scrape_interval__"), Some("5s"));
    }

    #[test]
    fn malformed_targets_are_refused() {
        check("", &[], "", Err("no address"));
        check("http://a/b", &[], "", Err("\"http://a/b\" is not a valid hostname"));
        check("a", &[("__scrape_interval__", "0")], "", Err("scrape interval cannot be 0"));
        check(
            "a",
            &[("__scrape_timeout__", "2m")],
            "",
            Err("scrape timeout cannot be greater than scrape interval (\"2m\" > \"1m\")"),
        );
        check(
            "a",
            &[("__scrape_timeout__", "soon")],
            "",
            Err("error parsing scrape timeout: not a valid duration string: \"soon\""),
        );
    }
}
