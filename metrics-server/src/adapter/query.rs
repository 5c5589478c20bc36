//! Queries from templates: which series, which objects, grouped by what.

use std::collections::BTreeMap;

use metrics_api::{LabelSelector, Operator, Requirement};

use super::labels::{LabelMapping, NoLabel};
use super::mapping::{ApiResource, ResourceMap};
use super::template::{RenderError, Template, TemplateError, Value, quote};

/// The fields that a template for queries has.
const FIELDS: [&str; 5] =
    ["Series", "LabelMatchers", "LabelValuesByName", "GroupBy", "GroupBySlice"];

/// Most names that are spelled out in a query. Beyond, all objects are asked for and the answer is filtered: proxies and
/// servers limit the length of a URL, and a long alternation is no faster than none.
const NAMES_MAX: usize = 100;

/// Most bytes of names that are spelled out in a query.
const NAMES_BYTES_MAX: usize = 4096;

/// Which objects a query is about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Names<'a> {
    /// One.
    One(&'a str),
    /// Several.
    Several(&'a [String]),
    /// All that there are.
    All,
}

/// Why there is no query.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum QueryError {
    /// The request's selector says what PromQL cannot.
    #[error("operator not supported by prometheus: {0:?} of label {1:?}")]
    Operator(Operator, String),
    /// A label that the query needs is not known.
    #[error(transparent)]
    Label(#[from] NoLabel),
    /// The template cannot be rendered.
    #[error("metricsQuery: {0}")]
    Render(#[from] RenderError),
    /// The template writes nothing.
    #[error("empty query produced by metrics query template")]
    Empty,
}

/// A template for queries.
#[derive(Clone, Debug)]
pub(crate) struct QueryTemplate {
    template: Template,
    window_s: Option<i64>,
}

impl QueryTemplate {
    /// Reads a template, and renders it once to find what fails only then.
    ///
    /// # Errors
    /// [`TemplateError`] with its position.
    pub(crate) fn parse(source: &str) -> Result<Self, TemplateError> {
        let template = Template::parse(source, &FIELDS)?;
        let whole = |reason: String| TemplateError { line: 1, column: 1, reason };
        let parts = Parts {
            exprs: vec![String::from("pod=\"x\"")],
            values: BTreeMap::from([(String::from("pod"), String::from("x"))]),
        };
        let trial = Self { template, window_s: None };
        // Two labels, as queries for containers have.
        let group = vec![String::from("pod"), String::from("container")];
        trial.render("x", parts, group).map_err(|e| whole(e.to_string()))?;
        let window_s = super::window::of_query(trial.template.source());
        Ok(Self { template: trial.template, window_s })
    }

    /// The time that the query looks back, seconds, if it is known.
    pub(crate) const fn window_s(&self) -> Option<i64> {
        self.window_s
    }

    /// The query for objects of `resource`.
    ///
    /// # Errors
    /// [`QueryError`]
    pub(crate) fn for_objects(
        &self,
        series: &str,
        target: &Target<'_>,
        selector: &LabelSelector,
        names: Names<'_>,
    ) -> Result<String, QueryError> {
        let mut parts = Parts::of(selector)?;
        if let Some(namespace) = target.namespace {
            parts.equal(target.labels.namespace_label(target.map)?, namespace);
        }
        let label = target.labels.label(target.resource, target.map)?;
        parts.among(label.clone(), names);
        let mut group = vec![label];
        group.extend(target.extra_group.iter().map(|label| String::from(*label)));
        self.render(series, parts, group)
    }

    /// The query for an external metric; `namespace_label` restricts it to a namespace.
    ///
    /// # Errors
    /// [`QueryError`]
    pub(crate) fn for_external(
        &self,
        series: &str,
        namespace: Option<(&str, &str)>,
        selector: &LabelSelector,
    ) -> Result<String, QueryError> {
        let mut parts = Parts::of(selector)?;
        if let Some((label, namespace)) = namespace {
            parts.equal(String::from(label), namespace);
        }
        self.render(series, parts, Vec::new())
    }

    fn render(&self, series: &str, parts: Parts, group: Vec<String>) -> Result<String, QueryError> {
        let fields = [
            ("Series", Value::from(series)),
            ("LabelMatchers", Value::String(parts.exprs.join(","))),
            ("LabelValuesByName", Value::Map(parts.values)),
            ("GroupBy", Value::String(group.join(","))),
            ("GroupBySlice", Value::List(group)),
        ];
        let query = self.template.render(&fields)?;
        if query.trim().is_empty() { Err(QueryError::Empty) } else { Ok(query) }
    }
}

/// The query of `template` for pods of `namespace`, by the labels `namespace` and `pod`.
///
/// # Errors
/// [`QueryError`]
pub(crate) fn pod_query(
    template: &QueryTemplate,
    series: &str,
    namespace: &str,
    names: &[String],
    selector: &LabelSelector,
) -> Result<String, QueryError> {
    let mut parts = Parts::of(selector)?;
    parts.equal(String::from("namespace"), namespace);
    parts.among(String::from("pod"), Names::Several(names));
    template.render(series, parts, vec![String::from("pod")])
}

/// What objects a query is about, and how their labels are called.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'a> {
    pub(crate) resource: &'a ApiResource,
    pub(crate) namespace: Option<&'a str>,
    pub(crate) labels: &'a LabelMapping,
    pub(crate) map: &'a ResourceMap,
    /// Labels to group by besides that of the resource.
    pub(crate) extra_group: &'a [&'a str],
}

