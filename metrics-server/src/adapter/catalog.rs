//! Which metrics there are: what the rules make of the series that the source has.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use model::Labels;

use super::config::GroupResource;
use super::mapping::ResourceMap;
use super::rule::{Rule, Rules};

/// Most different shapes of series that one selector may find.
const SHAPES_MAX: usize = 200_000;

/// What naming needs to know of a series: many series have the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Shape {
    /// The name of the metric.
    name: Arc<str>,
    /// The names of its labels.
    labels: Arc<[Box<str>]>,
}

/// The series behind a selector, each shape once.
pub(crate) type Shapes = Arc<[Shape]>;

/// The shapes of `series`. Names that PromQL cannot have without quotes are left out: a template puts the name into a
/// query as it is, and a target must not choose what is asked.
pub(crate) fn shapes(series: &[Labels]) -> Shapes {
    let mut shapes: BTreeMap<&str, BTreeSet<Vec<&str>>> = BTreeMap::new();
    let mut count = 0;
    for labels in series {
        let name = labels.metric_name();
        if !model::is_legacy_metric_name(name) {
            continue;
        }
        let names = labels.iter().map(|l| l.name).filter(|name| *name != model::METRIC_NAME);
        count += usize::from(shapes.entry(name).or_default().insert(names.collect()));
        if count >= SHAPES_MAX {
            tracing::warn!(
                limit = SHAPES_MAX,
                "too many kinds of series: the others have no metric"
            );
            break;
        }
    }
    let shapes = shapes.into_iter().flat_map(|(name, sets)| {
        let name: Arc<str> = Arc::from(name);
        sets.into_iter().map(move |labels| Shape {
            name: Arc::clone(&name),
            labels: labels.into_iter().map(Box::from).collect(),
        })
    });
    shapes.collect()
}

/// A custom metric of one resource.
#[derive(Clone, Debug)]
pub(crate) struct CustomMetric {
    /// The series behind it.
    pub(crate) series: Arc<str>,
    /// The rule that made it.
    pub(crate) rule: Arc<Rule>,
}

/// The metrics.
#[derive(Clone, Debug, Default)]
pub(crate) struct Catalog {
    custom: BTreeMap<GroupResource, BTreeMap<String, CustomMetric>>,
    external: BTreeMap<String, CustomMetric>,
}

impl Catalog {
    /// Applies the rules to the shapes that their selectors found. Where two rules make the same metric the later one
    /// has it, as in prometheus-adapter.
    pub(crate) fn new(
        rules: &Rules,
        found: &HashMap<String, Shapes>,
        resources: &ResourceMap,
    ) -> Self {
        let mut catalog = Self::default();
        for rule in &rules.custom {
            let shared = Arc::new(rule.clone());
            for shape in found.get(&rule.series_query).into_iter().flat_map(|shapes| shapes.iter())
            {
                let Some(name) = rule.metric(&shape.name) else { continue };
                for label in shape.labels.iter() {
                    let Some(resource) = rule.labels.resource(label, resources) else { continue };
                    let metric =
                        CustomMetric { series: Arc::clone(&shape.name), rule: Arc::clone(&shared) };
                    let metrics = catalog.custom.entry(resource.key()).or_default();
                    put(metrics, &name, metric);
                }
            }
        }
        for rule in &rules.external {
            let shared = Arc::new(rule.clone());
            for shape in found.get(&rule.series_query).into_iter().flat_map(|shapes| shapes.iter())
            {
                if let Some(name) = rule.metric(&shape.name) {
                    let metric =
                        CustomMetric { series: Arc::clone(&shape.name), rule: Arc::clone(&shared) };
                    put(&mut catalog.external, &name, metric);
                }
            }
        }
        catalog
    }

    /// A custom metric.
    pub(crate) fn custom(&self, resource: &GroupResource, metric: &str) -> Option<&CustomMetric> {
        self.custom.get(resource)?.get(metric)
    }

    /// An external metric.
    pub(crate) fn external(&self, metric: &str) -> Option<&CustomMetric> {
        self.external.get(metric)
    }

