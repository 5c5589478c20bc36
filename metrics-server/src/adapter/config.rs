//! prometheus-adapter's configuration file.
//!
//! The fields, their defaults and their strictness are those of prometheus-adapter 0.12. What it finds out at each
//! request (a template that does not render, an expression that does not compile) is found out when the file is read.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

/// Largest configuration file.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Most rules of each kind: a series request is made for each distinct one.
const RULES_MAX: usize = 1000;

/// The file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct DiscoveryConfig {
    /// Custom metrics.
    #[serde(deserialize_with = "or_default")]
    pub rules: Vec<DiscoveryRule>,
    /// CPU and memory for `metrics.k8s.io`.
    pub resource_rules: Option<ResourceRules>,
    /// External metrics.
    #[serde(deserialize_with = "or_default")]
    pub external_rules: Vec<DiscoveryRule>,
}

/// How series become metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct DiscoveryRule {
    /// A selector: which series the rule is about.
    #[serde(deserialize_with = "or_default")]
    pub series_query: String,
    /// Expressions that the names of series must, or must not, match as well.
    #[serde(deserialize_with = "or_default")]
    pub series_filters: Vec<RegexFilter>,
    /// How labels and Kubernetes resources belong together.
    #[serde(deserialize_with = "or_default")]
    pub resources: ResourceMapping,
    /// How names of series become names of metrics.
    #[serde(deserialize_with = "or_default")]
    pub name: NameMapping,
    /// The query, as a template.
    #[serde(deserialize_with = "or_default")]
    pub metrics_query: String,
}

/// An expression. Exactly one of the two is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct RegexFilter {
    /// Must match somewhere.
    #[serde(deserialize_with = "or_default")]
    pub is: String,
    /// Must not match anywhere.
    #[serde(deserialize_with = "or_default")]
    pub is_not: String,
}

/// How labels and Kubernetes resources belong together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ResourceMapping {
    /// A template that makes the label of a resource from `.Group` and `.Resource`.
    #[serde(deserialize_with = "or_default")]
    pub template: String,
    /// Labels whose resources are given.
    #[serde(deserialize_with = "or_default")]
    pub overrides: BTreeMap<String, GroupResource>,
    /// `false`: external metrics are not restricted to the namespace that is asked about.
    pub namespaced: Option<bool>,
}

/// A resource, in singular or plural.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupResource {
    /// The API group; empty when any will do.
    #[serde(default)]
    pub group: String,
    /// The resource.
    pub resource: String,
}

/// How names of series become names of metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NameMapping {
    /// What a name must match; `.*` when empty.
    #[serde(deserialize_with = "or_default")]
    pub matches: String,
    /// The name of the metric, with references to groups. Empty: the group if there is one, else the whole match.
    #[serde(rename = "as")]
    #[serde(deserialize_with = "or_default")]
    pub renamed: String,
}

/// CPU and memory of pods and nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ResourceRules {
    /// CPU, in cores.
    #[serde(deserialize_with = "or_default")]
    pub cpu: ResourceRule,
    /// Memory, in bytes.
    #[serde(deserialize_with = "or_default")]
    pub memory: ResourceRule,
    /// The window that is shown; it should be that of the queries.
    #[serde(deserialize_with = "duration")]
    pub window: Duration,
}