/// Matchers as texts, and the values in them by label.
struct Parts {
    exprs: Vec<String>,
    values: BTreeMap<String, String>,
}

impl Parts {
    fn of(selector: &LabelSelector) -> Result<Self, QueryError> {
        let mut parts = Self { exprs: Vec::new(), values: BTreeMap::new() };
        for requirement in selector.requirements() {
            parts.require(requirement)?;
        }
        Ok(parts)
    }

    fn equal(&mut self, label: String, value: &str) {
        self.exprs.push(format!("{}={}", name(&label), quote(value)));
        self.values.insert(label, String::from(value));
    }

    fn one_of(&mut self, label: String, values: &[String]) {
        let alternatives = alternatives(values);
        self.exprs.push(format!("{}=~{}", name(&label), quote(&alternatives)));
        self.values.insert(label, alternatives);
    }

    fn among(&mut self, label: String, names: Names<'_>) {
        match names {
            Names::One(name) => self.equal(label, name),
            Names::Several([name]) => self.equal(label, name),
            Names::Several(names)
                if names.len() <= NAMES_MAX
                    && names.iter().map(String::len).sum::<usize>() <= NAMES_BYTES_MAX =>
            {
                self.one_of(label, names);
            }
            Names::Several(_) | Names::All => {
                self.exprs.push(format!("{}!=\"\"", name(&label)));
                self.values.insert(label, String::from(".+"));
            }
        }
    }

    fn require(&mut self, requirement: &Requirement) -> Result<(), QueryError> {
        let Requirement { key, operator, values } = requirement;
        let (op, value) = match (operator, values.as_slice()) {
            (Operator::Exists, _) => ("!=", String::new()),
            (Operator::DoesNotExist, _) => ("=", String::new()),
            (Operator::Equals | Operator::DoubleEquals, [value]) => ("=", value.clone()),
            (Operator::NotEquals, [value]) => ("!=", value.clone()),
            (Operator::In | Operator::Equals | Operator::DoubleEquals, values) => {
                ("=~", alternatives(values))
            }
            (Operator::NotIn | Operator::NotEquals, values) => ("!~", alternatives(values)),
            (Operator::GreaterThan | Operator::LessThan, _) => {
                return Err(QueryError::Operator(*operator, key.clone()));
            }
        };
        self.exprs.push(format!("{}{op}{}", name(key), quote(&value)));
        self.values.insert(key.clone(), value);
        Ok(())
    }
}

/// The label as PromQL writes it: names beyond the classic ones are quoted, which Prometheus 3 understands.
fn name(label: &str) -> String {
    if model::is_legacy_label_name(label) { String::from(label) } else { quote(label) }
}

