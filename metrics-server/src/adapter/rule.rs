//! A rule of the configuration, read.

use model::Regex;

use super::config::{ConfigError, DiscoveryConfig, DiscoveryRule, RegexFilter};
use super::labels::LabelMapping;
use super::query::QueryTemplate;

/// How series become metrics, and how to ask for them.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    /// `rules[3]`
    pub(crate) place: String,
    /// The selector of its series.
    pub(crate) series_query: String,
    filters: Vec<Filter>,
    name_matches: Regex,
    name_as: String,
    /// How labels and resources belong together.
    pub(crate) labels: LabelMapping,
    /// The query.
    pub(crate) query: QueryTemplate,
    /// Whether external metrics are restricted to the namespace that is asked about.
    pub(crate) namespaced: bool,
}

#[derive(Clone, Debug)]
struct Filter {
    regex: Regex,
    positive: bool,
}

/// The rules of a configuration.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    pub(crate) custom: Vec<Rule>,
    pub(crate) external: Vec<Rule>,
}

impl Rules {
    /// Reads the rules.
    ///
    /// # Errors
    /// [`ConfigError::Value`] names the field.
    pub(crate) fn new(config: &DiscoveryConfig) -> Result<Self, ConfigError> {
        let read = |rules: &[DiscoveryRule], field: &str| -> Result<Vec<Rule>, ConfigError> {
            let numbered = rules.iter().enumerate();
            numbered.map(|(n, rule)| Rule::new(rule, format!("{field}[{n}]"))).collect()
        };
        Ok(Self {
            custom: read(&config.rules, "rules")?,
            external: read(&config.external_rules, "externalRules")?,
        })
    }
}

impl Rule {
    fn new(config: &DiscoveryRule, place: String) -> Result<Self, ConfigError> {
        let wrong = |field: &str, reason: String| ConfigError::Value {
            place: format!("{place}.{field}"),
            reason,
        };
        if config.series_query.trim().is_empty() {
            return Err(wrong("seriesQuery", String::from("empty")));
        }
        let mut filters = Vec::new();
        for (n, filter) in config.series_filters.iter().enumerate() {
            let field = || format!("seriesFilters[{n}]");
            filters.push(Filter::new(filter).map_err(|reason| wrong(&field(), reason))?);
        }
        let matches = if config.name.matches.is_empty() { ".*" } else { &config.name.matches };
        let name_matches =
            Regex::unanchored(matches).map_err(|error| wrong("name.matches", error.to_string()))?;
        let name_as = match (config.name.renamed.as_str(), name_matches.groups()) {
            ("", 0) => String::from("$0"),
            ("", 1) => String::from("$1"),
            ("", groups) => {
                let reason = format!("must be given since `matches` has {groups} groups");
                return Err(wrong("name.as", reason));
            }
            (given, _) => String::from(given),
        };
        let query = QueryTemplate::parse(&config.metrics_query)
            .map_err(|error| wrong("metricsQuery", error.to_string()))?;
        Ok(Self {
            labels: LabelMapping::new(&config.resources, &format!("{place}.resources"))?,
            namespaced: config.resources.namespaced.unwrap_or(true),
            series_query: config.series_query.clone(),
            place,
            filters,
            name_matches,
            name_as,
            query,
        })
    }

    /// The name of the metric that series of this name belong to; nothing if the rule is not about them.
    pub(crate) fn metric(&self, series: &str) -> Option<String> {
        if self.filters.iter().any(|filter| filter.regex.is_match(series) != filter.positive) {
            return None;
        }
        let captures = self.name_matches.captures(series)?;
        let mut name = String::new();
        captures.expand(&self.name_as, &mut name);
        (!name.is_empty()).then_some(name)
    }
}

impl Filter {
    fn new(config: &RegexFilter) -> Result<Self, String> {
        let (expression, positive) = match (config.is.as_str(), config.is_not.as_str()) {
            ("", "") => return Err(String::from("must have either `is` or `isNot`")),
            (is, "") => (is, true),
            ("", is_not) => (is_not, false),
            _ => return Err(String::from("cannot have both `is` and `isNot`")),
        };
        let regex = Regex::unanchored(expression).map_err(|error| error.to_string())?;
        Ok(Self { regex, positive })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(yaml: &str) -> Result<Rule, ConfigError> {
        let mut config: DiscoveryRule = serde_saphyr::from_str(yaml).unwrap();
        if config.series_query.is_empty() {
            config.series_query = String::from("up");
        }
        if config.metrics_query.is_empty() {
            config.metrics_query = String::from("<<.Series>>");
        }
        Rule::new(&config, String::from("rules[0]"))
    }

    /// By prometheus-adapter's documentation of `name` and `seriesFilters`.
    #[test]
    fn series_are_named() {
        for (yaml, series, expected) in [
            ("{}", "hits", Some("hits")),
            ("{name: {matches: '^(.*)_total$'}}", "hits_total", Some("hits")),
            ("{name: {matches: '^(.*)_total$'}}", "hits", None),
            ("{name: {matches: '_total$'}}", "hits_total", Some("_total")),
            (
                "{name: {matches: '^(.*)_total$', as: '${1}_per_second'}}",
                "hits_total",
                Some("hits_per_second"),
            ),
            ("{name: {matches: '^(?P<a>.*)_(.*)$', as: '$2-$a'}}", "x_y", Some("y-x")),
            ("{name: {as: load}}", "cheese", Some("load")),
            ("{name: {matches: '^a_(.*)'}}", "a_", None),
            ("{seriesFilters: [{is: '^a'}, {isNot: 'b$'}]}", "ac", Some("ac")),
            ("{seriesFilters: [{is: '^a'}, {isNot: 'b$'}]}", "ab", None),
            ("{seriesFilters: [{is: '^a'}, {isNot: 'b$'}]}", "ca", None),
        ] {
            assert_eq!(rule(yaml).unwrap().metric(series).as_deref(), expected, "{yaml} {series}");
        }
    }

    #[test]
    fn mistakes_name_the_field() {
        for (yaml, expected) in [
            (
                "{name: {matches: '(a)(b)'}}",
                "rules[0].name.as: must be given since `matches` has 2 groups",
            ),
            ("{name: {matches: '('}}", "rules[0].name.matches: "),
            ("{seriesFilters: [{is: a}, {}]}", "rules[0].seriesFilters[1]: must have either"),
            ("{seriesFilters: [{is: a, isNot: b}]}", "rules[0].seriesFilters[0]: cannot have both"),
            (
                "{metricsQuery: '<<.X>>'}",
                "rules[0].metricsQuery: line 1, column 3: there is no field .X",
            ),
            ("{resources: {template: 'x'}}", "rules[0].resources.template: must include"),
        ] {
            let error = rule(yaml).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{yaml}: {error}");
        }
    }
}
