//! `external.metrics.k8s.io/v1beta1`: values of metrics that describe nothing in the cluster.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::custom::{NoMetadata, rfc3339};
use crate::quantity::Quantity;

/// The group.
pub const EXTERNAL_METRICS_GROUP: &str = "external.metrics.k8s.io";

/// Its only version.
pub const EXTERNAL_METRICS_VERSION: &str = "v1beta1";

/// One value of a metric. A metric can have several, by labels; the autoscaler adds them up.
#[derive(Clone, Debug)]
pub struct ExternalMetricValue {
    /// The name of the metric.
    pub metric: String,
    /// The labels of the series; nothing for a number without a series, which is written as `null`.
    pub labels: Option<BTreeMap<String, String>>,
    /// When the value was computed, in seconds since the epoch.
    pub timestamp_s: i64,
    /// How far back the computation looked, in seconds, if that is known.
    pub window_s: Option<i64>,
    /// The value.
    pub value: Quantity,
}

/// A list of values, as the answer to a request.
#[derive(Clone, Debug)]
pub struct ExternalMetricValueList {
    /// The values.
    pub items: Vec<ExternalMetricValue>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ListJson<'a> {
    kind: &'static str,
    api_version: &'static str,
    metadata: NoMetadata,
    items: Vec<ItemJson<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ItemJson<'a> {
    metric_name: &'a str,
    metric_labels: Option<&'a BTreeMap<String, String>>,
    timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    window: Option<i64>,
    value: &'a Quantity,
}

impl<'a> ItemJson<'a> {
    fn of(item: &'a ExternalMetricValue) -> Self {
        Self {
            metric_name: &item.metric,
            metric_labels: item.labels.as_ref(),
            timestamp: rfc3339(item.timestamp_s),
            window: item.window_s,
            value: &item.value,
        }
    }
}

impl Serialize for ExternalMetricValueList {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let list = ListJson {
            kind: "ExternalMetricValueList",
            api_version: "external.metrics.k8s.io/v1beta1",
            metadata: NoMetadata {},
            items: self.items.iter().map(ItemJson::of).collect(),
        };
        list.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantity::Format;

    /// The text is what the Go types of `k8s.io/metrics` marshal to, by their field tags.
    #[test]
    fn values_are_written_as_upstream() {
        let value = |labels, window_s| ExternalMetricValue {
            metric: String::from("depth"),
            labels,
            timestamp_s: 0,
            window_s,
            value: Quantity::new(7, 0, Format::DecimalSi),
        };
        let labels = BTreeMap::from([(String::from("queue"), String::from("a"))]);
        let items = vec![value(Some(labels), Some(60)), value(None, None)];
        let json = serde_json::to_string(&ExternalMetricValueList { items }).unwrap();
        let expected = concat!(
            r#"{"kind":"ExternalMetricValueList","apiVersion":"external.metrics.k8s.io/v1beta1","#,
            r#""metadata":{},"items":[{"metricName":"depth","metricLabels":{"queue":"a"},"#,
            r#""timestamp":"1970-01-01T00:00:00Z","window":60,"value":"7"},"#,
            r#"{"metricName":"depth","metricLabels":null,"timestamp":"1970-01-01T00:00:00Z","value":"7"}]}"#,
        );
        assert_eq!(json, expected);
    }
}
