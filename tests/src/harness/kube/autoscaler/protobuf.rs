//! Autoscalers in Kubernetes' protobuf, as far as `kubectl autoscale` makes them: CPU or memory, and no behaviour.

use prost::Message;
use serde_json::{Value, json};

#[derive(Message)]
struct Autoscaler {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ObjectMeta>,
    #[prost(bytes = "vec", tag = "2")]
    spec: Vec<u8>,
}

#[derive(Message)]
struct ObjectMeta {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "3")]
    namespace: String,
}

#[derive(Message)]
struct SpecV1 {
    #[prost(message, optional, tag = "1")]
    target: Option<Reference>,
    #[prost(int32, optional, tag = "2")]
    min: Option<i32>,
    #[prost(int32, tag = "3")]
    max: i32,
    #[prost(int32, optional, tag = "4")]
    cpu_percent: Option<i32>,
}

#[derive(Message)]
struct SpecV2 {
    #[prost(message, optional, tag = "1")]
    target: Option<Reference>,
    #[prost(int32, optional, tag = "2")]
    min: Option<i32>,
    #[prost(int32, tag = "3")]
    max: i32,
    #[prost(message, repeated, tag = "4")]
    metrics: Vec<Metric>,
    #[prost(bytes = "vec", tag = "5")]
    behavior: Vec<u8>,
}

#[derive(Message)]
struct Reference {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "3")]
    api_version: String,
}

#[derive(Message)]
struct Metric {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(message, optional, tag = "4")]
    resource: Option<Resource>,
}

#[derive(Message)]
struct Resource {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    target: Option<Target>,
}

#[derive(Message)]
struct Target {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(message, optional, tag = "3")]
    average_value: Option<Quantity>,
    #[prost(int32, optional, tag = "4")]
    average_utilization: Option<i32>,
}

#[derive(Message)]
struct Quantity {
    #[prost(string, tag = "1")]
    text: String,
}

/// The object as JSON, without type; `None` if it is damaged or has what is not known here.
pub(crate) fn decode(api_version: &str, raw: &[u8]) -> Option<Value> {
    let autoscaler = Autoscaler::decode(raw).ok()?;
    let metadata = autoscaler.metadata.unwrap_or_default();
    let mut object = json!({ "metadata": { "name": metadata.name } });
    if !metadata.namespace.is_empty() {
        object["metadata"]["namespace"] = metadata.namespace.into();
    }
    object["spec"] = match api_version {
        "autoscaling/v1" => spec_v1(&SpecV1::decode(autoscaler.spec.as_slice()).ok()?),
        "autoscaling/v2" => spec_v2(&SpecV2::decode(autoscaler.spec.as_slice()).ok()?)?,
        _ => return None,
    };
    Some(object)
}

fn spec(target: Option<&Reference>, min: Option<i32>, max: i32) -> Value {
    let mut spec = json!({ "maxReplicas": max });
    if let Some(target) = target {
        spec["scaleTargetRef"] =
            json!({ "apiVersion": target.api_version, "kind": target.kind, "name": target.name });
    }
    if let Some(min) = min {
        spec["minReplicas"] = min.into();
    }
    spec
}

fn spec_v1(from: &SpecV1) -> Value {
    let mut spec = spec(from.target.as_ref(), from.min, from.max);
    if let Some(percent) = from.cpu_percent {
        spec["targetCPUUtilizationPercentage"] = percent.into();
    }
    spec
}

fn spec_v2(from: &SpecV2) -> Option<Value> {
    let mut spec = spec(from.target.as_ref(), from.min, from.max);
    let metrics = from.metrics.iter().map(|metric| {
        let resource = metric.resource.as_ref()?;
        let of = resource.target.as_ref()?;
        let mut target = json!({ "type": of.kind });
        if let Some(value) = &of.average_value {
            target["averageValue"] = value.text.as_str().into();
        }
        if let Some(utilization) = of.average_utilization {
            target["averageUtilization"] = utilization.into();
        }
        let resource = json!({ "name": resource.name, "target": target });
        Some(json!({ "type": metric.kind, "resource": resource }))
    });
    let metrics = metrics.collect::<Option<Vec<_>>>()?;
    if !metrics.is_empty() {
        spec["metrics"] = metrics.into();
    }
    from.behavior.is_empty().then_some(spec)
}
