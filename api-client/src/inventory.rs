//! Where the series of a server come from: its targets, configuration, flags, rules and metadata.

use std::collections::BTreeMap;

use model::Labels;
use serde::Deserialize;

use crate::answer::LabelsJson;
use crate::source::Asked;

/// Tells where series come from.
pub trait Inventory: Send + Sync {
    /// The targets that are scraped.
    fn targets(&self) -> Asked<'_, Vec<Target>>;

    /// The configuration in force, as YAML with every default filled in.
    fn configuration(&self) -> Asked<'_, String>;

    /// The command line's flags.
    fn flags(&self) -> Asked<'_, BTreeMap<String, String>>;

    /// The names of the series that recording rules write, sorted, each once.
    fn recorded(&self) -> Asked<'_, Vec<String>>;

    /// The types that targets declare for each metric family.
    fn metadata(&self) -> Asked<'_, BTreeMap<String, Vec<MetricType>>>;
}

/// A target that is scraped.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// The job of the configuration that it belongs to.
    pub scrape_pool: String,
    /// What service discovery said, before relabelling.
    pub discovered: Labels,
    /// The labels that its series get.
    pub labels: Labels,
}

/// What a target says that a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MetricType {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Buckets.
    Histogram,
    /// Quantiles.
    Summary,
    /// Anything else.
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TargetsJson {
    active_targets: Vec<TargetJson>,
}

impl TargetsJson {
    pub(crate) fn targets(self) -> Vec<Target> {
        let target = |json: TargetJson| Target {
            scrape_pool: json.scrape_pool,
            discovered: json.discovered_labels.0,
            labels: json.labels.0,
        };
        self.active_targets.into_iter().map(target).collect()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TargetJson {
    #[serde(default)]
    scrape_pool: String,
    discovered_labels: LabelsJson,
    labels: LabelsJson,
}

#[derive(Deserialize)]
pub(crate) struct ConfigurationJson {
    pub(crate) yaml: String,
}

#[derive(Deserialize)]
pub(crate) struct RulesJson {
    groups: Vec<GroupJson>,
}

#[derive(Deserialize)]
struct GroupJson {
    rules: Vec<RuleJson>,
}

#[derive(Deserialize)]
struct RuleJson {
    name: String,
    #[serde(rename = "type")]
    kind: String,
}

impl RulesJson {
    pub(crate) fn recorded(self) -> Vec<String> {
        let rules = self.groups.into_iter().flat_map(|group| group.rules);
        let mut names: Vec<String> =
            rules.filter(|rule| rule.kind == "recording").map(|rule| rule.name).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

#[derive(Deserialize)]
pub(crate) struct MetadataJson {
    #[serde(rename = "type")]
    pub(crate) kind: MetricType,
}