/// One resource of pods and nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct ResourceRule {
    /// The query for containers, as a template.
    #[serde(deserialize_with = "or_default")]
    pub container_query: String,
    /// The query for nodes, as a template.
    #[serde(deserialize_with = "or_default")]
    pub node_query: String,
    /// How labels and Kubernetes resources belong together.
    #[serde(deserialize_with = "or_default")]
    pub resources: ResourceMapping,
    /// The label that names the container.
    #[serde(deserialize_with = "or_default")]
    pub container_label: String,
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("unable to load metrics discovery config file {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file is unreasonably large.
    #[error("metrics discovery config file {path} is larger than {bytes_max} bytes")]
    TooLarge {
        /// The file.
        path: String,
        /// The limit.
        bytes_max: u64,
    },
    /// Not YAML, or a field that does not exist.
    #[error("unable to parse metrics discovery config {origin}: {reason}")]
    Yaml {
        /// Where it comes from.
        origin: String,
        /// What is wrong, with its line.
        reason: String,
    },
    /// A value makes no sense.
    #[error("{place}: {reason}")]
    Value {
        /// The field: `rules[2].name.matches`.
        place: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl DiscoveryConfig {
    /// Reads `yaml`; `origin` names it in errors.
    ///
    /// # Errors
    /// [`ConfigError::Yaml`] for unknown fields and values of the wrong type, with the line.
    pub fn parse(yaml: &str, origin: &str) -> Result<Self, ConfigError> {
        if yaml.trim().is_empty() {
            return Ok(Self::default());
        }
        let config: Self = serde_saphyr::from_str(yaml).map_err(|error| ConfigError::Yaml {
            origin: String::from(origin),
            reason: error.to_string(),
        })?;
        for (place, rules) in [("rules", &config.rules), ("externalRules", &config.external_rules)]
        {
            if rules.len() > RULES_MAX {
                return Err(ConfigError::Value {
                    place: String::from(place),
                    reason: format!("{} rules; at most {RULES_MAX} are taken", rules.len()),
                });
            }
        }
        Ok(config)
    }

    /// Reads the file `path`.
    ///
    /// # Errors
    /// [`ConfigError`]
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let origin = path.display().to_string();
        let unreadable = |source| ConfigError::Read { path: origin.clone(), source };
        let file = std::fs::File::open(path).map_err(unreadable)?;
        let mut yaml = String::new();
        file.take(FILE_BYTES_MAX + 1).read_to_string(&mut yaml).map_err(unreadable)?;
        if yaml.len() as u64 > FILE_BYTES_MAX {
            return Err(ConfigError::TooLarge { path: origin, bytes_max: FILE_BYTES_MAX });
        }
        Self::parse(&yaml, &origin)
    }
}

/// A field that is there without a value is as if it were not there.
fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    model::parse_duration(&text).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every field that prometheus-adapter's documentation has.
    const EVERY_FIELD: &str = r#"
rules:
- seriesQuery: '{__name__=~"^disk_.*",namespace!="",pod!=""}'
  seriesFilters:
  - is: "^disk_.*_total$"
  - isNot: "^disk_temp"
  resources:
    template: "kube_<<.Group>>_<<.Resource>>"
    overrides:
      team_ns: {resource: "namespace"}
      deploy: {group: "apps", resource: "deployment"}
    namespaced: true
  name:
    matches: "^disk_(.*)_total$"
    as: "disk_${1}_per_second"
  metricsQuery: "sum(rate(<<.Series>>{<<.LabelMatchers>>}[2m])) by (<<.GroupBy>>)"
externalRules:
- seriesQuery: 'queue_length{queue!=""}'
  metricsQuery: 'max(<<.Series>>{<<.LabelMatchers>>}) by (queue)'
  resources: {namespaced: false}
resourceRules:
  cpu:
    containerQuery: 'sum by (<<.GroupBy>>) (irate(cpu_seconds{<<.LabelMatchers>>}[4m]))'
    nodeQuery: 'sum by (<<.GroupBy>>) (irate(node_cpu_seconds{<<.LabelMatchers>>}[4m]))'
    resources:
      overrides: {pod: {resource: pod}, node: {resource: node}, namespace: {resource: namespace}}
    containerLabel: container
  memory:
    containerQuery: 'sum by (<<.GroupBy>>) (mem_bytes{<<.LabelMatchers>>})'
    nodeQuery: 'sum by (<<.GroupBy>>) (node_mem_bytes{<<.LabelMatchers>>})'
    resources: {template: "<<.Resource>>"}
    containerLabel: container
  window: 4m
"#;

    #[test]
    fn every_field_is_read() {
        let config = DiscoveryConfig::parse(EVERY_FIELD, "test").unwrap();
        let rule = &config.rules[0];
        assert_eq!(rule.series_query, r#"{__name__=~"^disk_.*",namespace!="",pod!=""}"#);
        assert_eq!(rule.series_filters[0].is, "^disk_.*_total$");
        assert_eq!(rule.series_filters[1].is_not, "^disk_temp");
        assert_eq!(rule.resources.template, "kube_<<.Group>>_<<.Resource>>");
        let deployment = &rule.resources.overrides["deploy"];
        assert_eq!((&*deployment.group, &*deployment.resource), ("apps", "deployment"));
        assert_eq!(rule.resources.overrides["team_ns"].group, "");
        assert_eq!(rule.resources.namespaced, Some(true));
        assert_eq!(rule.name.matches, "^disk_(.*)_total$");
        assert_eq!(rule.name.renamed, "disk_${1}_per_second");
        assert_eq!(config.external_rules[0].resources.namespaced, Some(false));
        let resources = config.resource_rules.unwrap();
        assert_eq!(resources.window, Duration::from_secs(240));
        assert_eq!(resources.cpu.container_label, "container");
        assert_eq!(resources.memory.resources.template, "<<.Resource>>");
        assert!(resources.memory.node_query.contains("node_mem_bytes"));
    }

    #[test]
    fn what_is_left_out_is_empty() {
        assert_eq!(DiscoveryConfig::parse("", "test").unwrap(), DiscoveryConfig::default());
        assert_eq!(DiscoveryConfig::parse("rules: []", "t").unwrap(), DiscoveryConfig::default());
        let only = DiscoveryConfig::parse("rules: [{seriesQuery: up}]", "test").unwrap();
        assert_eq!(only.rules[0].metrics_query, "");
        let nothing = "rules:\nexternalRules: ~\nresourceRules:\n";
        assert_eq!(DiscoveryConfig::parse(nothing, "t").unwrap(), DiscoveryConfig::default());
        let hollow = "rules:\n- seriesQuery: up\n  seriesFilters:\n  resources: {overrides: }\n  name: {as: }\n";
        assert_eq!(DiscoveryConfig::parse(hollow, "test").unwrap(), only);
    }

    #[test]
    fn mistakes_are_named() {
        for (yaml, what) in [
            ("rules:\n- seriesQuery: up\n  metricQuery: x\n", "metricQuery"),
            ("rule: []", "rule"),
            ("rules:\n- seriesFilters: [{matches: x}]\n", "matches"),
            ("rules:\n- resources: {overrides: {a: {kind: pod}}}\n", "kind"),
            ("resourceRules: {window: 5 minutes}", "5 minutes"),
            ("rules: up", "test"),
        ] {
            let error = DiscoveryConfig::parse(yaml, "test").unwrap_err().to_string();
            assert!(error.contains(what), "{yaml}: {error}");
        }
    }
}
