//! `custom.metrics.k8s.io`: values of metrics that describe Kubernetes objects.
//!
//! Version v1beta2 has `metric{name, selector}` and `windowSeconds` where v1beta1 has `metricName`, `selector` and
//! `window`. A selector that is not there is `null` in both: clients of upstream have always seen it so.

use serde::ser::{SerializeSeq, SerializeStruct};
use serde::{Serialize, Serializer};

use crate::quantity::Quantity;
use crate::selector::{LabelSelector, Operator};
use crate::time::write_time;

/// The group.
pub const CUSTOM_METRICS_GROUP: &str = "custom.metrics.k8s.io";

/// A version of the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CustomMetricsVersion {
    /// `v1beta1`
    V1Beta1,
    /// `v1beta2`, which the autoscaler prefers.
    V1Beta2,
}

impl CustomMetricsVersion {
    /// All of them, the preferred one first.
    pub const ALL: [Self; 2] = [Self::V1Beta2, Self::V1Beta1];

    /// `v1beta2`
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V1Beta1 => "v1beta1",
            Self::V1Beta2 => "v1beta2",
        }
    }

    /// The version of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.as_str() == name)
    }
}

/// What a value describes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectReference {
    /// `Pod`
    pub kind: String,
    /// Empty for what is in no namespace.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// The name of the object.
    pub name: String,
    /// Group, slash, version.
    pub api_version: String,
}

/// The value of a metric for an object.
#[derive(Clone, Debug)]
pub struct MetricValue {
    /// The object.
    pub described_object: ObjectReference,
    /// The name of the metric.
    pub metric: String,
    /// The selector of series that was asked with, unless it selects everything.
    pub selector: Option<SelectorObject>,
    /// When the value was computed, in seconds since the epoch.
    pub timestamp_s: i64,
    /// How far back the computation looked, in seconds, if that is known.
    pub window_s: Option<i64>,
    /// The value.
    pub value: Quantity,
}

/// A list of values, as the answer to a request.
#[derive(Clone, Debug)]
pub struct MetricValueList {
    /// How to write it.
    pub version: CustomMetricsVersion,
    /// The values.
    pub items: Vec<MetricValue>,
}

impl Serialize for MetricValueList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_struct("MetricValueList", 4)?;
        list.serialize_field("kind", "MetricValueList")?;
        let group_version = format!("{CUSTOM_METRICS_GROUP}/{}", self.version.as_str());
        list.serialize_field("apiVersion", &group_version)?;
        list.serialize_field("metadata", &NoMetadata {})?;
        list.serialize_field("items", &Items(self))?;
        list.end()
    }
}

/// `{}`
#[derive(Serialize)]
pub(crate) struct NoMetadata {}

struct Items<'a>(&'a MetricValueList);

impl Serialize for Items<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut items = serializer.serialize_seq(Some(self.0.items.len()))?;
        for item in &self.0.items {
            match self.0.version {
                CustomMetricsVersion::V1Beta1 => items.serialize_element(&V1Beta1(item))?,
                CustomMetricsVersion::V1Beta2 => items.serialize_element(&V1Beta2(item))?,
            }
        }
        items.end()
    }
}

struct V1Beta1<'a>(&'a MetricValue);

impl Serialize for V1Beta1<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let value = self.0;
        let mut item = serializer.serialize_struct("MetricValue", 6)?;
        item.serialize_field("describedObject", &value.described_object)?;
        item.serialize_field("metricName", &value.metric)?;
        item.serialize_field("timestamp", &rfc3339(value.timestamp_s))?;
        if let Some(window_s) = value.window_s {
            item.serialize_field("window", &window_s)?;
        }
        item.serialize_field("value", &value.value)?;
        item.serialize_field("selector", &value.selector)?;
        item.end()
    }
}

struct V1Beta2<'a>(&'a MetricValue);

#[derive(Serialize)]
struct Identifier<'a> {
    name: &'a str,
    selector: Option<&'a SelectorObject>,
}

impl Serialize for V1Beta2<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let value = self.0;
        let metric = Identifier { name: &value.metric, selector: value.selector.as_ref() };
        let mut item = serializer.serialize_struct("MetricValue", 5)?;
        item.serialize_field("describedObject", &value.described_object)?;
        item.serialize_field("metric", &metric)?;
        item.serialize_field("timestamp", &rfc3339(value.timestamp_s))?;
        if let Some(window_s) = value.window_s {
            item.serialize_field("windowSeconds", &window_s)?;
        }
        item.serialize_field("value", &value.value)?;
        item.end()
    }
}

pub(crate) fn rfc3339(seconds: i64) -> String {
    let mut text = Vec::with_capacity(20);
    write_time(&mut text, seconds);
    String::from_utf8(text).unwrap_or_default()
}