/// An expression that matches exactly these values. A class instead of a backslash, so that the expression is the same
/// within quotes that a template puts around it.
fn alternatives(values: &[String]) -> String {
    let mut expression = String::new();
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            expression.push('|');
        }
        for c in value.chars() {
            match c {
                '.' | '+' | '*' | '?' | '(' | ')' | '|' | '{' | '}' | '$' => {
                    expression.extend(['[', c, ']']);
                }
                '\\' | '[' | ']' | '^' => expression.extend(['\\', c]),
                c => expression.push(c),
            }
        }
    }
    expression
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: &str = "sum(rate(<<.Series>>{<<.LabelMatchers>>}[5m])) by (<<.GroupBy>>)";

    fn labels() -> LabelMapping {
        let yaml = "{template: '<<.Resource>>'}";
        LabelMapping::new(&serde_saphyr::from_str(yaml).unwrap(), "").unwrap()
    }

    fn ask(template: &str, selector: &str, names: Names<'_>) -> Result<String, QueryError> {
        let map = ResourceMap::builtin();
        let labels = labels();
        let target = Target {
            resource: map.resolve("", "pods").unwrap(),
            namespace: Some("web"),
            labels: &labels,
            map: &map,
            extra_group: &[],
        };
        let template = QueryTemplate::parse(template).unwrap();
        template.for_objects("hits_total", &target, &selector.parse().unwrap(), names)
    }

    /// What prometheus-adapter asks by its documentation, except that dots in names match only dots.
    #[test]
    fn objects_are_asked_for_by_name() {
        let names = [String::from("a.1"), String::from("b")];
        for (selector, names, matchers) in [
            ("", Names::One("a"), r#"namespace="web",pod="a""#),
            ("", Names::Several(&names), r#"namespace="web",pod=~"a[.]1|b""#),
            ("", Names::Several(&names[1..]), r#"namespace="web",pod="b""#),
            ("", Names::All, r#"namespace="web",pod!="""#),
            ("verb=GET", Names::One("a"), r#"verb="GET",namespace="web",pod="a""#),
            ("verb!=GET", Names::One("a"), r#"verb!="GET",namespace="web",pod="a""#),
            ("verb in (GET,PUT)", Names::One("a"), r#"verb=~"GET|PUT",namespace="web",pod="a""#),
            ("verb notin (v1.2)", Names::One("a"), r#"verb!~"v1[.]2",namespace="web",pod="a""#),
            ("verb", Names::One("a"), r#"verb!="",namespace="web",pod="a""#),
            ("!verb", Names::One("a"), r#"verb="",namespace="web",pod="a""#),
            ("a.io/b=c", Names::One("a"), r#""a.io/b"="c",namespace="web",pod="a""#),
        ] {
            let query = ask(RATE, selector, names).unwrap();
            let expected = format!("sum(rate(hits_total{{{matchers}}}[5m])) by (pod)");
            assert_eq!(query, expected, "{selector}");
        }
        let greater = ask(RATE, "verb>3", Names::All);
        assert!(matches!(greater, Err(QueryError::Operator(Operator::GreaterThan, _))));
    }

    #[test]
    fn values_are_there_by_name() {
        let template =
            r#"x{ns="<<index .LabelValuesByName "namespace">>",p=~"<<.LabelValuesByName.pod>>"}"#;
        let names = [String::from("a.1"), String::from("b")];
        let query = ask(template, "", Names::Several(&names)).unwrap();
        assert_eq!(query, r#"x{ns="web",p=~"a[.]1|b"}"#);
    }

    #[test]
    fn many_names_are_not_spelled_out() {
        let many: Vec<String> = (0..101).map(|n| format!("pod-{n}")).collect();
        let query = ask(RATE, "", Names::Several(&many)).unwrap();
        assert_eq!(query, r#"sum(rate(hits_total{namespace="web",pod!=""}[5m])) by (pod)"#);
        assert!(ask(RATE, "", Names::Several(&many[1..])).unwrap().contains("pod-1|pod-2|"));
        let long = [String::from("a").repeat(4000), String::from("b").repeat(97)];
        assert!(ask(RATE, "", Names::Several(&long)).unwrap().contains(r#"pod!="""#));
    }

    #[test]
    fn external_metrics_have_no_group() {
        let template = QueryTemplate::parse("<<.Series>>{<<.LabelMatchers>>}<<.GroupBy>>").unwrap();
        let selector = "queue=a".parse().unwrap();
        let query = template.for_external("depth", Some(("ns", "web")), &selector).unwrap();
        assert_eq!(query, r#"depth{queue="a",ns="web"}"#);
        let query = template.for_external("depth", None, &LabelSelector::default()).unwrap();
        assert_eq!(query, "depth{}");
    }

    #[test]
    fn a_template_that_cannot_be_rendered_is_refused_at_once() {
        for source in ["", "<< index .GroupBySlice 7 >>", "<< .Serie >>", "<< if .Series >>"] {
            assert!(QueryTemplate::parse(source).is_err(), "{source}");
        }
    }
}
