//! From the items of a metrics API's answer to values: one a pod, or a list.
//!
//! Errors are worded as those of upstream's client, so that they can go into conditions and events as they are.

use std::sync::Arc;

use model::Timestamp;

use crate::inputs::{PodReading, ValueReading};
use crate::sources::MetricsError;

/// One item of an answer of `metrics.k8s.io`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodUsage {
    /// Name of the pod.
    pub pod: Arc<str>,
    /// When the window ended, in milliseconds since the epoch.
    pub timestamp: Timestamp,
    /// Length of the window in milliseconds.
    pub window_ms: i64,
    /// Its containers.
    pub containers: Vec<ContainerUsage>,
}

/// Usage of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerUsage {
    /// Its name.
    pub name: String,
    /// Resource and usage in thousandths.
    pub usage_milli: Vec<(String, i64)>,
}

impl ContainerUsage {
    fn of(&self, resource: &str) -> Option<i64> {
        let found = self.usage_milli.iter().find(|(name, _)| name == resource);
        found.map(|&(_, usage)| usage)
    }
}

impl PodUsage {
    /// The usage of the pod, or of the container of that name. A pod without containers, or with any container that does not
    /// report the resource, has none: a sum over some of them would look like a drop.
    fn of(&self, resource: &str, container: Option<&str>) -> Option<i64> {
        if let Some(name) = container {
            return self.containers.iter().find(|c| c.name == name)?.of(resource);
        }
        let (first, rest) = self.containers.split_first()?;
        let first = first.of(resource)?;
        rest.iter().try_fold(first, |sum, c| Some(sum.saturating_add(c.of(resource)?)))
    }
}

/// Usage of `resource` by pods, summed over their containers, or that of the container of a name. Pods without a value are
/// left out.
///
/// # Errors
/// There are no items at all.
pub fn resource(
    items: &[PodUsage],
    resource: &str,
    container: Option<&str>,
) -> Result<Vec<PodReading>, MetricsError> {
    some(items, "resource").map_err(MetricsError)?;
    let reading = |item: &PodUsage| {
        Some(PodReading {
            pod: Arc::clone(&item.pod),
            value_milli: item.of(resource, container)?,
            timestamp: item.timestamp,
            window_ms: item.window_ms,
        })
    };
    Ok(items.iter().filter_map(reading).collect())
}

/// Values of a custom metric of pods.
///
/// # Errors
/// There are none.
pub fn pods(items: Vec<PodReading>) -> Result<Vec<PodReading>, MetricsError> {
    some(&items, "custom").map_err(MetricsError)?;
    Ok(items)
}

/// The value of a custom metric of an object.
///
/// # Errors
/// There is not exactly one.
pub fn object(items: Vec<ValueReading>) -> Result<Vec<ValueReading>, MetricsError> {
    one(&items).map_err(MetricsError)?;
    Ok(items)
}

/// Values of an external metric.
///
/// # Errors
/// There are none.
pub fn external(items: Vec<ValueReading>) -> Result<Vec<ValueReading>, MetricsError> {
    some(&items, "external").map_err(MetricsError)?;
    Ok(items)
}

/// `items` of the API of that name, if there are any.
pub(super) fn some<'a, T>(items: &'a [T], api: &str) -> Result<&'a [T], String> {
    if items.is_empty() {
        return Err(format!("no metrics returned from {api} metrics API"));
    }
    Ok(items)
}

/// The one item that an answer about an object has.
pub(super) fn one(items: &[ValueReading]) -> Result<&ValueReading, String> {
    match items {
        [one] => Ok(one),
        _ => Err(format!(
            "unable to fetch metrics from custom metrics API: the custom metrics API server \
             returned {} results when we asked for exactly one",
            items.len()
        )),
    }
}