/// A label selector as an object: `metav1.LabelSelector`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SelectorObject {
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    match_labels: std::collections::BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    match_expressions: Vec<MatchExpression>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct MatchExpression {
    pub(crate) key: String,
    pub(crate) operator: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) values: Vec<String>,
}

/// A selector has `<` or `>`, which its form as an object cannot say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{operator:?} isn't supported in label selectors")]
pub struct UnsupportedOperator {
    /// `GreaterThan` or `LessThan`.
    pub operator: Operator,
}

impl SelectorObject {
    /// The object that says what `selector` says.
    ///
    /// # Errors
    /// [`UnsupportedOperator`]
    pub fn new(selector: &LabelSelector) -> Result<Self, UnsupportedOperator> {
        let mut object = Self::default();
        for requirement in selector.requirements() {
            let operator = match requirement.operator {
                Operator::Equals | Operator::DoubleEquals => {
                    let value = requirement.values.first().cloned().unwrap_or_default();
                    object.match_labels.insert(requirement.key.clone(), value);
                    continue;
                }
                Operator::In => "In",
                Operator::NotIn | Operator::NotEquals => "NotIn",
                Operator::Exists => "Exists",
                Operator::DoesNotExist => "DoesNotExist",
                operator @ (Operator::GreaterThan | Operator::LessThan) => {
                    return Err(UnsupportedOperator { operator });
                }
            };
            object.match_expressions.push(MatchExpression {
                key: requirement.key.clone(),
                operator,
                values: requirement.values.clone(),
            });
        }
        Ok(object)
    }

    pub(crate) const fn match_labels(&self) -> &std::collections::BTreeMap<String, String> {
        &self.match_labels
    }

    pub(crate) fn match_expressions(&self) -> &[MatchExpression] {
        &self.match_expressions
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantity::Format;

    fn list(version: CustomMetricsVersion, selector: Option<&str>) -> String {
        let object = |text: &str| SelectorObject::new(&text.parse().unwrap()).unwrap();
        let value = MetricValue {
            described_object: ObjectReference {
                kind: String::from("Pod"),
                namespace: String::from("web"),
                name: String::from("a"),
                api_version: String::from("/v1"),
            },
            metric: String::from("hits"),
            selector: selector.map(object),
            timestamp_s: 1_700_000_000,
            window_s: selector.map(|_| 300),
            value: Quantity::new(2500, -3, Format::DecimalSi),
        };
        serde_json::to_string(&MetricValueList { version, items: vec![value] }).unwrap()
    }

    /// The texts are what the Go types of `k8s.io/metrics` marshal to, by their field tags.
    #[test]
    fn versions_differ_as_upstream() {
        let object =
            r#""describedObject":{"kind":"Pod","namespace":"web","name":"a","apiVersion":"/v1"}"#;
        let time = r#""timestamp":"2023-11-14T22:13:20Z""#;
        let head = |v: &str| {
            format!(
                r#"{{"kind":"MetricValueList","apiVersion":"custom.metrics.k8s.io/{v}","metadata":{{}},"items":[{{"#
            )
        };
        assert_eq!(
            list(CustomMetricsVersion::V1Beta2, None),
            format!(
                r#"{}{object},"metric":{{"name":"hits","selector":null}},{time},"value":"2500m"}}]}}"#,
                head("v1beta2")
            )
        );
        assert_eq!(
            list(CustomMetricsVersion::V1Beta1, None),
            format!(
                r#"{}{object},"metricName":"hits",{time},"value":"2500m","selector":null}}]}}"#,
                head("v1beta1")
            )
        );
        let selector = r#"{"matchLabels":{"a":"b"},"matchExpressions":[{"key":"c","operator":"In","values":["d","e"]},{"key":"f","operator":"Exists"},{"key":"g","operator":"NotIn","values":["h"]}]}"#;
        let asked = Some("a=b,c in (e,d),f,g!=h");
        assert_eq!(
            list(CustomMetricsVersion::V1Beta2, asked),
            format!(
                r#"{}{object},"metric":{{"name":"hits","selector":{selector}}},{time},"windowSeconds":300,"value":"2500m"}}]}}"#,
                head("v1beta2")
            )
        );
        assert_eq!(
            list(CustomMetricsVersion::V1Beta1, asked),
            format!(
                r#"{}{object},"metricName":"hits",{time},"window":300,"value":"2500m","selector":{selector}}}]}}"#,
                head("v1beta1")
            )
        );
    }

    #[test]
    fn what_an_object_cannot_say_is_refused() {
        assert!(SelectorObject::new(&"a>1".parse().unwrap()).is_err());
    }
}