    /// All custom metrics, ordered by resource and name.
    pub(crate) fn customs(&self) -> impl Iterator<Item = (&GroupResource, &str)> {
        self.custom.iter().flat_map(|(resource, metrics)| {
            metrics.keys().map(move |metric| (resource, metric.as_str()))
        })
    }

    /// The names of all external metrics, ordered.
    pub(crate) fn externals(&self) -> impl Iterator<Item = &str> {
        self.external.keys().map(String::as_str)
    }
}

fn put(metrics: &mut BTreeMap<String, CustomMetric>, name: &str, metric: CustomMetric) {
    let (series, place) = (Arc::clone(&metric.series), metric.rule.place.clone());
    let replaced = metrics.insert(String::from(name), metric);
    if let Some(replaced) = replaced
        && (replaced.series != series || replaced.rule.place != place)
    {
        tracing::debug!(
            metric = name,
            "{} of {} hides {} of {}",
            series,
            place,
            replaced.series,
            replaced.rule.place
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::config::DiscoveryConfig;

    const CONFIG: &str = r#"
rules:
- seriesQuery: '{namespace!=""}'
  resources: {template: "<<.Resource>>"}
  name: {matches: "^(.*)_total$"}
  metricsQuery: 'sum(rate(<<.Series>>{<<.LabelMatchers>>}[2m])) by (<<.GroupBy>>)'
- seriesQuery: '{namespace!=""}'
  seriesFilters: [{isNot: "_total$"}]
  resources: {overrides: {pod: {resource: pod}, kubernetes_node: {resource: node}}}
  metricsQuery: 'sum(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)'
- seriesQuery: 'hits'
  resources: {overrides: {service: {resource: service}, pod: {resource: pod}}}
  metricsQuery: 'max(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)'
externalRules:
- seriesQuery: 'depth'
  name: {as: "queue_depth"}
  metricsQuery: 'max(<<.Series>>{<<.LabelMatchers>>})'
"#;

    fn series(text: &[&[(&str, &str)]]) -> Vec<Labels> {
        text.iter().map(|pairs| Labels::from_pairs(pairs.iter().copied()).unwrap()).collect()
    }

    #[test]
    fn rules_make_metrics_of_series() {
        let rules = Rules::new(&DiscoveryConfig::parse(CONFIG, "test").unwrap()).unwrap();
        let all = series(&[
            &[
                ("__name__", "http_total"),
                ("namespace", "a"),
                ("pod", "p"),
                ("job", "j"),
                ("x", "1"),
            ],
            &[
                ("__name__", "http_total"),
                ("namespace", "a"),
                ("pod", "q"),
                ("job", "j"),
                ("x", "2"),
            ],
            &[("__name__", "hits"), ("namespace", "a"), ("pod", "p"), ("kubernetes_node", "n")],
            &[("__name__", "a} or vector(1)"), ("namespace", "a"), ("pod", "p")],
        ]);
        let hits = series(&[&[("__name__", "hits"), ("service", "s"), ("pod", "p")]]);
        let depth = series(&[&[("__name__", "depth"), ("queue", "q")]]);
        let found = HashMap::from([
            (String::from("{namespace!=\"\"}"), shapes(&all)),
            (String::from("hits"), shapes(&hits)),
            (String::from("depth"), shapes(&depth)),
        ]);
        assert_eq!(found["{namespace!=\"\"}"].len(), 2);
        let catalog = Catalog::new(&rules, &found, &ResourceMap::builtin());
        let names: Vec<String> =
            catalog.customs().map(|(r, m)| format!("{}.{}/{m}", r.resource, r.group)).collect();
        assert_eq!(
            names,
            [
                "namespaces./http",
                "nodes./hits",
                "pods./hits",
                "pods./http",
                "services./hits",
                "jobs.batch/http"
            ]
        );
        let pods = GroupResource { group: String::new(), resource: String::from("pods") };
        let metric = catalog.custom(&pods, "hits").unwrap();
        assert_eq!((metric.rule.place.as_str(), &*metric.series), ("rules[2]", "hits"));
        assert_eq!(catalog.externals().collect::<Vec<_>>(), ["queue_depth"]);
        assert_eq!(&*catalog.external("queue_depth").unwrap().series, "depth");
    }
}
